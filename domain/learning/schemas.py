"""Arms and choices."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

Outcome = Literal["success", "failure", "void"]


@dataclass(frozen=True, slots=True)
class Tally:
    """How often an option succeeded and failed in a context."""

    option: str
    successes: int = 0
    failures: int = 0


class Arm(BaseModel):
    """The statistics of an option in a context."""

    policy: str
    context: str
    option: str
    successes: int
    failures: int
    chosen: int
    explored: int = Field(description="how often it was chosen although another looked better")
    expected_rate: float = Field(description="mean of the posterior, Beta(1 + successes, 1 + failures)")
    changed_at: datetime


class NewChoice(BaseModel):
    """A choice that was made."""

    policy: str
    context: str
    option: str
    options: dict[str, tuple[int, int]] = Field(description="successes and failures of each option, as known then")
    propensity: float
    is_exploration: bool
    subject: UUID


class StoredChoice(NewChoice):
    """A choice and its outcome."""

    id: UUID
    made_at: datetime
    outcome: Outcome | None
    settled_at: datetime | None
