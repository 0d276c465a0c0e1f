"""Lines of the audit log."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

READ = "read"
"""the verb of a line that says what an agent read"""
Kind = Literal["change", "read", "any"]
MOST_RECORDS = 50
"""ids that a line names"""


@dataclass(frozen=True)
class Actor:
    """The author of a change: a user with an API key, a visitor, or an agent in a step of a task that one of them
    submitted.
    """

    org_id: UUID
    user_id: UUID | None = None
    key_id: UUID | None = None
    agent: str | None = None
    task_id: UUID | None = None
    seq: int | None = None
    visitor_id: UUID | None = None


@dataclass(frozen=True)
class AuditEvent:
    """What was done, and to what. `details` must not contain secrets."""

    verb: str
    subject: str
    details: dict[str, Any] = field(default_factory=dict)
    records: tuple[UUID, ...] = ()
    """what was read, or what the arguments name; each once, at most 50"""


class AuditLine(BaseModel):
    """One line of the audit log."""

    id: UUID
    at: datetime
    user_id: UUID | None
    user: str | None
    visitor_id: UUID | None
    key_id: UUID | None
    agent: str | None
    verb: str
    subject: str
    task_id: UUID | None
    seq: int | None
    details: dict[str, Any] = Field(
        description="what else is known of it; of a read, `not_listed`: the number of further records"
    )
    records: list[UUID] = Field(
        description="ids of the records that an agent read or that its action names, at most 50"
    )


class AuditPage(BaseModel):
    """Lines, newest first. `next_before` is the `before` of the next page; null at the end."""

    lines: list[AuditLine]
    next_before: UUID | None
