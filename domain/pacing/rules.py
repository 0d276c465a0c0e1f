"""How often a model may be called: pure decisions over its pace, its last answers and the time.

No pace, no limit: a model whose provider refused nothing is called as often as tasks want. The first refusal or outage
makes a pace. While it is held no call begins; then calls begin one after the other at its rate, which grows with every
success: fast while the provider's rate is unknown, by additive increase below the rate that was measured, and is cut
by every refusal (AIMD: Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in
Computer Networks", 1989; the slow approach to a known ceiling as in Ha, Rhee and Xu, "CUBIC", 2008).

What the provider allows is measured between two refusals. A token bucket that says when it has a token again is empty
but for that token at that moment, so the calls that it let through between two such moments are what it was filled
with meanwhile. The same holds for a quota by the minute. Refused calls that began before the last refusal was known
belong to the same burst and tell nothing new.
"""

from dataclasses import dataclass, replace

from domain.pacing.schemas import Limits, Pace, Seen

LONGEST_LIMIT_PAUSE = 60.0
"""seconds; a provider may ask for hours, but after a minute one call goes to see whether it means it"""
LONGEST_OUTAGE_PAUSE = 15.0
"""seconds between two probes of a provider that is down"""
HORIZON = 3.0
"""seconds; tasks are dispatched as long as the calls that wait for their time are fewer than go in this time"""
FORGOTTEN_AFTER = 3600.0
"""seconds without a refusal after which a limit is no longer reckoned with"""

_FIRST_RATE = 1.0
_SLOWEST, _FASTEST = 1 / 60, 100.0
_BELOW_THE_CEILING = 0.92  # near enough to use the quota, far enough for calls that arrive a little early
_LARGEST_CUT = 0.5
_MANY = 10  # calls since the last refusal, from which on the rate is believed rather than the count
_NOISE = 0.7
_EARLY = 0.15  # of the time between two calls
_CALLS_TO_IT = (10, 50)  # from the cut to the ceiling; the more, the more calls it was measured from
_REACHED = 1.03
_CALLS_BEYOND_IT = (20, 40)  # to twice the ceiling, where the provider seems to allow more than was measured
_RECOVERY = 0.1  # of the ceiling, with every success, after an outage or several refusals in a row
_UNKNOWN_LIMIT, _AFTER_AN_OUTAGE = 0.5, 1.0  # calls a second, with every success: twice the rate every one or two
_LONGEST_BACKOFF = 32.0
_MARGIN = 0.1  # seconds after the provider says it is ready
_PROOFS = 6  # successes after which an outage is over
_SCARCE = 0.1  # of a limit in the headers; with less left, calls are paced


def reserve(pace: Pace, now: float, patience: float) -> tuple[Pace, float | None]:
    """Give a call its time: the pace afterwards, in which `sent` is the call's number, and the seconds to wait. None,
    and the pace unchanged, where that is longer than `patience`. The time is void as soon as `changed_at` is another.
    """
    at = opens_at(pace, now)
    if at - now > patience:
        return pace, None
    return replace(pace, next_at=at + 1 / pace.rate, sent=pace.sent + 1), at - now


def opens_at(pace: Pace, now: float) -> float:
    """When a call that asks now may begin."""
    return max(now, pace.held_until, pace.next_at)


def refused(
    pace: Pace | None,
    now: float,
    began: float,
    *,
    number: int | None = None,
    asked: float | None = None,
    limits: Limits | None = None,
) -> Pace:
    """The provider refused a call that began at `began`, and asked to wait for `asked` seconds. `number` is the call's,
    where it was given a time.
    """
    if pace is not None and began < pace.held_until:
        return pace if asked is None else _held_longer(pace, now, asked)
    held_until = now + min(_wait_after_refusal(pace, asked, limits), LONGEST_LIMIT_PAUSE)
    ready_at = now + (asked or 0.0)
    estimate = _estimate(pace, number, asked, ready_at, limits)
    return Pace(
        cause="limit",
        rate=estimate.rate,
        ceiling=estimate.ceiling,
        evidence=estimate.evidence,
        held_until=held_until,
        next_at=held_until,
        strikes=pace.strikes + 1 if pace else 1,
        successes=0,
        changed_at=now,
        ready_at=ready_at,
        sent=0,
    )


