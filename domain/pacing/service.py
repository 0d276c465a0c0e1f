"""Verbs of those who call models, and of those who watch. Each change of a pace is one short transaction."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta

from sqlalchemy import Connection, RowMapping

from domain.pacing import queries, rules
from domain.pacing.schemas import Account, Alert, AlertKind, Limits, Pace, Route, Standing

KNOWN = queries.KNOWN
"""a part of a statement: the paces and alerts there are, as JSON of `Known`"""
STANDINGS = queries.STANDINGS
"""a statement: how the paces of all models stand, as rows of `Standing`"""
ALERTS = queries.ALERTS
"""a statement: what needs a person, as rows of `Alert`"""
_ALERTS_KEPT = timedelta(days=1)
_Change = Callable[[Pace | None, float], Pace | None]


@dataclass(frozen=True)
class Turn:
    """What a call is told that asks whether it may begin."""

    pace: Pace
    wait: timedelta | None
    """until its time; None where that is further away than it would wait, and it was given none"""
    opens: timedelta
    """until the next call could have begun"""

    @property
    def number(self) -> int:
        """The call's number among those that were given a time since the last refusal."""
        return self.pace.sent


def reserve(connection: Connection, route: Route, patience: timedelta) -> Turn | None:
    """Give a model's next call its time, where that is no further away than `patience`. None where the model has no
    pace: the call may begin.
    """
    row = queries.lock_pace(connection, route, to_make=False)
    if row is None:
        return None
    pace, now = _read(row)
    reserved, wait = rules.reserve(pace, now, patience.total_seconds())
    if wait is not None:
        queries.put_pace(connection, route, asdict(reserved))
    opens = timedelta(seconds=rules.opens_at(pace, now) - now)
    return Turn(reserved, None if wait is None else timedelta(seconds=wait), opens)


def is_still(connection: Connection, route: Route, turn: Turn) -> bool:
    """Whether a turn holds: nothing was refused and nothing failed since it was given."""
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
    """The provider refused, for its rate, a call that began `age` ago and had this number, if any."""
    seconds = None if asked is None else asked.total_seconds()

    def slower(pace: Pace | None, now: float) -> Pace:
        return rules.refused(pace, now, _began(now, age), number=number, asked=seconds, limits=limits)

    _change(connection, route, slower)


def failed(connection: Connection, route: Route, age: timedelta, *, asked: timedelta | None) -> None:
    """The provider failed a call that began `age` ago."""
    seconds = None if asked is None else asked.total_seconds()
    _change(connection, route, lambda pace, now: rules.failed(pace, now, _began(now, age), asked=seconds))


def succeeded(connection: Connection, route: Route, age: timedelta, *, has_waited: bool) -> None:
    """A call that began `age` ago succeeded, of a model that has a pace."""

    def better(pace: Pace | None, now: float) -> Pace | None:
        return rules.succeeded(pace, now, _began(now, age), has_waited=has_waited) if pace else None

    _change(connection, route, better, to_make=False)


def foresee(connection: Connection, route: Route, limits: Limits, tokens: int) -> None:
    """A model's headers tell that its limit is nearly reached: give it a pace before it refuses a call."""
    _change(connection, route, lambda pace, now: pace or rules.foreseen(limits, now, tokens=tokens))


def _change(connection: Connection, route: Route, change: _Change, *, to_make: bool = True) -> None:
    row = queries.lock_pace(connection, route, to_make=to_make)
    before, now = _read(row) if row else (None, queries.now(connection))
    after = change(before, now)
    if after != before:
        queries.put_pace(connection, route, None if after is None else asdict(after))


def _read(row: RowMapping) -> tuple[Pace, float]:
    return Pace(**{name: value for name, value in row.items() if name != "now"}), row["now"]


def _began(now: float, age: timedelta) -> float:
    return now - age.total_seconds()


def standings(connection: Connection) -> list[Standing]:
    """How the paces of all models stand; of several keys the one that lets the next call begin first."""
    return [Standing(**row) for row in queries.standings(connection)]


def raise_alert(connection: Connection, account: Account, kind: AlertKind, message: str) -> None:
    """Note that an account needs a person: its quota is exhausted, or its key rejected."""
    queries.put_alert(connection, account, kind, message)


def end_alerts(connection: Connection, account: Account) -> None:
    """Note that an account works again."""
    queries.delete_alerts(connection, account)


def alerts(connection: Connection) -> list[Alert]:
    """What needs a person, the oldest first. One that has not come up for a day is left out."""
    return [Alert(**row) for row in queries.alerts(connection)]


def take_untold(connection: Connection) -> list[Alert]:
    """The alerts that nobody was told of yet; they count as told with this transaction."""
    return [Alert(**row) for row in queries.take_untold(connection)]


def forget(connection: Connection) -> None:
    """Delete paces and alerts that have been of no use for long."""
    queries.forget_paces(connection, timedelta(seconds=rules.FORGOTTEN_AFTER))
    queries.forget_alerts(connection, _ALERTS_KEPT)
