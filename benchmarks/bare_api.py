"""The minimal baseline for accepting a task: a FastAPI endpoint that inserts a row with psycopg and commits."""

import os
import uuid
from typing import Any

from fastapi import FastAPI
from psycopg_pool import ConnectionPool
from pydantic import BaseModel

pool = ConnectionPool(os.environ.get("BARE_DATABASE_URL", ""), min_size=4, max_size=16, open=False)
app = FastAPI(on_startup=[pool.open])


class Task(BaseModel):
    """A task to accept."""

    agent: str
    input: dict[str, Any]


@app.post("/tasks", status_code=202)
def accept(task: Task) -> dict[str, str]:
    """Insert the task and commit."""
    task_id = uuid.uuid4()
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO bare_tasks (id, agent, input) VALUES (%s, %s, %s)",
            (task_id, task.agent, task.model_dump_json()),
        )
    return {"id": str(task_id)}
