"""Whether and when a failed try is followed by another."""

import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from agents.interrupt import Stopped
from agents.llm.errors import OUTAGE, ModelError
from agents.llm.gates import CoolingDown
from agents.work import LimitReached, OutcomeUnknown, Parked
from core.errors import Conflict, InvalidInput, Misconfigured, NotFound, Unavailable
from domain.agents.schemas import RetryPolicy
from domain.billing.service import BudgetExhausted
from domain.claims.schemas import ClaimOutcome, Spell
from domain.pacing.schemas import Route
from domain.tasks.schemas import TaskError
from domain.wallet.schemas import InsufficientFunds
from workers.retry import (
    Failure,
    after_cool_down,
    after_doubt,
    after_failure,
    after_parking,
    after_stop,
    after_stuck,
    backoff,
    failure_of,
)

POLICY = RetryPolicy()


def decide(
    kind: str,
    *,
    attempts: int = 0,
    retry_after: float | None = None,
    remaining: float | None = None,
    patience: float = 0,
    spell: Spell | None = None,
) -> Any:
    return after_failure(
        Failure(kind, "said", None if retry_after is None else timedelta(seconds=retry_after)),
        attempts=attempts,
        tries=attempts + 1,
        max_attempts=3,
        policy=POLICY,
        patience=timedelta(seconds=patience),
        spell=spell or Spell(),
        remaining=None if remaining is None else timedelta(seconds=remaining),
        dice=random.Random(1),
    )


@pytest.mark.parametrize(
    ("kind", "attempts", "status", "outcome", "counted"),
    [
        ("overloaded", 0, "queued", "retry", True),
        ("timeout", 1, "queued", "retry", True),
        ("network", 2, "failed", "failed", True),
        ("incomplete", 0, "queued", "retry", True),
        ("server_error", 0, "queued", "retry", True),
        ("tool_failed", 0, "queued", "retry", True),
        ("rate_limited", 0, "queued", "deferred", False),
        ("rate_limited", 2, "queued", "deferred", False),
        ("unavailable", 2, "queued", "retry", False),
        ("bad_request", 0, "failed", "failed", True),
        ("authentication", 0, "failed", "failed", True),
        ("quota", 0, "failed", "failed", True),
        ("too_long", 0, "failed", "failed", True),
        ("refused", 0, "failed", "failed", True),
        ("truncated", 0, "failed", "failed", True),
        ("limit_reached", 0, "failed", "failed", True),
        ("misconfigured", 0, "failed", "failed", True),
    ],
)
def test_kind_of_error_decides(kind: str, attempts: int, status: str, outcome: str, counted: bool) -> None:
    end = decide(kind, attempts=attempts)
    assert (end.status, end.outcome, end.counted) == (status, outcome, counted)
    assert end.error is not None
    assert end.error.kind == kind


@pytest.mark.parametrize("kind", sorted(OUTAGE))
@pytest.mark.parametrize(
    ("lasted", "attempts", "outcome", "counted"),
    [
        (0, 0, "deferred", False),
        (0, 2, "deferred", False),
        (599, 2, "deferred", False),
        (600, 0, "retry", True),
        (600, 2, "failed", True),
    ],
)
def test_an_outage_costs_no_attempt_as_long_as_patience_lasts(
    kind: str, lasted: float, attempts: int, outcome: str, counted: bool
) -> None:
    spell = Spell(outage=timedelta(seconds=lasted), outages=3)
    end = decide(kind, attempts=attempts, patience=600, spell=spell)
    assert (end.outcome, end.counted, end.error.kind) == (outcome, counted, kind)


def test_no_patience_is_had_with_errors_that_are_no_outage() -> None:
    assert decide("tool_failed", attempts=2, patience=600).status == "failed"
    assert decide("bad_request", patience=600).status == "failed"


@given(outages=st.integers(0, 10_000))
def test_tries_during_an_outage_stay_close_together(outages: int) -> None:
    spell = Spell(outage=timedelta(seconds=1), outages=outages)
    assert timedelta(0) <= decide("overloaded", patience=600, spell=spell).delay <= timedelta(seconds=15)


