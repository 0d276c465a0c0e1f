"""The engagement score: how likely a member is to stay, from what the records say."""

from datetime import date
from typing import Literal

from business.crm.schemas import Activity, EngagementScore

# Visits a month at which frequency counts in full: twice a week, after which gym members seldom leave.
_FULL_FREQUENCY = 8
_RECENCY_DAYS = 45
_ENGAGED, _STEADY, _SLIPPING = 75, 50, 25


def engagement_score(activity: Activity, today: date) -> EngagementScore:
    """Compute an RFM score (recency, frequency, monetary; Hughes 1994, "Strategic Database Marketing") with kept
    bookings as a fourth part: recency 35, frequency 35, reliability 15 and payments 15 points.

    Recency falls linearly from 35 on the day of a visit to 0 after 45 days without one. Frequency grows linearly to 35
    at 8 visits in 30 days. Reliability is the share of the last 90 days' bookings that were kept (7 if there were
    none). Payments lose 5 points for each failed payment in 90 days, at least 5 while a subscription is past due, and
    all without a subscription.
    """
    days_away = _RECENCY_DAYS if activity.last_visit is None else max(0, (today - activity.last_visit).days)
    recency = round(35 * max(0, _RECENCY_DAYS - days_away) / _RECENCY_DAYS)
    frequency = round(35 * min(activity.visits_30_days, _FULL_FREQUENCY) / _FULL_FREQUENCY)
    booked = activity.visits_90_days + activity.no_shows_90_days
    reliability = round(15 * activity.visits_90_days / booked) if booked else 7
    missed = max(activity.failed_payments_90_days, 1 if activity.is_past_due else 0)
    is_subscribed = activity.has_active_subscription or activity.is_past_due
    payments = max(0, 15 - 5 * missed) if is_subscribed else 0
    score = recency + frequency + reliability + payments
    return EngagementScore(
        score=score,
        band=_band(score),
        recency=recency,
        frequency=frequency,
        reliability=reliability,
        payments=payments,
    )


def _band(score: int) -> Literal["engaged", "steady", "slipping", "at risk"]:
    if score >= _ENGAGED:
        return "engaged"
    if score >= _STEADY:
        return "steady"
    return "slipping" if score >= _SLIPPING else "at risk"
