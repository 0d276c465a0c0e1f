"""What a task is, from outside and from inside."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from core.text import Storable
from domain.billing.schemas import Cost, Tokens

Status = Literal["queued", "running", "waiting", "succeeded", "failed", "cancelled", "expired"]
Priority = Literal["critical", "high", "normal", "low"]
Stage = Literal["perceive", "decide", "act", "learn"]

STATUSES: tuple[Status, ...] = ("queued", "running", "waiting", "succeeded", "failed", "cancelled", "expired")
PRIORITIES: tuple[Priority, ...] = ("critical", "high", "normal", "low")
ENDED: tuple[Status, ...] = ("succeeded", "failed", "cancelled", "expired")


class TaskInput(BaseModel):
    """What the agent is asked."""

    model_config = ConfigDict(extra="forbid")

    message: Annotated[str, Storable, StringConstraints(min_length=1, max_length=200_000)] = Field(
        examples=["Can you book Ana Torres into Thursday's spin class?"]
    )
    context: Annotated[dict[str, Any], Storable] = Field(
        default={}, description="facts the agent should know beside the message"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.message.strip():
            raise ValueError("the message is blank; say what the agent should do")
        return self


class TaskSubmission(BaseModel):
    """A task to be done."""

    model_config = ConfigDict(extra="forbid")

    agent: Annotated[str, StringConstraints(min_length=1, max_length=63), Storable] = Field(
        description="the agent's slug", examples=["support-assistant"]
    )
    input: TaskInput
    priority: Priority = "normal"
    run_after: AwareDatetime | None = Field(default=None, description="not to be started before")
    deadline: AwareDatetime | None = Field(default=None, description="to be finished by; then it fails")
    expires_at: AwareDatetime | None = Field(default=None, description="not worth starting after; then it expires")

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        for name in ("deadline", "expires_at"):
            end = getattr(self, name)
            if end is not None and self.run_after is not None and end <= self.run_after:
                raise ValueError(f"{name} must be later than run_after")
        return self


class TaskError(BaseModel):
    """Why a try failed."""

    kind: str = Field(description="stable word for the kind of error", examples=["rate_limited", "bad_request"])
    message: str
    step: int | None = Field(default=None, description="sequence number of the step it happened in")


class Task(BaseModel):
    """A task as it stands."""

    id: UUID
    agent: str
    status: Status
    priority: Priority
    input: dict[str, Any]
    result: dict[str, Any] | None
    error: TaskError | None
    waiting_for: str | None
    run_after: datetime
    deadline: datetime | None
    expires_at: datetime | None
    attempts: int = Field(description="tries that counted")
    max_attempts: int
    worker: str | None
    cancel_requested_at: datetime | None
    parent_id: UUID | None
    origin_id: UUID | None
    model_calls: int
    input_tokens: int
    output_tokens: int
    billed_cost: Decimal = Field(description="US dollars")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.status in ENDED


class TaskPage(BaseModel):
    """Tasks, newest first, and where the next page begins."""

    tasks: list[Task]
    next_cursor: str | None


class TaskFilter(BaseModel):
    """Which tasks to list."""

    ids: list[UUID] = []
    status: list[Status] = []
    agent: str | None = None
    priority: list[Priority] = []
    created_after: AwareDatetime | None = None
    created_before: AwareDatetime | None = None


class Step(BaseModel):
    """One line of the journal."""

    seq: int
    stage: Stage
    name: str
    status: Literal["done", "failed"]
    claim: int
    input: dict[str, Any]
    output: dict[str, Any]
    model: str | None
    input_tokens: int
    output_tokens: int
    billed_cost: Decimal
    started_at: datetime | None = Field(default=None, description="null in the worker that just wrote it")
    duration_ms: int


class Attempt(BaseModel):
    """One time a worker had the task."""

    claim: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None = Field(description="null while it lasts")
    counted: bool | None = Field(description="whether it used up one of the attempts")
    error: TaskError | None


class TaskDetail(Task):
    """A task with its journal and the history of its attempts."""

    steps: list[Step]
    attempt_history: list[Attempt]


class Due(BaseModel):
    """A task that was marked as dispatched and is now to be published."""

    id: UUID
    org_id: UUID
    claim: int
    priority: Priority
    agent: str


class Claimed(BaseModel):
    """A task in the hands of a worker. `claim` is the fence that every later write names."""

    id: UUID
    org_id: UUID
    agent_id: UUID
    agent: str
    claim: int
    attempts: int
    max_attempts: int
    input: dict[str, Any]
    remaining: timedelta | None = Field(description="time until the deadline, by the database's clock")


class Bill(BaseModel):
    """What a step's model call is charged."""

    provider: str
    model: str
    tokens: Tokens
    cost: Cost
    is_rehearsal: bool


class StepRecord(BaseModel):
    """A step to be written into the journal."""

    seq: int
    stage: Stage
    name: str
    status: Literal["done", "failed"] = "done"
    input: dict[str, Any] = {}
    output: dict[str, Any]
    duration_ms: int
    bill: Bill | None = None


class Departure(BaseModel):
    """How a worker leaves a task: its new status, and what the attempt came to."""

    status: Status
    outcome: Literal["succeeded", "failed", "retry", "deferred", "released", "cancelled"]
    counted: bool = False
    delay: timedelta | None = None
    result: dict[str, Any] | None = None
    error: TaskError | None = None


class QueueStatistics(BaseModel):
    """How a queue stands."""

    priority: Priority
    queued: int = Field(description="due and waiting for a worker, published or not")
    scheduled: int = Field(description="to be started later")
    published: int = Field(description="of the queued, those with a message on the Celery queue")
    running: int
    oldest_seconds: float | None = Field(description="how long the longest waiting has been due")


class AgentStatistics(BaseModel):
    """What an agent has done in the last 30 days."""

    agent: str
    tasks: int
    succeeded: int
    failed: int
    unfinished: int
    success_rate: float | None = Field(description="of the tasks that ended; null before the first has")
    median_seconds: float | None = Field(description="from first start to end")
    model_calls: int
    billed_cost: Decimal


class WorkerRow(BaseModel):
    """A worker process, as its heartbeat tells."""

    id: str
    name: str
    hostname: str
    pid: int
    queues: list[str]
    concurrency: int
    status: Literal["alive", "silent", "stopped"]
    running: int = Field(description="tasks of this organisation that it has in hand")
    started_at: datetime
    last_seen_at: datetime
