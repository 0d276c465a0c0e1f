"""The kinds of events: their names, who may hear of them, and what they tell. The names are a contract: the same in
streams, pages and webhooks.

A new kind is declared here, or in a pack's `event_kinds`; docs/events.md lists them all.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from core.packs import installed
from domain.events.agent_status import AgentStatus


class _Told(BaseModel):
    """What an event tells. Later versions may add fields; readers must ignore those that they do not know."""

    model_config = ConfigDict(extra="allow")


class OfTask(_Told):
    """What every event of a task tells."""

    task_id: UUID
    agent: str = Field(description="slug", examples=["support-assistant"])
    agent_status: AgentStatus | None = Field(
        default=None, description="what the agent is doing from this event on; null: the event does not change it"
    )


class TaskMoved(OfTask):
    """A task changed its status."""

    status: Literal["queued", "running", "waiting", "succeeded", "failed", "cancelled", "expired"]
    claim: int = Field(description="how often a worker has taken the task")
    attempts: int = Field(description="tries that counted")
    error: str | None = Field(default=None, description="kind of the latest error", examples=["rate_limited"])


class TaskWaiting(TaskMoved):
    """A task waits, and occupies no worker."""

    status: Literal["waiting"] = "waiting"
    waiting_for: str = Field(examples=["approval"])


class TaskEnded(TaskMoved):
    """A task ended."""

    status: Literal["succeeded", "failed", "cancelled", "expired"]
    answer: str | None = Field(default=None, description="of a task that succeeded", examples=["You are booked."])
    is_truncated: bool | None = Field(default=None, description="whether the answer stops at the limit of tokens")
    input_tokens: int | None = Field(default=None, description="tokens of its models, of a task that succeeded")
    output_tokens: int | None = Field(default=None, description="tokens of its models, of a task that succeeded")
    billed_cost: str | None = Field(default=None, description="US dollars, of a task that succeeded")


class StepWritten(OfTask):
    """A step was written into a task's journal."""

    step: int = Field(description="sequence number within the task")
    stage: Literal["perceive", "decide", "act", "learn"]
    name: str = Field(description="of the model, the tool or the stage")
    claim: int = Field(description="under which it was written")
    duration_ms: int
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    billed_cost: str | None = Field(default=None, description="US dollars")


class StepDone(StepWritten):
    """A step of a stage for which there is no other kind, or a failed call of a model."""

    status: Literal["done", "failed"]
    error: str | None = Field(default=None, description="kind of the error of a failed step")


class DecisionMade(StepWritten):
    """A model decided: on actions, or on its answer."""

    intent: str | None = None
    confidence: float | None = None
    reasoning: str | None = None
    actions: list[dict[str, Any]] = Field(description="each with tool, arguments, intent, why, confidence")
    text: str | None = Field(default=None, description="what the model said", examples=["You are booked."])
    attempt: int | None = Field(default=None, description="the attempt whose words were streamed; null if none were")


class MessageDelta(OfTask):
    """A piece of what a model says in a step. Append it to the step's text."""

    step: int
    claim: int
    attempt: int = Field(description="which call of a model this is within the step and the claim")
    offset: int = Field(description="Unicode characters of the text before this piece")
    text: str = Field(description="the piece", examples=["You are"])


class MessageSuperseded(OfTask):
    """A step is tried again: its text so far is void, and begins anew."""

    step: int
    claim: int = Field(description="of the new attempt")
    attempt: int = Field(description="the new attempt")


class MessageInConversation(OfTask):
    """A message of a conversation."""

    conversation_id: UUID = Field(description="id of the conversation")
    message_id: UUID
    parent_id: UUID | None = None
    position: int = Field(description="order in which it was sent")
    status: Literal["sent", "queued", "answering", "waiting", "answered", "stopped", "failed"]
    text: str = Field(description="what was said", examples=["Is there yoga tomorrow?"])
    billed_cost: str = Field(description="US dollars")


class MessageSent(MessageInConversation):
    """A message that a user sent."""

    task_id: UUID | None = None  # type: ignore[assignment]


class UserTyping(_Told):
    """A user is typing in a conversation. Not kept: only streams that are open tell it."""

    conversation_id: UUID = Field(description="id of the conversation")
    user_id: UUID = Field(description="the user")
    until: datetime = Field(description="time at which it is over unless it is told again")


class AnswerRated(OfTask):
    """A person said what they think of an answer."""

    rating: Literal["up", "down"] = Field(description="whether the answer was good (up) or not (down)")
    feedback_id: UUID = Field(description="the feedback, whose comment `GET /v1/feedback` has")
    user_id: UUID = Field(description="the user who said it")


