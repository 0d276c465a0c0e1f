"""What a schedule may be set to: each bound, and what is refused with its reason."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from domain.schedules.schemas import Backfill, NewEvent, Pause, Question, ScheduleFields

_WORK = {"agent": "support-assistant", "input": {"message": "hello"}}
_HOURLY = {"kind": "interval", "every": 3600}
_AT = "2027-01-01T00:00:00Z"


def fields(**changes: Any) -> ScheduleFields:
    return ScheduleFields.model_validate({"name": "x", "times": _HOURLY, "task": _WORK} | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"times": {"kind": "interval", "every": 1}}, {"times": {"kind": "interval", "every": 366 * 86_400}},
        {"times": {"kind": "interval", "every": "PT90S"}}, {"times": {"kind": "once", "at": _AT}},
        {"times": {"kind": "event", "event": "lead.created"}}, {"times": {"kind": "event", "event": "x9.y_1.z"}},
        {"times": {"kind": "cron", "cron": "@daily", "timezone": "America/New_York"}},
        {"jitter": 0}, {"jitter": 86_400}, {"catch_up": 10}, {"catch_up": 366 * 86_400}, {"remaining_runs": 0},
        {"pause_after_failures": 1}, {"monthly_budget": "0.01"}, {"monthly_budget": None},
        {"starts_at": _AT, "ends_at": "2027-01-01T00:00:01Z"}, {"starts_at": _AT}, {"ends_at": _AT},
    ],
)  # fmt: skip
def test_these_are_taken(changes: dict[str, Any]) -> None:
    fields(**changes)


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"times": {"kind": "interval", "every": 0}}, "every", "greater than or equal to 1 second"),
        ({"times": {"kind": "interval", "every": 366 * 86_400 + 1}}, "every", "less than or equal to 366 days"),
        ({"times": {"kind": "interval", "every": 60, "anchor": "2027-01-01T00:00:00"}}, "anchor", "timezone"),
        ({"times": {"kind": "once", "at": "2027-01-01T00:00:00"}}, "at", "timezone"),
        ({"times": {"kind": "cron", "cron": ""}}, "cron", "has 0 fields, not 5"),
        ({"times": {"kind": "cron", "cron": "0 9 * * *", "timezone": "localtime"}}, "timezone", "no time zone"),
        ({"times": {"kind": "cron", "cron": "0 9 * * *", "timezone": ""}}, "timezone", "at least 1 character"),
        ({"times": {"kind": "event", "event": "Lead.Created"}}, "event", "match pattern"),
        ({"times": {"kind": "event", "event": "lead."}}, "event", "match pattern"),
        ({"times": {"kind": "event", "event": "lead.created\n"}}, "event", "match pattern"),
        ({"times": {"kind": "event", "event": "x", "filter": {"a": {"in": "web"}}}}, "event", "takes a list of values"),
        ({"times": {"kind": "event", "event": "x", "filter": {"a": {"exists": 1}}}}, "event", "takes true or false"),
        ({"times": {"kind": "event", "event": "x", "filter": {"a": {"eq": 1, "between": [1, 2]}}}}, "event",
         "'between' is no comparison; there are eq, ne, gt, gte, lt, lte, in, exists"),
        ({"times": {"kind": "event", "event": "x", "filter": {"a": "\0"}}}, "filter", "NUL"),
        ({"times": {"kind": "event", "event": "x", "filter": {str(n): n for n in range(21)}}}, "filter", "at most 20"),
        ({"times": {"kind": "hourly"}}, "times", "does not match any of the expected tags"),
        ({"times": _HOURLY | {"timezone": "UTC"}}, "timezone", "Extra inputs"),
        ({"starts_at": _AT, "ends_at": _AT}, "", "ends_at must be later than starts_at"),
        ({"starts_at": "2027-01-01T01:00:00+01:00", "ends_at": _AT}, "", "ends_at must be later than starts_at"),
        ({"jitter": -1}, "jitter", "greater than or equal to 0"),
        ({"jitter": 86_401}, "jitter", "less than or equal to 1 day"),
        ({"jitter": 0.5}, "jitter", "must be whole seconds"),
        ({"catch_up": 9}, "catch_up", "greater than or equal to 10 seconds"),
        ({"remaining_runs": -1}, "remaining_runs", "greater than or equal to 0"),
        ({"pause_after_failures": 0}, "pause_after_failures", "greater than or equal to 1"),
        ({"monthly_budget": 0}, "monthly_budget", "greater than 0"),
        ({"name": "  "}, "name", "at least 1 character"),
        ({"name": "a\0b"}, "name", "NUL"),
        ({"is_paused": True}, "is_paused", "Extra inputs"),
    ],
)  # fmt: skip
def test_these_are_refused_with_the_field_and_the_reason(changes: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(ValidationError) as refused:
        fields(**changes)
    (error,) = refused.value.errors()
    assert not field or field in error["loc"]
    assert reason in error["msg"]


def test_a_cron_expression_is_kept_as_it_was_read() -> None:
    times = fields(times={"kind": "cron", "cron": "  @Daily "}).times
    assert times.model_dump()["cron"] == "0 0 * * *"


def test_without_a_choice_a_schedule_skips_what_overlaps_and_catches_up_on_an_hour() -> None:
    made = fields()
    assert (made.overlap, made.catch_up, made.jitter) == ("skip", timedelta(hours=1), timedelta(0))
    assert (made.remaining_runs, made.monthly_budget, made.pause_after_failures) == (None, None, None)


@pytest.mark.parametrize(
    ("start", "end"),
    [(_AT, _AT), ("2027-01-02T00:00:00Z", _AT), (_AT, "2027-01-01T01:00:00+01:00")],
)
def test_a_backfill_ends_after_it_starts_in_any_zone(start: str, end: str) -> None:
    with pytest.raises(ValidationError, match="end must be later than start"):
        Backfill.model_validate({"start": start, "end": end})


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (NewEvent, {"name": "x", "payload": {"a": "\ud800"}}),
        (NewEvent, {"name": "x", "payload": {"a": float("nan")}}),
        (NewEvent, {"name": ""}), (NewEvent, {"name": "x", "at": _AT}), (Pause, {"note": "x" * 501}),
        (Pause, {"note": "\0"}), (Question, {"cron": "* * * * *", "count": 0}),
        (Question, {"cron": "* * * * *", "count": 1001}), (Question, {"cron": "* * * * *", "language": "fr"}),
        (Question, {"cron": "* * * * *", "after": "2027-01-01T00:00:00"}),
    ],
)  # fmt: skip
def test_other_input_that_cannot_be_is_refused(model: type[BaseModel], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(values)
