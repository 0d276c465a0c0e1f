"""Words of the records that agents keep."""

from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from domain.crm.schemas import ClientStatus

TicketPriority = Literal["low", "normal", "high", "urgent"]
Platform = Literal["instagram", "facebook", "x", "linkedin"]
EventKind = Literal["class", "tour", "event", "reminder", "milestone"]
ExportWhat = Literal["clients", "leads", "payments", "bookings", "subscriptions"]
ExportFormat = Literal["csv", "json"]
CollectedBy = Literal["card", "direct_debit"]
"""How a payment provider can collect a payment; cash it cannot."""
TrialOutcome = Literal["attended", "no_show", "cancelled"]
Tone = Literal["friendly", "energetic", "informative"]
Language = Literal["en", "es"]

POST_LENGTH: dict[Platform, int] = {"instagram": 2_200, "facebook": 5_000, "x": 280, "linkedin": 3_000}
"""Characters that a post may have."""


class NotedTrial(BaseModel):
    """How a trial ended."""

    model_config = ConfigDict(extra="forbid")

    outcome: TrialOutcome


class Trial(BaseModel):
    """A lead's place in a class session, to try it."""

    id: UUID
    lead_id: UUID
    session_id: UUID
    status: Literal["booked", "attended", "no_show", "cancelled"]


class Maker(Protocol):
    """Who makes a record, and for whom: an agent, in a task of an organisation."""

    @property
    def org_id(self) -> UUID:
        """The organisation."""

    @property
    def task_id(self) -> UUID:
        """The task."""

    @property
    def agent(self) -> str:
        """The agent's slug."""


class Audience(BaseModel):
    """Which clients a campaign is for: those who fit everything that is given."""

    status: ClientStatus | None = None
    tags: list[str] = []
    inactive_days: int | None = None
    """no attended class for so many days, and a member for longer than that"""


@dataclass(frozen=True)
class Subject:
    """A class as a post speaks of it."""

    name: str
    category: str
    description: str
    when: str | None
    """its next session, in words"""


@dataclass(frozen=True)
class Sheet:
    """Rows as a file's text."""

    content: str
    row_count: int
    is_complete: bool
    """whether every row found its place"""
