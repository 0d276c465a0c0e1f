"""The periodic duties, each a thin task on the `system` queue: safe when fired twice, late, or together."""

from collections.abc import Callable
from datetime import timedelta

from core.db import system_transaction
from core.logging import get_logger
from core.settings import settings
from domain.replies import service as replies
from domain.tasks import service as tasks
from domain.workers import service as workers
from workers.app import app

log = get_logger(__name__)

_WORKERS_KEPT = timedelta(days=1)


@app.task(name="rota.expire_tasks")
def expire_tasks() -> None:
    """End queued tasks whose time to start has passed."""

    def batch() -> int:
        with system_transaction() as connection:
            return tasks.expire_overdue(connection)

    _until_nothing_is_left("expired tasks", batch)


@app.task(name="rota.clean_up")
def clean_up() -> None:
    """Delete tasks that ended longer ago than they are kept."""
    config = settings()

    def batch() -> int:
        with system_transaction() as connection:
            return tasks.clean_up(connection, keep_succeeded=config.keep_succeeded, keep_failed=config.keep_failed)

    _until_nothing_is_left("deleted finished tasks", batch)


@app.task(name="rota.forget_workers")
def forget_workers() -> None:
    """Delete the rows of workers long gone."""
    with system_transaction() as connection:
        workers.forget_workers(connection, _WORKERS_KEPT)


@app.task(name="rota.forget_keys")
def forget_keys() -> None:
    """Delete concurrency keys that no task names any more."""

    def batch() -> int:
        with system_transaction() as connection:
            return tasks.forget_unused_keys(connection)

    _until_nothing_is_left("forgot concurrency keys", batch)


@app.task(name="rota.forget_replies")
def forget_replies() -> None:
    """Delete cached replies whose time is over."""
    with system_transaction() as connection:
        replies.forget_expired(connection)


def _until_nothing_is_left(what: str, batch: Callable[[], int]) -> None:
    """In batches, each its own short transaction, so that nobody waits long for a lock."""
    total = 0
    while done := batch():
        total += done
    if total:
        log.info(what, count=total)