def _held_longer(pace: Pace, now: float, asked: float) -> Pace:
    """Another refusal of the same burst: it may only ask for a longer hold."""
    ready = None if pace.ready_at is None else max(pace.ready_at, now + asked)
    held = max(pace.held_until, now + min(asked + _MARGIN, LONGEST_LIMIT_PAUSE))
    return replace(pace, held_until=held, next_at=max(pace.next_at, held), ready_at=ready)


def _wait_after_refusal(pace: Pace | None, asked: float | None, limits: Limits | None) -> float:
    """As long as the provider asks. Where it names no time, or refuses again after the time it named, longer with
    every refusal in a row.
    """
    strikes = pace.strikes if pace else 0
    backoff = min(_LONGEST_BACKOFF, 2.0**strikes) if asked is None or strikes else 0.0
    if asked is None and limits and limits.requests and limits.requests.remaining < 1:
        backoff = max(backoff, limits.requests.reset / max(1.0, limits.requests.limit))
    return max(asked or 0.0, backoff if asked is None else backoff / 2) + _MARGIN


@dataclass(frozen=True)
class _Estimate:
    """What a refusal tells of the provider's limit."""

    rate: float
    ceiling: float | None
    evidence: int


def _estimate(
    pace: Pace | None, number: int | None, asked: float | None, ready_at: float, limits: Limits | None
) -> _Estimate:
    if pace is None:
        told = sustainable(limits, tokens=None)
        return _Estimate(_within(told * _BELOW_THE_CEILING) if told else _FIRST_RATE, None, 0)
    if _has_overtaken(pace, asked):
        return _Estimate(pace.rate, pace.ceiling, pace.evidence)
    admitted = number - 1 if number and pace.ready_at is not None else 0
    span = ready_at - (pace.ready_at or ready_at)
    cut = _within(pace.rate * _LARGEST_CUT)
    if admitted < 1 or span <= 0:
        return _Estimate(cut, pace.ceiling, pace.evidence)
    found = min(admitted / span, pace.rate)
    if pace.ceiling is None:
        return _Estimate(_within(found * _BELOW_THE_CEILING), found, admitted)
    if admitted >= _MANY:
        # By small steps it came near to what the provider allows, or beyond, where it was searching. What was let
        # through meanwhile tells less: a bucket that was full has overflowed.
        found = (pace.ceiling + pace.rate) / 2 if pace.rate > pace.ceiling * _REACHED else pace.rate
    elif found > pace.rate * _NOISE:  # few calls measure no better than that
        found = pace.rate
    return _Estimate(max(_within(found * _BELOW_THE_CEILING), cut), found, pace.evidence + admitted)


def _has_overtaken(pace: Pace, asked: float | None) -> bool:
    """Whether the refused call was early because the one before it was late, at a rate that has proved itself. Calls
    that are sent a little too often are a little early; a provider that says when in whole seconds cannot tell.
    """
    has_proved_itself = pace.ceiling is not None and pace.rate <= pace.ceiling * _REACHED and pace.evidence >= _MANY
    is_exact = asked is not None and not asked.is_integer()
    return has_proved_itself and is_exact and not pace.strikes and _EARLY < (asked or 0.0) * pace.rate <= 1