class ActionMoved(StepWritten):
    """An action was begun, carried out or not, or its outcome is unknown."""

    tool: str = Field(examples=["send_email"])


class ActionExecuted(ActionMoved):
    """An action was carried out; `ok` tells whether the tool reports success."""

    ok: bool | None = Field(default=None, description="whether the tool reports success")


class ApprovalMoved(OfTask):
    """A person is asked for a decision on an action, or it was decided."""

    approval_id: UUID = Field(description="id of the approval")
    status: Literal["open", "approved", "rejected", "denied", "expired", "withdrawn"]
    stage: int = Field(description="the stage whose people are asked, from 0")
    step: int
    tool: str
    arguments: dict[str, Any]
    digest: str = Field(description="of the action; a vote names it")
    expires_at: datetime
    decided_at: datetime | None = None
    decided_by: UUID | None = Field(default=None, description="id of the user who decided")
    reason: str | None = None


class RecordChanged(_Told):
    """A record was added, changed or removed."""

    change: Literal["added", "changed", "removed"] = Field(description="what happened to the record")
    id: UUID


class CalendarChanged(RecordChanged):
    """An event of the calendar was added, changed or removed."""

    kind: str
    title: str
    starts_at: datetime = Field(description="start of the event")
    ends_at: datetime
    location: str | None = Field(default=None, description="where it takes place", examples=["Studio 2"])
    status: str


class CampaignChanged(RecordChanged):
    """A campaign was drafted, launched, finished or cancelled."""

    name: str
    kind: str
    status: str


class ScheduleFired(RecordChanged):
    """A schedule started a task, or skipped a time."""

    schedule_id: UUID = Field(description="id of the schedule")
    kind: Literal["due", "manual", "backfill", "event"]
    scheduled_for: datetime
    reason: str | None = Field(default=None, description="why the run was skipped")


class FollowUpSent(RecordChanged):
    """A follow-up was sent."""

    rule: str
    step: int
    contact: UUID
    channel: str | None = Field(default=None, examples=["email"])


class WorkflowStarted(RecordChanged):
    """A run of a workflow started."""

    slug: str


class WalletChanged(RecordChanged):
    """Tokens were bought, corrected, or charged as a fee. What tasks spend is told with the tasks."""

    reason: Literal["top_up", "spend", "refund", "fee", "arrears", "correction"]
    source: str = Field(description="account that the tokens leave", examples=["purchases"])
    target: str = Field(description="account that the tokens go to", examples=["available"])
    tokens: int
    note: str | None = None


class Raised(_Told):
    """An event was posted to `POST /v1/events`."""

    name: str
    payload: dict[str, Any]


class Announced(_Told):
    """The installation's operators tell every organisation something."""

    announcement_id: UUID = Field(description="id of the announcement")
    text: str = Field(description="what is told", examples=["Maintenance tonight from 22:00 UTC."])
    level: Literal["info", "warning", "critical"] = Field(description="how urgent it is")
    until: datetime | None = Field(default=None, description="time until which it holds; null: until it is withdrawn")


class AnnouncementWithdrawn(_Told):
    """The installation's operators withdrew an announcement."""

    announcement_id: UUID = Field(description="id of the announcement")


class Notice(_Told):
    """Something that people were notified of."""

    title: str


@dataclass(frozen=True)
class EventKind:
    """A kind of event. `permission` is needed to hear of it, at the event's location; without one, everyone hears of
    it.
    """

    name: str
    permission: str
    data: type[BaseModel]
    why: str
    """what happened"""

    @property
    def is_notice(self) -> bool:
        """Whether people are notified of it, and webhooks with them."""
        return self.data is Notice or self.name.endswith(".requested")

    @property
    def is_frequent(self) -> bool:
        """Whether every task has events of this kind: a webhook that is to get them must name it."""
        return self.name.partition(".")[0] in {"task", "decision", "action", "message"}


FOR_EVERYONE = ""
"""stands for no particular permission"""

