"""How a claim ends after a failure, a stop or a wait: whether the task is retried, and when. Pure functions: values in,
a claim outcome out.
"""

import random
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from agents.interrupt import Reason, Stopped
from agents.llm.errors import OUTAGE, ModelError
from agents.llm.gates import CoolingDown
from agents.work import LimitReached, OutcomeUnknown, Parked
from core.errors import InvalidInput, Misconfigured, NotFound, RotaError, Unavailable
from core.text import described
from domain.agents.schemas import RetryPolicy
from domain.billing.service import BudgetExhausted
from domain.claims.schemas import ClaimOutcome, Spell
from domain.tasks.schemas import TaskError
from domain.wallet.schemas import InsufficientFunds

_RETRIED = OUTAGE | {"tool_failed"}
_LONGEST_PATIENT_DELAY = timedelta(seconds=15)
"""longest delay between two tries of a task during an outage: the provider's pace spreads the tries of many tasks"""
_SAID = 500
# Used when a provider names no time to wait: the rate limit is then assumed to be per minute.
_RATE_LIMIT_WAIT = timedelta(seconds=15)


@dataclass(frozen=True)
class Failure:
    """A failed try: the kind of error, its message, and how long the provider asked to wait."""

    kind: str
    message: str
    retry_after: timedelta | None = None


def failure_of(error: BaseException) -> Failure:
    """Return the failure that an exception stands for."""
    if isinstance(error, ModelError):
        return Failure(error.kind, error.message, error.retry_after)
    if isinstance(error, RotaError):
        return Failure(next(kind for type_, kind in _KINDS if isinstance(error, type_)), error.message)
    # For a database error, only the driver's error: the statement and its values may be private.
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    notes = getattr(error, "__notes__", [])
    return Failure("tool_failed", " ".join([described(cause), *notes]))


_KINDS: tuple[tuple[type[RotaError], str], ...] = (
    (LimitReached, "limit_reached"),
    (Misconfigured, "misconfigured"),
    (NotFound, "misconfigured"),
    (InvalidInput, "misconfigured"),
    (Unavailable, "unavailable"),
    (RotaError, "tool_failed"),
)


def after_failure(
    failure: Failure,
    *,
    attempts: int,
    tries: int,
    max_attempts: int,
    policy: RetryPolicy,
    patience: timedelta,
    spell: Spell,
    remaining: timedelta | None,
    dice: random.Random,
) -> ClaimOutcome:
    """Return the outcome of a claim whose try, after `attempts` counted ones, ended in `failure`.

    `spell` describes the task since its last progress: after progress, attempts are counted from zero. An outage of its
    provider costs no attempt until it has lasted for `patience`. `tries` counts all claims, including those that did
    not count as attempts, so that the back-off also grows during an outage of our own servers. `remaining` is the time
    until the deadline: if the next try could only begin after it, the task fails.
    """
    used = (0 if spell.has_progressed else attempts) + 1
    if failure.kind == "rate_limited":
        outcome = ClaimOutcome(status="queued", outcome="deferred", delay=_after_limit(failure, dice))
    elif failure.kind in OUTAGE and spell.outage < patience:
        delay = min(backoff(spell.outages + 1, policy, dice), _LONGEST_PATIENT_DELAY)
        outcome = ClaimOutcome(status="queued", outcome="deferred", delay=_at_least(delay, failure))
    elif failure.kind == "unavailable":
        delay = backoff(tries, policy, dice)
        outcome = ClaimOutcome(status="queued", outcome="retry", delay=_at_least(delay, failure))
    elif failure.kind not in _RETRIED or used >= max_attempts:
        outcome = ClaimOutcome(status="failed", outcome="failed", counted=True)
    else:
        delay = _at_least(backoff(used, policy, dice), failure)
        outcome = ClaimOutcome(status="queued", outcome="retry", counted=True, delay=delay)
    error = TaskError(kind=failure.kind, message=failure.message)
    return _unless_too_late(outcome.model_copy(update={"counts_anew": spell.has_progressed, "error": error}), remaining)


