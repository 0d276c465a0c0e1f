"""What dispatch knows and decides."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from domain.pacing.schemas import Cause
from domain.tasks.schemas import Priority

PauseKind = Literal["organisation", "queue", "agent"]
Hindrance = Literal[
    "agent_off", "paused", "organisation", "agent", "provider", "rate", "provider_rate", "held", "share"
]


@dataclass(frozen=True)
class Lane:
    """The due tasks of one priority, organisation and agent: they wait together, and go on together."""

    priority: Priority
    org_id: UUID
    agent_id: UUID
    agent: str
    provider: str
    model: str
    due: int = 0
    """how many are due, counted up to what can be taken at once"""
    waited: float = 0.0
    """seconds for which the first has been due; negative when its time has not come"""
    has_fallback: bool = False
    """whether its agent asks another model while the provider is down"""
    weight: int = 1
    """turns its organisation gets for one turn of an organisation of weight 1"""
    is_off: bool = False
    """whether its agent is switched off"""


@dataclass(frozen=True)
class Block:
    """What keeps a lane from going on, and in words."""

    by: Hindrance
    why: str
    model: str = ""
    """whose limit it is, where it is that of one model"""


@dataclass(frozen=True)
class Crew:
    """The living workers that serve the same queues."""

    queues: Collection[str]
    slots: int
    """tasks that they can have in hand"""


@dataclass(frozen=True)
class Unclaimed:
    """A published task that nobody has claimed for a while."""

    id: UUID
    org_id: UUID
    agent_id: UUID
    provider: str
    model: str
    queue: Priority


@dataclass(frozen=True)
class Counts:
    """Tasks in flight: on a Celery queue and unclaimed, or running."""

    organisations: Mapping[UUID, int] = field(default_factory=dict)
    agents: Mapping[UUID, int] = field(default_factory=dict)
    providers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """by (provider, model), and with an empty model by provider"""
    unclaimed: Mapping[UUID, int] = field(default_factory=dict)
    """of those in flight, the ones on a Celery queue, by organisation"""
    unclaimed_providers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    on_queue: Mapping[Priority, int] = field(default_factory=dict)
    """unclaimed, by the Celery queue they were published on"""
    promoted: Mapping[Priority, int] = field(default_factory=dict)
    """of those, the ones that came there by their age"""
    priorities: Mapping[Priority, int] = field(default_factory=dict)
    """by their own priority, whatever queue they are on"""


@dataclass(frozen=True)
class OrganisationLimit:
    """What an organisation may have in flight, and start in a minute; None for no limit."""

    max_in_flight: int | None = None
    starts_per_minute: int | None = None
    started: int = 0
    """in the last minute"""


@dataclass(frozen=True)
class ProviderLimit:
    """As for organisations, for a provider or one of its models; and how often it may be called now."""

    max_in_flight: int | None = None
    starts_per_minute: int | None = None
    started: int = 0
    held_for: float = 0.0
    """seconds; 0 when it is not held"""
    cause: Cause | None = None
    """why its calls are paced; None where they are not"""
    rate: float = 0.0
    """calls a second, where they are paced"""
    room: int | None = None
    """tasks that may be on their way to it, published and unclaimed; None for no limit"""


@dataclass(frozen=True)
class Rules:
    """Every limit that dispatch must keep, as it stands now."""

    organisations: Mapping[UUID, OrganisationLimit] = field(default_factory=dict)
    agents: Mapping[UUID, int] = field(default_factory=dict)
    """tasks in flight at most, for agents with such a limit"""
    providers: Mapping[tuple[str, str], ProviderLimit] = field(default_factory=dict)
    priorities: Mapping[Priority, int] = field(default_factory=dict)
    """tasks in flight at most, for priorities with such a limit"""
    pauses: Mapping[tuple[UUID, PauseKind, str], str] = field(default_factory=dict)
    """what is paused, and the reason, which may be empty"""


@dataclass(frozen=True)
class Pick:
    """One task to be taken from a lane and published on `queue`."""

    lane: Lane
    queue: Priority


class Pause(BaseModel):
    """Something whose tasks wait until it is resumed. What runs goes on."""

    kind: PauseKind
    name: str = Field(description="the priority, the agent's slug, or the organisation's")
    reason: str | None
    paused_at: datetime


class Why(BaseModel):
    """What a task is waiting for."""

    status: str
    waiting_for: str | None = Field(
        description="one stable word: time, key, agent_off, user, paused, organisation, agent, provider, rate, "
        "provider_rate, held, share, turn, dispatcher, worker, or what the task itself waits for; null for nothing",
    )
    why: str = Field(description="one sentence for people")


class LimitsView(BaseModel):
    """An organisation's limits, and how far they are used."""

    weight: int = Field(description="turns for one turn of an organisation of weight 1")
    max_in_flight: int | None = Field(description="tasks published or running at once; null for no limit")
    in_flight: int
    starts_per_minute: int | None = Field(description="tasks started within 60 seconds; null for no limit")
    started_last_minute: int


class ProviderLimitView(BaseModel):
    """The limits of a provider, or of one of its models."""

    provider: str
    model: str = Field(description="empty for all of the provider's models")
    max_in_flight: int | None
    in_flight: int
    starts_per_minute: int | None
    started_last_minute: int
    held_until: datetime | None = Field(description="no call begins before; null when it is not held")
    held_because: Cause | None = Field(
        description="why calls are paced: limit (it refused some), outage (it is down); null when they are not"
    )
    calls_per_minute: float | None = Field(description="what is let through while calls are paced")
