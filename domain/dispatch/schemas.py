"""Types that dispatch reads, decides on and shows."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from domain.pacing.schemas import Cause
from domain.tasks.schemas import Priority, Status

PauseKind = Literal["organisation", "queue", "agent"]
Hindrance = Literal[
    "agent_off", "paused", "organisation", "agent", "provider", "rate", "provider_rate", "held", "share"
]


@dataclass(frozen=True)
class Lane:
    """The due tasks of one priority, organisation and agent. They wait and are dispatched together."""

    priority: Priority
    org_id: UUID
    agent_id: UUID
    agent: str
    provider: str
    model: str
    due: int = 0
    """number of due tasks, counted up to what can be taken at once"""
    waited: float = 0.0
    """seconds since the first task became due; negative when it is not due yet"""
    has_fallback: bool = False
    """whether its agent has a fallback model for outages of the provider"""
    weight: int = 1
    """turns that its organisation gets for each turn of an organisation with weight 1"""
    is_off: bool = False
    """whether its agent is switched off"""


# Not frozen: every dispatch pass makes one for each lane, and a frozen dataclass is much slower to make.
@dataclass(slots=True, kw_only=True)
class StoredLane:
    """A lane as the database has it: its agent's models, and the limits of its agent and its organisation."""

    priority: Priority
    org_id: UUID
    agent_id: UUID
    agent: str
    model: str
    fallback_model: str | None
    own_provider: str | None
    """the provider for which the organisation has its own price of the model"""
    own_endpoint: str | None
    """the organisation's endpoint that serves the model, as `organisation/name`"""
    max_in_flight: int | None
    """most tasks of the agent in flight"""
    is_off: bool
    weight: int
    org_max_in_flight: int | None
    starts_per_minute: int | None
    """tasks that the organisation may start in a minute"""
    due: int = 1
    waited: float


@dataclass(slots=True, kw_only=True)
class TaskStanding(StoredLane):
    """The state of one task and its lane: everything that decides when the task may be dispatched."""

    id: UUID
    status: Status
    parked: bool
    concurrency_key: str | None
    key_position: int | None
    queue: Priority | None
    waiting_for: str | None
    worker: str | None
    error: str | None
    is_stopping: bool
    is_expired: bool | None
    """None for a task that does not expire"""
    is_late: bool | None
    """None for a task without a deadline"""
    is_shut_out: bool
    """whether its user is disabled"""
    published_for: float | None
    """seconds since it was published; None when it is not"""


@dataclass(frozen=True, slots=True)
class KeyHead:
    """The task that all others with the same concurrency key wait for."""

    id: UUID
    status: Status
    waiting_for: str | None


@dataclass(frozen=True)
class Block:
    """What keeps a lane's tasks from being dispatched, and an explanation for users."""

    by: Hindrance
    why: str
    model: str = ""
    """the model whose limit it is; empty when the limit is not one model's"""


