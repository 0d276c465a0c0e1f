"""Verbs of those who watch."""

from datetime import timedelta

from sqlalchemy import Connection

from domain.monitoring import queries
from domain.monitoring.schemas import Leader, TaskCount, WorkerCount, WorkerNotAccepting

_PATIENCE = timedelta(seconds=10)


def leaders(connection: Connection) -> list[Leader]:
    """Who leads what, and how long ago they were last heard of."""
    return [Leader(**row) for row in queries.leaders(connection)]


def unfinished(connection: Connection) -> list[TaskCount]:
    """Unfinished tasks of all organisations, by status and priority."""
    return [TaskCount(**row) for row in queries.unfinished(connection)]


def workers(connection: Connection, lease: timedelta) -> list[WorkerCount]:
    """Workers that are there, and those that went silent within the hour."""
    return [WorkerCount(**row) for row in queries.workers(connection, lease)]


def workers_not_accepting(connection: Connection, lease: timedelta) -> list[WorkerNotAccepting]:
    """Living workers that have claimed nothing for 10 s, though they have free slots and tasks wait for them."""
    return [WorkerNotAccepting(**row) for row in queries.workers_not_accepting(connection, lease, _PATIENCE)]


def revision(connection: Connection) -> str | None:
    """The migration that the database is at."""
    return queries.revision(connection)
