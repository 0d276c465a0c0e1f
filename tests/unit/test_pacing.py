"""How often a model is called: the rules by themselves, and against servers that limit the rate in different ways."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.pacing import rules
from domain.pacing.schemas import Limits, Pace, Seen

NOW = 1_000.0


def pace(**more: Any) -> Pace:
    values: dict[str, Any] = {
        "cause": "limit", "rate": 2.0, "ceiling": None, "evidence": 0, "held_until": NOW, "next_at": NOW, "strikes": 1,
        "successes": 0, "changed_at": NOW - 1, "ready_at": NOW, "sent": 0,
    }  # fmt: skip
    return Pace(**values | more)


def test_calls_are_given_times_one_after_the_other() -> None:
    state, waits = pace(), []
    for _ in range(4):
        state, wait = rules.reserve(state, NOW, patience=10)
        waits.append(wait)
    assert waits == [0, 0.5, 1.0, 1.5]
    assert state.sent == 4


def test_time_that_nobody_used_is_not_saved_up() -> None:
    state, first = rules.reserve(pace(next_at=NOW - 100), NOW, patience=10)
    _, second = rules.reserve(state, NOW, patience=10)
    assert (first, second) == (0, 0.5)


def test_a_call_that_would_wait_for_longer_than_its_patience_is_given_no_time() -> None:
    held = pace(held_until=NOW + 11)
    assert rules.reserve(held, NOW, patience=10) == (held, None)


@pytest.mark.parametrize(
    ("asked", "held"),
    [(0.0, 0.1), (1.0, 1.1), (59.0, 59.1), (13_262.0, 60.0), (None, 1.1)],
)
def test_the_first_refusal_holds_as_long_as_the_provider_asks_a_minute_at_most(
    asked: float | None, held: float
) -> None:
    assert rules.refused(None, NOW, NOW, asked=asked).held_until == pytest.approx(NOW + held)


def test_without_a_time_to_wait_each_refusal_in_a_row_holds_longer() -> None:
    state, now, waits = None, NOW, []
    for _ in range(8):
        state = rules.refused(state, now, now)
        waits.append(round(state.held_until - now, 1))
        now = state.held_until
    assert waits == [1.1, 2.1, 4.1, 8.1, 16.1, 32.1, 32.1, 32.1]


def test_a_provider_that_names_too_short_a_time_is_not_hammered() -> None:
    state, now = None, NOW
    for _ in range(6):
        state = rules.refused(state, now, now, asked=0.0)
        now = state.held_until
    assert now - NOW > 10


def test_a_burst_of_refusals_counts_once() -> None:
    first = rules.refused(None, NOW, NOW - 0.2, asked=1.0)
    burst = first
    for number in range(50):
        burst = rules.refused(burst, NOW + number / 100, NOW - 0.1, asked=1.0 - number / 100)
    assert (burst.rate, burst.strikes) == (first.rate, first.strikes)
    assert burst.held_until == pytest.approx(first.held_until)


def test_failures_hold_longer_each_up_to_a_bound_and_a_burst_counts_once() -> None:
    state, now, waits = None, NOW, []
    for _ in range(6):
        state = rules.failed(state, now, now)
        assert rules.failed(state, now + 0.1, now) == state
        waits.append(state.held_until - now)
        now = state.held_until
    assert waits == [1, 2, 4, 8, 15, 15]


def test_a_failure_keeps_what_is_known_of_the_limit() -> None:
    after = rules.failed(pace(ceiling=5.0, evidence=40), NOW, NOW)
    assert (after.cause, after.ceiling, after.evidence) == ("outage", 5.0, 40)


def test_an_outage_is_over_after_six_successes_and_calls_of_before_do_not_count() -> None:
    state: Pace | None = rules.failed(None, NOW, NOW)
    assert state is not None
    assert rules.succeeded(state, NOW + 1, NOW - 1, has_waited=False) == state
    seen = []
    while state is not None:
        seen.append(state.rate)
        state = rules.succeeded(state, NOW + 2, NOW + 1, has_waited=True)
    assert seen == [1, 2, 3, 4, 5, 6]


def test_the_rate_grows_only_where_calls_had_to_wait() -> None:
    grown = rules.succeeded(pace(), NOW, NOW, has_waited=False)
    assert grown is not None
    assert (grown.rate, grown.successes) == (2.0, 1)


@pytest.mark.parametrize(
    ("rate", "number", "asked", "expected"),
    [
        (2.0, 61, 0.01, 2.0),  # near the ceiling by small steps: the rate, not the 60 calls in 100 s
        (2.6, 61, 0.01, 2.3),  # beyond it: halfway
        (2.0, 151, 0.01, 2.0),
        (2.0, 6, 0.01, 1.0),  # soon again, and much slower: at most half
        (2.0, 6, 49.0, 1.0),
    ],
)
def test_the_ceiling_is_what_the_provider_was_seen_to_allow(
    rate: float, number: int, asked: float, expected: float
) -> None:
    before = pace(rate=rate, ceiling=2.0, evidence=5, strikes=0, ready_at=NOW - 100)
    after = rules.refused(before, NOW, NOW, number=number, asked=asked)
    assert after.rate == pytest.approx(max(0.92 * expected, rate / 2))


def test_a_call_that_overtook_a_late_one_does_not_slow_a_rate_that_proved_itself() -> None:
    before = pace(rate=2.0, ceiling=2.0, evidence=50, strikes=0, ready_at=NOW - 100)
    rates = [rules.refused(before, NOW, NOW, number=61, asked=asked).rate for asked in (0.2, 0.01, 1.0, 3.5)]
    assert rates == [2.0, pytest.approx(1.84), pytest.approx(1.84), pytest.approx(1.84)]


def test_a_limit_is_forgotten_after_an_hour_without_a_refusal_or_when_it_is_no_limit() -> None:
    assert rules.succeeded(pace(), NOW + 3_700, NOW + 3_700, has_waited=False) is None
    assert rules.succeeded(pace(rate=99.9), NOW, NOW, has_waited=True) is None


@pytest.mark.parametrize(
    ("requests", "tokens", "rate"),
    [
        (Seen(60, 0, 60), None, 0.92),
        (Seen(60, 5, 55), None, 0.92),
        (Seen(60, 30, 30), None, None),
        (None, Seen(60_000, 500, 59.5), 0.92),
        (None, Seen(60_000, 50_000, 10), None),
        (Seen(600, 10, 59), Seen(60_000, 500, 59.5), 0.92),
    ],
)
def test_headers_are_heeded_when_little_is_left(requests: Seen | None, tokens: Seen | None, rate: float | None) -> None:
    found = rules.foreseen(Limits(requests, tokens), NOW, tokens=1_000)
    assert (found and found.rate) == (rate and pytest.approx(rate))


def test_the_first_rate_after_a_refusal_is_what_the_headers_tell() -> None:
    limits = Limits(requests=Seen(600, 0, 60))
    assert rules.refused(None, NOW, NOW, asked=0.1, limits=limits).rate == pytest.approx(9.2)


def test_as_many_tasks_go_as_calls_can_within_the_horizon() -> None:
    assert [rules.room(1.0, ahead) for ahead in (0, 1, 2.9, 3, 60)] == [3, 2, 1, 0, 0]
    assert rules.room(1 / 60, 0) == 1


def test_a_refusal_of_the_same_burst_that_names_no_time_changes_nothing() -> None:
    first = rules.refused(None, NOW, NOW, asked=5.0)
    assert rules.refused(first, NOW + 1, NOW + 0.5) == first


def test_a_refusal_of_the_same_burst_that_asks_for_longer_extends_the_pause_and_no_more() -> None:
    first = rules.refused(None, NOW, NOW, asked=5.0)
    after = rules.refused(first, NOW + 1, NOW + 0.5, asked=20.0)
    assert (after.held_until, after.next_at, after.ready_at) == (NOW + 21.1, NOW + 21.1, NOW + 21)
    assert (after.rate, after.strikes, after.changed_at) == (first.rate, first.strikes, first.changed_at)
    assert rules.refused(first, NOW + 1, NOW + 0.5, asked=9_999.0).held_until == NOW + 61


@pytest.mark.parametrize(
    ("requests", "held"),
    [
        (Seen(60, 0, 300), 5.1),  # nothing is left, and one request is refilled in 300 / 60 seconds
        (Seen(0.5, 0, 7), 7.1),
        (Seen(60, 0, 30), 1.1),
        (Seen(60, 1, 300), 1.1),
        (None, 1.1),
    ],
)
def test_without_a_time_to_wait_the_headers_tell_when_the_next_request_is_refilled(
    requests: Seen | None, held: float
) -> None:
    assert rules.refused(None, NOW, NOW, limits=Limits(requests)).held_until == pytest.approx(NOW + held)


@pytest.mark.parametrize(
    ("limits", "tokens", "rate"),
    [
        (None, 100, None),
        (Limits(), 100, None),
        (Limits(Seen(60, 0, 60)), None, 1.0),
        (Limits(Seen(60, 30, 10)), None, 3.0),
        (Limits(Seen(60, 60, 10)), None, None),  # nothing is used, so nothing is known
        (Limits(Seen(60, 0, 0)), None, None),
        (Limits(None, Seen(6_000, 0, 60)), 50, 2.0),
        (Limits(None, Seen(6_000, 0, 60)), None, None),  # how many tokens a call takes is not known
        (Limits(None, Seen(6_000, 0, 60)), 0, None),
        (Limits(Seen(60, 0, 60), Seen(6_000, 0, 60)), 200, 0.5),  # the tighter of the two
        (Limits(Seen(60, 0, 60), Seen(6_000, 0, 60)), 50, 1.0),
    ],
)
def test_the_rate_that_headers_sustain(limits: Limits | None, tokens: int | None, rate: float | None) -> None:
    assert rules.sustainable(limits, tokens=tokens) == rate


@pytest.mark.parametrize(
    ("rate", "grown"),
    [
        (1.0, 2.0),  # well below, after refusals in a row or an outage: by a tenth of the ceiling
        (8.5, 9.2),  # no further than where calls that arrive early are not refused
        (9.5, 9.58),  # slowly up to the ceiling: the last 8 % in ten calls
        (10.5, 11.0),  # and beyond it, to find out whether it was raised
    ],
)
def test_the_rate_grows_fast_to_the_measured_limit_and_slowly_at_it(rate: float, grown: float) -> None:
    after = rules.succeeded(pace(rate=rate, ceiling=10.0, evidence=2, changed_at=NOW - 1), NOW, NOW, has_waited=True)
    assert after is not None
    assert after.rate == pytest.approx(grown)


def test_after_an_outage_a_measured_limit_is_kept_until_its_hour_is_over() -> None:
    down = rules.failed(pace(rate=5.0, ceiling=5.0, evidence=40), NOW, NOW)
    state: Pace | None = down
    for _ in range(20):
        assert state is not None
        state = rules.succeeded(state, NOW + 60, NOW + 60, has_waited=True)
    assert state is not None
    assert (state.ceiling, state.successes) == (5.0, 20)
    assert 4.6 <= state.rate <= 5.2


EVENTS = st.lists(
    st.tuples(st.sampled_from(["reserve", "refused", "failed", "succeeded"]), st.floats(0, 30), st.floats(0, 100)),
    max_size=60,
)


@given(events=EVENTS)
def test_whatever_happens_rates_stay_in_bounds_and_no_call_begins_while_held(
    events: list[tuple[str, float, float]],
) -> None:
    now, state = NOW, rules.refused(None, NOW, NOW, asked=1.0)
    for what, passed, age in events:
        now += passed
        before, after = state, state
        match what:
            case "reserve":
                after, wait = rules.reserve(state, now, 10)
                assert wait is None or now + wait >= before.held_until - 1e-6
                assert after.next_at >= before.next_at
            case "refused":
                after = rules.refused(state, now, now - age, number=state.sent, asked=age)
                assert now < after.held_until <= max(now + rules.LONGEST_LIMIT_PAUSE, before.held_until)
                assert after.rate <= before.rate
            case "failed":
                after = rules.failed(state, now, now - age)
            case "succeeded":
                found = rules.succeeded(state, now, now - age, has_waited=True)
                after = found or state
                assert after.rate >= before.rate
        assert 1 / 60 <= after.rate <= 100
        state = after


# ── against servers ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Bucket:
    """A token bucket."""

    rate: float
    size: float
    tokens: float = 0.0
    at: float = NOW

    def __post_init__(self) -> None:
        self.tokens = self.size

    def ask(self, now: float) -> float | None:
        """None, or the seconds until there is a token."""
        self.tokens, self.at = min(self.size, self.tokens + (now - self.at) * self.rate), now
        if self.tokens >= 1:
            self.tokens -= 1
            return None
        return (1 - self.tokens) / self.rate


@dataclass
class Window:
    """So many in every span of time."""

    number: int
    span: float
    used: dict[int, int] = field(default_factory=dict)

    def ask(self, now: float) -> float | None:
        """None, or the seconds until the next span."""
        which = int(now // self.span)
        self.used[which] = self.used.get(which, 0) + 1
        return None if self.used[which] <= self.number else (which + 1) * self.span - now


@dataclass
class Crowd:
    """Calls that begin together, and afterwards as many in line as have room; each takes `latency`, and arrives up to
    70 ms after its time.
    """

    server: Bucket | Window
    latency: float
    state: Pace | None = None
    admitted: int = 0
    refused: int = 0
    now: float = NOW
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)

    def run(self, calls: int) -> None:
        """Until so many calls were admitted."""
        self._at(0, self._fill)
        while self.admitted < calls:
            self.now, _, act = heapq.heappop(self.events)
            act()

    def _at(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + delay, len(self.events) + self.dice.randrange(10**9), act))

    def _fill(self) -> None:
        """What the dispatcher does: let tasks go while there is room."""
        if self.state is None:
            for number in range(100):
                self._at(number * 0.01, self._begin_unpaced)
        else:
            for _ in range(rules.room(self.state.rate, rules.opens_at(self.state, self.now) - self.now)):
                self._reserve()
        self._at(0.3, self._fill)

    def _begin_unpaced(self) -> None:
        if self.state is None:
            self._send(self.now, None, has_waited=False)

    def _reserve(self) -> None:
        assert self.state is not None
        self.state, wait = rules.reserve(self.state, self.now, 10)
        if wait is not None:
            number, changed_at = self.state.sent, self.state.changed_at
            self._at(wait, lambda: self._begin(number, changed_at, has_waited=wait > 0))

    def _begin(self, number: int, changed_at: float, *, has_waited: bool) -> None:
        if self.state is not None and self.state.changed_at != changed_at:
            self._reserve()
            return
        began = self.now
        self._at(self.dice.uniform(0, 0.07), lambda: self._send(began, number, has_waited=has_waited))

    def _send(self, began: float, number: int | None, *, has_waited: bool) -> None:
        asked = self.server.ask(self.now)
        if asked is None:
            self.admitted += 1
            self._at(self.latency, lambda: self._succeed(began, has_waited=has_waited))
        else:
            self.refused += 1
            self._at(0.01, lambda: self._refuse(began, number, asked))

    def _succeed(self, began: float, *, has_waited: bool) -> None:
        if self.state is not None:
            self.state = rules.succeeded(self.state, self.now, began, has_waited=has_waited)

    def _refuse(self, began: float, number: int | None, asked: float) -> None:
        self.state = rules.refused(self.state, self.now, began, number=number, asked=asked)


@pytest.mark.parametrize("latency", [0.05, 2.0, 10.0])
@pytest.mark.parametrize(
    ("make", "quota", "at_once"),
    [
        (lambda: Bucket(1, 1), 1.0, 1),
        (lambda: Bucket(1, 60), 1.0, 60),
        (lambda: Window(60, 60), 1.0, 60),
        (lambda: Window(1, 1), 1.0, 1),
        (lambda: Bucket(0.1, 1), 0.1, 1),
    ],
    ids=["1/s", "60 at once, then 1/s", "60 in each minute", "1 in each second", "1 in 10 s"],
)
def test_a_quota_is_used_and_hardly_ever_exceeded(
    make: Callable[[], Bucket | Window], quota: float, at_once: int, latency: float
) -> None:
    crowd = Crowd(make(), latency)
    crowd.run(300)
    assert crowd.refused <= 0.05 * crowd.admitted
    assert crowd.admitted >= 0.85 * min(quota * (crowd.now - NOW) + at_once, 300 / 0.85)


def test_a_quota_that_is_raised_is_found_out() -> None:
    crowd = Crowd(Bucket(1, 1), 0.05)
    crowd.run(200)
    crowd.server = Bucket(10, 10, at=crowd.now)
    crowd.run(600)
    began = crowd.now
    crowd.run(1_000)
    assert (crowd.now - began) < 400 / 5
