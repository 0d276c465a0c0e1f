"""Types of the monitoring views."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class Leader(BaseModel):
    """The process that leads a duty."""

    duty: str
    process: str
    term: int
    elected_at: datetime
    silent_seconds: float


class TaskCount(BaseModel):
    """Unfinished tasks of one status and priority."""

    status: Literal["queued", "running", "waiting"]
    priority: str
    tasks: int
    oldest_seconds: float


class WorkerNotAccepting(BaseModel):
    """A live worker that claims nothing, although it has free slots and tasks wait on its queues."""

    id: str
    name: str
    free_slots: int
    waiting_tasks: int
    idle_seconds: float = Field(description="since its last claim, or its start")

    @property
    def problem(self) -> str:
        """The problem and the remedy, for operators."""
        return (
            f"The worker {self.name} ({self.id}) accepts no tasks: it has claimed none for {self.idle_seconds:.0f} s, "
            f"has {self.free_slots} free slots, and {self.waiting_tasks} tasks wait on its queues. Restart it."
        )


class WorkerCount(BaseModel):
    """The number and total concurrency of workers in one state."""

    status: Literal["alive", "silent"]
    workers: int
    concurrency: int
