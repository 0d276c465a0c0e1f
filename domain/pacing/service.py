"""Operations on paces and alerts, for model calls and monitoring. Each change of a pace is one short transaction."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from domain.pacing import queries, rules
from domain.pacing.schemas import Account, Alert, AlertKind, Limits, Pace, Route, Standing

KNOWN = queries.KNOWN
"""SQL query: all paces and alerts, as one value, JSON of `Known`"""
STANDINGS = queries.STANDINGS
"""SQL query: the current state of all paces, as rows of `Standing`"""
ALERTS = queries.ALERTS
"""SQL query: the current alerts, as rows of `Alert`"""
_ALERTS_KEPT = timedelta(days=1)
_Change = Callable[[Pace | None, float], Pace | None]


@dataclass(frozen=True)
class Turn:
    """The answer to a call that asks whether it may begin."""

    pace: Pace
    wait: timedelta | None
    """time until the call may begin; None if that exceeds its patience and it was assigned no time"""
    opens: timedelta
    """time until the next call could have begun"""

    @property
    def number(self) -> int:
        """The call's number among those that were assigned a time since the last refusal."""
        return self.pace.sent


def reserve(connection: Connection, route: Route, patience: timedelta) -> Turn | None:
    """Assign the model's next call a time, if that is no further away than `patience`. Returns None if the model has no
    pace: the call may begin.
    """
    locked = queries.lock_pace(connection, route, to_make=False)
    if locked is None:
        return None
    pace, now = locked.pace, locked.now
    reserved, wait = rules.reserve(pace, now, patience.total_seconds())
    if wait is not None:
        queries.put_pace(connection, route, reserved)
    opens = timedelta(seconds=rules.opens_at(pace, now) - now)
    return Turn(reserved, None if wait is None else timedelta(seconds=wait), opens)


def is_still(connection: Connection, route: Route, turn: Turn) -> bool:
    """Return whether a turn is still valid: no call was refused and none failed since it was assigned."""
    return queries.changed_at(connection, route) in {None, turn.pace.changed_at}


def refused(
    connection: Connection,
    route: Route,
    age: timedelta,
    *,
    number: int | None,
    asked: timedelta | None,
    limits: Limits | None,
) -> None:
    """Record that the provider rate-limited a call that began `age` ago. `number` is the call's number, if any."""
    seconds = None if asked is None else asked.total_seconds()

    def slower(pace: Pace | None, now: float) -> Pace:
        return rules.refused(pace, now, _began(now, age), number=number, asked=seconds, limits=limits)

    _change(connection, route, slower)


def failed(connection: Connection, route: Route, age: timedelta, *, asked: timedelta | None) -> None:
    """Record that the provider failed a call that began `age` ago."""
    seconds = None if asked is None else asked.total_seconds()
    _change(connection, route, lambda pace, now: rules.failed(pace, now, _began(now, age), asked=seconds))


def succeeded(connection: Connection, route: Route, age: timedelta, *, has_waited: bool) -> None:
    """Record that a call that began `age` ago succeeded. No-op for a model without a pace."""

    def better(pace: Pace | None, now: float) -> Pace | None:
        return rules.succeeded(pace, now, _began(now, age), has_waited=has_waited) if pace else None

    _change(connection, route, better, to_make=False)


def foresee(connection: Connection, route: Route, limits: Limits, tokens: int) -> None:
    """Create a pace if the model's response headers show that its limit is nearly reached, before it refuses a call."""
    _change(connection, route, lambda pace, now: pace or rules.foreseen(limits, now, tokens=tokens))


def _change(connection: Connection, route: Route, change: _Change, *, to_make: bool = True) -> None:
    locked = queries.lock_pace(connection, route, to_make=to_make)
    before, now = (locked.pace, locked.now) if locked else (None, queries.now(connection))
    after = change(before, now)
    if after != before:
        queries.put_pace(connection, route, after)


def _began(now: float, age: timedelta) -> float:
    return now - age.total_seconds()


def standings(connection: Connection) -> list[Standing]:
    """Return the current paces of all models; of several keys, the one that lets the next call begin first."""
    return queries.standings(connection)


def raise_alert(connection: Connection, account: Account, kind: AlertKind, message: str) -> None:
    """Record that an account needs a person: its quota is exhausted or its key was rejected."""
    queries.put_alert(connection, account, kind, message)


def end_alerts(connection: Connection, account: Account) -> None:
    """Delete the alerts of an account that works again."""
    queries.delete_alerts(connection, account)


def alerts(connection: Connection) -> list[Alert]:
    """Return the alerts, the oldest first. One that has not recurred for a day is left out."""
    return queries.alerts(connection)


def take_untold(connection: Connection) -> list[Alert]:
    """Return the alerts that no one was notified of yet, and mark them as notified in this transaction."""
    return queries.take_untold(connection)


def forget(connection: Connection) -> None:
    """Delete paces and alerts that have not been needed for a long time."""
    queries.forget_paces(connection, timedelta(seconds=rules.FORGOTTEN_AFTER))
    queries.forget_alerts(connection, _ALERTS_KEPT)
