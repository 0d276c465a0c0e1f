"""A claim on a task, the steps written under it, and how it ends."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, Field

from domain.audit.schemas import AuditEvent
from domain.billing.schemas import Cost, Tokens
from domain.tasks.schemas import Action, Bounds, Stage, Status, StepStatus, TaskError


class Claimed(BaseModel):
    """A task that a worker has claimed. `claim` is the fence that every later write names."""

    id: UUID
    org_id: UUID
    agent_id: UUID
    agent: str
    claim: int
    attempts: int
    max_attempts: int
    input: dict[str, Any]
    remaining: timedelta | None = Field(description="time until the deadline, by the database's clock")
    user_id: UUID
    location_id: UUID | None = None
    contact: UUID | None = None
    action: Action | None = None
    scopes: list[str] | None = None
    root_id: UUID | None = None
    depth: int = 0
    bounds: Bounds | None = None
    approvals_from: datetime | None = Field(
        default=None, description="approvals given before do not stand: it was cancelled and retried"
    )
    wakes: int = Field(default=0, description="how often something that tasks wait for had come when it was claimed")
    now: datetime = Field(description="when it was claimed, by the database's clock")
    organisation_version: str | None = Field(description="of the organisation's row; another one, another row")
    agent_version: str | None = Field(description="of the agent's row")
    is_streamed: bool = Field(default=False, description="its models' words are passed on from the first one")
    message_id: UUID | None = Field(default=None, description="the answer in a conversation that it gives")
    held_tokens: int = Field(default=0, description="tokens of the wallet that were held for it with the claim")


class Charge(BaseModel):
    """What is charged for the model call of a step."""

    provider: str
    model: str
    tokens: Tokens
    cost: Cost
    is_rehearsal: bool


class StepRecord(BaseModel):
    """A step to be written into the journal."""

    seq: int
    stage: Stage
    name: str
    status: StepStatus = "done"
    input: dict[str, Any] = {}
    output: dict[str, Any]
    duration_ms: int
    charge: Charge | None = None
    read: AuditEvent | None = Field(default=None, description="what the audit log says of what the step read")


class JournalLine(NamedTuple):
    """A step to be written under `id`; it was done `age_ms` milliseconds ago."""

    record: StepRecord
    id: UUID
    age_ms: int = 0


@dataclass(frozen=True, slots=True)
class Spent:
    """What a task has used so far, including failed attempts."""

    tokens: int
    cost: Decimal
    """US dollars billed"""


@dataclass(frozen=True, slots=True)
class Spell:
    """The outages of a task since its last progress. A successful turn of its model is progress."""

    has_progressed: bool = False
    """whether the task made progress since the last attempt that counted"""
    outage: timedelta = timedelta(0)
    """how long its provider has been down; zero at the first sign of it"""
    outages: int = 0
    """attempts that ended in an outage and were not counted"""


class ClaimOutcome(BaseModel):
    """How a claim ends: the task's next status, and what is recorded of the attempt."""

    status: Status
    outcome: Literal["succeeded", "failed", "retry", "deferred", "released", "waiting", "cancelled"]
    counted: bool = False
    counts_anew: bool = Field(default=False, description="progress was made: attempts before it do not count")
    delay: timedelta | None = None
    waiting_for: str | None = None
    waiting_amount: Decimal | None = Field(default=None, description="tokens or dollars that it waits for")
    result: dict[str, Any] | None = None
    error: TaskError | None = None
