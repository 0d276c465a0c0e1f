"""Delete rows that are kept no longer."""

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import Connection

from core.blobs.store import blob_store
from core.db import system_transaction
from core.duties import in_batches
from core.errors import Unavailable
from core.logging import get_logger
from core.settings import settings
from domain.approvals import service as approvals
from domain.attachments import service as attachments
from domain.conversations import service as conversations
from domain.events import service as events
from domain.pacing import service as pacing
from domain.replies import service as replies
from domain.schedules import service as schedules
from domain.tasks import service as tasks
from domain.visitors import service as visitors
from domain.workers import service as workers

log = get_logger(__name__)
_WORKERS_KEPT = timedelta(days=1)
_RUNS_KEPT = timedelta(days=90)


def clean_up() -> None:
    """Delete ended tasks whose retention time is over."""
    config = settings()
    _prune(
        "deleted finished tasks",
        lambda connection: tasks.clean_up(
            connection, keep_succeeded=config.keep_succeeded, keep_failed=config.keep_failed
        ),
    )


def forget_events() -> None:
    """Delete events that are older than `keep_events`."""
    kept = settings().keep_events
    _prune("deleted events", lambda connection: events.delete_old(connection, kept))


def purge_conversations() -> None:
    """Delete the words of conversations that were deleted."""
    _prune("deleted conversations", conversations.purge_deleted)


def forget_uploads() -> None:
    """Delete attachments that were not sent within a day."""
    _prune("deleted attachments that were not sent", attachments.delete_unsent)


def remove_blobs() -> None:
    """Delete the blobs that no attachment refers to any more. If the storage does not answer, the rest is deleted at
    the next time.
    """
    in_batches("deleted blobs", _remove_some)


def _remove_some() -> int:
    with system_transaction() as connection:
        keys = attachments.removals(connection)
    removed = [key for key in keys if _is_removed(key)]
    if keys:
        with system_transaction() as connection:
            attachments.note_removed(connection, removed)
            attachments.postpone_removal(connection, [key for key in keys if key not in removed])
    return len(removed)


def _is_removed(key: str) -> bool:
    """Delete a blob. One that cannot be deleted must not stop the others."""
    try:
        blob_store().delete(key)
    except Unavailable as error:
        log.warning("a blob could not be deleted", key=key, reason=error.message)
        return False
    return True


def forget_visitors() -> None:
    """Delete visitors whose tokens expired long ago, with their conversations, and the counts of past days."""
    kept = settings().keep_visitors

    def batch(connection: Connection) -> int:
        gone = visitors.long_expired(connection, kept)
        conversations.delete_of_visitors(connection, gone)
        return visitors.delete(connection, gone)

    _prune("deleted visitors", batch)
    with system_transaction() as connection:
        visitors.forget_days(connection)


def forget_runs() -> None:
    """Delete the records of schedule runs that ended long ago."""
    _prune("forgot runs of schedules", lambda connection: schedules.forget_runs(connection, _RUNS_KEPT.days))


def forget_workers() -> None:
    """Delete the rows of workers that have been gone for a day."""
    with system_transaction() as connection:
        workers.forget_workers(connection, _WORKERS_KEPT)


def forget_keys() -> None:
    """Delete concurrency keys that no task uses any more."""
    _prune("forgot concurrency keys", tasks.forget_unused_keys)


def forget_trees() -> None:
    """Delete the counts of task trees that have no task left."""
    _prune("forgot trees of tasks", tasks.forget_unused_trees)


def forget_unattended() -> None:
    """Delete the counts of unattended actions that no cap needs any more."""
    with system_transaction() as connection:
        approvals.forget_unattended(connection)


def forget_paces() -> None:
    """Delete the pace of models that have not been called for long."""
    with system_transaction() as connection:
        pacing.forget(connection)


def forget_replies() -> None:
    """Delete cached replies that have expired."""
    with system_transaction() as connection:
        replies.forget_expired(connection)


def _prune(what: str, delete: Callable[[Connection], int]) -> None:
    def batch() -> int:
        with system_transaction() as connection:
            return delete(connection)

    in_batches(what, batch)
