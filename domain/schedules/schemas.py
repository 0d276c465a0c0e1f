"""Schedules, the times they mean, and their runs."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from core.numbers import PlainDecimal
from core.text import Storable
from core.zones import known_zone
from domain.agents.schemas import Slug
from domain.schedules import cron
from domain.schedules.cron import Language, Problem
from domain.tasks.schemas import Priority, TaskInput

Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "allow_all"]
RunKind = Literal["due", "manual", "backfill", "event"]
RunStatus = Literal["buffered", "running", "succeeded", "failed", "cancelled", "expired", "skipped", "missed"]
State = Literal["active", "paused", "finished", "stopped"]
EventName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$", max_length=100)]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500), Storable]

OPEN_RUNS: tuple[RunStatus, ...] = ("buffered", "running")
_SECOND, _YEAR = timedelta(seconds=1), timedelta(days=366)


Zone = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(known_zone)]


def _whole_seconds(length: timedelta) -> timedelta:
    if length.microseconds:
        raise ValueError("must be whole seconds")
    return length


Seconds = Annotated[timedelta, AfterValidator(_whole_seconds)]


class Once(BaseModel):
    """A single time."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["once"] = "once"
    at: AwareDatetime


class Interval(BaseModel):
    """Regular intervals, counted from `anchor`."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["interval"] = "interval"
    every: Seconds = Field(
        ge=_SECOND, le=_YEAR, description="seconds, or ISO 8601 such as PT90S", examples=["PT6H", 3600]
    )
    anchor: AwareDatetime | None = Field(
        default=None, description="a time at which it is due; the others lie whole intervals from it. Without it, now"
    )


class CronTimes(BaseModel):
    """A cron expression, by the clock and calendar of a time zone."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["cron"] = "cron"
    cron: Annotated[str, Storable] = Field(
        max_length=10_000,
        description="five fields: minute, hour, day of month, month, day of week",
        examples=["30 8 * * MON-FRI"],
    )
    timezone: Zone | None = Field(default=None, description="IANA name; without it, the organisation's")

    @model_validator(mode="after")
    def _comes_due(self) -> Self:
        self.cron = cron.parse(self.cron).text
        return self


