"""Words of the gym's records."""

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from core.zones import known_zone

ClientStatus = Literal["active", "frozen", "lapsed", "cancelled"]
LeadStatus = Literal["new", "contacted", "trial_booked", "trial_done", "won", "lost"]
PaymentStatus = Literal["paid", "failed", "refunded", "pending", "lapsed"]
"""`pending` is asked for and not collected yet; `lapsed` was never collected, which is nobody's failure"""
PaymentKind = Literal["membership", "personal_training", "shop", "day_pass"]
SubscriptionStatus = Literal["active", "past_due", "paused", "cancelled"]
ClassLevel = Literal["all levels", "beginner", "intermediate", "advanced"]


class Activity(BaseModel):
    """What a client did lately: the ground of an engagement score."""

    visits_30_days: int
    visits_90_days: int
    no_shows_90_days: int
    last_visit: date | None
    failed_payments_90_days: int
    has_active_subscription: bool
    is_past_due: bool = False
    """whether a subscription is past due, which is what its failed payments led to: the two are one fault"""


class EngagementScore(BaseModel):
    """How engaged a client is, from 0 to 100, and what that is made of."""

    score: int
    band: Literal["engaged", "steady", "slipping", "at risk"]
    recency: int
    frequency: int
    reliability: int
    payments: int


class PreferenceChange(BaseModel):
    """What a client or lead allows, and where they are: what is not sent stays as it is."""

    model_config = ConfigDict(extra="forbid")

    time_zone: Annotated[str, AfterValidator(known_zone)] | None = Field(
        default=None, description="IANA name; null for the organisation's"
    )
    has_consented: bool | None = Field(default=None, description="to advertising")
    has_opted_out: bool | None = Field(default=None, description="wants no follow-up at all")


class Preferences(BaseModel):
    """What a client or lead allows; nobody has consented who did not say so."""

    contact: UUID
    time_zone: str | None = None
    has_consented: bool = False
    has_opted_out: bool = False
    opted_out_at: datetime | None = None
    changed_at: datetime | None = Field(default=None, description="null: nothing was ever set")


class Contact(BaseModel):
    """A client or lead, with what a message to them must heed."""

    id: UUID
    kind: Literal["client", "lead"]
    name: str
    email: str
    phone: str | None
    status: str
    language: str
    location_id: UUID | None
    time_zone: str | None
    has_consented: bool
    opted_out_at: datetime | None
