"""Types of the reports."""

import calendar
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from business.crm.schemas import Activity, SessionStatus
from core.errors import InvalidInput

Unit = Literal["week", "month", "quarter", "year"]
RiskLevel = Literal["high", "medium", "low"]

_MONTHS = 12


def month_start(day: date, back: int = 0) -> date:
    """Return the first day of the month of `day`, or of the month `back` months before."""
    year, month = divmod(day.year * _MONTHS + day.month - 1 - back, _MONTHS)
    return date(year, month + 1, 1)


def month_end(day: date) -> date:
    """Return the last day of the month of `day`."""
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])


@dataclass(frozen=True)
class Span:
    """The days from `first` to `last`, inclusive, in the gym's time zone.

    Raises:
        InvalidInput: the last day is before the first.
    """

    first: date
    last: date
    zone: ZoneInfo

    @classmethod
    def month(cls, day: date, zone: ZoneInfo, back: int = 0) -> "Span":
        """Return the month of `day`, or the one `back` months before."""
        first = month_start(day, back)
        return cls(first, month_end(first), zone)

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise InvalidInput(f"The last day ({self.last}) is before the first ({self.first}). Swap them.")

    @property
    def begin(self) -> datetime:
        """The time at which the first day begins."""
        return datetime.combine(self.first, time.min, self.zone)

    @property
    def end(self) -> datetime:
        """The time at which the last day ends."""
        return datetime.combine(self.last + timedelta(days=1), time.min, self.zone)

    @property
    def days(self) -> int:
        """The number of days."""
        return (self.last - self.first).days + 1

    @property
    def before(self) -> "Span":
        """The same number of days, just before these."""
        return Span(self.first - timedelta(days=self.days), self.first - timedelta(days=1), self.zone)

    def until(self, today: date) -> "Span":
        """Return these days up to `today`.

        Raises:
            InvalidInput: none has come yet.
        """
        if self.first > today:
            raise InvalidInput(f"{self.first} is still to come: today is {today}. Ask for days up to today.")
        return Span(self.first, min(self.last, today), self.zone)


@dataclass(frozen=True, slots=True)
class PaymentSums:
    """Counts and amounts of payments by status, in one currency."""

    currency: str
    paid_count: int
    failed_count: int
    refunded_count: int
    pending_count: int
    paid: Decimal
    failed: Decimal
    refunded: Decimal
    pending: Decimal


@dataclass(frozen=True, slots=True)
class PaymentsOfPeriod(PaymentSums):
    """The payments of one week, month, quarter or year."""

    starts_on: date
    ends_on: date


@dataclass(frozen=True, slots=True)
class PaymentsOfPart(PaymentSums):
    """The payments of one group: `part` names the grouping, `value` the group."""

    part: Literal["all", "kind", "method", "day", "week"]
    value: str | None
    """None if the group is all payments"""


@dataclass(frozen=True, slots=True)
class RecurringAmounts:
    """What subscriptions charge by month and by year: in total, those of one standing, or those of one plan."""

    currency: str
    plan: str | None
    standing: Literal["active", "past_due"] | None
    subscriptions: int
    members: int
    monthly: Decimal
    yearly: Decimal

    @property
    def is_total(self) -> bool:
        """Whether these are all subscriptions in the currency."""
        return self.plan is None and self.standing is None


@dataclass(frozen=True, slots=True)
class Movement:
    """The members before some days, those lost and gained in them, and the members at their end."""

    at_start: int
    lost: int
    gained: int
    at_end: int


@dataclass(frozen=True, slots=True)
class MonthMovement(Movement):
    """The movement of members in one month, or in the part of it that was asked for."""

    starts_on: date
    ends_on: date
    is_whole: bool


@dataclass(frozen=True, slots=True)
class PlanMovement(Movement):
    """The movement of members of one plan."""

    plan: str


@dataclass(frozen=True, slots=True)
class Cohort:
    """The clients who joined in the same period."""

    starts_on: date
    clients: int
    members_today: int


@dataclass(frozen=True, slots=True)
class CohortPayments:
    """What the clients of a cohort have paid in one currency."""

    starts_on: date
    currency: str
    paid: Decimal


@dataclass(frozen=True, slots=True)
class Kept:
    """How many bookings were kept, and how many missed."""

    attended: int
    no_shows: int


@dataclass(frozen=True, slots=True)
class AttendanceOfPart(Kept):
    """The sessions of one group, their places and bookings: `part` names the grouping, `value` the group."""

    part: Literal["all", "class", "instructor", "weekday", "hour"]
    value: str | None
    """None if the group is all sessions"""
    sessions: int
    cancelled_sessions: int
    places: int
    booked: int


@dataclass(frozen=True, slots=True)
class KeptByNotice(Kept):
    """Bookings that were made equally long before the class."""

    booked_ahead: str


@dataclass(frozen=True, slots=True)
class KeptByClient(Kept):
    """The bookings of one client."""

    client_id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class BookedSession:
    """A class session with the number of its bookings."""

    session_id: UUID
    class_name: str
    instructor: str
    room: str
    starts_at: datetime
    status: SessionStatus
    capacity: int
    booked: int


@dataclass(frozen=True, slots=True)
class DayCounts:
    """Counts of what needs attention on one day."""

    new_leads_7_days: int
    leads_not_contacted: int
    trials_booked: int
    failed_payments_7_days: int
    pending_payments: int
    subscriptions_past_due: int
    renewals_next_7_days: int
    subscriptions_ended_this_month: int
    new_clients_this_month: int


class MemberActivity(Activity):
    """A member's recent activity and joining day, from which engagement and the risk of leaving are computed."""

    client_id: UUID
    name: str
    joined_on: date
    visits: int
    """classes visited since joining"""


class Risk(BaseModel):
    """How likely a member is to leave, from 0 to 100, and why."""

    score: int
    level: RiskLevel
    reasons: list[str]