@pytest.mark.parametrize("kind", ["tool_failed", "overloaded"])
def test_attempts_are_counted_anew_after_progress(kind: str) -> None:
    outcome = decide(kind, attempts=2, spell=Spell(has_progressed=True))
    assert (outcome.status, outcome.counted, outcome.counts_anew) == ("queued", True, True)
    assert not decide(kind, attempts=0).counts_anew


def test_an_outage_ends_at_the_deadline_whatever_patience_is_left() -> None:
    outcome = decide("overloaded", retry_after=61, remaining=60, patience=600)
    assert (outcome.status, outcome.error.kind) == ("failed", "deadline")


def test_a_task_that_is_held_back_comes_back_when_its_model_may_be_called() -> None:
    held = CoolingDown(Route("openai", "m", "k"), "outage", timedelta(seconds=7))
    outcome = after_cool_down(held, remaining=timedelta(minutes=1), dice=random.Random(1))
    assert (outcome.status, outcome.outcome, outcome.counted) == ("queued", "deferred", False)
    assert timedelta(seconds=7) <= (outcome.delay or timedelta(0)) <= timedelta(seconds=8)
    assert after_cool_down(held, remaining=timedelta(seconds=5), dice=random.Random(1)).status == "failed"


def test_a_stuck_thread_counts_from_the_last_progress_as_well() -> None:
    spells = [Spell(), Spell(has_progressed=True)]
    statuses = [after_stuck(attempts=2, max_attempts=3, what="x", spell=spell).status for spell in spells]
    assert statuses == ["failed", "queued"]


def test_a_providers_retry_after_is_waited_for_and_a_little_more() -> None:
    delay = decide("rate_limited", retry_after=13_262).delay
    assert timedelta(seconds=13_262) <= delay <= timedelta(seconds=13_262 * 1.1 + 1)


def test_retry_after_zero_does_not_hammer() -> None:
    assert decide("rate_limited", retry_after=0).delay > timedelta(0)


def test_a_retry_after_on_another_error_is_the_least_wait() -> None:
    assert decide("overloaded", retry_after=60).delay >= timedelta(seconds=60)


def test_no_try_is_planned_beyond_the_deadline() -> None:
    outcome = decide("rate_limited", retry_after=600, remaining=60)
    assert (outcome.status, outcome.error.kind) == ("failed", "deadline")
    assert decide("rate_limited", retry_after=1, remaining=60).status == "queued"


@given(attempt=st.integers(0, 10_000), seed=st.integers())
def test_backoff_stays_between_zero_and_its_ceiling(attempt: int, seed: int) -> None:
    delay = backoff(attempt, POLICY, random.Random(seed))
    assert timedelta(0) <= delay <= min(POLICY.ceiling, POLICY.base * 2 ** min(max(attempt, 1) - 1, 32))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModelError("overloaded", "x"), "overloaded"),
        (Unavailable(), "unavailable"),
        (ZeroDivisionError("oh"), "tool_failed"),
    ],
)
def test_every_exception_is_a_failure_of_some_kind(error: Exception, kind: str) -> None:
    assert failure_of(error).kind == kind


def test_stops_leave_the_task_where_it_belongs() -> None:
    released, late, cancelled = (after_stop(Stopped(reason)) for reason in ("draining", "deadline", "cancelled"))
    assert after_stop(Stopped("claim_lost")) is None
    assert released is not None
    assert (released.status, released.counted) == ("queued", False)
    assert late is not None
    assert late.status == "failed"
    assert cancelled is not None
    assert cancelled.status == "cancelled"


# ── the exact figures ────────────────────────────────────────────────────────────────────────────────────────────────


class Middle(random.Random):
    """Dice that always fall on the middle."""

    def random(self) -> float:
        return 0.5

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) / 2


