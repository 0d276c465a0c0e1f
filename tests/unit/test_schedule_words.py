"""Times of schedules that are not cron expressions, in words: intervals, single times, events with their filters."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.schedules import words
from domain.schedules.schemas import CronTimes, Interval, Once, OnEvent


@pytest.mark.parametrize(
    ("every", "english", "spanish"),
    [
        (timedelta(seconds=1), "Every second", "Cada segundo"),
        (timedelta(seconds=90), "Every 1 minute and 30 seconds", "Cada 1 minuto y 30 segundos"),
        (timedelta(minutes=1), "Every minute", "Cada minuto"),
        (timedelta(minutes=60), "Every hour", "Cada hora"),
        (timedelta(hours=6), "Every 6 hours", "Cada 6 horas"),
        (timedelta(hours=25), "Every 1 day and 1 hour", "Cada 1 día y 1 hora"),
        (timedelta(days=1), "Every day", "Cada día"),
        (timedelta(days=14), "Every 14 days", "Cada 14 días"),
        (timedelta(days=1, hours=2, minutes=3, seconds=4), "Every 1 day and 2 hours and 3 minutes and 4 seconds",
         "Cada 1 día y 2 horas y 3 minutos y 4 segundos"),
    ],
)  # fmt: skip
def test_an_interval_is_told_in_the_largest_units(every: timedelta, english: str, spanish: str) -> None:
    assert words.describe(Interval(every=every)) == words.describe_interval(every) == english
    assert words.describe_interval(every, "es") == spanish


_SECONDS = {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}


@given(st.integers(1, 366 * 86_400))
def test_the_parts_of_an_interval_add_up(seconds: int) -> None:
    told = words.describe_interval(timedelta(seconds=seconds)).removeprefix("Every ")
    total = 0
    for part in told.split(" and "):
        count, _, unit = part.rpartition(" ")
        total += int(count or 1) * _SECONDS[unit.removesuffix("s")]
        assert unit.endswith("s") == (int(count or 1) > 1)
    assert total == seconds


@pytest.mark.parametrize(
    ("zone", "english"),
    [
        ("UTC", "Once, at 2026-12-31 23:30 (UTC)"),
        ("Europe/Madrid", "Once, at 2027-01-01 00:30 (Europe/Madrid)"),
        ("America/New_York", "Once, at 2026-12-31 18:30 (America/New_York)"),
    ],
)
def test_a_single_time_is_told_by_the_clock_of_the_zone(zone: str, english: str) -> None:
    at = Once(at=datetime.fromisoformat("2026-12-31T23:30:00+00:00"))
    assert words.describe(at, zone) == english
    assert words.describe_in_each(at, zone)["es"] == english.replace("Once, at", "Una vez, el")


def test_a_cron_expression_is_told_in_its_own_zone_and_else_in_the_given_one() -> None:
    assert (
        words.describe(CronTimes(cron="0 9 * * *", timezone="Asia/Tokyo"), "Europe/Madrid") == "At 09:00 (Asia/Tokyo)"
    )
    assert words.describe(CronTimes(cron="0 9 * * *"), "Europe/Madrid") == "At 09:00 (Europe/Madrid)"


@pytest.mark.parametrize(
    ("wanted", "english", "spanish"),
    [
        ({}, "", ""),
        ({"source": "web"}, " where source = web", " si source = web"),
        ({"a.b": {"gte": 1, "lt": 9}}, " where a.b ≥ 1 and < 9", " si a.b ≥ 1 y < 9"),
        ({"a": {"gt": 1}, "b": {"lte": 2}}, " where a > 1, b ≤ 2", " si a > 1, b ≤ 2"),
        ({"a": {"ne": "x"}, "b": {"eq": "y"}}, " where a ≠ x, b = y", " si a ≠ x, b = y"),
        ({"a": {"in": ["x", 2]}}, " where a is one of x, 2", " si a es uno de x, 2"),
        ({"a": {"exists": True}}, " where a is given", " si a está presente"),
        ({"a": {"exists": False}}, " where a is not given", " si a no está presente"),
    ],
)
def test_an_event_is_told_with_its_filter(wanted: dict[str, object], english: str, spanish: str) -> None:
    times = OnEvent(event="lead.created", filter=wanted)
    assert words.describe_in_each(times, "UTC") == {
        "en": f"Whenever lead.created happens{english}",
        "es": f"Cuando ocurre lead.created{spanish}",
    }