class OnEvent(BaseModel):
    """Every posted event of this name whose payload matches the filter."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["event"] = "event"
    event: EventName = Field(examples=["lead.created"])
    filter: Annotated[dict[str, Any], Storable] = Field(
        default={},
        max_length=20,
        description="dotted path in the payload → the value it must have, or an object of comparisons: "
        "eq, ne, gt, gte, lt, lte, in, exists",
        examples=[{"source": "website", "value": {"gte": 100}}],
    )

    @model_validator(mode="after")
    def _can_be_checked(self) -> Self:
        from_filter = (wanted for wanted in self.filter.values() if isinstance(wanted, dict))
        for wanted in from_filter:
            if unknown := sorted(set(wanted) - COMPARISONS.keys()):
                raise ValueError(f"filter: {unknown[0]!r} is no comparison; there are {', '.join(COMPARISONS)}")
            if "in" in wanted and not isinstance(wanted["in"], list):
                raise ValueError("filter: `in` takes a list of values")
            if "exists" in wanted and not isinstance(wanted["exists"], bool):
                raise ValueError("filter: `exists` takes true or false")
        return self


COMPARISONS = {"eq": "==", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "in": "in", "exists": "exists"}
Times = Annotated[Once | Interval | CronTimes | OnEvent, Field(discriminator="kind")]


class Work(BaseModel):
    """The task that each run starts."""

    model_config = ConfigDict(extra="forbid")

    agent: Slug
    input: TaskInput
    priority: Priority = "normal"
    contact: UUID | None = Field(default=None, description="id of the contact that it is about")


class ScheduleFields(BaseModel):
    """The fields of a schedule that people set."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120), Storable]
    times: Times
    task: Work
    starts_at: AwareDatetime | None = Field(default=None, description="not due before")
    ends_at: AwareDatetime | None = Field(default=None, description="not due after")
    jitter: Seconds = Field(
        default=timedelta(0), ge=timedelta(0), le=timedelta(days=1), description="each run starts up to so much later"
    )
    overlap: Overlap = Field(
        default="skip",
        description="when it is due and an earlier run has not ended: skip it; buffer it, one or all; cancel the "
        "earlier; or allow both",
    )
    catch_up: Seconds = Field(
        default=timedelta(hours=1),
        ge=timedelta(seconds=10),
        le=_YEAR,
        description="a run may start so much late, after an outage; what is older is missed",
    )
    pause_after_failures: int | None = Field(
        default=None, ge=1, le=1000, description="pauses itself after so many failed runs in a row"
    )
    remaining_runs: int | None = Field(
        default=None, ge=0, le=1_000_000, description="it may come due so often; null for no end"
    )
    monthly_budget: PlainDecimal | None = Field(
        default=None, gt=0, le=1_000_000, description="US dollars that its runs may cost in a month; then it skips"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.starts_at is not None and self.ends_at is not None and self.ends_at <= self.starts_at:
            raise ValueError("ends_at must be later than starts_at")
        return self


class Schedule(ScheduleFields):
    """A schedule with its current state."""

    id: UUID
    slug: Slug
    state: State = Field(description="`stopped` where the whole scheduler is")
    note: str | None = Field(description="why it is paused")
    failures_in_a_row: int
    next_at: datetime | None = Field(description="next due time; null if there is none, or none is known")
    user_id: UUID = Field(description="for whom its tasks are done")
    created_at: datetime
    changed_at: datetime
    description: str = Field(description="its times in words")
    descriptions: dict[Language, str] = Field(description="the same in each language")


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A schedule as it is stored: `times` and `task` are JSON, which takes time to validate."""

    id: UUID
    slug: str
    name: str
    times: dict[str, Any]
    task: dict[str, Any]
    starts_at: datetime | None
    ends_at: datetime | None
    jitter: timedelta
    overlap: Overlap
    catch_up: timedelta
    pause_after_failures: int | None
    remaining_runs: int | None
    monthly_budget: Decimal | None
    user_id: UUID
    scopes: list[str] | None
    is_paused: bool
    note: str | None
    failures_in_a_row: int
    next_at: datetime | None
    due_at: datetime | None
    created_at: datetime
    changed_at: datetime
    is_stopped: bool
    time_zone: str


@dataclass(frozen=True, slots=True)
class UpcomingSchedule:
    """A stored schedule that comes due at `next_at`, with what its later due times depend on."""

    slug: str
    name: str
    times: dict[str, Any]
    starts_at: datetime | None
    ends_at: datetime | None
    remaining_runs: int | None
    next_at: datetime


class ScheduleDetail(Schedule):
    """A schedule with its next due times."""

    next_runs: list[datetime] = Field(description="as if nothing paused it; without jitter")


class ScheduleRun(BaseModel):
    """One run of a schedule and its outcome."""

    id: UUID
    schedule: Slug
    kind: RunKind
    scheduled_for: datetime
    status: RunStatus
    reason: str | None = Field(description="why it was skipped or missed")
    missed: int | None = Field(description="how many due times this row stands for, where they were missed")
    task_id: UUID | None
    billed_cost: Decimal | None = Field(description="US dollars, once it has ended")
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that is buffered, or running as the task `task_id`."""

    id: UUID
    schedule_id: UUID
    kind: RunKind
    scheduled_for: datetime
    status: Literal["buffered", "running"]
    task_id: UUID | None
    payload: dict[str, Any] | None


class Question(BaseModel):
    """A cron expression to validate."""

    model_config = ConfigDict(extra="forbid")

    cron: Annotated[str, Storable] = Field(max_length=10_000, examples=["30 8 * * MON-FRI"])
    timezone: str | None = Field(default=None, max_length=200, description="without it, the organisation's")
    after: AwareDatetime | None = Field(default=None, description="without it, now")
    count: int = Field(default=5, ge=1, le=1000)
    language: Language = "en"


class Answer(BaseModel):
    """The result of validating a cron expression."""

    valid: bool
    errors: list[Problem]
    description: str | None
    next_runs: list[datetime]


class Pause(BaseModel):
    """Why something is paused or stopped."""

    model_config = ConfigDict(extra="forbid")

    note: Note | None = None


class RunNow(BaseModel):
    """How a manual run treats an earlier run that has not ended."""

    model_config = ConfigDict(extra="forbid")

    overlap: Overlap | None = Field(default=None, description="without it, as the schedule says")


class Backfill(BaseModel):
    """A past time range whose runs are to be made up."""

    model_config = ConfigDict(extra="forbid")

    start: AwareDatetime
    end: AwareDatetime
    overlap: Overlap = "buffer_all"
    preview: bool = Field(default=False, description="only say how many runs it would be, and at what cost")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.end <= self.start:
            raise ValueError("end must be later than start")
        return self


class BackfillOutcome(BaseModel):
    """The outcome of a backfill."""

    runs: int = Field(description="due times in the range")
    first: datetime | None
    last: datetime | None
    estimated_cost: Decimal | None = Field(
        description="US dollars, from what this schedule's runs, or else the agent's tasks, cost so far; null where "
        "nothing is known"
    )
    made: int = Field(description="0 for a preview")


class NewEvent(BaseModel):
    """An event to post."""

    model_config = ConfigDict(extra="forbid")

    name: EventName = Field(examples=["lead.created"])
    payload: Annotated[dict[str, Any], Storable] = {}


class EventOutcome(BaseModel):
    """The runs that an event led to."""

    runs: list[ScheduleRun]


class Upcoming(BaseModel):
    """A due time of a schedule that lies ahead."""

    schedule: Slug
    name: str
    at: datetime


class SchedulerStatus(BaseModel):
    """The state of an organisation's scheduler."""

    is_running: bool
    stopped_at: datetime | None
    note: str | None
    active: int
    paused: int
    finished: int
    overdue: int = Field(description="due and not attended to yet")
    oldest_overdue_seconds: float | None
    open_runs: int = Field(description="running or buffered")
    runs_today: dict[str, int] = Field(description="by status, of those due in the last 24 hours")
    next_at: datetime | None


class Checked(BaseModel):
    """Counts of what a sweep did."""

    started: int = 0
    skipped: int = 0
    missed: int = 0
    ended: int = 0
    attended: int = Field(default=0, description="schedules that were due, and runs that ended")
