"""The reaper: takes tasks from silent workers. Runs in the dispatcher, so it needs neither beat nor a free worker."""

from datetime import timedelta

from sqlalchemy import Connection

from core.logging import get_logger
from domain.claims import service as claims

log = get_logger(__name__)


def reap(connection: Connection, lease: timedelta) -> None:
    """Reap the tasks of workers that have been silent for longer than `lease`: queue them again or, where necessary,
    let them wait or end.
    """
    if taken := claims.reap_orphaned(connection, lease):
        log.warning("reaped the tasks of silent workers", **taken)