def _after_limit(failure: Failure, dice: random.Random) -> timedelta:
    """Return the delay that the provider asks for plus jitter: tasks refused together must not return together."""
    wait = failure.retry_after if failure.retry_after is not None else _RATE_LIMIT_WAIT
    return wait + timedelta(seconds=dice.uniform(0, 1 + 0.1 * wait.total_seconds()))


def _at_least(delay: timedelta, failure: Failure) -> timedelta:
    return max(delay, failure.retry_after or timedelta(0))


def after_cool_down(held: CoolingDown, *, remaining: timedelta | None, dice: random.Random) -> ClaimOutcome:
    """Defer a task whose model is cooling down until it may be called again; no try was made."""
    delay = held.wait + timedelta(seconds=dice.random())
    error = TaskError(kind="held_back", message=held.message)
    return _unless_too_late(ClaimOutcome(status="queued", outcome="deferred", delay=delay, error=error), remaining)


def backoff(attempt: int, policy: RetryPolicy, dice: random.Random) -> timedelta:
    """Return an exponential back-off with full jitter (Brooker, "Exponential Backoff And Jitter", 2015): uniform in
    [0, min(ceiling, base * 2^(attempt - 1))].
    """
    growth = 2.0 ** min(max(attempt, 1) - 1, 32)
    highest = min(policy.ceiling.total_seconds(), policy.base.total_seconds() * growth)
    return timedelta(seconds=dice.random() * highest)


def after_doubt(doubt: OutcomeUnknown) -> ClaimOutcome:
    """Let a task whose action may or may not have happened wait for a person."""
    error = TaskError(kind="outcome_unknown", message=doubt.message)
    return ClaimOutcome(status="waiting", outcome="waiting", waiting_for="outcome", error=error)


def after_parking(reason: Parked | InsufficientFunds | BudgetExhausted) -> ClaimOutcome:
    """Let a task wait for a person's decision or for money; it occupies no worker meanwhile."""
    if isinstance(reason, Parked):
        return ClaimOutcome(status="waiting", outcome="waiting", waiting_for=reason.waiting_for)
    what = "funds" if isinstance(reason, InsufficientFunds) else "budget"
    error = TaskError(kind=f"no_{what}", message=reason.message)
    needed = reason.details.get("needed")
    return ClaimOutcome(status="waiting", outcome="waiting", waiting_for=what, waiting_amount=needed, error=error)


def after_stuck(*, attempts: int, max_attempts: int, what: str, spell: Spell) -> ClaimOutcome:
    """Return the outcome of a claim whose thread is stuck in `what`."""
    error = TaskError(kind="stuck", message=f"Its thread did not come back from {what}.")
    is_last = (0 if spell.has_progressed else attempts) + 1 >= max_attempts
    return ClaimOutcome(
        status="failed" if is_last else "queued",
        outcome="failed" if is_last else "retry",
        counted=True,
        counts_anew=spell.has_progressed,
        delay=timedelta(0),
        error=error,
    )


def after_stop(stopped: Stopped) -> ClaimOutcome | None:
    """Return the outcome of a claim that was stopped; None if the claim was lost."""
    return _AFTER_STOP[stopped.reason]


_AFTER_STOP: dict[Reason, ClaimOutcome | None] = {
    "cancelled": ClaimOutcome(
        status="cancelled", outcome="cancelled", error=TaskError(kind="cancelled", message="Cancelled on request.")
    ),
    "draining": ClaimOutcome(status="queued", outcome="released"),
    "switched_off": ClaimOutcome(status="queued", outcome="released"),
    "deadline": ClaimOutcome(
        status="failed",
        outcome="failed",
        counted=True,
        error=TaskError(kind="deadline", message="The deadline passed before the task was done."),
    ),
    "claim_lost": None,
}


def _unless_too_late(outcome: ClaimOutcome, remaining: timedelta | None) -> ClaimOutcome:
    if remaining is None or outcome.delay is None or outcome.delay < remaining:
        return outcome
    said = outcome.error.message if outcome.error else ""
    error = TaskError(kind="deadline", message=f"The next try would begin after the deadline. Last error: {said}")
    return outcome.model_copy(update={"status": "failed", "outcome": "failed", "delay": None, "error": error})
