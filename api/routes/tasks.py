"""Tasks: submit, look, cancel, retry."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import AwareDatetime

from api.auth import Caller
from api.problems import describes
from core.db import transaction
from core.text import Storable
from core.wakeup import wakeup
from domain.tasks import service as tasks
from domain.tasks.schemas import (
    Priority,
    Status,
    Task,
    TaskDetail,
    TaskFilter,
    TaskPage,
    TaskSubmission,
)

router = APIRouter(prefix="/v1", tags=["tasks"])


IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        description="makes repeating the request safe: the same key and body return the same task",
    ),
]
Word = Annotated[str, Storable]


@router.post("/tasks", status_code=202, responses=describes(400, 401, 404, 409, 413, 422, 503))
def submit_task(
    submission: TaskSubmission, caller: Caller, response: Response, idempotency_key: IdempotencyKey = None
) -> Task:
    """Accept a task. It is durable when this answers; it runs as soon as its priority and its time come."""
    with transaction(caller) as connection:
        task = tasks.submit(connection, submission, idempotency_key=idempotency_key)
    wakeup.hint()
    response.headers["location"] = f"/v1/tasks/{task.id}"
    return task


@router.get("/tasks", responses=describes(401, 422))
def list_tasks(
    caller: Caller,
    ids: Annotated[list[UUID], Query(alias="id", max_length=200)] = [],  # noqa: B006  FastAPI copies defaults
    status: Annotated[list[Status], Query()] = [],  # noqa: B006
    priority: Annotated[list[Priority], Query()] = [],  # noqa: B006
    agent: Word | None = None,
    created_after: AwareDatetime | None = None,
    created_before: AwareDatetime | None = None,
    cursor: Annotated[Word, Query(max_length=100)] | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> TaskPage:
    """Tasks, newest first, a page at a time."""
    wanted = TaskFilter(
        ids=ids,
        status=status,
        priority=priority,
        agent=agent,
        created_after=created_after,
        created_before=created_before,
    )
    with transaction(caller) as connection:
        return tasks.list_tasks(connection, wanted, cursor=cursor, limit=limit)


@router.get("/tasks/{task_id}", responses=describes(401, 404, 422))
def get_task(task_id: UUID, caller: Caller) -> TaskDetail:
    """A task with its journal: every step, what it returned, how long it took and what it cost."""
    with transaction(caller) as connection:
        return tasks.get_task_detail(connection, task_id)


@router.post("/tasks/{task_id}/cancel", responses=describes(401, 404, 409, 422))
def cancel_task(task_id: UUID, caller: Caller) -> Task:
    """Cancel a task. One that runs stops within seconds; look again to see it `cancelled`."""
    with transaction(caller) as connection:
        return tasks.cancel(connection, task_id)


@router.post("/tasks/{task_id}/retry", status_code=202, responses=describes(401, 404, 409, 422))
def retry_task(task_id: UUID, caller: Caller) -> Task:
    """Queue a task again that failed, expired or was cancelled. It goes on after the last step that is done."""
    with transaction(caller) as connection:
        task = tasks.retry(connection, task_id)
    wakeup.hint()
    return task
