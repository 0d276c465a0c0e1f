"""Rules of follow-ups, follow-ups, and their outcome."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from core.text import Storable
from domain.agents.schemas import Slug
from domain.channels.schemas import ChannelKind, MessageStatus, ReceivedBy
from domain.followups.inbound import InboundKind
from domain.followups.triggers import AnyTrigger, Words, kinds
from domain.tasks.schemas import Priority
from domain.tasks.schemas import Status as TaskStatus

Status = Literal["planned", "writing", "queued", "sent", "stopped", "skipped", "failed"]
OPEN: tuple[Status, ...] = ("planned", "writing", "queued")
_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120), Storable]
_DAY = timedelta(days=1)


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Step(BaseModel):
    """One message of a sequence."""

    model_config = ConfigDict(extra="forbid")

    after: timedelta = Field(
        ge=-30 * _DAY, le=365 * _DAY, description="from what the rule begins with; ISO 8601, with a sign, or seconds",
        examples=["PT24H"], json_schema_extra={"format": "signed-duration"},  # RFC 3339's "duration" has no sign
    )  # fmt: skip
    brief: Words = Field(description="what this message is to do; the agent writes it")


class Variant(BaseModel):
    """One way to write a message. The system learns which variant works best."""

    model_config = ConfigDict(extra="forbid")

    name: Slug
    tone: Words = Field(examples=["warm and short, as a friend at the desk would write"])
    channel: ChannelKind | None = Field(default=None, description="instead of the rule's")
    hour: int | None = Field(default=None, ge=0, le=23, description="by the contact's clock; without it, as due")


class QuietHours(BaseModel):
    """The hours, by the contact's clock, in which no message is sent."""

    model_config = ConfigDict(extra="forbid")

    begin: time = time(21)
    end: time = time(9)

    @model_validator(mode="after")
    def _leaves_time(self) -> Self:
        if self.begin.tzinfo or self.end.tzinfo:
            raise ValueError("quiet hours are by the contact's clock: leave the offset out")
        if self.begin == self.end:
            raise ValueError("begin and end are the same; for no quiet hours give null")
        return self

    def covers(self, clock: time) -> bool:
        """Whether a clock time lies within the quiet hours."""
        if self.begin < self.end:
            return self.begin <= clock < self.end
        return clock >= self.begin or clock < self.end


class Cap(BaseModel):
    """The most follow-ups that a contact may be sent within a time, over all rules."""

    model_config = ConfigDict(extra="forbid")

    messages: int = Field(default=3, ge=1, le=100)
    within: timedelta = Field(default=timedelta(days=7), gt=timedelta(0), le=timedelta(days=366))


class RuleFields(BaseModel):
    """The fields of a rule: whom to write to, when and how, and within which limits."""

    model_config = ConfigDict(extra="forbid")

    name: _Name
    trigger: AnyTrigger
    steps: list[Step] = Field(min_length=1, max_length=20)
    channel: ChannelKind = "email"
    variants: list[Variant] = Field(
        default=[Variant(name="plain", tone="friendly, plain and short")], min_length=1, max_length=20
    )
    quiet_hours: QuietHours | None = QuietHours()
    cap: Cap = Cap()
    needs_consent: bool = Field(default=True, description="only to contacts who consented to advertising")
    lateness: timedelta = Field(
        default=_DAY, ge=timedelta(minutes=1), le=30 * _DAY,
        description="a message may leave so much later than wanted (quiet hours aside); then it is skipped",
    )  # fmt: skip
    attribution: timedelta = Field(
        default=14 * _DAY, ge=timedelta(hours=1), le=365 * _DAY,
        description="an answer or a purchase counts for the last follow-up before it, for so long",
    )  # fmt: skip
    agent: Slug = "follow-up"
    priority: Priority = "normal"

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        delays = [step.after for step in self.steps]
        if delays != sorted(set(delays)):
            raise ValueError("steps: each must come later than the one before")
        if delays[0] < timedelta(0) and not self.trigger.lies_ahead:
            ahead = " and ".join(trigger.model_fields["kind"].default for trigger in kinds() if trigger.lies_ahead)
            raise ValueError(
                f"steps: only {ahead or 'no trigger'} begins with something to come; the first delay must be 0 or more"
            )
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError("variants: two have the same name")
        for variant in self.variants:
            if variant.hour is not None and self.quiet_hours and self.quiet_hours.covers(time(variant.hour)):
                raise ValueError(f"variants: the hour of {variant.name!r} lies in the quiet hours")
        return self


class Rule(RuleFields):
    """A rule and its current state."""

    slug: str
    is_on: bool
    on_since: datetime | None
    is_built_in: bool = Field(description="it comes with Rota, as it is or changed by you")
    changed_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule's row: its fields as JSON, and the user and scopes for which its tasks are submitted."""

    slug: str
    fields: dict[str, Any]
    is_on: bool
    on_since: datetime | None
    user_id: UUID
    scopes: list[str] | None
    changed_at: datetime


