"""Schedules: start what is due."""

from core.db import system_transaction
from core.duties import for_each
from core.logging import get_logger
from core.wakeup import wakeup
from domain.schedules import service as schedules
from domain.schedules.sweep import sweep

log = get_logger(__name__)


def run_schedules() -> None:
    """Start what is due by schedules, and record which of their runs have ended."""
    with system_transaction() as connection:
        in_need = schedules.organisations_in_need(connection)
    started = sum(one.started for one in for_each(in_need, "schedules not attended to", sweep))
    if started:
        wakeup.hint()
        log.info("started what was due", count=started)
