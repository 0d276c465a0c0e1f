"""Types of the gym's records."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, TypedDict
from uuid import UUID

from pydantic import BaseModel

ClientStatus = Literal["active", "frozen", "lapsed", "cancelled"]
LeadStatus = Literal["new", "contacted", "trial_booked", "trial_done", "won", "lost"]
PaymentStatus = Literal["paid", "failed", "refunded", "pending", "lapsed"]
"""`pending`: requested, not collected yet; `lapsed`: never collected, which does not count as a failed payment"""
PaymentKind = Literal["membership", "personal_training", "shop", "day_pass"]
SubscriptionStatus = Literal["active", "past_due", "paused", "cancelled"]
ClassLevel = Literal["all levels", "beginner", "intermediate", "advanced"]


SessionStatus = Literal["scheduled", "cancelled"]
BookingStatus = Literal["booked", "attended", "no_show", "cancelled"]
PaymentMethod = Literal["card", "direct_debit", "cash"]
BillingPeriod = Literal["month", "year"]


@dataclass(frozen=True, slots=True)
class FoundClient:
    """A client as a search finds it."""

    client_id: UUID
    name: str
    email: str
    phone: str | None
    status: ClientStatus
    joined_on: date


class LatestSubscription(TypedDict):
    """A client's latest subscription, as JSON."""

    plan: str
    amount: str
    currency: str
    period: BillingPeriod
    status: SubscriptionStatus
    started_on: str
    renews_on: str | None


@dataclass(frozen=True, slots=True)
class ClientProfile:
    """A client with the latest subscription, the number of visits and the total paid."""

    client_id: UUID
    name: str
    email: str
    phone: str | None
    status: ClientStatus
    language: str
    tags: list[str]
    notes: str
    joined_on: date
    subscription: LatestSubscription | None
    visits: int
    total_paid: Decimal


@dataclass(frozen=True, slots=True)
class ClientBooking:
    """A client's booking, with the session that it is for."""

    booking_id: UUID
    status: BookingStatus
    session_id: UUID
    class_name: str
    starts_at: datetime
    instructor: str
    room: str


@dataclass(frozen=True, slots=True)
class ClientPayment:
    """A payment of a client who is known."""

    payment_id: UUID
    amount: Decimal
    currency: str
    kind: PaymentKind
    method: PaymentMethod
    status: PaymentStatus
    paid_at: datetime


@dataclass(frozen=True, slots=True)
class FoundLead:
    """A lead as a search finds it."""

    lead_id: UUID
    name: str
    email: str
    phone: str | None
    source: str
    interest: str
    status: LeadStatus
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LeadProfile:
    """A lead with notes."""

    lead_id: UUID
    name: str
    email: str
    phone: str | None
    source: str
    interest: str
    status: LeadStatus
    notes: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class GymClass:
    """A class that the gym offers."""

    class_id: UUID
    name: str
    category: str
    description: str
    level: ClassLevel
    duration_minutes: int
    capacity: int


@dataclass(frozen=True, slots=True)
class ClassCapacity:
    """A class and the number of places in its sessions."""

    id: UUID
    name: str
    capacity: int


@dataclass(frozen=True, slots=True)
class ClassSession:
    """A session of a class, with the places left."""

    session_id: UUID
    class_name: str
    category: str
    starts_at: datetime
    instructor: str
    room: str
    status: SessionStatus
    capacity: int
    places_left: int


@dataclass(frozen=True, slots=True)
class Attendee:
    """A client who is booked into a session."""

    booking_id: UUID
    client_id: UUID
    name: str
    status: BookingStatus


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment and the client who made it."""

    payment_id: UUID
    client_id: UUID
    client: str
    amount: Decimal
    currency: str
    kind: PaymentKind
    method: PaymentMethod
    status: PaymentStatus
    paid_at: datetime


@dataclass(frozen=True, slots=True)
class PaymentTotal:
    """The number and the sum of payments with the same status and currency."""

    status: PaymentStatus
    currency: str
    payments: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription and the client who has it."""

    subscription_id: UUID
    client_id: UUID
    client: str
    plan: str
    amount: Decimal
    currency: str
    period: BillingPeriod
    status: SubscriptionStatus
    started_on: date
    renews_on: date | None


@dataclass(frozen=True, slots=True)
class SubscriptionTotal:
    """The number and the monthly amount of subscriptions with the same plan, status and currency."""

    plan: str
    status: SubscriptionStatus
    currency: str
    subscriptions: int
    monthly_amount: Decimal


class Activity(BaseModel):
    """A client's recent activity, from which an engagement score is computed."""

    visits_30_days: int
    visits_90_days: int
    no_shows_90_days: int
    last_visit: date | None
    failed_payments_90_days: int
    has_active_subscription: bool
    is_past_due: bool = False
    """whether a subscription is past due. Its failed payments caused that, so both count as one fault"""


class EngagementScore(BaseModel):
    """How engaged a client is, from 0 to 100, and the parts of that score."""

    score: int
    band: Literal["engaged", "steady", "slipping", "at risk"]
    recency: int
    frequency: int
    reliability: int
    payments: int
