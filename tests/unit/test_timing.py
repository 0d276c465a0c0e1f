"""When schedules are due and follow-ups may leave: exact times, from tables."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from domain.followups import timing as follow_ups
from domain.followups.schemas import Cap, QuietHours
from domain.schedules import timing
from domain.schedules.schemas import CronTimes, Interval, Once, OnEvent, Times
from domain.schedules.timing import Calendar, ComeDue, choose, come_due, delayed, fits

MADRID, NEW_YORK = ZoneInfo("Europe/Madrid"), ZoneInfo("America/New_York")
NIGHT = QuietHours(begin=time(21), end=time(9))
NOON_BREAK = QuietHours(begin=time(13), end=time(15))
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def at(day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    """A moment in March 2026, UTC. Until the 29th Madrid is an hour ahead, from then on two."""
    return datetime(2026, 3, day, hour, minute, second, tzinfo=UTC)


# ── follow-ups ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("moment", "quiet", "wanted"),
    [
        (at(3, 12), None, at(3, 12)),
        (at(3, 12), NIGHT, at(3, 12)),
        (at(3, 19, 59), NIGHT, at(3, 19, 59)),  # 20:59
        (at(3, 20), NIGHT, at(4, 8)),  # 21:00 until 9:00 of the next day
        (at(3, 23), NIGHT, at(4, 8)),  # midnight belongs to the next day
        (at(4, 7, 59), NIGHT, at(4, 8)),
        (at(4, 8), NIGHT, at(4, 8)),
        (at(3, 12), NOON_BREAK, at(3, 14)),  # 13:00 until 15:00 of the same day
        (at(3, 11, 59), NOON_BREAK, at(3, 11, 59)),
        (at(3, 14), NOON_BREAK, at(3, 14)),
        (at(3, 20, 0, 30), NIGHT, at(4, 8)),  # to the second
        (at(28, 20), NIGHT, at(29, 7)),  # the night that is an hour shorter
    ],
)
def test_quiet_hours_end_by_the_contacts_clock(moment: datetime, quiet: QuietHours | None, wanted: datetime) -> None:
    assert follow_ups.outside_quiet_hours(moment, quiet, MADRID) == wanted


@pytest.mark.parametrize(
    ("moment", "wanted"),
    [
        (time(0, 10), time(0, 30)),
        (time(0, 30), time(0, 30)),  # between the two, quiet hours are over for half an hour
        (time(0, 59), time(0, 59)),
        (time(1), time(1, 30)),
        (time(1, 11, 12), time(1, 30)),
        (time(1, 30), time(1, 30)),
    ],
)
def test_quiet_hours_may_end_twice_where_clocks_are_set_back(moment: time, wanted: time) -> None:
    quiet = QuietHours(begin=time(23), end=time(2, 30))
    # On 25 October 2026 Madrid's clock goes from 3:00 back to 2:00: 2:30 is at 0:30 and at 1:30 UTC.
    begin, end = (datetime.combine(date(2026, 10, 25), clock, UTC) for clock in (moment, wanted))
    assert follow_ups.outside_quiet_hours(begin, quiet, MADRID) == end


@pytest.mark.parametrize(
    ("moment", "wanted"),
    [
        (at(3, 19, 58), at(3, 19, 58)), (at(3, 19, 59), at(4, 8)), (at(3, 20), at(4, 8)),
        (at(4, 7, 59, 30), at(4, 8)), (at(4, 8), at(4, 8)),
    ],
)  # fmt: skip
def test_a_message_may_leave_while_the_minute_after_it_is_not_quiet(moment: datetime, wanted: datetime) -> None:
    assert follow_ups.may_leave(moment, NIGHT, MADRID) == wanted
    assert follow_ups.may_leave(moment, None, MADRID) == moment


@pytest.mark.parametrize(
    ("moment", "wanted"),
    [(at(3, 12), at(3, 19, 59)), (at(3, 19, 59, 59), at(3, 19, 59)), (at(3, 20), at(4, 19, 59))],
)
def test_a_message_must_have_left_a_minute_before_quiet_hours(moment: datetime, wanted: datetime) -> None:
    assert follow_ups.leaves_by(moment, NIGHT, MADRID) == wanted
    assert follow_ups.leaves_by(moment, None, MADRID) is None


@pytest.mark.parametrize(
    ("moment", "hour", "wanted"),
    [
        (at(3, 12, 30), None, at(3, 12, 30)),
        (at(3, 12, 30), 13, at(3, 12, 30)),  # it is 13:30
        (at(3, 12, 30), 19, at(3, 18)),
        (at(3, 12, 30), 10, at(4, 9)),
        (at(28, 12), 10, at(29, 8)),
    ],
)
def test_a_wanted_hour_is_the_contacts(moment: datetime, hour: int | None, wanted: datetime) -> None:
    assert follow_ups.at_hour(moment, hour, MADRID) == wanted


def test_the_day_is_the_contacts_too() -> None:
    evening = at(4, 2)  # in New York it is still the 3rd, 21:00
    assert follow_ups.at_hour(evening, 23, NEW_YORK) == at(4, 4)
    assert follow_ups.leaves_by(evening, QuietHours(begin=time(23), end=time(9)), NEW_YORK) == at(4, 3, 59)


@pytest.mark.parametrize(
    ("others", "wanted"),
    [
        ([], at(10)),
        ([at(9)], at(10)),
        ([at(9), at(8)], at(15)),  # the older of the last two is seven days old on the 15th
        ([at(9), at(1), at(8)], at(15)),  # older ones do not count
        ([at(1), at(2)], at(10)),
        ([at(3), at(9)], at(10)),
        ([at(4), at(3, 1)], at(10, 1)),
    ],
)
def test_the_cap_holds_over_its_time(others: list[datetime], wanted: datetime) -> None:
    assert follow_ups.within_cap(at(10), Cap(messages=2, within=7 * DAY), others) == wanted


# ── schedules: which times ───────────────────────────────────────────────────────────────────────────────────────────

EVERY_HOUR = Interval(every=HOUR, anchor=at(1, 0, 30))


@pytest.mark.parametrize(
    ("times", "after", "wanted"),
    [
        (Once(at=at(3)), at(2), [at(3)]),
        (Once(at=at(3)), at(3), []),
        (Once(at=at(3)), at(4), []),
        (OnEvent(event="lead.created"), at(1), []),
        (EVERY_HOUR, at(3), [at(3, 0, 30), at(3, 1, 30), at(3, 2, 30)]),
        (EVERY_HOUR, at(3, 0, 30), [at(3, 1, 30), at(3, 2, 30), at(3, 3, 30)]),
        (EVERY_HOUR, at(1, 0, 29), [at(1, 0, 30), at(1, 1, 30), at(1, 2, 30)]),
        (CronTimes(cron="0 9 * * *", timezone="Europe/Madrid"), at(28), [at(28, 8), at(29, 7), at(30, 7)]),
        (CronTimes(cron="0 9 * * *"), at(28), [at(28, 9), at(29, 9), at(30, 9)]),
    ],
)
def test_the_times_after_a_moment(times: Times, after: datetime, wanted: list[datetime]) -> None:
    assert list(islice(Calendar(times).after(after), 3)) == wanted
    assert Calendar(times).next(after) == (wanted[0] if wanted else None)


def test_times_lie_between_start_and_end_both_included() -> None:
    calendar = Calendar(EVERY_HOUR, starts_at=at(3, 1, 30), ends_at=at(3, 3, 30))
    assert list(calendar.after(at(1))) == [at(3, 1, 30), at(3, 2, 30), at(3, 3, 30)]
    assert list(calendar.after(at(3, 2, 30))) == [at(3, 3, 30)]
    assert calendar.next(at(3, 3, 30)) is None
    assert list(calendar.from_(at(3, 3, 30))) == [at(3, 3, 30)]


def test_an_interval_without_an_anchor_is_a_fault_of_ours() -> None:
    with pytest.raises(ValueError, match=r"^an interval is anchored when its schedule is made$"):
        Calendar(Interval(every=HOUR)).next(at(1))


# ── schedules: what came due ─────────────────────────────────────────────────────────────────────────────────────────


def on_time(due: datetime) -> datetime:
    return due


def due_at(
    now: datetime,
    next_at: datetime | None,
    *,
    catch_up: timedelta = HOUR,
    late: dict[datetime, timedelta] | None = None,
) -> ComeDue:
    """What comes due of a schedule with a time every ten minutes; `late`: the jitter of some, at most five minutes."""

    def delay(due: datetime) -> datetime:
        return due + (late or {}).get(due, timedelta(0))

    return come_due(Calendar(Interval(every=10 * MINUTE, anchor=at(3))), next_at, now, catch_up, delay, 5 * MINUTE)


@pytest.mark.parametrize(
    ("now", "next_at", "wanted"),
    [
        (at(3, 1), None, ComeDue()),
        (at(3, 0, 59), at(3, 1), ComeDue(next_at=at(3, 1))),
        (at(3, 1), at(3, 1), ComeDue(due=[at(3, 1)], next_at=at(3, 1, 10))),
        (at(3, 1, 15), at(3, 1), ComeDue(due=[at(3, 1), at(3, 1, 10)], next_at=at(3, 1, 20))),
    ],
)
def test_what_is_due_by_now_and_what_comes_next(now: datetime, next_at: datetime | None, wanted: ComeDue) -> None:
    assert due_at(now, next_at) == wanted


def test_what_is_overdue_beyond_catching_up_is_counted_and_not_run() -> None:
    found = due_at(at(3, 3), at(3, 1, 30), catch_up=HOUR)
    assert (found.missed_from, found.missed) == (at(3, 1, 30), 3)  # 1:30, 1:40, 1:50
    assert found.due == [at(3, 2) + n * 10 * MINUTE for n in range(7)]
    assert found.next_at == at(3, 3, 10)


def test_at_most_a_hundred_run_at_once_and_the_rest_follow() -> None:
    found = due_at(at(10), at(3), catch_up=30 * DAY)
    assert (len(found.due), found.missed, found.missed_from) == (100, 0, None)
    assert found.next_at == at(3) + 100 * 10 * MINUTE


def test_at_most_a_thousand_missed_times_are_counted() -> None:
    now = at(3) + 2_000 * 10 * MINUTE
    found = due_at(now, at(3), catch_up=HOUR)
    assert (found.missed, found.missed_from) == (1_000, at(3))
    assert found.due == [now - HOUR + n * 10 * MINUTE for n in range(7)]
    few = due_at(at(3) + 999 * 10 * MINUTE + HOUR, at(3), catch_up=HOUR)
    assert few.missed == 999


def test_what_is_overdue_by_as_much_as_is_caught_up_on_is_run() -> None:
    found = due_at(at(3, 2), at(3, 1), catch_up=HOUR)
    assert (found.missed, found.missed_from, found.due[0]) == (0, None, at(3, 1))


def test_a_time_is_due_only_after_its_jitter_and_missed_by_it_too() -> None:
    late = {at(3, 1): 5 * MINUTE}
    assert due_at(at(3, 1, 4), at(3, 1), late=late) == ComeDue(next_at=at(3, 1))
    found = due_at(at(3, 2, 2), at(3, 1), late=late)
    assert (found.missed, found.due[0]) == (0, at(3, 1))  # two minutes within its hour, by its jitter


@pytest.mark.parametrize("first", [at(3), at(12, 0, 50)])
def test_what_its_jitter_brings_within_the_hour_is_run_however_many_before_it_were_missed(first: datetime) -> None:
    found = due_at(at(12, 2, 2), first, late={at(12, 1): 5 * MINUTE}, catch_up=HOUR)
    assert (found.missed_from, found.due[:2]) == (first, [at(12, 1), at(12, 1, 10)])


def test_of_two_times_the_later_may_be_missed_alone() -> None:
    calendar = Calendar(Interval(every=MINUTE, anchor=at(3)))
    late = {at(3, 1): at(3, 1, 5)}
    found = come_due(calendar, at(3, 1), at(3, 2, 4), HOUR, lambda due: late.get(due, due), 5 * MINUTE)
    assert (found.due[:2], found.missed_from, found.missed) == ([at(3, 1), at(3, 1, 4)], at(3, 1, 1), 3)


def test_nothing_follows_the_last_time() -> None:
    calendar = Calendar(Once(at=at(3)))
    assert come_due(calendar, at(3), at(3, 1), DAY, on_time, timedelta(0)) == ComeDue(due=[at(3)], next_at=None)
    missed = come_due(calendar, at(3), at(5), DAY, on_time, timedelta(0))
    assert missed == ComeDue(missed_from=at(3), missed=1)


def test_jitter_is_the_same_everywhere_and_within_its_bound() -> None:
    schedule = UUID(int=7)
    offsets = [delayed(schedule, at(3) + n * HOUR, 10 * MINUTE) - (at(3) + n * HOUR) for n in range(200)]
    assert offsets == [delayed(schedule, at(3) + n * HOUR, 10 * MINUTE) - (at(3) + n * HOUR) for n in range(200)]
    assert all(timedelta(0) <= offset < 10 * MINUTE for offset in offsets)
    assert min(offsets) < MINUTE < 9 * MINUTE < max(offsets)
    assert delayed(schedule, at(3), timedelta(0)) == at(3)
    assert delayed(UUID(int=8), at(3), HOUR) != delayed(schedule, at(3), HOUR)


# ── schedules: overlap and events ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("overlap", "running", "buffered", "wanted"),
    [
        ("skip", 0, 0, "start"), ("skip", 1, 0, "skip"), ("skip", 0, 1, "skip"),
        ("buffer_one", 0, 0, "start"), ("buffer_one", 1, 0, "buffer"), ("buffer_one", 1, 1, "skip"),
        ("buffer_all", 1, 999, "buffer"), ("buffer_all", 1, 1_000, "skip"), ("buffer_all", 0, 0, "start"),
        ("cancel_other", 0, 0, "start"), ("cancel_other", 1, 0, "replace"), ("cancel_other", 0, 1, "replace"),
        ("allow_all", 0, 0, "start"), ("allow_all", 7, 7, "start"),
    ],
)  # fmt: skip
def test_what_to_do_when_the_run_before_is_not_over(overlap: Any, running: int, buffered: int, wanted: str) -> None:
    assert choose(overlap, running=running, buffered=buffered) == wanted
    assert timing.MOST_BUFFERED == 1_000


LEAD = {"score": 7, "source": "web", "is_new": True, "owner": {"name": "Ana", "team": None}}


@pytest.mark.parametrize(
    ("wanted", "does"),
    [
        ({}, True),
        ({"source": "web"}, True), ({"source": "Web"}, False), ({"source": "web", "score": 8}, False),
        ({"score": 7}, True), ({"score": 7.0}, True), ({"score": "7"}, False),
        ({"is_new": True}, True), ({"is_new": 1}, False), ({"score": True}, False),
        ({"owner.name": "Ana"}, True), ({"owner.team": None}, True), ({"owner.name.first": "A"}, False),
        ({"owner.phone": None}, False),
        ({"phone": {"exists": False}}, True), ({"phone": {"exists": True}}, False),
        ({"score": {"exists": True}}, True), ({"score": {"exists": False}}, False),
        ({"phone": {"ne": "x"}}, True), ({"source": {"ne": "web"}}, False), ({"source": {"ne": "shop"}}, True),
        ({"source": {"in": ["shop", "web"]}}, True), ({"source": {"in": ["shop"]}}, False),
        ({"is_new": {"in": [1]}}, False), ({"phone": {"in": [None]}}, False),
        ({"score": {"gt": 6}}, True), ({"score": {"gt": 7}}, False), ({"score": {"gte": 7}}, True),
        ({"score": {"lt": 7}}, False), ({"score": {"lte": 7}}, True), ({"score": {"lt": 8, "gt": 7}}, False),
        ({"score": {"lt": 8, "gt": 6}}, True),
        ({"source": {"gt": "abc"}}, True), ({"source": {"gt": 3}}, False), ({"score": {"gt": "3"}}, False),
        ({"is_new": {"gte": 0}}, False), ({"score": {"gte": False}}, False), ({"phone": {"lt": 3}}, False),
    ],
)  # fmt: skip
def test_what_events_a_filter_lets_through(wanted: dict[str, Any], does: bool) -> None:
    assert fits(wanted, LEAD) is does
