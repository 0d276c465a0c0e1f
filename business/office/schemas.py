"""Types for what agents do to clients, places and payments."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from business.crm.schemas import ClientStatus, PaymentStatus
from core.text import Storable
from domain.office.schemas import Note

_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), Storable]

ExportWhat = Literal["clients", "leads", "payments", "bookings", "subscriptions"]
CollectedBy = Literal["card", "direct_debit"]
"""How a payment provider can collect a payment. It cannot collect cash."""
TrialOutcome = Literal["attended", "no_show", "cancelled"]
Tone = Literal["friendly", "energetic", "informative"]
TrialStatus = Literal["booked", "attended", "no_show", "cancelled"]
BookingStatus = TrialStatus


class NotedTrial(BaseModel):
    """How a trial ended."""

    model_config = ConfigDict(extra="forbid")

    outcome: TrialOutcome


class Trial(BaseModel):
    """A lead's place in a class session, to try it."""

    id: UUID
    lead_id: UUID
    session_id: UUID
    status: TrialStatus


class Audience(BaseModel):
    """The clients that a campaign is for: those who match all given criteria."""

    status: ClientStatus | None = None
    tags: list[str] = []
    inactive_days: int | None = None
    """attended no class for this many days, and has been a member for longer"""


@dataclass(frozen=True)
class Subject:
    """A class as a post describes it."""

    name: str
    category: str
    description: str
    when: str | None
    """its next session, in words"""


class Charge(BaseModel):
    """A payment. A `pending` one was requested by an agent: the payment provider, or a person, collects it and reports
    that. After seven days without a report it has `lapsed`.
    """

    id: UUID
    client_id: UUID
    amount: Decimal
    currency: str
    kind: str
    method: str
    status: PaymentStatus
    paid_at: datetime = Field(description="while it is pending, when it was asked for")
    task_id: UUID | None
    created_by: str | None
    reference: str | None = Field(description="what the payment provider calls it")
    note: str
    settled_at: datetime | None


class ChargeOutcome(BaseModel):
    """The outcome of a pending payment."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["paid", "failed"]
    reference: _Name | None = Field(default=None, description="what the payment provider calls it")
    note: Note = ""


class Booking(BaseModel):
    """A client's place in a session."""

    id: UUID
    client_id: UUID
    session_id: UUID
    status: BookingStatus
    created_at: datetime


class BookingOutcome(BaseModel):
    """Whether a client came."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["attended", "no_show"]
