"""Whether and when a failed try is followed by another."""

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.interrupt import Stopped
from agents.llm.errors import OUTAGE, ModelError
from agents.llm.gates import HeldBack
from core.errors import Unavailable
from domain.agents.schemas import RetryPolicy
from domain.claims.schemas import Spell
from domain.pacing.schemas import Route
from workers.retry import Failure, after_cool_down, after_failure, after_stop, after_stuck, backoff, failure_of

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
    held = HeldBack(Route("openai", "m", "k"), "outage", timedelta(seconds=7))
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
