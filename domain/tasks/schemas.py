"""Schemas of tasks, for the API and for internal use."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Protocol, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from core.clock import Moment
from core.ids import new_id
from core.text import Storable
from domain.agents.schemas import Mode
from domain.attachments.schemas import AttachedFile
from domain.feedback.schemas import Feedback

Status = Literal["queued", "running", "waiting", "succeeded", "failed", "cancelled", "expired"]
Priority = Literal["critical", "high", "normal", "low"]
Stage = Literal["perceive", "decide", "act", "learn"]
StepStatus = Literal["begun", "unknown", "done", "failed"]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200), Storable]
IdPrefix = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F][0-9a-fA-F-]{0,35}$")]
ToolName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
ConcurrencyKey = Annotated[str, StringConstraints(min_length=1, max_length=200), Storable]

STATUSES: tuple[Status, ...] = ("queued", "running", "waiting", "succeeded", "failed", "cancelled", "expired")
PRIORITIES: tuple[Priority, ...] = ("critical", "high", "normal", "low")
ENDED: tuple[Status, ...] = ("succeeded", "failed", "cancelled", "expired")


class TurnCall(BaseModel):
    """A call of a client tool that was made before."""

    model_config = ConfigDict(extra="forbid")

    id: Word = Field(description="id of the call", examples=["call_17"])
    tool: ToolName = Field(examples=["get_weather"])
    arguments: Annotated[str, Storable, StringConstraints(max_length=200_000)] = Field(
        description="JSON", examples=['{"city": "Lisbon"}']
    )


class Turn(BaseModel):
    """Something that was said before, or that a client tool returned."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["user", "assistant", "tool"]
    text: Annotated[str, Storable, StringConstraints(max_length=200_000)] = Field(
        description="what was said", examples=["Is there yoga tomorrow?"]
    )
    tool_calls: Annotated[list[TurnCall], Field(max_length=128)] | None = Field(
        default=None, description="of an answer: the client tools that it called"
    )
    call_id: Word | None = Field(
        default=None, description="of what a tool returned: the id of the call", examples=["call_17"]
    )

    @model_validator(mode="after")
    def _fits_its_role(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only answers have tool_calls")
        if (self.call_id is None) == (self.role == "tool"):
            raise ValueError("what a tool returned has a call_id, and nothing else has one")
        return self


class SaidBefore(Protocol):
    """Something said before, as far as its calls of tools go."""

    @property
    def role(self) -> str: ...

    @property
    def tool_calls(self) -> Sequence[TurnCall] | None: ...

    @property
    def call_id(self) -> str | None: ...


def unmatched_call(history: Iterable[SaidBefore]) -> str | None:
    """Return what is wrong with the calls of tools in a history, or None. Providers refuse calls whose results do not
    follow at once, and results without calls.
    """
    awaited: set[str] = set()
    for turn in history:
        if turn.role == "tool" and turn.call_id not in awaited:
            return f"{turn.call_id} is the result of no call of the answer before it"
        if turn.role != "tool" and awaited:
            break
        awaited |= {call.id for call in turn.tool_calls or ()}
        awaited -= {turn.call_id} if turn.call_id else set()
    return f"the result of the call {min(awaited)} is missing" if awaited else None


class ClientTool(BaseModel):
    """A tool of the submitter. If the agent calls it, the task waits for the result."""

    model_config = ConfigDict(extra="forbid")

    name: ToolName = Field(description="no name of a tool of Rota's own", examples=["get_weather"])
    description: Annotated[str, Storable, StringConstraints(max_length=10_000)] = Field(
        default="", description="what it does, for the agent", examples=["The weather in a city."]
    )
    parameters: Annotated[dict[str, Any], Storable] = Field(
        default={"type": "object", "properties": {}},
        description="JSON Schema of its arguments, of the type object",
        examples=[{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}],
    )

    @model_validator(mode="after")
    def _takes_an_object(self) -> Self:
        if self.parameters.get("type") != "object":
            raise ValueError('parameters must be a JSON Schema of the type object: {"type": "object", …}')
        return self


class TaskInput(BaseModel):
    """What the agent is asked."""

    model_config = ConfigDict(extra="forbid")

    message: Annotated[str, Storable, StringConstraints(min_length=1, max_length=200_000)] = Field(
        examples=["Can you book Ana Torres into Thursday's spin class?"]
    )
    context: Annotated[dict[str, Any], Storable] = Field(
        default={}, description="facts the agent should know beside the message"
    )
    history: list[Turn] = Field(
        default=[],
        max_length=500,
        description="what was said before the message; the latest that fit are read. Answers in it count as strangers' "
        "words: after them, actions need a person",
    )
    is_from_outside: bool = Field(
        default=False,
        description="a customer or a stranger wrote the message: it is told to the agent as data, and what it leads to "
        "is looked at more closely",
    )
    has_outside_context: bool = Field(
        default=False, description="the same of the context alone: the message is yours, the facts are strangers' words"
    )
    client_tools: Annotated[list[ClientTool], Field(max_length=128)] | None = Field(
        default=None,
        description="tools that you carry out yourself. If the agent calls some, the task waits for `client_tools`: "
        "read its `open_calls`, and return the results. What they return counts as strangers' words",
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.message.strip():
            raise ValueError("the message is blank; say what the agent should do")
        return self

    @model_validator(mode="after")
    def _calls_are_answered(self) -> Self:
        if problem := unmatched_call(self.history):
            raise ValueError(f"history: {problem}")
        return self

    @model_validator(mode="after")
    def _tools_differ(self) -> Self:
        names = [tool.name for tool in self.client_tools or ()]
        if len(names) != len(set(names)):
            raise ValueError("client_tools: two tools have the same name")
        return self


class AttachedTurn(Turn):
    """Something that was said before, with its attachments."""

    attachments: list[AttachedFile] = []


class AttachedInput(TaskInput):
    """What the agent is asked, with attachments of the message or of those before it. Not for callers of the API: who
    makes one has checked that the attachments are the caller's. Attachments are untrusted content.
    """

    attachments: list[AttachedFile] = []
    # A list is invariant to mypy; this one is only read.
    history: list[AttachedTurn] = []  # type: ignore[assignment]

    @property
    def has_attachments(self) -> bool:
        """Whether the message, or one before it, has any."""
        return bool(self.all_attachments())

    def all_attachments(self) -> list[AttachedFile]:
        """Return the attachments of the message and of those before it."""
        return [*self.attachments, *(file for turn in self.history for file in turn.attachments)]

    def without_attachments(self) -> TaskInput:
        """Return the same as what any caller could have sent."""
        turn = {"attachments"}
        return TaskInput.model_validate(self.model_dump(exclude={"attachments": True, "history": {"__all__": turn}}))


class TaskSubmission(BaseModel):
    """A task to submit."""

    model_config = ConfigDict(extra="forbid")

    agent: Annotated[str, StringConstraints(min_length=1, max_length=63), Storable] = Field(
        description="the agent's slug", examples=["support-assistant"]
    )
    input: TaskInput
    priority: Priority = "normal"
    run_after: Moment | None = Field(default=None, description="not to be started before")
    deadline: Moment | None = Field(
        default=None,
        description="to be finished by: after it a queued or waiting task ends as expired, a running one as failed",
    )
    expires_at: Moment | None = Field(default=None, description="not worth starting after; then it expires")
    concurrency_key: ConcurrencyKey | None = Field(
        default=None,
        description="tasks with the same key run one after the other, in the order accepted: a conversation, say. "
        "The first blocks those behind it until it has ended, whatever it waits for",
        examples=["conversation-17"],
    )

    for_user: Annotated[str, StringConstraints(max_length=254), Storable] | None = Field(
        default=None,
        description="e-mail of the user for whom it is done: the agent may do what that user may. Yourself without it",
    )
    location: Annotated[str, StringConstraints(max_length=63), Storable] | None = Field(
        default=None, description="slug of the location where it is to be done: the agent sees no other's records"
    )
    contact: UUID | None = Field(default=None, description="id of the contact that the task is about")
    notify: Annotated[str, StringConstraints(min_length=1, max_length=2_000), Storable] | None = Field(
        default=None,
        description="URL of one of your webhooks, to which the end and the waits of this task are posted, whatever "
        "events the webhook gets otherwise",
        examples=["https://example.com/hook"],
    )

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        for name in ("deadline", "expires_at"):
            end = getattr(self, name)
            if end is not None and self.run_after is not None and end <= self.run_after:
                raise ValueError(f"{name} must be later than run_after")
        return self


class Action(BaseModel):
    """An action that a person accepted: a tool with its arguments."""

    tool: str
    arguments: dict[str, Any]
    approval_id: UUID


class TreeLimits(BaseModel):
    """Limits on the tree of tasks that stem from one task; set by the agent of the root."""

    max_depth: int
    max_descendants: int
    max_cost: Decimal = Field(description="US dollars, root included")


class Bounds(BaseModel):
    """What the agents that led to a task may do. The task may do no more, whatever its own agent may."""

    agents: list[str] = Field(description="slugs, from the root's on; the rules for each of them hold")
    tools: list[str]
    mode: Mode
    tree: TreeLimits


class SubmissionContext(BaseModel):
    """The context in which a task is submitted: user, scopes, location and origin."""

    user_id: UUID
    location_id: UUID | None = None
    origin_id: UUID | None = None
    action: Action | None = None
    workflow_run: UUID | None = None
    scopes: list[str] | None = Field(default=None, description="of the key it is submitted with; null for all")
    root_id: UUID | None = Field(default=None, description="the task at the beginning, where an agent started this one")
    depth: int = Field(default=0, description="how many agents led to it")
    bounds: Bounds | None = None
    is_streamed: bool = Field(default=False, description="its models' words are passed on from the first one")
    conversation_id: UUID | None = None
    message_id: UUID | None = Field(default=None, description="the answer in the conversation that the task gives")


class Lineage(BaseModel):
    """A task's place in the tree of tasks that agents started."""

    root_id: UUID | None = None
    depth: int = 0
    bounds: Bounds | None = None


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task that is to be submitted: what was asked, in which context, and its id."""

    submission: TaskSubmission
    context: SubmissionContext
    idempotency_key: str | None = None
    id: UUID = field(default_factory=new_id)


class TaskError(BaseModel):
    """Why a try failed."""

    kind: str = Field(description="stable word for the kind of error", examples=["rate_limited", "bad_request"])
    message: str
    step: int | None = Field(default=None, description="sequence number of the step it happened in")


class Task(BaseModel):
    """A task in its current state."""

    id: UUID
    agent: str
    status: Status
    priority: Priority
    input: dict[str, Any]
    result: dict[str, Any] | None
    error: TaskError | None
    waiting_for: str | None
    fingerprint: str | None = Field(description="of the error: the same for errors that differ in numbers and ids only")
    concurrency_key: str | None
    run_after: datetime
    deadline: datetime | None
    expires_at: datetime | None
    attempts: int = Field(description="tries that counted")
    max_attempts: int
    worker: str | None
    cancel_requested_at: datetime | None
    user_id: UUID = Field(description="for whom it is done: the agent may do what this user may")
    location_id: UUID | None
    contact: UUID | None = Field(description="the contact that it is about")
    parent_id: UUID | None
    origin_id: UUID | None
    root_id: UUID | None = Field(description="the task at the beginning, where an agent started this one")
    depth: int = Field(description="how many agents led to it; 0 for a person's own")
    workflow_run: UUID | None
    conversation_id: UUID | None = Field(default=None, description="the conversation in which it answers")
    model_calls: int
    input_tokens: int
    output_tokens: int
    billed_cost: Decimal = Field(description="US dollars")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def has_ended(self) -> bool:
        """Whether the task has ended: nothing more happens to it by itself."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class EarlierTask:
    """A task that was submitted under an idempotency key, with the digest of its request."""

    task: Task
    request_digest: bytes


class TaskPage(BaseModel):
    """Tasks, newest first, and the cursor of the next page."""

    tasks: list[Task]
    next_cursor: str | None


class TaskFilter(BaseModel):
    """A filter of tasks. A task matches if it meets all given conditions."""

    model_config = ConfigDict(extra="forbid")

    ids: list[UUID] | None = Field(default=None, min_length=1, max_length=1000)
    id_prefix: IdPrefix | None = Field(default=None, description="how the id begins")
    status: list[Status] | None = Field(default=None, min_length=1)
    agent: Word | None = None
    priority: list[Priority] | None = Field(default=None, min_length=1)
    waiting_for: Word | None = Field(default=None, examples=["outcome"])
    concurrency_key: ConcurrencyKey | None = None
    error_kind: Word | None = Field(default=None, examples=["worker_lost"])
    fingerprint: Word | None = None
    created_after: AwareDatetime | None = None
    created_before: AwareDatetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no condition is given, so that every task matches."""
        return not self.model_dump(exclude_none=True)


class BulkRequest(BaseModel):
    """A bulk operation on all matching tasks."""

    model_config = ConfigDict(extra="forbid")

    filter: TaskFilter
    preview: bool = Field(default=False, description="only count them and show a few")
    after: UUID | None = Field(
        default=None, description="only tasks younger than this one: `last` of the portion before"
    )
    limit: int = Field(default=500, ge=1, le=1000, description="of tasks at one request, the oldest first")


Now = Annotated[
    bool, Field(description="start at once what was to start at a time that has not come; without it that time is kept")
]


class Retry(BaseModel):
    """How a task is queued again."""

    model_config = ConfigDict(extra="forbid")

    now: Now = False


class BulkRetry(BulkRequest):
    """A bulk retry: requeue the matching tasks."""

    now: Now = False


class BulkReplay(BulkRequest):
    """A bulk replay: submit each matching task again as a new task."""

    now: Now = False

    priority: Priority | None = Field(default=None, description="of the new tasks; without it, that of the old")


class BulkOutcome(BaseModel):
    """The outcome of a bulk operation."""

    matching: int = Field(description="tasks that match and can be treated so, before anything was done")
    changed: int = Field(description="0 for a preview")
    last: UUID | None = Field(default=None, description="the youngest task of this portion; null when there was none")
    as_of: datetime = Field(description="the database's time; as `created_before` it leaves out what comes later")
    sample: list[Task] = Field(description="a few of them: as they are for a preview, else as they are now")


class Replay(BaseModel):
    """How a replay differs from the original task. Fields that are not given stay as they are."""

    model_config = ConfigDict(extra="forbid")

    input: TaskInput | None = None
    agent: Annotated[str, StringConstraints(min_length=1, max_length=63), Storable] | None = None
    priority: Priority | None = None
    concurrency_key: ConcurrencyKey | None = None
    now: Now = False


class Original(BaseModel):
    """What a replay takes over from the original task. Times that have passed are None."""

    id: UUID
    agent: str
    priority: Priority
    input: dict[str, Any] = Field(description="validated only where the replay does not replace it")
    concurrency_key: str | None
    conversation_id: UUID | None
    location_id: UUID | None
    contact: UUID | None
    action: Action | None
    root_id: UUID | None
    depth: int
    bounds: Bounds | None
    run_after: datetime | None
    deadline: datetime | None
    expires_at: datetime | None


class Settlement(BaseModel):
    """A person's answer about an action whose outcome is unknown."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["happened", "do_again"] = Field(
        description="happened: the task goes on as if the action had reported success. do_again: it is carried out anew"
    )
    note: Annotated[str, Storable, StringConstraints(max_length=2000)] | None = Field(
        default=None, description="what the agent should know of it, such as the receipt's number"
    )


@dataclass(frozen=True, slots=True)
class UnknownStep:
    """A step whose action was begun and whose outcome was never recorded."""

    org_id: UUID
    call_id: str | None


@dataclass(frozen=True, slots=True)
class AgentState:
    """Whether the agent of a task is deleted or switched off."""

    is_deleted: bool
    is_switched_off: bool


class Failures(BaseModel):
    """Failed tasks with the same error fingerprint."""

    fingerprint: str | None
    kind: str | None
    message: str | None = Field(description="of the latest")
    tasks: int
    agents: list[str]
    first_at: datetime
    last_at: datetime
    examples: list[UUID] = Field(description="the latest three")


class Step(BaseModel):
    """One entry of a task's journal."""

    seq: int
    stage: Stage
    name: str
    status: StepStatus
    claim: int
    input: dict[str, Any]
    output: dict[str, Any]
    model: str | None
    input_tokens: int
    output_tokens: int
    billed_cost: Decimal
    started_at: datetime | None = Field(default=None, description="null in the worker that just wrote it")
    duration_ms: int


STEP_COLUMNS = ", ".join(Step.model_fields)
"""the columns of `steps` that make a `Step`"""


class Attempt(BaseModel):
    """One claim of the task by a worker."""

    claim: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None = Field(description="null while it lasts")
    counted: bool | None = Field(description="whether it used up one of the attempts")
    error: TaskError | None


class OpenCall(BaseModel):
    """A call of a client tool whose result is awaited."""

    call_id: str = Field(description="name it with the result", examples=["call_0198a1b2000070008000000000000001_2"])
    tool: str = Field(examples=["get_weather"])
    arguments: dict[str, Any]


class TaskDetail(Task):
    """A task with its journal and the history of its attempts."""

    steps: list[Step]
    attempt_history: list[Attempt]
    open_calls: list[OpenCall] = Field(description="calls of client tools whose results the task waits for")
    feedback: list[Feedback] = Field(description="what people think of the answer")


@dataclass(frozen=True, slots=True)
class Due:
    """A task that was marked as dispatched and is now to be published on `queue`."""

    id: UUID
    org_id: UUID
    claim: int
    queue: Priority
    agent: str


class QueueStatistics(BaseModel):
    """The current state of a queue, and figures of the attempts that began in the last 15 minutes."""

    priority: Priority
    queued: int = Field(description="due and waiting for a worker, published or not")
    scheduled: int = Field(description="to be started later")
    parked: int = Field(description="of these, behind another with the same concurrency key")
    published: int = Field(description="of the queued, those with a message on a Celery queue")
    running: int
    waiting: int = Field(description="for a person, or something else that holds no worker")
    oldest_seconds: float | None = Field(description="how long the longest waiting has been due")
    ended_per_minute: float
    wait_p50: float | None = Field(description="seconds from due to started")
    wait_p95: float | None
    run_p50: float | None = Field(description="seconds that an attempt takes")
    run_p95: float | None
    paused: bool = False


class AgentStatistics(BaseModel):
    """The statistics of an agent over the last 30 days."""

    agent: str
    tasks: int
    succeeded: int
    failed: int
    unfinished: int
    success_rate: float | None = Field(description="of the tasks that ended; null before the first has")
    median_seconds: float | None = Field(description="from first start to end")
    model_calls: int
    billed_cost: Decimal
