"""Channels, webhooks, templates, messages, notifications."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
)

from core.text import Storable, unstorable
from domain.tenants.schemas import Email, Slug

ChannelKind = Literal["email", "sms", "whatsapp"]
Carrier = Literal["email", "sms", "whatsapp", "webhook", "in_app"]
ReceivedBy = Literal["email", "sms", "whatsapp", "in_person", "phone"]
MessageStatus = Literal["queued", "sending", "sent", "failed", "unknown", "cancelled"]
_Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")]
# Without line breaks: a value in a mail header must not start another header.
Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300, pattern=r"^[^\r\n]*$"), Storable
]
Body = Annotated[str, StringConstraints(min_length=1, max_length=100_000), Storable]


def _usable(url: str) -> str:
    parts = urlsplit(url)
    if not url.isascii() or not parts.hostname:
        raise ValueError("must read https://host/path, in ASCII")
    _ = parts.port  # raises ValueError if it is not a valid port number
    return url


Url = Annotated[
    str, StringConstraints(pattern=r"^https?://[^\s@]+$", max_length=2_000), Storable, AfterValidator(_usable)
]


class EmailSettings(BaseModel):
    """The SMTP server and sender of an organisation's e-mail."""

    model_config = ConfigDict(extra="forbid")

    host: _Host
    port: int = Field(default=587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: Annotated[str, StringConstraints(max_length=300), Storable] | None = None
    sender: Email = Field(description="the address it comes from")
    sender_name: Line | None = None


class EmailChannel(EmailSettings):
    """The settings of the e-mail channel with the password, which is stored encrypted and never shown."""

    password: SecretStr | None = None

    @field_validator("password")
    @classmethod
    def _is_storable(cls, password: SecretStr | None) -> SecretStr | None:
        if password is not None and unstorable(password.get_secret_value()):
            raise ValueError("is not valid text")
        return password


class GatewaySettings(BaseModel):
    """A gateway that carries text messages. Each message is posted to it and signed as in Standard Webhooks."""

    model_config = ConfigDict(extra="forbid")

    url: Url


class ChannelView(BaseModel):
    """A channel that is set up, without its secret."""

    kind: ChannelKind
    settings: dict[str, Any]
    has_secret: bool
    changed_at: datetime


class SetUpChannel(ChannelView):
    """A channel that was just set up."""

    signing_secret: str | None = Field(description="of a gateway, shown this once: it verifies what is posted to it")


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """An encrypted secret of a channel or webhook, with the key of its row."""

    org_id: UUID
    key: ChannelKind | UUID
    """the kind of the channel, or the id of the webhook"""
    secret: bytes


class NewWebhook(BaseModel):
    """A webhook to be added: where to post which events."""

    model_config = ConfigDict(extra="forbid")

    url: Url
    events: list[Annotated[str, StringConstraints(pattern=r"^(\*|[a-z_]+\.(\*|[a-z_]+))$")]] = Field(
        default=["*"],
        min_length=1,
        max_length=50,
        description="types of events, or patterns such as task.*; `*` alone leaves out what is frequent: task.*, "
        "decision.*, action.* and message.*",
        examples=[["approval.*", "budget.crossed", "task.ended"]],
    )
    agents: list[Annotated[str, StringConstraints(min_length=1, max_length=63), Storable]] | None = Field(
        default=None, min_length=1, max_length=100, description="only events of these agents, by slug; null for all"
    )


class Webhook(BaseModel):
    """A URL to which events are posted."""

    id: UUID
    url: str
    events: list[str]
    agents: list[str] | None = Field(description="only events of these agents are posted; null for all")
    created_at: datetime
    disabled_at: datetime | None
    disabled_because: str | None
    failing_since: datetime | None = Field(
        description="of the failures in a row until now; null where the last went out"
    )
    last_error: str | None = Field(description="what the latest of these failures was")
    retry_at: datetime | None = Field(description="until when nothing is posted there because of these failures")


@dataclass(frozen=True, slots=True)
class FeedWebhook:
    """A webhook with its cursor in the feed of events."""

    id: UUID
    org_id: UUID
    url: str
    events: list[str]
    agents: list[str] | None
    cursor_xid: int
    cursor_seq: int


class MadeWebhook(Webhook):
    """A webhook that was just made or given a new secret."""

    signing_secret: str = Field(description="shown this once; Standard Webhooks libraries verify with it")


class TemplateFields(BaseModel):
    """A text with placeholders: `{{client.name}}` is replaced by the value given when the template is used."""

    model_config = ConfigDict(extra="forbid")

    subject: Line
    body: Body


class Template(TemplateFields):
    """A template, as stored."""

    name: Slug
    changed_at: datetime


class NewMessage(BaseModel):
    """A message to one recipient, to be added to the outbox."""

    channel: Carrier
    recipient: str
    subject: str = ""
    body: str
    contact: UUID | None = None
    webhook_id: UUID | None = None
    send_after: datetime | None = None
    leave_by: datetime | None = None
    task_id: UUID | None = None
    seq: int | None = None
    written_by: UUID | None = None
    """the task that wrote the text, if it is not the one that sends and pays"""

    @property
    def writers(self) -> list[UUID]:
        """The tasks that the message comes from."""
        return [task for task in (self.task_id, self.written_by) if task is not None]


class Message(BaseModel):
    """A message in the outbox."""

    id: UUID
    channel: Carrier
    recipient: str
    contact: UUID | None
    webhook_id: UUID | None
    is_rehearsal: bool = Field(description="the rehearsal model answered in its task; it is marked when it leaves")
    subject: str
    body: str
    status: MessageStatus
    send_after: datetime
    attempts: int
    error: str | None
    task_id: UUID | None
    seq: int | None
    created_at: datetime
    sent_at: datetime | None


class MessagePage(BaseModel):
    """Messages, newest first, and where the next page begins."""

    messages: list[Message]
    next_before: UUID | None


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A message that is not wanted any more: cancelled, or marked so that it is not sent again."""

    id: UUID
    status: MessageStatus
    task_id: UUID | None
    seq: int | None
    channel: Carrier
    recipient: str


class FailedDeliveries(BaseModel):
    """Which failed deliveries of a webhook to send again."""

    model_config = ConfigDict(extra="forbid")

    since: AwareDatetime | None = Field(
        default=None, description="only of events from then on; default: all that failed"
    )


class SentAgain(BaseModel):
    """How many deliveries were queued again."""

    queued: int


class Received(BaseModel):
    """An inbound message that a contact wrote or said."""

    id: UUID
    contact: UUID
    channel: ReceivedBy
    body: str
    outside_id: str | None
    received_at: datetime
    kind: Literal["words", "auto_reply", "bounce"]


class Letter(BaseModel):
    """One message between the organisation and a contact."""

    direction: Literal["sent", "received"]
    channel: str
    at: datetime
    subject: str
    body: str


class MessageOutcome(BaseModel):
    """A user's decision on a message of which it is not known whether it was sent."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["sent", "send_again", "not_sent"] = Field(
        description="sent: it did go out. send_again: it did not, send it. not_sent: it did not, and shall not"
    )


