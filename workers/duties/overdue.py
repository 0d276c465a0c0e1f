"""Tasks that end without running: too late to start, or their agent was deleted."""

from collections.abc import Callable

from sqlalchemy import Connection

from core.db import system_transaction
from core.duties import in_batches
from core.settings import settings
from core.wakeup import wakeup
from domain.tasks import service as tasks


def expire_tasks() -> None:
    """End tasks whose expiry or deadline has passed."""
    _end("expired tasks", tasks.expire_overdue)


def expire_abandoned() -> None:
    """End tasks whose clients did not return the results of their tools."""
    patience = settings().client_tools_patience
    _end("tasks abandoned by their clients", lambda connection: tasks.expire_abandoned(connection, patience))


def cancel_tasks_of_deleted() -> None:
    """Cancel queued and waiting tasks whose agent was deleted."""
    _end("cancelled tasks of deleted agents", tasks.cancel_of_deleted)


def _end(what: str, end: Callable[[Connection], int]) -> None:
    def batch() -> int:
        with system_transaction() as connection:
            return end(connection)

    if in_batches(what, batch):
        wakeup.hint()  # the ended tasks make room for others
