"""What there is to see."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel


class Leader(BaseModel):
    """Who leads a duty."""

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


class WorkerCount(BaseModel):
    """Workers of one state."""

    status: Literal["alive", "silent"]
    workers: int
    concurrency: int
