"""Schemas of worker processes and their heartbeats."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from domain.pacing.schemas import Known

Concurrency = Annotated[int, Field(ge=1, le=5000)]


class RunningTask(BaseModel):
    """A task that a worker is running."""

    id: UUID
    agent: str
    priority: str
    since: datetime


class Worker(BaseModel):
    """A worker process, as reported by its heartbeat."""

    id: str
    name: str
    hostname: str
    pid: int
    queues: list[str]
    pool: str
    concurrency: int = Field(description="tasks it takes at once")
    wanted_concurrency: int | None = Field(description="what was asked for by name, which it follows; null for none")
    status: Literal["alive", "draining", "silent", "stopped"]
    draining_because: str | None
    running: int = Field(description="tasks of this organisation that it has in hand")
    tasks: list[RunningTask] = Field(description="the first twenty of them, the longest running first")
    stuck: int = Field(description="threads that do not come back from what they do")
    memory_bytes: int | None
    started_at: datetime
    last_seen_at: datetime


class Vitals(BaseModel):
    """What a worker reports about itself with every heartbeat."""

    concurrency: int
    memory_bytes: int
    stuck: int = 0
    draining_because: str | None = None
    claims: int = Field(default=0, description="tasks claimed since its start")


Stop = Literal["cancelled", "switched_off"]
"""why a task is to stop: a cancellation was requested, or its agent is switched off or its user disabled"""


class BeatAnswer(BaseModel):
    """What a worker learns when its heartbeat is recorded; the defaults if its row is gone."""

    wanted_concurrency: int | None = None
    known: Known = Known()


class Beat(BaseModel):
    """The answer to a heartbeat: the tasks that the worker holds by the database, and its wanted concurrency."""

    held: dict[tuple[UUID, int], Stop | None] = Field(description="(task, claim) → why it is to stop, if it is")
    wanted_concurrency: int | None
    known: Known = Field(default=Known(), description="paces and alerts of providers")


class ScaledWorkers(BaseModel):
    """A change of the wanted concurrency."""

    name: str
    concurrency: int
    following: int = Field(description="living processes of that name, which follow within seconds")