def decided(kind: str, *, tries: int = 1, retry_after: float | None = None, **given: Any) -> ClaimOutcome:
    usual: dict[str, Any] = {"attempts": 0, "max_attempts": 3, "spell": Spell(), "remaining": None}
    policy = RetryPolicy(base=timedelta(seconds=4), ceiling=timedelta(seconds=100))
    wait = None if retry_after is None else timedelta(seconds=retry_after)
    patience = given.pop("patience", timedelta(0))
    return after_failure(
        Failure(kind, "said", wait), tries=tries, policy=policy, patience=patience, dice=Middle(), **(usual | given)
    )


@pytest.mark.parametrize(("attempt", "seconds"), [(0, 2), (1, 2), (2, 4), (3, 8), (5, 32), (6, 50), (7, 50), (999, 50)])
def test_the_back_off_doubles_until_its_ceiling(attempt: int, seconds: float) -> None:
    policy = RetryPolicy(base=timedelta(seconds=4), ceiling=timedelta(seconds=100))
    assert backoff(attempt, policy, Middle()) == timedelta(seconds=seconds)


@pytest.mark.parametrize(("used", "seconds"), [(0, 2), (1, 4)])
def test_a_retry_waits_by_the_attempts_that_counted(used: int, seconds: float) -> None:
    outcome = decided("tool_failed", attempts=used)
    assert outcome == ClaimOutcome(
        status="queued", outcome="retry", counted=True, delay=timedelta(seconds=seconds),
        error=TaskError(kind="tool_failed", message="said"),
    )  # fmt: skip


def test_after_progress_the_first_attempt_is_the_one_that_failed_now() -> None:
    outcome = decided("tool_failed", attempts=2, spell=Spell(has_progressed=True))
    assert (outcome.delay, outcome.counts_anew) == (timedelta(seconds=2), True)
    assert decided("tool_failed", max_attempts=1, spell=Spell(has_progressed=True)).status == "failed"


@pytest.mark.parametrize(("tries", "seconds"), [(1, 2), (2, 4), (4, 16)])
def test_an_outage_of_our_own_servers_backs_off_by_all_tries_and_counts_none(tries: int, seconds: float) -> None:
    outcome = decided("unavailable", tries=tries, attempts=2)
    assert (outcome.status, outcome.outcome, outcome.counted) == ("queued", "retry", False)
    assert outcome.delay == timedelta(seconds=seconds)


@pytest.mark.parametrize(("outages", "seconds"), [(0, 2), (1, 4), (2, 8), (3, 15)])
def test_during_an_outage_of_a_provider_the_back_off_grows_by_its_outages(outages: int, seconds: float) -> None:
    spell = Spell(outages=outages)
    outcome = decided("overloaded", attempts=2, patience=timedelta(minutes=10), spell=spell)
    assert (outcome.outcome, outcome.counted, outcome.delay) == ("deferred", False, timedelta(seconds=seconds))


@pytest.mark.parametrize(("asked", "seconds"), [(None, 15 + 1.25), (0, 0.5), (100, 100 + 5.5)])
def test_a_rate_limit_waits_as_asked_and_some_jitter(asked: float | None, seconds: float) -> None:
    assert decided("rate_limited", retry_after=asked).delay == timedelta(seconds=seconds)


@pytest.mark.parametrize(("remaining", "status"), [(1.999, "failed"), (2, "failed"), (2.001, "queued")])
def test_a_try_that_would_begin_at_the_deadline_is_too_late(remaining: float, status: str) -> None:
    outcome = decided("tool_failed", remaining=timedelta(seconds=remaining))
    assert outcome.status == status
    if status == "failed":
        message = "The next try would begin after the deadline. Last error: said"
        assert outcome == ClaimOutcome(
            status="failed", outcome="failed", counted=True, delay=None,
            error=TaskError(kind="deadline", message=message),
        )  # fmt: skip


def test_what_fails_for_good_has_no_delay_and_no_deadline_in_its_error() -> None:
    outcome = decided("bad_request", remaining=timedelta(0))
    assert (outcome.delay, outcome.error) == (None, TaskError(kind="bad_request", message="said"))


