"""Read operations for monitoring."""

from datetime import timedelta

from sqlalchemy import Connection

from domain.monitoring import queries
from domain.monitoring.schemas import Leader, TaskCount, WorkerCount, WorkerNotAccepting

_PATIENCE = timedelta(seconds=10)


def leaders(connection: Connection) -> list[Leader]:
    """Return the leader of each duty, and the time since its last heartbeat."""
    return queries.leaders(connection)


def unfinished(connection: Connection) -> list[TaskCount]:
    """Count the unfinished tasks of all organisations by status and priority."""
    return queries.unfinished(connection)


def workers(connection: Connection, lease: timedelta) -> list[WorkerCount]:
    """Count the live workers, and those that went silent within the last hour."""
    return queries.workers(connection, lease)


def workers_not_accepting(connection: Connection, lease: timedelta) -> list[WorkerNotAccepting]:
    """Return the live workers that have claimed nothing for 10 s, although they have free slots and tasks wait."""
    return queries.workers_not_accepting(connection, lease, _PATIENCE)


def revision(connection: Connection) -> str | None:
    """Return the migration that the database is at."""
    return queries.revision(connection)