@dataclass(frozen=True, slots=True)
class Crew:
    """The live workers that serve the same queues."""

    queues: Collection[str]
    slots: int
    """tasks that they can run at once"""


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A published task that has been unclaimed for a while."""

    id: UUID
    org_id: UUID
    agent_id: UUID
    provider: str
    model: str
    queue: Priority


@dataclass(frozen=True, slots=True)
class AgedTask:
    """A published task that has been due for long."""

    id: UUID
    priority: Priority
    queue: Priority
    waited: float
    """seconds since it became due"""


@dataclass(frozen=True, slots=True)
class PublishedTask:
    """A published task whose message may be lost, with the claim and the queue that the message names."""

    id: UUID
    claim: int
    queue: Priority


# Not frozen, for the reason given at `StoredLane`.
@dataclass(slots=True)
class InFlight:
    """How many tasks in flight share everything that a limit may apply to."""

    org_id: UUID
    agent_id: UUID
    provider: str
    model: str
    priority: Priority
    queue: Priority | None
    """the Celery queue of unclaimed tasks; None for running ones"""
    is_unclaimed: bool
    is_promoted: bool
    """whether they are unclaimed on a higher queue than that of their priority"""
    tasks: int


@dataclass(frozen=True)
class Counts:
    """Numbers of tasks in flight: on a Celery queue and unclaimed, or running."""

    organisations: Mapping[UUID, int] = field(default_factory=dict)
    agents: Mapping[UUID, int] = field(default_factory=dict)
    providers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """by (provider, model); an empty model stands for all models of the provider"""
    unclaimed: Mapping[UUID, int] = field(default_factory=dict)
    """tasks on a Celery queue, by organisation"""
    unclaimed_providers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    on_queue: Mapping[Priority, int] = field(default_factory=dict)
    """unclaimed tasks, by the Celery queue they were published on"""
    promoted: Mapping[Priority, int] = field(default_factory=dict)
    """unclaimed tasks that were published on a higher queue because of their age, by that queue"""
    priorities: Mapping[Priority, int] = field(default_factory=dict)
    """by the tasks' own priority, whatever queue they are on"""


@dataclass(frozen=True)
class OrganisationLimit:
    """How many tasks an organisation may have in flight and start in a minute; None means no limit."""

    max_in_flight: int | None = None
    starts_per_minute: int | None = None
    started: int = 0
    """tasks started in the last minute"""


@dataclass(frozen=True)
class ProviderLimit:
    """How many tasks a provider or a model may have in flight and start in a minute (None: no limit), and its pace."""

    max_in_flight: int | None = None
    starts_per_minute: int | None = None
    started: int = 0
    held_for: float = 0.0
    """seconds until the next call may begin; 0 when one may begin now"""
    cause: Cause | None = None
    """why its calls are paced; None when they are not"""
    rate: float = 0.0
    """calls a second, when they are paced"""
    room: int | None = None
    """tasks that may be published to it and unclaimed; None means no limit"""


@dataclass(frozen=True, slots=True)
class StoredProviderLimit:
    """The limits and the pace of a provider or a model, and its starts of the last 60 seconds."""

    provider: str
    model: str
    max_in_flight: int | None
    starts_per_minute: int | None
    cause: Cause | None
    rate: float | None
    held_until: datetime | None
    held_for: float
    ahead: float | None
    started: int


@dataclass(frozen=True, slots=True)
class StoredLimits:
    """The weight and the limits of an organisation."""

    weight: int
    max_in_flight: int | None
    starts_per_minute: int | None


@dataclass(frozen=True)
class Rules:
    """Snapshot of every limit that dispatch must keep."""

    organisations: Mapping[UUID, OrganisationLimit] = field(default_factory=dict)
    agents: Mapping[UUID, int] = field(default_factory=dict)
    """most tasks in flight, for agents with such a limit"""
    providers: Mapping[tuple[str, str], ProviderLimit] = field(default_factory=dict)
    priorities: Mapping[Priority, int] = field(default_factory=dict)
    """most tasks in flight, for priorities with such a limit"""
    pauses: Mapping[tuple[UUID, PauseKind, str], str] = field(default_factory=dict)
    """the reason of each pause by (organisation, kind, name); may be empty"""


@dataclass(frozen=True)
class Pick:
    """One task to take from a lane and publish on `queue`."""

    lane: Lane
    queue: Priority


class Pause(BaseModel):
    """A paused organisation, queue or agent: its tasks do not start until it is resumed. Running tasks continue."""

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
    """An organisation's limits and their current use."""

    weight: int = Field(description="turns for one turn of an organisation of weight 1")
    max_in_flight: int | None = Field(description="tasks published or running at once; null for no limit")
    in_flight: int
    starts_per_minute: int | None = Field(description="tasks started within 60 seconds; null for no limit")
    started_last_minute: int


class ProviderLimitView(BaseModel):
    """The limits and the pace of a provider or of one of its models, and their current use."""

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
