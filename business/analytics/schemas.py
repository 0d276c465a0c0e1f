"""Types of the reports."""

import calendar
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from business.crm.schemas import Activity
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
