"""Words of the gym's records."""

from datetime import date
from typing import Literal

from pydantic import BaseModel

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
