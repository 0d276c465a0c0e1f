"""Types for what agents do to clients, places and payments."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from business.crm.schemas import (
    BookingStatus,
    ClientStatus,
    PaymentKind,
    PaymentStatus,
    SessionStatus,
    Subscription,
)
from core.text import Storable
from domain.office.schemas import Note

_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), Storable]

ExportWhat = Literal["clients", "leads", "payments", "bookings", "subscriptions"]
CollectedBy = Literal["card", "direct_debit"]
"""How a payment provider can collect a payment. It cannot collect cash."""
TrialOutcome = Literal["attended", "no_show", "cancelled"]
Tone = Literal["friendly", "energetic", "informative"]
TrialStatus = BookingStatus


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


@dataclass(frozen=True, slots=True)
class OfferedSession:
    """A class session with the places left, as it is offered to clients and leads."""

    session_id: UUID
    class_name: str
    starts_at: datetime
    instructor: str
    room: str
    status: SessionStatus
    is_over: bool
    """whether it has begun"""
    places_left: int


@dataclass(frozen=True, slots=True)
class LockedBooking:
    """A booking with its client and session, locked until the transaction ends."""

    booking_id: UUID
    client_id: UUID
    client: str
    client_status: ClientStatus
    session_id: UUID
    status: BookingStatus
    class_name: str
    starts_at: datetime
    is_over: bool
    """whether the class has begun"""


@dataclass(frozen=True, slots=True)
class LockedPayment:
    """A payment with its client, locked until the transaction ends."""

    payment_id: UUID
    client_id: UUID
    client: str
    amount: Decimal
    currency: str
    kind: PaymentKind
    status: PaymentStatus


@dataclass(frozen=True, slots=True)
class LapsedCharge:
    """A charge that was not collected in time."""

    id: UUID
    client_id: UUID
    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class ExportedClient:
    """A client as a line of an export."""

    client_id: UUID
    name: str
    email: str
    phone: str | None
    status: ClientStatus
    language: str
    tags: list[str]
    joined_on: date


@dataclass(frozen=True, slots=True)
class ExportedBooking:
    """A booking as a line of an export."""

    booking_id: UUID
    client_id: UUID
    client: str
    class_name: str
    starts_at: datetime
    instructor: str
    room: str
    status: BookingStatus


@dataclass(frozen=True, slots=True)
class ExportedSubscription(Subscription):
    """A subscription as a line of an export."""

    ended_on: date | None


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
