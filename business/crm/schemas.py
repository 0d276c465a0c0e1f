"""Types of the gym's records."""

from datetime import date
from typing import Literal

from pydantic import BaseModel

ClientStatus = Literal["active", "frozen", "lapsed", "cancelled"]
LeadStatus = Literal["new", "contacted", "trial_booked", "trial_done", "won", "lost"]
PaymentStatus = Literal["paid", "failed", "refunded", "pending", "lapsed"]
"""`pending`: requested, not collected yet; `lapsed`: never collected, which does not count as a failed payment"""
PaymentKind = Literal["membership", "personal_training", "shop", "day_pass"]
SubscriptionStatus = Literal["active", "past_due", "paused", "cancelled"]
ClassLevel = Literal["all levels", "beginner", "intermediate", "advanced"]


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
