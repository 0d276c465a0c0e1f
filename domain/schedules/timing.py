"""Decide when a schedule is due and what to do then. Pure: takes times, policies and `now`; returns a decision."""

import hashlib
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from domain.schedules import cron
from domain.schedules.schemas import CronTimes, Interval, Once, OnEvent, Overlap, Times

AT_ONCE = 100
"""due times of one schedule that one portion handles; the rest follow in the next portion"""
MOST_BUFFERED = 1_000
_COUNTED = 1_000
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Calendar:
    """The times of one schedule within its start and end."""

    times: Times
    starts_at: datetime | None = None
    ends_at: datetime | None = None

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Return an iterator of the due times after `moment`, in order."""
        begin = max(moment, self.starts_at - _TICK) if self.starts_at else moment
        end = self.ends_at
        return takewhile(lambda due: end is None or due <= end, _times_after(self.times, begin))

    def from_(self, moment: datetime) -> Iterator[datetime]:
        """Return an iterator of the due times from `moment` on, inclusive."""
        return self.after(moment - _TICK)

    def next(self, after: datetime) -> datetime | None:
        """Return the first due time after `after`, or None."""
        return next(self.after(after), None)


def _times_after(times: Times, moment: datetime) -> Iterator[datetime]:
    match times:
        case Once():
            return iter([times.at] if times.at > moment else [])
        case Interval():
            return _every(times, moment)
        case CronTimes():
            return cron.upcoming(cron.parse(times.cron), ZoneInfo(times.timezone or "UTC"), moment)
        case OnEvent():
            return iter(())


def _every(times: Interval, moment: datetime) -> Iterator[datetime]:
    if times.anchor is None:
        raise ValueError("an interval is anchored when its schedule is made")
    due = times.anchor + ((moment - times.anchor) // times.every + 1) * times.every
    while True:
        yield due
        due += times.every


@dataclass(frozen=True)
class ComeDue:
    """What came due: the times to run, the number of missed times and the first of them, and the next due time."""

    due: list[datetime] = field(default_factory=list)
    missed_from: datetime | None = None
    missed: int = 0
    next_at: datetime | None = None


def come_due(
    calendar: Calendar,
    next_at: datetime | None,
    now: datetime,
    catch_up: timedelta,
    delay: Callable[[datetime], datetime],
    jitter: timedelta,
) -> ComeDue:
    """Return what came due from `next_at` to `now`. `delay` adds the jitter of a time, at most `jitter`; a time is
    handled only after it.

    A time that is overdue by more than `catch_up` is missed: it is counted, up to a thousand, and not run. At most a
    hundred times are returned to run; `next_at` is then the following one.
    """
    if next_at is None or delay(next_at) > now:
        return ComeDue(next_at=next_at)
    oldest = now - catch_up
    begin = max(next_at, oldest - jitter)  # what was due before is missed by any jitter, and there may be a lot of it
    missed = list(islice(takewhile(lambda due: due < begin, calendar.from_(next_at)), _COUNTED))
    due: list[datetime] = []
    following = None
    for moment in calendar.from_(begin):
        if delay(moment) > now or len(due) == AT_ONCE:
            following = moment
            break
        (missed if delay(moment) < oldest else due).append(moment)
    first = missed[0] if missed else None
    return ComeDue(due=due, missed_from=first, missed=min(len(missed), _COUNTED), next_at=following)


def delayed(schedule_id: UUID, due: datetime, jitter: timedelta) -> datetime:
    """Return `due` plus the jitter of this run: the same in every process, and spread evenly over the runs."""
    if not jitter:
        return due
    digest = hashlib.sha256(schedule_id.bytes + due.isoformat().encode()).digest()
    return due + jitter * (int.from_bytes(digest[:6]) / 2**48)


Choice = Literal["start", "buffer", "replace", "skip"]


def choose(overlap: Overlap, *, running: int, buffered: int) -> Choice:
    """Decide what to do with a due run, given how many earlier runs are running and buffered.

    `replace`: cancel the running runs, and buffer this one in place of those that were buffered before.
    """
    if overlap == "allow_all" or (running == 0 and buffered == 0):
        return "start"
    match overlap:
        case "skip":
            return "skip"
        case "buffer_one":
            return "buffer" if buffered == 0 else "skip"
        case "buffer_all":
            return "buffer" if buffered < MOST_BUFFERED else "skip"
        case "cancel_other":
            return "replace"


def fits(wanted: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    """Whether an event's payload matches a filter. A missing path matches only `exists: false` and `ne`."""
    return all(_fits(value, *_look_up(payload, path)) for path, value in wanted.items())


def _look_up(payload: Mapping[str, Any], path: str) -> tuple[bool, Any]:
    found: Any = payload
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return False, None
        found = found[name]
    return True, found


def _fits(wanted: Any, is_there: bool, value: Any) -> bool:
    comparisons = wanted if isinstance(wanted, dict) else {"eq": wanted}
    return all(_compares(name, operand, is_there, value) for name, operand in comparisons.items())


def _compares(name: str, operand: Any, is_there: bool, value: Any) -> bool:
    if name == "exists":
        return is_there is operand
    if name == "ne":
        return not is_there or not _same(value, operand)
    if not is_there:
        return False
    if name == "eq":
        return _same(value, operand)
    if name == "in":
        return any(_same(value, one) for one in operand)
    return _is_ordered(name, value, operand)


def _same(value: Any, operand: Any) -> bool:
    return value == operand and isinstance(value, bool) == isinstance(operand, bool)


def _is_ordered(name: str, value: Any, operand: Any) -> bool:
    numbers = all(isinstance(side, int | float) and not isinstance(side, bool) for side in (value, operand))
    if not numbers and not (isinstance(value, str) and isinstance(operand, str)):
        return False  # a string and a number have no order
    return bool(_ORDERS[name](value, operand))


_ORDERS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
