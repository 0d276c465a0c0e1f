"""Decide how often a model may be called, from its pace, its last responses and the time. Pure.

A model without a pace is called without limit. The first refusal or outage creates a pace. No call begins until its
`held_until`; then calls begin one after the other at its rate. The rate grows with every success, fast while the
provider's limit is unknown and by additive increase below the measured limit, and is cut by every refusal (AIMD: Chiu
and Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in Computer Networks", 1989; the
slow approach to a known ceiling as in Ha, Rhee and Xu, "CUBIC", 2008).

The provider's limit is measured between two refusals. When a token bucket says at what time its next token is there, it
holds only that token at that time. So the calls admitted between two such times equal the tokens refilled in between.
The same holds for a quota per minute. Refused calls that began before the last refusal was known belong to the same
burst and carry no new information.
"""

from dataclasses import dataclass, replace

from domain.pacing.schemas import Limits, Pace, Seen

LONGEST_LIMIT_PAUSE = 60.0
"""seconds; a provider may ask for hours, but after a minute one call probes whether it still refuses"""
LONGEST_OUTAGE_PAUSE = 15.0
"""seconds between two probes of a provider that is down"""
HORIZON = 3.0
"""seconds; tasks are dispatched only while the waiting calls are fewer than this time allows at the current rate"""
FORGOTTEN_AFTER = 3600.0
"""seconds without a refusal after which a pace is dropped"""

_FIRST_RATE = 1.0
_SLOWEST, _FASTEST = 1 / 60, 100.0
_BELOW_THE_CEILING = 0.92  # near enough to use the quota, far enough for calls that arrive a little early
_LARGEST_CUT = 0.5
_MANY = 10  # calls since the last refusal; from this number on, the rate is trusted more than the count
_NOISE = 0.7
_EARLY = 0.15  # of the time between two calls
_CALLS_TO_IT = (10, 50)  # from the cut to the ceiling; more if it was measured from more calls
_REACHED = 1.03
_CALLS_BEYOND_IT = (20, 40)  # to twice the ceiling, if the provider seems to allow more than was measured
_RECOVERY = 0.1  # of the ceiling, with every success, after an outage or several refusals in a row
_UNKNOWN_LIMIT, _AFTER_AN_OUTAGE = 0.5, 1.0  # calls a second added per success: doubles the rate in 1 to 2 s
_LONGEST_BACKOFF = 32.0
_MARGIN = 0.1  # seconds after the provider says it is ready
_PROOFS = 6  # successes after which an outage is over
_SCARCE = 0.1  # share of a limit in the headers; with less left, calls are paced


def reserve(pace: Pace, now: float, patience: float) -> tuple[Pace, float | None]:
    """Assign a call its time. Return the new pace, in which `sent` is the call's number, and the seconds to wait. If
    the wait is longer than `patience`, return the pace unchanged and None. The time is void once `changed_at` changes.
    """
    at = opens_at(pace, now)
    if at - now > patience:
        return pace, None
    return replace(pace, next_at=at + 1 / pace.rate, sent=pace.sent + 1), at - now


def opens_at(pace: Pace, now: float) -> float:
    """Return when a call that is requested now may begin."""
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
    """Return the pace after the provider refused a call that began at `began`. The provider asked to wait for `asked`
    seconds, if given. `number` is the call's number, if it was assigned a time.
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
    """Return the pace after another refusal of the same burst, which can only extend the pause."""
    ready = None if pace.ready_at is None else max(pace.ready_at, now + asked)
    held = max(pace.held_until, now + min(asked + _MARGIN, LONGEST_LIMIT_PAUSE))
    return replace(pace, held_until=held, next_at=max(pace.next_at, held), ready_at=ready)


def _wait_after_refusal(pace: Pace | None, asked: float | None, limits: Limits | None) -> float:
    """Return the seconds to wait: as long as the provider asks. If it names no time, or refuses again after the time
    it named, the wait backs off exponentially with every refusal in a row.
    """
    strikes = pace.strikes if pace else 0
    backoff = min(_LONGEST_BACKOFF, 2.0**strikes) if asked is None or strikes else 0.0
    if asked is None and limits and limits.requests and limits.requests.remaining < 1:
        backoff = max(backoff, limits.requests.reset / max(1.0, limits.requests.limit))
    return max(asked or 0.0, backoff if asked is None else backoff / 2) + _MARGIN


@dataclass(frozen=True)
class _Estimate:
    """An estimate of the provider's limit after a refusal."""

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
        # The rate rose in small steps to about what the provider allows, or beyond it while searching. The number of
        # admitted calls tells less: a full bucket has overflowed in between.
        found = (pace.ceiling + pace.rate) / 2 if pace.rate > pace.ceiling * _REACHED else pace.rate
    elif found > pace.rate * _NOISE:  # a few calls are no more precise than that
        found = pace.rate
    return _Estimate(max(_within(found * _BELOW_THE_CEILING), cut), found, pace.evidence + admitted)


def _has_overtaken(pace: Pace, asked: float | None) -> bool:
    """Return whether the refused call was early because the one before it was late, at a rate that has proved itself.
    At a slightly too high rate, calls are only slightly early. A wait in whole seconds is too coarse to tell.
    """
    has_proved_itself = pace.ceiling is not None and pace.rate <= pace.ceiling * _REACHED and pace.evidence >= _MANY
    is_exact = asked is not None and not asked.is_integer()
    return has_proved_itself and is_exact and not pace.strikes and _EARLY < (asked or 0.0) * pace.rate <= 1


def failed(pace: Pace | None, now: float, began: float, *, asked: float | None = None) -> Pace:
    """Return the pace after the provider failed a call that began at `began`: it is down or unreachable."""
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
    """Return the pace after a call that began at `began` succeeded; None when the model needs no pace any more. The
    rate grows only if the call had to wait for its time, because only then may the rate be too low.
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
    """Return a pace for a model without refusals whose response headers show that calls of `tokens` tokens are about to
    reach its limit. None if enough is left.
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
    """Return the calls a second that the headers' limits sustain: the used part is refilled within `reset`."""
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
    """Return how many more tasks may be on their way to a model whose calls have been assigned times for the next
    `ahead` seconds.
    """
    left = HORIZON - ahead
    return max(1, round(left * rate)) if left > 0 else 0
