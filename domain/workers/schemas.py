"""What is known of a worker process."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

Concurrency = Annotated[int, Field(ge=1, le=5000)]


class RunningTask(BaseModel):
    """A task that a worker has in hand."""

    id: UUID
    agent: str
    priority: str
    since: datetime


class Worker(BaseModel):
    """A worker process, as its heartbeat tells."""

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
    """What a worker says of itself with every heartbeat."""

    concurrency: int
    memory_bytes: int
    stuck: int = 0
    draining_because: str | None = None


class Beat(BaseModel):
    """What a heartbeat brings back: the tasks the database says are held, and the concurrency that is wanted."""

    held: dict[tuple[UUID, int], bool] = Field(description="(task, claim) → whether its end was asked for")
    wanted_concurrency: int | None


class ScaledWorkers(BaseModel):
    """A change of what is wanted."""

    name: str
    concurrency: int
    following: int = Field(description="living processes of that name, which follow within seconds")
