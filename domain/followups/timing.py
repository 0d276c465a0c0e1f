"""When a follow-up may leave: quiet hours by the contact's clock, a wanted hour, the frequency cap, seasons. Pure."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from domain.followups.schemas import Cap, QuietHours

MARGIN = timedelta(minutes=1)
"""what leaves in the last minute before quiet hours might arrive in them"""


def outside_quiet_hours(moment: datetime, quiet: QuietHours | None, zone: ZoneInfo) -> datetime:
    """The first moment from `moment` on at which the contact's clock shows no quiet time."""
    while quiet is not None:
        local = moment.astimezone(zone)
        if not quiet.covers(local.time().replace(tzinfo=None)):
            break
        day = local.date() if local.time() < quiet.end else local.date() + timedelta(days=1)
        end = _when(day, quiet.end, zone)
        # Where the clocks are set back over the end, it comes twice, and the second may be meant.
        moment = end if end > moment else moment + timedelta(minutes=1)
    return moment


def may_leave(moment: datetime, quiet: QuietHours | None, zone: ZoneInfo) -> datetime:
    """The first moment from `moment` on at which a message may leave: it and the minute after it are not quiet."""
    opening = outside_quiet_hours(moment, quiet, zone)
    arrival = outside_quiet_hours(opening + MARGIN, quiet, zone)
    return opening if arrival == opening + MARGIN else arrival


def leaves_by(moment: datetime, quiet: QuietHours | None, zone: ZoneInfo) -> datetime | None:
    """Before when what may leave at `moment` must leave, lest it arrive in quiet hours; None where there are none."""
    if quiet is None:
        return None
    day = moment.astimezone(zone).date()
    while (begin := _when(day, quiet.begin, zone)) <= moment:
        day += timedelta(days=1)
    return begin - MARGIN


def at_hour(moment: datetime, hour: int | None, zone: ZoneInfo) -> datetime:
    """The first moment from `moment` on within the given hour of the contact's clock; `moment` without one."""
    if hour is None or moment.astimezone(zone).hour == hour:
        return moment
    day = moment.astimezone(zone).date()
    while (found := _when(day, time(hour), zone)) < moment:
        day += timedelta(days=1)
    return found


def within_cap(moment: datetime, cap: Cap, others: Sequence[datetime]) -> datetime:
    """The first moment from `moment` on at which one more message keeps the cap, after messages at `others`."""
    latest = sorted(others)[-cap.messages :]
    return moment if len(latest) < cap.messages else max(moment, latest[0] + cap.within)


def _when(day: date, clock: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, clock, tzinfo=zone).astimezone(UTC)
