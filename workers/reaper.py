"""Taking back what silent workers had in hand. Runs in the dispatcher, so it needs neither beat nor a free worker."""

from datetime import timedelta

from sqlalchemy import Connection

from core.logging import get_logger
from domain.claims import service as claims

log = get_logger(__name__)


def reap(connection: Connection, lease: timedelta) -> None:
    """Take the tasks of workers silent for longer than `lease`: queued again, or waiting or ended where they must
    be.
    """
    if taken := claims.reap_orphaned(connection, lease):
        log.warning("took back the tasks of silent workers", **taken)
