"""Types for the paces of models, and for alerts about provider accounts that need a person."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

Cause = Literal["limit", "outage"]
AlertKind = Literal["quota", "authentication"]


@dataclass(frozen=True)
class Account:
    """An account at a provider: the provider and the key (as a digest)."""

    provider: str
    key: str


@dataclass(frozen=True)
class Route:
    """The way to a model, by provider and key. Each has its own pace: providers count requests by model and key."""

    provider: str
    model: str
    key: str

    @property
    def is_own(self) -> bool:
        """Whether it leads to an organisation's own endpoint, whose provider name is `organisation/name`."""
        return "/" in self.provider

    @property
    def account(self) -> Account:
        """The account under which its calls are made."""
        return Account(self.provider, self.key)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a model may be called, after its provider refused or failed a call. Times are seconds since the epoch
    by the database's clock.
    """

    cause: Cause
    rate: float
    """calls a second that may begin"""
    ceiling: float | None
    """the measured rate that the provider allows; None when it is unknown"""
    evidence: int
    """number of calls from which the ceiling was measured"""
    held_until: float
    """no call begins before this time"""
    next_at: float
    """when the next call may begin: each call is assigned a time after the one before"""
    strikes: int
    """refusals or failures in a row, each of a call that began after the previous one was known"""
    successes: int
    """calls that succeeded since the last refusal or failure"""
    changed_at: float
    """when the last refusal or failure was recorded; calls that began earlier carry no new information"""
    ready_at: float | None
    """when the provider was expected to be ready after the last refusal; None if it has refused nothing yet"""
    sent: int
    """calls that were assigned a time since the last refusal or failure"""


@dataclass(frozen=True, slots=True)
class LockedPace:
    """A pace whose row is locked, and the database's time when it was read."""

    pace: Pace
    now: float
    """seconds since the epoch"""


@dataclass(frozen=True)
class Seen:
    """One limit, as given by the headers of a response."""

    limit: float
    remaining: float
    reset: float
    """seconds until the whole limit is available again"""


@dataclass(frozen=True)
class Limits:
    """The limits given by the headers of a response; None where a header is missing."""

    requests: Seen | None = None
    tokens: Seen | None = None


class Known(BaseModel):
    """The paces and alerts that every worker process receives with its heartbeat."""

    paced: list[tuple[str, str, str]] = Field(default=[], description="(provider, model, key) of every pace")
    alerts: list[tuple[str, str]] = Field(default=[], description="(provider, key) of every alert")


class Standing(BaseModel):
    """The current state of a model's pace."""

    provider: str
    model: str
    cause: Cause
    rate: float = Field(description="calls a second that are let through")
    held_for: float = Field(description="seconds until the next call may begin; 0 where one may begin now")
    held_until: datetime
    ahead: float = Field(description="seconds for which calls have been given times already")
    since: datetime = Field(description="when the trouble began")


class Alert(BaseModel):
    """A provider whose account needs a person: its quota is exhausted, or it rejects the key."""

    provider: str
    kind: AlertKind
    message: str = Field(description="what the provider said")
    since: datetime
    last_at: datetime

    @property
    def what(self) -> str:
        """The problem, as a sentence without a full stop."""
        trouble = "has no quota left" if self.kind == "quota" else "rejects the API key"
        return f"{self.provider} {trouble}"

    @property
    def cure(self) -> str:
        """The remedy."""
        if self.kind == "quota":
            return "Add credit or raise the limit at the provider, then retry what failed: rota failures, rota retry."
        return f"Check the key of {self.provider}, restart the workers with the right one, then retry what failed."
