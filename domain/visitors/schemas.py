"""Publishable keys and visitors."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from core.text import Storable
from domain.tenants.schemas import Name, Slug

PerMinute = Annotated[int, Field(ge=1, le=100_000)]
PerDay = Annotated[int, Field(ge=1, le=10_000_000)]
# As a browser writes it in the header: scheme, host, and a port that is not the scheme's own.
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[a-z0-9.-]+(:[0-9]{1,5})?$", max_length=260)]
# By name, without patterns: every visitor can make agents read what these permit.
PermissionName = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,40}:[a-z][a-z0-9_-]{0,40}$"), Field(examples=["classes:read"])
]


class VisitorLimits(BaseModel):
    """Limits on the visitors of a publishable key. A day is one of UTC."""

    model_config = ConfigDict(extra="forbid")

    visitors_per_minute: PerMinute = Field(default=30, description="new visitors of this key in a minute")
    messages_per_minute: PerMinute = Field(default=10, description="messages of one visitor in a minute")
    messages_per_day: PerDay = Field(default=200, description="messages of one visitor in a day")
    messages_per_minute_in_all: PerMinute = Field(default=120, description="messages of all visitors in a minute")
    messages_per_day_in_all: PerDay = Field(default=5_000, description="messages of all visitors in a day")


class NewPublishableKey(BaseModel):
    """A publishable key to make."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    agents: Annotated[list[Slug], Field(min_length=1, max_length=20)] = Field(
        description="slugs of the agents that visitors may converse with", examples=[["support-assistant"]]
    )
    location: Slug | None = Field(default=None, description="slug of the location that the conversations belong to")
    origins: Annotated[list[Origin], Field(max_length=50)] = Field(
        default=[],
        description="origins of the web pages that may use it, as browsers send them; empty for any",
        examples=[["https://www.example.com"]],
    )
    permissions: Annotated[list[PermissionName], Field(max_length=50)] = Field(
        default=[],
        description="all that agents may do for visitors, by name; you must have these permissions yourself. Without "
        "any, agents use no tools",
        examples=[["classes:read"]],
    )
    limits: VisitorLimits = VisitorLimits()
    lifetime: Annotated[timedelta, Field(ge=timedelta(minutes=5), le=timedelta(days=90))] = Field(
        default=timedelta(days=7), description="time after which the token of a visitor expires if it is not used"
    )
    expires_at: AwareDatetime | None = Field(default=None, description="time of expiry; null for none")


class PublishableKey(BaseModel):
    """A publishable key. It is no secret: it may stand in the source of a web page."""

    id: UUID
    name: str
    key: str = Field(
        description="what the page sends", examples=["rotapub_0198a1b200007000800000000000000a_5f2c9e0d7b1a4c38"]
    )
    user: str = Field(description="e-mail address of the user for whom agents act, within `permissions`")
    agents: list[str]
    location_id: UUID | None
    origins: list[str] = Field(description="origins of the web pages that may use it; empty for any")
    permissions: list[str] = Field(description="all that agents may do for visitors")
    limits: VisitorLimits
    lifetime: timedelta = Field(description="time after which the token of a visitor expires if it is not used")
    messages_today: int = Field(description="messages that all its visitors sent today, in UTC")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewVisitor(BaseModel):
    """What a visitor states about itself. Nothing of it is checked, and agents do not read it."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = Field(default=None, description="for your staff to read", examples=["Ana"])
    contact_hint: Annotated[str, StringConstraints(strip_whitespace=True, max_length=254), Storable] | None = Field(
        default=None, description="how to reach the visitor, for your staff to read", examples=["ana@example.com"]
    )


class VisitorView(BaseModel):
    """A visitor, as staff see it."""

    id: UUID
    publishable_key_id: UUID = Field(description="id of the publishable key that admitted it")
    name: str | None = Field(description="as the visitor states it: not checked")
    contact_hint: str | None = Field(description="as the visitor states it: not checked", examples=["ana@example.com"])
    created_at: datetime
    last_seen_at: datetime = Field(description="to within a minute")
    expires_at: datetime


@dataclass(frozen=True)
class Admission:
    """A usable publishable key, as the exchange needs it."""

    id: UUID
    org_id: UUID
    origins: list[str]
    lifetime: timedelta
    limits: VisitorLimits


@dataclass(frozen=True)
class Visitor:
    """A visitor whose token is valid, with what its publishable key permits."""

    id: UUID
    org_id: UUID
    publishable_key_id: UUID
    user_id: UUID
    """the user for whom agents act, within `permissions`"""
    agents: list[str]
    location_id: UUID | None
    origins: list[str]
    permissions: list[str]
    limits: VisitorLimits
    expires_at: datetime


@dataclass(frozen=True)
class IssuedToken:
    """The token of a new visitor, in the clear."""

    id: UUID
    token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class DayCount:
    """The messages of a day, with the one that is being sent."""

    of_visitor: int
    in_all: int
    seconds_left: int
    """until the day ends"""
