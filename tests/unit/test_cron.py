"""Cron: what an expression means in a time zone, what is refused, and the same against croniter and brute force."""

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.schedules import cron, words
from tests.unit.cron_cases import DUE, REFUSED, Due, Wrong

MOST = 0.05
"""seconds that reading one, and finding when it is due, may take"""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize("case", DUE, ids=lambda case: f"{case.cron} {case.zone} {case.why}")
def test_it_is_due_when_it_says(case: Due) -> None:
    expected = [at(run) for run in case.runs.split()]
    found = islice(cron.upcoming(cron.parse(case.cron), ZoneInfo(case.zone), at(case.after)), len(expected))
    assert list(found) == expected, case.why


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: repr(case.cron)[:40])
def test_it_is_refused_with_the_field_and_what_to_do(case: Wrong) -> None:
    with pytest.raises(cron.Refused) as refused:
        cron.parse(case.cron)
    assert refused.value.problems[0].field == case.field
    assert len(refused.value.problems[0].message) > 15


def test_every_field_at_fault_is_named() -> None:
    with pytest.raises(cron.Refused) as refused:
        cron.parse("60 24 32 13 8")
    fields = [problem.field for problem in refused.value.problems]
    assert fields == ["minute", "hour", "day of month", "month", "day of week"]


_FIELD = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6)}


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """Plain expressions that come due: lists of values, days up to the 28th, at most one of the two days."""
    parts = {}
    for name, (low, high) in _FIELD.items():
        chosen = draw(st.sets(st.integers(low, min(high, 28) if name == "day" else high), max_size=3))
        parts[name] = ",".join(map(str, sorted(chosen))) or "*"
    if parts["day"] != "*":
        parts["weekday"] = "*"
    return " ".join(parts.values())


@settings(deadline=None, max_examples=50)
@given(expressions(), st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))  # noqa: DTZ001  times on a clock
def test_in_utc_it_agrees_with_croniter(expression: str, after: datetime) -> None:
    expected = croniter(expression, after).get_next(datetime).replace(tzinfo=UTC)
    assert cron.next_run(cron.parse(expression), ZoneInfo("UTC"), after.replace(tzinfo=UTC)) == expected


_ZONES = ["Europe/Madrid", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Pacific/Chatham", "Asia/Tokyo"]


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["*/7 * * * *", "13 * * * *", "*/30 1-3 * * *", "0 */2 * * *", "5-50/15 0-2 * * *"]),
    st.sampled_from(_ZONES),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),  # noqa: DTZ001  a time of UTC, below
)
def test_an_interval_is_due_at_every_moment_at_which_the_clock_shows_it(
    expression: str, zone: str, after: datetime
) -> None:
    begin = after.replace(second=0, microsecond=0, tzinfo=UTC)
    minutes = [begin + timedelta(minutes=number) for number in range(1, 60 * 30)]
    shown = [m for m in minutes if croniter.match(expression, m.astimezone(ZoneInfo(zone)).replace(tzinfo=None))]
    found = []
    for run in cron.upcoming(cron.parse(expression), ZoneInfo(zone), begin):
        if run > minutes[-1]:
            break
        found.append(run)
    assert set(shown) <= set(found)
    jumps = [run for run in found if run not in set(shown)]  # what the clocks jumped over, right after the jump
    for run in jumps:
        before, later = (run - timedelta(seconds=1)).astimezone(ZoneInfo(zone)), run.astimezone(ZoneInfo(zone))
        assert (later.utcoffset() or timedelta()) > (before.utcoffset() or timedelta())


def test_none_takes_long() -> None:
    slowest = 0.0
    for text in [
        *(case.cron for case in DUE),
        *(case.cron for case in REFUSED),
        "0 0 29 2 *",
        "* * * * *",
        "0 0 30 2 5#5",
    ]:
        started = time.thread_time()
        with suppress(cron.Refused):
            cron.next_run(cron.parse(text), ZoneInfo("Europe/Madrid"), at("2096-03-01T00:00"))
        slowest = max(slowest, time.thread_time() - started)
    assert slowest < MOST


@pytest.mark.parametrize(
    ("expression", "english", "spanish"),
    [
        ("*/15 * * * *", "Every 15 minutes (UTC)", "Cada 15 minutos (UTC)"),
        ("0 9 * * MON-FRI", "At 09:00, Monday through Friday (UTC)", "A las 09:00, de lunes a viernes (UTC)"),
        ("0 9 * * FRI#2", "At 09:00, on the second Friday of the month (UTC)",
         "A las 09:00, en el segundo viernes del mes (UTC)"),
        ("5 4 29 2 *", "At 04:05, on day 29 of the month, only in February (UTC)",
         "A las 04:05, el día 29 del mes, sólo en febrero (UTC)"),
        ("0 0 L * *", "At 00:00, on the last day of the month (UTC)", "A las 00:00, en el último día del mes (UTC)"),
    ],
)  # fmt: skip
def test_it_is_told_in_words(expression: str, english: str, spanish: str) -> None:
    read = cron.parse(expression)
    assert words.describe_cron(read, "UTC") == english
    assert words.describe_cron(read, "UTC", "es") == spanish


@pytest.mark.parametrize("case", DUE, ids=lambda case: case.cron)
def test_whatever_can_be_read_can_be_told(case: Due) -> None:
    for language in ("en", "es"):
        assert len(words.describe_cron(cron.parse(case.cron), case.zone, language)) > 10