class Notice(BaseModel):
    """Something that users are notified of. Unless the change itself `is_told` as an event, the notice becomes one."""

    kind: str
    title: str
    body: str
    data: dict[str, Any] = {}
    location_id: UUID | None = None
    is_told: bool = False


class Notification(BaseModel):
    """An in-app notification to one user."""

    id: UUID
    kind: str
    title: str
    body: str
    data: dict[str, Any]
    created_at: datetime
    read_at: datetime | None


class Payer(BaseModel):
    """What pays for a WhatsApp conversation: a message, and the step that was charged for it."""

    message_id: UUID
    task_id: UUID
    seq: int


@dataclass(frozen=True)
class Room:
    """How many messages may be taken from the outbox now, and whose turn it is next."""

    channels: list[Carrier]
    messages: int
    to_troubled: int
    """how many of these may go to receivers that failed or were slow"""
    of_organisation: int
    """how many one organisation may have in hand in total"""
    of_receiver: int
    """how many one receiver may have in hand"""
    served: list[UUID]
    """organisations in the order of their last turn, most recent last"""


class Outgoing(BaseModel):
    """A message that is being sent, with what its sender needs."""

    id: UUID
    org_id: UUID
    channel: Carrier
    recipient: str
    subject: str
    body: str
    attempts: int
    webhook_id: UUID | None
    task_id: UUID | None
    seq: int | None
    settings: dict[str, Any] | None
    secret: bytes | None
    url: str | None
    receiver: str
    receiver_failures: int
    """consecutive failures of the receiver so far"""
    is_troubled: bool
    """whether the receiver failed or was slow last time"""
    is_rehearsal: bool
    is_demonstration: bool
    """whether the organisation is a demonstration"""