def test_a_task_whose_model_cools_down_says_so() -> None:
    held = CoolingDown(Route("openai", "m", "k"), "limit", timedelta(seconds=7))
    outcome = after_cool_down(held, remaining=None, dice=Middle())
    assert outcome == ClaimOutcome(
        status="queued", outcome="deferred", delay=timedelta(seconds=7.5),
        error=TaskError(kind="held_back", message=held.message),
    )  # fmt: skip


def test_a_task_in_doubt_waits_for_a_person() -> None:
    outcome = after_doubt(OutcomeUnknown("Nobody knows whether ring_bell happened."))
    assert outcome == ClaimOutcome(
        status="waiting", outcome="waiting", waiting_for="outcome",
        error=TaskError(kind="outcome_unknown", message="Nobody knows whether ring_bell happened."),
    )  # fmt: skip


def test_a_parked_task_waits_for_a_decision_and_has_no_error() -> None:
    assert after_parking(Parked("advice")) == ClaimOutcome(status="waiting", outcome="waiting", waiting_for="advice")


@pytest.mark.parametrize(
    ("reason", "what", "needed"),
    [
        (InsufficientFunds("It takes 3.", needed=Decimal(3)), "funds", Decimal(3)),
        (BudgetExhausted("It takes 0.5.", needed=Decimal("0.5")), "budget", Decimal("0.5")),
        (BudgetExhausted("It takes some."), "budget", None),
    ],
)
def test_a_task_without_money_waits_for_as_much_as_it_needs(
    reason: InsufficientFunds | BudgetExhausted, what: str, needed: Decimal | None
) -> None:
    assert after_parking(reason) == ClaimOutcome(
        status="waiting", outcome="waiting", waiting_for=what, waiting_amount=needed,
        error=TaskError(kind=f"no_{what}", message=reason.message),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("attempts", "has_progressed", "status", "outcome"),
    [
        (0, False, "queued", "retry"),
        (1, False, "queued", "retry"),
        (2, False, "failed", "failed"),
        (2, True, "queued", "retry"),
    ],
)
def test_a_stuck_thread_costs_an_attempt(attempts: int, has_progressed: bool, status: Any, outcome: Any) -> None:
    spell = Spell(has_progressed=has_progressed)
    assert after_stuck(attempts=attempts, max_attempts=3, what="book_class", spell=spell) == ClaimOutcome(
        status=status, outcome=outcome, counted=True, counts_anew=has_progressed, delay=timedelta(0),
        error=TaskError(kind="stuck", message="Its thread did not come back from book_class."),
    )  # fmt: skip


def test_the_last_attempt_of_a_stuck_task_after_progress_is_its_first() -> None:
    spell = Spell(has_progressed=True)
    assert after_stuck(attempts=5, max_attempts=1, what="x", spell=spell).status == "failed"
    assert after_stuck(attempts=5, max_attempts=2, what="x", spell=spell).status == "queued"


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (
            ModelError("rate_limited", "slow down", retry_after=timedelta(seconds=3)),
            Failure("rate_limited", "slow down", timedelta(seconds=3)),
        ),
        (LimitReached("enough"), Failure("limit_reached", "enough")),
        (Misconfigured("no key"), Failure("misconfigured", "no key")),
        (NotFound("no agent"), Failure("misconfigured", "no agent")),
        (InvalidInput("no model"), Failure("misconfigured", "no model")),
        (Unavailable("gone"), Failure("unavailable", "gone")),
        (Conflict("taken"), Failure("tool_failed", "taken")),
        (ZeroDivisionError("oh"), Failure("tool_failed", "ZeroDivisionError: oh")),
    ],
)
def test_what_is_told_of_an_exception(error: Exception, failure: Failure) -> None:
    assert failure_of(error) == failure


def test_of_a_database_error_only_what_the_driver_says_is_told() -> None:
    error = DBAPIError("SELECT secret", {"card": "4111"}, ValueError("no such column"))
    assert failure_of(error) == Failure("tool_failed", "ValueError: no such column")


def test_notes_of_an_exception_are_told_after_it() -> None:
    error = ValueError("bad")
    error.add_note("In book_class.")
    error.add_note("Twice.")
    assert failure_of(error).message == "ValueError: bad In book_class. Twice."