class Switch(BaseModel):
    """Whether a rule is on."""

    model_config = ConfigDict(extra="forbid")

    is_on: bool


# ── follow-ups ───────────────────────────────────────────────────────────────────────────────────────────────────────


class FollowUp(BaseModel):
    """One message of a sequence to one contact: the plan and its result."""

    id: UUID
    rule: str
    step: int
    subject: UUID = Field(description="the quote, cart, trial, lead or client that it is about")
    contact: UUID
    begun_at: datetime
    facts: dict[str, Any] = Field(description="why: what is known of the subject")
    channel: ChannelKind | None
    variant: str | None
    choice_id: UUID | None
    status: Status
    reason: str | None
    wanted_at: datetime
    due_at: datetime | None
    task_id: UUID | None
    message_id: UUID | None
    sent_at: datetime | None
    answered_at: datetime | None
    converted_at: datetime | None
    revenue: Decimal | None
    currency: str | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class LockedFollowUp:
    """A follow-up whose row is locked, with the columns that starting, sending and stopping it need."""

    id: UUID
    rule: str
    step: int
    subject: UUID
    contact: UUID
    begun_at: datetime
    facts: dict[str, Any]
    channel: ChannelKind | None
    variant: str | None
    choice_id: UUID | None
    status: Status
    reason: str | None
    wanted_at: datetime
    message_id: UUID | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StartedFollowUp(LockedFollowUp):
    """A locked follow-up that a task was started for. Starting it settled the channel."""

    channel: ChannelKind


@dataclass(frozen=True, slots=True)
class SentFollowUp(LockedFollowUp):
    """A locked follow-up that was sent, with the time of its first answer."""

    sent_at: datetime
    answered_at: datetime | None


@dataclass(frozen=True, slots=True)
class FollowUpUnderWay:
    """A locked follow-up that is being written or has a message queued, with the state of its task and message."""

    id: UUID
    status: Status
    rule: str
    contact: UUID
    choice_id: UUID | None
    message_id: UUID | None
    wanted_at: datetime
    task_status: TaskStatus | None
    task_error: str | None
    message_status: MessageStatus | None
    send_after: datetime | None
    left_at: datetime | None
    message_error: str | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a follow-up ends."""

    id: UUID
    choice_id: UUID | None
    status: Status
    reason: str | None
    sent_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One event that a trigger found, from which a sequence starts."""

    subject: UUID
    contact: UUID
    begun_at: datetime
    facts: dict[str, Any]


class Standing(BaseModel):
    """The current state of a sequence's subject."""

    subject: UUID
    begun_at: datetime
    is_open: bool
    ending: str | None = Field(description="why it is not open any more")
    converted_at: datetime | None
    revenue: Decimal | None
    currency: str | None


class Swept(BaseModel):
    """Counts of what one sweep over the follow-ups did."""

    planned: int = 0
    started: int = 0
    stopped: int = 0
    skipped: int = 0
    put_off: int = 0
    sent: int = 0
    failed: int = 0
    settled: int = 0


class NewReply(BaseModel):
    """A reply that a contact wrote or said."""

    model_config = ConfigDict(extra="forbid")

    contact: UUID | None = Field(default=None, description="id of the contact")
    sender: Annotated[str, StringConstraints(min_length=3, max_length=320), Storable] | None = Field(
        default=None, description="or their e-mail address or telephone number"
    )
    channel: ReceivedBy
    body: Annotated[str, StringConstraints(max_length=100_000), Storable]
    outside_id: Annotated[str, StringConstraints(min_length=1, max_length=200), Storable] | None = Field(
        default=None, description="the id that the deliverer knows it by: delivered twice, it is kept once"
    )

    subject: Annotated[str, StringConstraints(max_length=1_000), Storable] | None = None
    headers: Annotated[dict[str, Annotated[str, StringConstraints(max_length=10_000)]], Field(max_length=200)] = Field(
        default={},
        description="of an e-mail: by these an automatic reply and a mail that came back are told from an answer",
        examples=[{"Auto-Submitted": "auto-replied"}],
    )

    @model_validator(mode="after")
    def _is_from_somebody(self) -> Self:
        if (self.contact is None) == (self.sender is None):
            raise ValueError("give either contact or sender")
        return self


class KeptReply(BaseModel):
    """A stored reply, and the number of follow-ups that it stopped."""

    id: UUID
    contact: UUID
    channel: ReceivedBy
    body: str
    outside_id: str | None
    received_at: datetime
    kind: InboundKind = Field(description="words; an automatic reply or a mail that came back is no answer")
    is_opt_out: bool = Field(description="they want no follow-up any more")
    stopped: int = Field(description="follow-ups that will not be sent now")


class Effect(BaseModel):
    """The results of a rule's step on one channel in one variant."""

    rule: str
    step: int
    channel: str | None
    variant: str | None
    planned: int = Field(description="made, whatever became of them")
    sent: int
    stopped: int
    skipped: int
    failed: int
    answered: int
    converted: int
    revenue: dict[str, Decimal] = Field(description="by currency")