_KINDS = (
    EventKind("task.accepted", "tasks:read", TaskMoved, "A task was submitted and is durable."),
    EventKind(
        "task.queued",
        "tasks:read",
        TaskMoved,
        "A task is to be tried again, or goes on after it waited or was retried.",
    ),
    EventKind("task.started", "tasks:read", TaskMoved, "A worker took the task."),
    EventKind("task.waiting", "tasks:read", TaskWaiting, "A task waits for a person, money or something else."),
    EventKind("task.ended", "tasks:read", TaskEnded, "A task ended; `status` tells how."),
    EventKind("task.step", "tasks:read", StepDone, "A step was written that has no kind of its own."),
    EventKind("decision.made", "tasks:read", DecisionMade, "A model decided on actions, or on its answer."),
    EventKind(
        "message.delta",
        "tasks:read",
        MessageDelta,
        "A model says something. In streams of a task, a conversation or a session only.",
    ),
    EventKind("message.superseded", "tasks:read", MessageSuperseded, "A step is tried again: drop its text so far."),
    EventKind("message.sent", "conversations:read", MessageSent, "A user sent a message in a conversation."),
    EventKind("message.answered", "conversations:read", MessageInConversation, "An answer ended; `status` tells how."),
    EventKind(
        "user.typing",
        "conversations:read",
        UserTyping,
        "Another user is typing. In streams of a conversation or a session only.",
    ),
    EventKind("answer.rated", "tasks:read", AnswerRated, "A person said what they think of an answer."),
    EventKind("action.begun", "tasks:read", ActionMoved, "An action that must not be repeated was begun."),
    EventKind("action.executed", "tasks:read", ActionExecuted, "An action was carried out."),
    EventKind("action.failed", "tasks:read", ActionMoved, "An action was not carried out."),
    EventKind("action.unknown", "tasks:read", ActionMoved, "A crash left the outcome of an action unknown."),
    *(
        EventKind(f"{kind}.{verb}", "approvals:read", ApprovalMoved, why)
        for kind in ("approval", "advice", "suggestion")
        for verb, why in (
            ("requested", "People are asked to decide on an action; again when the next stage is asked."),
            ("decided", "The action was decided on, expired or was withdrawn."),
        )
    ),
    EventKind("schedule.fired", "schedules:read", ScheduleFired, "A schedule started a task."),
    EventKind("schedule.skipped", "schedules:read", ScheduleFired, "A schedule skipped or missed a time."),
    EventKind("follow_up.sent", "follow_ups:read", FollowUpSent, "A follow-up was sent."),
    EventKind("workflow.started", "workflows:read", WorkflowStarted, "A run of a workflow started."),
    EventKind("campaign.changed", "campaigns:read", CampaignChanged, "A campaign changed its status."),
    EventKind("calendar.changed", "calendar:read", CalendarChanged, "An event of the calendar changed."),
    EventKind("wallet.changed", "wallet:read", WalletChanged, "Tokens were bought, corrected or charged as a fee."),
    EventKind("wallet.low", "wallet:read", Notice, "Of the prepaid tokens 80, 95 or 100 percent are spent."),
    EventKind("event.raised", "events:read", Raised, "An event was posted to `POST /v1/events`."),
    EventKind("system.announced", FOR_EVERYONE, Announced, "The installation's operators tell everyone something."),
    EventKind("system.withdrawn", FOR_EVERYONE, AnnouncementWithdrawn, "An announcement was withdrawn."),
    EventKind("action.taken", "tasks:read", Notice, "Coordinators were told of an action that needed no approval."),
    EventKind("budget.crossed", "billing:read", Notice, "A share of a budget was spent."),
    EventKind("webhook.disabled", "channels:read", Notice, "Posts to a webhook failed for too long; it is off."),
    EventKind("provider.quota", "installation:govern", Notice, "The quota of a model provider is exhausted."),
    EventKind("provider.authentication", "installation:govern", Notice, "A model provider rejects the key."),
    EventKind("issue.escalated", "tickets:read", Notice, "An agent escalated an issue to people."),
    EventKind("coordinators.notified", "notifications:read", Notice, "An agent told the coordinators something."),
    EventKind("staff.notified", "notifications:read", Notice, "An agent told the staff something."),
    EventKind("post.due", "social:read", Notice, "A post is to be published by a person now."),
    EventKind("post.missed", "social:read", Notice, "A post was not published in time."),
    EventKind("campaign.drafted", "campaigns:read", Notice, "An agent drafted a campaign."),
    EventKind("campaign.finished", "campaigns:read", Notice, "A campaign finished."),
)


@functools.cache
def event_kinds() -> Mapping[str, EventKind]:
    """Return all kinds by name: the platform's, and those of the packs."""
    kinds = [*_KINDS, *(kind for pack in installed() for kind in pack.event_kinds())]
    return {kind.name: kind for kind in kinds}
