"""Taking back what silent workers had in hand. Runs in the dispatcher, so it needs neither beat nor a free worker."""

from datetime import timedelta

from sqlalchemy import Connection

from core.logging import get_logger
from domain.tasks import service as tasks

log = get_logger(__name__)


def reap(connection: Connection, lease: timedelta) -> int:
    """Queue the tasks of workers silent for longer than `lease` again, or fail those without an attempt left."""
    queued, failed = tasks.take_back_orphaned(connection, lease)
    if queued or failed:
        log.warning("took back the tasks of silent workers", queued=queued, failed=failed)
    return queued