def failed(pace: Pace | None, now: float, began: float, *, asked: float | None = None) -> Pace:
    """The provider failed a call that began at `began`: it is down, or cannot be reached."""
    if pace is not None and began < pace.held_until:
        return pace
    strikes = pace.strikes + 1 if pace and pace.cause == "outage" else 1
    wait = max(min(asked or 0.0, LONGEST_LIMIT_PAUSE), min(LONGEST_OUTAGE_PAUSE, 2.0 ** (strikes - 1)))
    return Pace(
        cause="outage",
        rate=min(_FIRST_RATE, pace.rate) if pace else _FIRST_RATE,
        ceiling=pace.ceiling if pace else None,
        evidence=pace.evidence if pace else 0,
        held_until=now + wait,
        next_at=now + wait,
        strikes=strikes,
        successes=0,
        changed_at=now,
        ready_at=None,
        sent=0,
    )


def succeeded(pace: Pace, now: float, began: float, *, has_waited: bool) -> Pace | None:
    """A call that began at `began` succeeded. Only where it had to wait for its time is the rate too low, perhaps.
    None where the model needs no pace any more.
    """
    if began < pace.changed_at:
        return pace
    rate = _grown(pace) if has_waited else pace.rate
    better = replace(pace, rate=rate, strikes=0, successes=pace.successes + 1)
    if better.cause == "outage" and better.ceiling is None:
        return None if better.successes >= _PROOFS else better
    is_old = now - better.changed_at > FORGOTTEN_AFTER
    return None if is_old or better.rate >= _FASTEST else better


def _grown(pace: Pace) -> float:
    if pace.ceiling is None:
        return _within(pace.rate + (_AFTER_AN_OUTAGE if pace.cause == "outage" else _UNKNOWN_LIMIT))
    if pace.rate < pace.ceiling * _BELOW_THE_CEILING:  # after several refusals in a row, or an outage
        return _within(min(pace.rate + pace.ceiling * _RECOVERY, pace.ceiling * _BELOW_THE_CEILING))
    if pace.rate < pace.ceiling * _REACHED:
        return _within(pace.rate + pace.ceiling * (1 - _BELOW_THE_CEILING) / _clamped(5 * pace.evidence, *_CALLS_TO_IT))
    return _within(pace.rate + pace.ceiling / _clamped(10 * pace.evidence, *_CALLS_BEYOND_IT))


def foreseen(limits: Limits, now: float, *, tokens: int) -> Pace | None:
    """The pace for a model that was refused nothing yet, and whose headers say that its limit is nearly reached by
    calls of so many `tokens`. None where there is enough left.
    """
    is_scarce = any(
        seen.remaining < max(need, _SCARCE * seen.limit)
        for seen, need in ((limits.requests, 1), (limits.tokens, tokens))
        if seen is not None
    )
    rate = sustainable(limits, tokens=tokens) if is_scarce else None
    if rate is None:
        return None
    paced = _within(rate * _BELOW_THE_CEILING)
    return Pace("limit", paced, rate, _MANY, held_until=now, next_at=now + 1 / paced, strikes=0, successes=0,
                changed_at=now, ready_at=None, sent=0)  # fmt: skip


def sustainable(limits: Limits | None, *, tokens: int | None) -> float | None:
    """Calls a second that the headers' limits allow for good: what has been used is filled up again within `reset`."""
    if limits is None:
        return None
    found = [rate for rate in (_refill(limits.requests),) if rate]
    if tokens and (refill := _refill(limits.tokens)):
        found.append(refill / tokens)
    return min(found, default=None)


def _refill(seen: Seen | None) -> float | None:
    used = seen.limit - seen.remaining if seen else 0.0
    return used / seen.reset if seen and seen.reset > 0 and used > 0 else None


def _clamped(value: int, least: int, most: int) -> int:
    return min(most, max(least, value))


def _within(rate: float) -> float:
    return min(_FASTEST, max(_SLOWEST, rate))


def room(rate: float, ahead: float) -> int:
    """How many more tasks may be on their way to a model whose calls have been given times for the next `ahead`
    seconds.
    """
    left = HORIZON - ahead
    return max(1, round(left * rate)) if left > 0 else 0
