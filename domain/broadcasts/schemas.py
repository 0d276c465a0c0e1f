"""Broadcasts, and what organisations see of them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from core.text import Storable

Level = Literal["info", "warning", "critical"]
BroadcastText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000, pattern=r"\S"), Storable
]


class NewBroadcast(BaseModel):
    """A message to every organisation."""

    model_config = ConfigDict(extra="forbid")

    text: BroadcastText = Field(description="what to tell", examples=["Maintenance tonight from 22:00 UTC."])
    level: Level = Field(default="info", description="how urgent it is")
    until: AwareDatetime | None = Field(
        default=None, description="time until which it is listed; without it, until it is withdrawn"
    )


class Announcement(BaseModel):
    """A message of the installation's operators."""

    id: UUID
    text: str = Field(description="what is told", examples=["Maintenance tonight from 22:00 UTC."])
    level: Level = Field(description="how urgent it is")
    until: datetime | None = Field(description="time until which it is listed; null: until it is withdrawn")
    created_at: datetime


class Broadcast(Announcement):
    """A message to every organisation, as operators see it."""

    created_by: UUID | None = Field(description="id of the operator")
    withdrawn_at: datetime | None = Field(description="time at which it was withdrawn")


class BroadcastPage(BaseModel):
    """Broadcasts, newest first."""

    broadcasts: list[Broadcast] = Field(description="broadcasts of this page")
    next_before: UUID | None = Field(description="pass it as `before` for the next page; null on the last")
