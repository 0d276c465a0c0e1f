"""What the API returns and takes. Later versions may add fields: models keep them, as attributes of the same name."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
"""the statuses of tasks to which nothing more happens by itself"""


class Model(BaseModel):
    """A value from the API. Not changed after it is read."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Given(BaseModel):
    """A value for the API. A misspelt field is an error here, as it is there."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class ToolCall(Given):
    """A call of a client tool that was made before, in a `Turn`."""

    id: str
    tool: str
    arguments: str
    """JSON"""


class Turn(Given):
    """Something that was said before, or that a client tool returned."""

    role: str
    """user, assistant or tool"""
    text: str
    tool_calls: list[ToolCall] | None = None
    """of an answer: the client tools that it called"""
    call_id: str | None = None
    """of what a tool returned: the id of the call"""


class ClientTool(Given):
    """A tool that you carry out yourself. If the agent calls it, the task waits for the result."""

    name: str
    description: str = ""
    """for the agent: what the tool does"""
    parameters: dict[str, Any] = {"type": "object", "properties": {}}
    """JSON Schema of the arguments, of the type object"""


class ToolResult(Given):
    """The result of one call of a client tool."""

    call_id: str
    content: str
    is_error: bool = False
    """the tool failed, and `content` says why"""


class TaskError(Model):
    """Why a task, or one attempt of it, failed."""

    kind: str
    """stable word, such as rate_limited"""
    message: str
    step: int | None = None


class Task(Model):
    """A task in its current state."""

    id: UUID
    agent: str
    status: str
    """queued, running, waiting, succeeded, failed, cancelled or expired"""
    priority: str
    input: dict[str, Any]
    result: dict[str, Any] | None
    error: TaskError | None
    waiting_for: str | None
    fingerprint: str | None
    """of the error: the same for errors that differ in numbers and ids only"""
    concurrency_key: str | None
    run_after: datetime
    deadline: datetime | None
    expires_at: datetime | None
    attempts: int
    max_attempts: int
    worker: str | None
    cancel_requested_at: datetime | None
    user_id: UUID
    """for whom it is done: the agent may do what this user may"""
    location_id: UUID | None
    contact: UUID | None
    parent_id: UUID | None
    origin_id: UUID | None
    root_id: UUID | None = None
    depth: int
    workflow_run: UUID | None
    conversation_id: UUID | None = None
    model_calls: int
    input_tokens: int
    output_tokens: int
    billed_cost: Decimal
    """US dollars"""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def has_ended(self) -> bool:
        """Whether the task has ended, however it ended."""
        return self.status in ENDED

    @property
    def answer(self) -> str | None:
        """The agent's answer, or None if the task did not succeed, or has not yet."""
        return (self.result or {}).get("answer")


class Step(Model):
    """One entry of a task's journal."""

    seq: int
    stage: str
    """perceive, decide, act or learn"""
    name: str
    status: str
    """begun, unknown, done or failed"""
    claim: int
    input: dict[str, Any]
    output: dict[str, Any]
    model: str | None
    input_tokens: int
    output_tokens: int
    billed_cost: Decimal
    started_at: datetime | None = None
    duration_ms: int


class Attempt(Model):
    """One claim of a task by a worker."""

    claim: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    counted: bool | None
    error: TaskError | None


class OpenCall(Model):
    """A call of a client tool whose result is awaited."""

    call_id: str
    tool: str
    arguments: dict[str, Any]


class Feedback(Model):
    """What a user thinks of an answer."""

    id: UUID
    task_id: UUID
    agent: str
    user_id: UUID
    conversation_id: UUID | None
    rating: str
    """up or down"""
    comment: str
    given_at: datetime


class TaskDetail(Task):
    """A task with its journal, its attempts, and the calls of client tools that it waits for."""

    steps: list[Step]
    attempt_history: list[Attempt]
    open_calls: list[OpenCall]
    feedback: list[Feedback]


class Why(Model):
    """Why a task is not done yet."""

    status: str
    waiting_for: str | None
    """stable word, such as approval, funds or worker; None for nothing"""
    why: str
    """one sentence for people"""


# ── approvals ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Ask(Model):
    """One stage of an approval: who is asked, how many must approve, and what happens after the time for it."""

    roles: list[str]
    users: list[str]
    needed: int
    within: str
    """ISO 8601 duration"""
    four_eyes: bool
    then: str
    """escalate, deny or expire"""


