"""Types of the records that agents keep."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from core.text import Storable

TicketPriority = Literal["low", "normal", "high", "urgent"]
Platform = Literal["instagram", "facebook", "x", "linkedin"]
EventKind = Literal["class", "tour", "event", "reminder", "milestone"]
ExportFormat = Literal["csv", "json"]
Language = Literal["en", "es"]

TicketStatus = Literal["open", "in_progress", "resolved", "closed"]
StaffTaskStatus = Literal["open", "done", "cancelled"]
PostStatus = Literal["draft", "scheduled", "due", "published", "missed", "cancelled"]
EventStatus = Literal["scheduled", "held", "no_show", "cancelled"]
CampaignStatus = Literal["draft", "active", "finished", "cancelled"]
MemberStatus = Literal["chosen", "left_out", "queued", "sending", "sent", "failed", "unknown", "cancelled"]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2_000), Storable]
_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), Storable]
_Address = Annotated[str, StringConstraints(pattern=r"^https?://\S+$", max_length=2_000), Storable]

POST_LENGTH: dict[Platform, int] = {"instagram": 2_200, "facebook": 5_000, "x": 280, "linkedin": 3_000}
"""Maximum length of a post in characters."""


class Maker(Protocol):
    """The maker of a record: an agent, in a task of an organisation."""

    @property
    def org_id(self) -> UUID:
        """The organisation."""

    @property
    def task_id(self) -> UUID:
        """The task."""

    @property
    def agent(self) -> str:
        """The agent's slug."""


@dataclass(frozen=True)
class Sheet:
    """Rows rendered as the text of a file."""

    content: str
    row_count: int
    is_complete: bool
    """whether it contains all rows"""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that is to be added to the calendar, with the contact whom it is for, if any."""

    kind: EventKind
    title: str
    location: str | None = None
    lead_id: UUID | None = None
    client_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ScheduledEvent:
    """An event in the calendar that is still to take place."""

    event_id: UUID
    kind: EventKind
    title: str
    starts_at: datetime
    ends_at: datetime
    location: str | None
    lead_id: UUID | None
    client_id: UUID | None


@dataclass(frozen=True, slots=True)
class StoredExport:
    """An export with its content."""

    export_id: UUID
    what: str
    format: ExportFormat
    row_count: int
    is_complete: bool
    created_at: datetime
    content: str


@dataclass(frozen=True, slots=True)
class StoredResource:
    """A resource as agents see it."""

    resource_id: UUID
    kind: str
    name: str
    data: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ListedResource:
    """A resource in a list, without its data."""

    resource_id: UUID
    kind: str
    name: str
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DeletedResource:
    """A resource that was just deleted."""

    resource_id: UUID
    kind: str
    name: str
    version: int


@dataclass(frozen=True, slots=True)
class DuePost:
    """A post whose time has come, for people and webhooks to publish."""

    id: UUID
    platform: Platform
    text: str
    media_url: str | None
    scheduled_at: datetime
    created_by: str | None
    task_id: UUID | None


@dataclass(frozen=True, slots=True)
class MissedPost:
    """A post that was not reported as published in time."""

    id: UUID
    platform: Platform
    text: str
    task_id: UUID | None


# ── records as people see and change them ────────────────────────────────────────────────────────────────────────────


class Kept(BaseModel):
    """A record that an agent made, or that was made on its behalf."""

    id: UUID
    task_id: UUID | None = Field(description="the task in which it was made")
    created_by: str | None = Field(description="the agent, by its slug")
    created_at: datetime


class Moving(Kept):
    """A record whose status people change."""

    note: str = Field(description="what was noted last when it was moved on")
    changed_at: datetime


class Ticket(Moving):
    """A support ticket."""

    subject: str
    body: str
    priority: TicketPriority
    status: TicketStatus
    client_id: UUID | None
    assignee: str | None


class TicketChange(BaseModel):
    """Changes of a ticket. Fields that are left out stay."""

    model_config = ConfigDict(extra="forbid")

    status: TicketStatus | None = None
    priority: TicketPriority | None = None
    assignee: _Name | None = Field(default=None, description="null: not assigned")
    note: Note | None = None


class StaffTask(Moving):
    """A staff task."""

    title: str
    details: str
    assignee: str | None
    due_on: date | None
    status: StaffTaskStatus
    lead_id: UUID | None
    client_id: UUID | None


class StaffTaskChange(BaseModel):
    """Changes of a staff task. Fields that are left out stay."""

    model_config = ConfigDict(extra="forbid")

    status: StaffTaskStatus | None = None
    assignee: _Name | None = Field(default=None, description="null: not assigned")
    due_on: date | None = None
    note: Note | None = None


class Post(Moving):
    """A social post. At its time it becomes `due` and is handed to people and webhooks (`post.due`), who publish it and
    report that. Without a report within two days it becomes `missed`.
    """

    platform: Platform
    text: str
    media_url: str | None
    scheduled_at: datetime | None
    status: PostStatus
    handed_over_at: datetime | None = Field(description="when people and webhooks were told that it is due")
    url: str | None = Field(description="where it was published")


class PostOutcome(BaseModel):
    """The outcome of a post."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["published", "cancelled"]
    url: _Address | None = Field(default=None, description="where it was published")
    note: Note = ""


class CalendarEvent(Moving):
    """An event in the calendar: a tour, an event, a reminder, a milestone."""

    kind: EventKind
    title: str
    starts_at: datetime
    ends_at: datetime
    location: str | None
    lead_id: UUID | None
    client_id: UUID | None
    status: EventStatus


class EventOutcome(BaseModel):
    """The outcome of an event."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["held", "no_show", "cancelled"]
    note: Note = ""


class StoredCampaign(Moving):
    """A campaign without the counts of its members."""

    name: str
    kind: str
    audience: dict[str, Any]
    message: str
    status: CampaignStatus
    launched_by: UUID | None
    launched_at: datetime | None
    ended_at: datetime | None


class Campaign(StoredCampaign):
    """A campaign. A draft sends nothing; launched, it is `active` until every message has left or failed, then
    `finished`.
    """

    members: dict[MemberStatus, int] = Field(description="how many members stand how")


class Member(BaseModel):
    """A member of a campaign, and the status of the message to them."""

    client_id: UUID
    name: str
    status: MemberStatus
    message_id: UUID | None
    reason: str | None = Field(description="why they were left out")


class ExportFile(Kept):
    """A file of records, without its content. It is deleted after 30 days."""

    what: str = Field(description="which records", examples=["clients"])
    format: ExportFormat
    row_count: int
    is_complete: bool


class Resource(Kept):
    """A free-form record of any kind that an organisation needs."""

    kind: str
    name: str
    data: dict[str, Any]
    version: int
    updated_at: datetime
