"""Cron: what an expression means in a time zone, what is refused, and the same against croniter and brute force."""

import re
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
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
        ("0 9 1W,15 * *", "At 09:00, on day 15 of the month and on the weekday nearest day 1 of the month (UTC)",
         "A las 09:00, el día 15 del mes y en el día laborable más cercano al día 1 del mes (UTC)"),
        ("0 9 1W,9W * *",
         "At 09:00, on the weekday nearest day 1 of the month and on the weekday nearest day 9 of the month (UTC)",
         "A las 09:00, en el día laborable más cercano al día 1 del mes y en el día laborable más cercano al día 9 "  # noqa: ISC004
         "del mes (UTC)"),
        ("0 0 31W * *", "At 00:00, on the last weekday of the month (UTC)",
         "A las 00:00, en el último día laborable del mes (UTC)"),
        ("0 0 15,L * *", "At 00:00, on day 15 of the month and on the last day of the month (UTC)",
         "A las 00:00, el día 15 del mes y en el último día del mes (UTC)"),
        ("0 0 * * FRI#2,MON", "At 00:00, on Monday and on the second Friday of the month (UTC)",
         "A las 00:00, los lunes y en el segundo viernes del mes (UTC)"),
        ("0 0 1 * MON#1", "At 00:00, on day 1 of the month or on the first Monday of the month (UTC)",
         "A las 00:00, el día 1 del mes o en el primer lunes del mes (UTC)"),
        ("0 0 13 * SAT", "At 00:00, on day 13 of the month or on Saturday (UTC)",
         "A las 00:00, el día 13 del mes o los sábados (UTC)"),
        ("0 0 1 * */1", "At 00:00 (UTC)", "A las 00:00 (UTC)"),
        ("0 */9 * * *", "At 00:00, 09:00 and 18:00 (UTC)", "A las 00:00, 09:00 y 18:00 (UTC)"),
        ("1 * * * *", "At 1 minute past the hour (UTC)", "Al minuto 1 de cada hora (UTC)"),
        ("30 1 * * SUNL", "At 01:30, on the last Sunday of the month (UTC)",
         "A la 01:30, en el último domingo del mes (UTC)"),
        ("5-50/15 0-2,9 * * *",
         "At 5, 20, 35 and 50 minutes past the hour, between 00:00 and 02:59 and between 09:00 and 09:59 (UTC)",
         "A los minutos 5, 20, 35 y 50 de cada hora, entre las 00:00 y las 02:59 y entre las 09:00 y las 09:59 (UTC)"),
        ("0 0 1 2-4,7 *", "At 00:00, on day 1 of the month, only from February through April and in July (UTC)",
         "A las 00:00, el día 1 del mes, sólo de febrero a abril y en julio (UTC)"),
    ],
)  # fmt: skip
def test_it_is_told_in_words(expression: str, english: str, spanish: str) -> None:
    read = cron.parse(expression)
    assert words.describe_cron(read, "UTC") == english
    assert words.describe_cron(read, "UTC", "es") == spanish


_DAYS = ["*", "1", "15,L", "1W", "1W,15W", "31W", "1-7", "*/1"]
_WEEKDAYS = ["*", "MON", "MON-FRI", "1,2,3,4,5", "MON#1", "MON,FRI#2", "5L"]
_MINUTES = ["0", "*", "*/15", "0,15,30,45", "5", "1-3"]
_HOURS = ["9", "*", "*/6", "0,6,12,18", "9-17", "1,5"]
_YEARS_END = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expressions", "span"),
    [
        ([f"0 0 {day} {month} {weekday}" for day in _DAYS for month in ("*", "2-4") for weekday in _WEEKDAYS], 365),
        ([f"{minute} {hour} * * *" for minute in _MINUTES for hour in _HOURS], 1),
    ],
    ids=["days", "times"],
)
@pytest.mark.parametrize("language", ["en", "es"])
def test_expressions_that_read_the_same_are_due_at_the_same_times(
    expressions: list[str], span: int, language: cron.Language
) -> None:
    meant: dict[str, set[tuple[datetime, ...]]] = {}
    for text in expressions:
        runs = cron.upcoming(cron.parse(text), ZoneInfo("UTC"), _YEARS_END)
        due = tuple(takewhile(lambda run: run < _YEARS_END + timedelta(days=span), runs))
        meant.setdefault(words.describe_cron(cron.parse(text), "UTC", language), set()).add(due)
    assert {told: len(dues) for told, dues in meant.items() if len(dues) > 1} == {}
    assert len(meant) < len(expressions)  # some are spelled in two ways


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0/20 * * * *", "*/20 * * * *"),
        ("0 0 * * 1,2,3,4,5", "0 0 * * MON-FRI"),
        ("0 0 ? JAN-MAR SUN", "0 0 * 1,2,3 7"),
        ("0 0 * * 6-7", "0 0 * * 0,6"),
        ("0 0 */1 * MON", "0 0 * * *"),
        ("0 0 * * L5", "0 0 * * FRIL"),
    ],
)
def test_what_means_the_same_reads_the_same(one: str, other: str) -> None:
    for language in ("en", "es"):
        assert words.describe_cron(cron.parse(one), "UTC", language) == words.describe_cron(
            cron.parse(other), "UTC", language
        )


_ENGLISH = re.compile(
    r"\b(is|not|write|the|month|day|from|to|out|of|range|read|field|fields|has|never|comes|hour|minute|week)\b"
)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: repr(case.cron)[:40])
def test_a_refusal_in_spanish_is_wholly_spanish(case: Wrong) -> None:
    with pytest.raises(cron.Refused) as refused:
        cron.parse(case.cron, "es")
    with pytest.raises(cron.Refused) as in_english:
        cron.parse(case.cron)
    assert [one.field for one in refused.value.problems] == [one.field for one in in_english.value.problems]
    for problem in refused.value.problems:
        said = re.sub(r"'[^']*'|@[a-z]+", "", problem.message)
        assert not _ENGLISH.search(said), problem.message


@pytest.mark.parametrize("case", DUE, ids=lambda case: case.cron)
def test_whatever_can_be_read_can_be_told(case: Due) -> None:
    for language in ("en", "es"):
        assert len(words.describe_cron(cron.parse(case.cron), case.zone, language)) > 10
