"""How long an organisation keeps what, and what it may choose."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Days = Annotated[int, Field(ge=1, le=36_500)]


class RetentionChange(BaseModel):
    """What to change. Fields that are not sent stay as they are; null goes back to the installation's default."""

    model_config = ConfigDict(extra="forbid")

    reads: Days | None = Field(default=None, description="days for which the audit log keeps what agents read")
    changes: Days | None = Field(default=None, description="days for which the audit log keeps everything else")
    conversations: Days | None = Field(
        default=None, description="days after its last message at which a conversation is deleted"
    )


class Kept(BaseModel):
    """How long one kind of thing is kept."""

    days: int | None = Field(description="days for which it is kept; null: for ever", examples=[90])
    chosen: int | None = Field(description="days that the organisation chose; null: it has not chosen")
    least: int = Field(description="the fewest days that the organisation may choose", examples=[1])
    most: int | None = Field(description="the most days that the organisation may choose; null: no bound")


class Retention(BaseModel):
    """How long an organisation keeps what."""

    reads: Kept = Field(description="lines of the audit log about what agents read")
    changes: Kept = Field(description="all other lines of the audit log")
    conversations: Kept = Field(description="conversations, from their last message on")


@dataclass(frozen=True, slots=True)
class Chosen:
    """What an organisation chose; None: nothing."""

    org: UUID
    reads: timedelta | None = None
    changes: timedelta | None = None
    conversations: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Term:
    """What the installation sets for one kind of thing. None: for ever."""

    default: timedelta | None
    least: timedelta
    most: timedelta | None


@dataclass(frozen=True, slots=True)
class Terms:
    """What the installation sets."""

    reads: Term
    changes: Term
    conversations: Term
