"""Compute when a follow-up may leave: quiet hours by the contact's clock, a wanted hour, the frequency cap. Pure."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from domain.followups.schemas import Cap, QuietHours

MARGIN = timedelta(minutes=1)
"""a message sent in the last minute before quiet hours might arrive in them"""


def outside_quiet_hours(moment: datetime, quiet: QuietHours | None, zone: ZoneInfo) -> datetime:
    """Return the first moment from `moment` on that lies outside quiet hours by the contact's clock."""
    while quiet is not None and quiet.covers((local := moment.astimezone(zone)).time()):
        days = (local.date(), local.date() + timedelta(days=1))
        # When clocks are set back over the end of quiet hours, it occurs twice (fold 0 and 1).
        ends = (_when(day, quiet.end.replace(fold=fold), zone) for day in days for fold in (0, 1))
        moment = next(end for end in ends if end > moment)
    return moment


def may_leave(moment: datetime, quiet: QuietHours | None, zone: ZoneInfo) -> datetime:
    """Return the first moment from `moment` on when a message may leave: it and the minute after it are not quiet."""
    opening = outside_quiet_hours(moment, quiet, zone)
    arrival = outside_quiet_hours(opening + MARGIN, quiet, zone)
    return opening if arrival == opening + MARGIN else arrival


def leaves_by(moment: datetime, quiet: QuietHours | None, zone: ZoneInfo) -> datetime | None:
    """Return when a message that may leave at `moment` must have left to arrive before quiet hours; None without."""
    if quiet is None:
        return None
    day = moment.astimezone(zone).date()
    while (begin := _when(day, quiet.begin, zone)) <= moment:
        day += timedelta(days=1)
    return begin - MARGIN


def at_hour(moment: datetime, hour: int | None, zone: ZoneInfo) -> datetime:
    """Return the first moment from `moment` on in the given hour of the contact's clock; `moment` without an hour."""
    if hour is None or moment.astimezone(zone).hour == hour:
        return moment
    day = moment.astimezone(zone).date()
    while (found := _when(day, time(hour), zone)) < moment:
        day += timedelta(days=1)
    return found


def within_cap(moment: datetime, cap: Cap, others: Sequence[datetime]) -> datetime:
    """Return the first moment from `moment` on at which one more message, after those at `others`, respects the cap."""
    latest = sorted(others)[-cap.messages :]
    return moment if len(latest) < cap.messages else max(moment, latest[0] + cap.within)


def _when(day: date, clock: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, clock, tzinfo=zone).astimezone(UTC)
