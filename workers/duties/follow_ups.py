"""Follow-ups: plan what the rules find, and send what is due."""

from agents.learning.learner import Learner
from core.db import system_transaction
from core.duties import for_each
from core.logging import get_logger
from core.wakeup import wakeup
from domain.followups import service as followups
from domain.followups import sweep

log = get_logger(__name__)


def plan_follow_ups() -> None:
    """Plan what the rules of follow-ups find, and record the outcome of what was sent."""
    with system_transaction() as connection:
        with_rules = followups.organisations_with_rules(connection)
    for_each(with_rules, "follow-ups not planned", sweep.plan)


def attend_follow_ups() -> None:
    """Start the follow-ups that are due, and record the state of those under way."""
    with system_transaction() as connection:
        in_need = followups.organisations_in_need(connection)
    done = for_each(in_need, "follow-ups not attended to", lambda org: sweep.attend(org, Learner().choose))
    started = sum(one.started for one in done)
    if started:
        wakeup.hint()
        log.info("started follow-ups", count=started)
