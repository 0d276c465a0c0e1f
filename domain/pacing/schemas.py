"""What is known of a model whose provider limits us or is down, and of a provider that needs a person."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

Cause = Literal["limit", "outage"]
AlertKind = Literal["quota", "authentication"]


@dataclass(frozen=True)
class Account:
    """Whose rate it is: a provider and a key (as a digest)."""

    provider: str
    key: str


@dataclass(frozen=True)
class Route:
    """The way to a model, which a pace belongs to: providers count requests by model and key."""

    provider: str
    model: str
    key: str

    @property
    def is_own(self) -> bool:
        """Whether it leads to an organisation's own endpoint, which is called `organisation/name`."""
        return "/" in self.provider

    @property
    def account(self) -> Account:
        """The account that its calls are made with."""
        return Account(self.provider, self.key)


@dataclass(frozen=True)
class Pace:
    """How often a model is called since its provider last refused a call or failed. Times are seconds since the epoch,
    by the database's clock.
    """

    cause: Cause
    rate: float
    """calls a second that are let through"""
    ceiling: float | None
    """the rate that the provider was measured to allow; None where it is not known"""
    evidence: int
    """from how many calls that was measured"""
    held_until: float
    """no call begins before"""
    next_at: float
    """when the next call may begin: calls are given times, one after the other"""
    strikes: int
    """refusals or failures in a row, each of a call that began after the one before was known"""
    successes: int
    """calls that succeeded since the last of them"""
    changed_at: float
    """when the last of them was noted. What began earlier tells nothing new"""
    ready_at: float | None
    """when the provider was to be ready again after the last refusal; None where it has refused nothing yet"""
    sent: int
    """calls that were given a time since"""


@dataclass(frozen=True)
class Seen:
    """One limit, as the headers of an answer tell it."""

    limit: float
    remaining: float
    reset: float
    """seconds until all of it is available again"""


@dataclass(frozen=True)
class Limits:
    """The limits that the headers of an answer tell; None where they do not tell one."""

    requests: Seen | None = None
    tokens: Seen | None = None


class Known(BaseModel):
    """What all worker processes hear about with their heartbeat."""

    paced: list[tuple[str, str, str]] = Field(default=[], description="(provider, model, key) of every pace")
    alerts: list[tuple[str, str]] = Field(default=[], description="(provider, key) of every alert")


class Standing(BaseModel):
    """How a model's pace stands now."""

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
        """What is wrong, in a sentence without its end."""
        trouble = "has no quota left" if self.kind == "quota" else "rejects the API key"
        return f"{self.provider} {trouble}"

    @property
    def cure(self) -> str:
        """What to do about it."""
        if self.kind == "quota":
            return "Add credit or raise the limit at the provider, then retry what failed: rota failures, rota retry."
        return f"Check the key of {self.provider}, restart the workers with the right one, then retry what failed."