class Rationale(Model):
    """Why an action was proposed, and why people are asked."""

    level: str
    rule: str
    because: list[str]
    intent: str | None
    why: str | None
    reasoning: str
    confidence: float | None
    alternatives: list[str]
    context: dict[str, Any]
    performance: dict[str, int]


class Vote(Model):
    """One user's vote."""

    user: str
    verdict: str
    """approve or reject"""
    words: str | None
    voted_at: datetime
    counts: bool
    """False if the arguments were edited, or the next stage was asked, after the vote"""


class Edit(Model):
    """An earlier version of an action's arguments."""

    digest: str
    arguments: dict[str, Any]
    edited_by: str
    edited_at: datetime


class Approval(Model):
    """An action that people decide on: this tool with these arguments, once."""

    id: UUID
    task_id: UUID
    seq: int
    kind: str
    """approval, advice or suggestion"""
    status: str
    """open, approved, rejected, denied, expired or withdrawn"""
    agent: str
    user_id: UUID
    location_id: UUID | None
    tool: str
    arguments: dict[str, Any]
    proposed: dict[str, Any]
    """the arguments before anybody edited them"""
    digest: str
    """of tool and arguments: a vote is bound to it"""
    decision: Rationale
    asks: list[Ask]
    stage: int
    needed: int
    expires_at: datetime
    created_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None
    used_at: datetime | None
    used_by_task: UUID | None
    used_by_seq: int | None
    is_overdue: bool
    edits: list[Edit]
    linked_task: UUID | None
    """the task that carries out an accepted suggestion"""
    votes: list[Vote]


# ── conversations ────────────────────────────────────────────────────────────────────────────────────────────────────


class Conversation(Model):
    """A conversation between a user and an agent."""

    id: UUID
    agent: str | None
    """the agent that answers; None until one is set"""
    title: str
    session: str | None
    user_id: UUID | None
    """null for a visitor's"""
    visitor_id: UUID | None
    """the visitor who began it; null for a user's"""
    contact: UUID | None
    location_id: UUID | None
    context: dict[str, Any]
    preferences: dict[str, Any]
    metadata: dict[str, str]
    """labels, which the agent does not read"""
    head: UUID | None
    """the message that the next one follows"""
    messages: int
    """number of messages, of all branches"""
    billed_cost: Decimal
    """US dollars"""
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


class Message(Model):
    """A message of a conversation: a user's, an answer, or what a client tool returned."""

    id: UUID
    conversation_id: UUID
    position: int
    parent_id: UUID | None
    role: str
    """user, assistant or tool"""
    status: str
    """sent; of an answer: queued, answering, waiting, answered, stopped or failed"""
    text: str
    """of an answer: empty until it ends"""
    context: dict[str, Any] | None
    attachments: list[UUID]
    """ids of its attachments, in order"""
    is_from_outside: bool
    task_id: UUID | None
    """the task that answers"""
    error: TaskError | None
    tool_calls: list[ToolCall] | None
    """of an answer that was given elsewhere: the client tools that it called"""
    call_id: str | None
    """of what a client tool returned: the id of the call"""
    billed_cost: Decimal
    rating: str | None
    """of an answer: up or down, as a user rated it last"""
    is_current: bool
    """whether it is on the branch that the conversation goes on from"""
    created_at: datetime
    ended_at: datetime | None


class Attachment(Model):
    """A file that a user uploaded."""

    id: UUID
    name: str
    media_type: str
    size: int
    """bytes"""
    pages: int | None
    """of a PDF"""
    sha256: str
    user_id: UUID
    location_id: UUID | None
    conversation_id: UUID | None
    """in which it was sent; None until then"""
    created_at: datetime
    address: str
    """path on the API's server from which anybody can download it, until `address_expires_at`"""
    address_expires_at: datetime


class Sent(Model):
    """A message that was sent, and the answer that is to come."""

    message: Message
    answer: Message


# ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Event(Model):
    """Something that happened. `id` is the cursor with which reading goes on after it."""

    id: str
    type: str
    at: datetime | None = None
    """None for `ready`, `reset` and what is being said"""
    data: dict[str, Any]


class OpenTask(Model):
    """A task that has not ended."""

    id: UUID
    agent: str
    status: str
    waiting_for: str | None


class Reset(Model):
    """Events after the reader's cursor are no longer kept. Take these tasks as the new state."""

    reason: str
    tasks: list[OpenTask]
    has_more_tasks: bool


class EventPage(Model):
    """Events in order, and the cursor of the next page."""

    events: list[Event]
    next_after: str
    is_complete: bool
    """whether this page reaches the latest event; otherwise ask for the next at once"""
    reset: Reset | None = None
