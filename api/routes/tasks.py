"""Tasks: submit, read, cancel, retry, replay, settle."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AwareDatetime
from sqlalchemy import Connection

from agents.tools import TOOLS
from core.batches import Batches
from core.db import system_transaction
from core.errors import InvalidInput, NotFound, NotPermitted
from core.prepared import SingleStatement
from core.refusals import is_refusal
from core.settings import settings
from core.wakeup import wakeup
from domain.approvals import service as approvals
from domain.channels import service as channels
from domain.client_tools import service as client_tools
from domain.client_tools.schemas import ToolResults
from domain.dispatch.schemas import Why
from domain.dispatch.why import why as why_it_waits
from domain.tasks import service as tasks
from domain.tasks.schemas import (
    BulkOutcome,
    BulkReplay,
    BulkRequest,
    BulkRetry,
    ClientTool,
    Failures,
    IdPrefix,
    NewTask,
    Priority,
    Replay,
    Retry,
    Settlement,
    Status,
    SubmissionContext,
    Task,
    TaskDetail,
    TaskFilter,
    TaskPage,
    TaskSubmission,
    Word,
)
from domain.tenants import service as tenants
from domain.tenants.permissions import beyond
from web.auth import Needs, Principal
from web.feed import feed
from web.following import until_ended
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["tasks"])

Reads = Annotated[Principal, Depends(Needs("tasks:read", at_a_location=True))]
Writes = Annotated[Principal, Depends(Needs("tasks:write", at_a_location=True))]


IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=150,
        description="makes the request idempotent: the same key and body return the same task",
    ),
]


# Submissions of an organisation that arrive at the same time share one transaction, hence one commit. Each concurrency
# key has batches of its own, because a submission may wait long for its key. (A submission waits for an idempotency key
# only while another process is accepting the same key.)
_BatchKey = tuple[UUID, str | None]
_MOST_BYTES = 1_000_000  # of request bodies in a batch
_EACH = 10_000  # bytes that each submission counts for in addition to its body


def _submit_batch(key: _BatchKey, new: Sequence[NewTask]) -> list[Task | None]:
    return tasks.submit_many(SingleStatement(key[0]), new)


_batches: Batches[_BatchKey, NewTask, Task | None] = Batches(
    _submit_batch, is_refusal=is_refusal, most=_MOST_BYTES, threads=8
)


@router.post(
    "/tasks", status_code=202, response_model=Task, responses=describes(400, 401, 403, 404, 409, 413, 422, 503)
)
async def submit_task(
    request: Request, submission: TaskSubmission, caller: Writes, idempotency_key: IdempotencyKey = None
) -> Response:
    """Submit a task. It is durable when the response arrives, and starts when its priority and start time allow."""
    ensure_free(submission.input.client_tools)
    needs_no_look = submission.for_user is None and submission.location is None and submission.notify is None
    if caller.reach.everywhere and needs_no_look:
        new = NewTask(submission, _own_context(caller), idempotency_key)
        size = int(request.headers.get("content-length", _MOST_BYTES))
        task = await _submit_in_batch(caller, new, size)
    else:
        task = await run_in_threadpool(_submit, submission, caller, idempotency_key)
    wakeup.hint()
    headers = {"location": f"/v1/tasks/{task.id}"}
    return Response(task.model_dump_json(), status_code=202, headers=headers, media_type="application/json")


def ensure_free(brought: Sequence[ClientTool] | None) -> None:
    """Raise InvalidInput if a tool of the client has the name of a tool of ours: agents could not tell them apart."""
    for tool in brought or ():
        if TOOLS.get(tool.name) is not None:
            raise InvalidInput(f"client_tools: {tool.name!r} is a tool of Rota's own. Choose another name.")


async def _submit_in_batch(caller: Principal, new: NewTask, size: int) -> Task:
    """Submit a task for which nothing has to be looked up: one round trip, shared with others of the moment."""
    key = (caller.org_id, new.submission.concurrency_key)
    task = await _batches.add(key, new, weight=_EACH + size)
    return await run_in_threadpool(_earlier_or_refusal, caller, new) if task is None else task


def _earlier_or_refusal(caller: Principal, new: NewTask) -> Task:
    with caller.reading() as connection:
        return tasks.earlier_or_refusal(connection, new)


def _submit(submission: TaskSubmission, caller: Principal, idempotency_key: str | None) -> Task:
    with caller.reading() as connection:
        context = _context(connection, caller, submission)
        if submission.notify is not None:
            channels.ensure_webhook(connection, caller.org_id, submission.notify)
        return tasks.submit(connection, submission, context, idempotency_key=idempotency_key)


def _own_context(caller: Principal) -> SubmissionContext:
    return SubmissionContext(user_id=caller.user_id, scopes=caller.scopes)


def _context(connection: Connection, caller: Principal, submission: TaskSubmission) -> SubmissionContext:
    """Return under which user and at which location the task is submitted.

    Raises:
        NotPermitted: the caller may not submit tasks for that user or at that location.
        InvalidInput: there is no such location.
        NotFound: there is no such user.
    """
    user_id = caller.user_id
    if submission.for_user is not None:
        user_id = tenants.user_with_email(connection, caller.org_id, submission.for_user).id
    location = tenants.location_called(connection, submission.location).id if submission.location else None
    if not caller.reach.everywhere:
        mine = caller.reach.locations
        location = next(iter(mine)) if location is None and len(mine) == 1 else location
        if location not in mine:
            raise NotPermitted("You may submit tasks at some locations only: set `location` to one of them.")
    if user_id != caller.user_id:
        _refuse_acting_as(connection, caller, user_id, location)
    return SubmissionContext(user_id=user_id, location_id=location, scopes=caller.scopes)


def _refuse_acting_as(connection: Connection, caller: Principal, user_id: UUID, location: UUID | None) -> None:
    reach = caller.reach_of("users:act_as").at(location)
    if reach.is_nowhere or (location is None and not reach.everywhere):
        raise NotPermitted(
            "Submitting a task for another user needs the permission users:act_as at the task's location."
        )
    if beyond(caller.own, tenants.permissions_held(connection, user_id)):
        raise NotPermitted("That user has permissions that you do not have. Ask the user to submit the task.")


@router.get("/tasks", responses=describes(401, 422))
def list_tasks(
    caller: Reads,
    ids: Annotated[list[UUID], Query(alias="id", max_length=200)] = [],  # noqa: B006  FastAPI copies defaults
    id_prefix: Annotated[IdPrefix | None, Query(description="beginning of the id")] = None,
    status: Annotated[list[Status], Query()] = [],  # noqa: B006
    priority: Annotated[list[Priority], Query()] = [],  # noqa: B006
    agent: Word | None = None,
    waiting_for: Word | None = None,
    concurrency_key: Word | None = None,
    error_kind: Word | None = None,
    fingerprint: Word | None = None,
    created_after: AwareDatetime | None = None,
    created_before: AwareDatetime | None = None,
    cursor: Annotated[Word, Query(max_length=100)] | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> TaskPage:
    """List tasks, newest first."""
    wanted = TaskFilter(
        ids=ids or None,
        id_prefix=id_prefix,
        status=status or None,
        priority=priority or None,
        agent=agent,
        waiting_for=waiting_for,
        concurrency_key=concurrency_key,
        error_kind=error_kind,
        fingerprint=fingerprint,
        created_after=created_after,
        created_before=created_before,
    )
    with caller.reading() as connection:
        return tasks.list_tasks(connection, wanted, cursor=cursor, limit=limit)


@router.get("/tasks/{task_id}", responses=describes(401, 404, 422))
async def get_task(
    request: Request,
    task_id: UUID,
    caller: Reads,
    wait: Annotated[
        float, Query(ge=0, le=60, description="seconds to wait for the end of the task before it is returned")
    ] = 0,
) -> TaskDetail:
    """Return a task with its journal: every step with its output, duration and cost."""
    found = await run_in_threadpool(_detail, caller, task_id)
    if wait and not found.has_ended:
        feed.ensure_room(caller.org_id)
        await until_ended(request, caller.org_id, task_id, wait)
        found = await run_in_threadpool(_detail, caller, task_id)
    return found


def _detail(caller: Principal, task_id: UUID) -> TaskDetail:
    with caller.reading() as connection:
        return tasks.get_task_detail(connection, task_id)


@router.get("/tasks/{task_id}/why", responses=describes(401, 404, 422))
def why(task_id: UUID, caller: Reads) -> Why:
    """Explain in one sentence what a task is waiting for."""
    with caller.reading() as connection:
        tasks.get_task(connection, task_id)  # raises NotFound unless the caller may see it
    with system_transaction() as connection:
        config = settings()
        lease = timedelta(seconds=config.worker_lease)
        return why_it_waits(connection, caller.org_id, task_id, lease, config.usable_providers)


@router.get("/failures", responses=describes(401))
def list_failures(caller: Reads) -> list[Failures]:
    """Count failed tasks by the fingerprint of their error, most frequent first."""
    with caller.reading() as connection:
        return tasks.failures(connection)


@router.post("/tasks/cancel", responses=describes(401, 422))
def cancel_tasks(request: BulkRequest, caller: Writes) -> BulkOutcome:
    """Cancel matching tasks that have not ended, one batch per request."""
    with caller.writing() as connection:
        outcome = tasks.cancel_many(connection, request)
    wakeup.hint()  # the tasks that ended free capacity
    return outcome


@router.post("/tasks/retry", responses=describes(401, 422))
def retry_tasks(request: BulkRetry, caller: Writes) -> BulkOutcome:
    """Retry matching tasks that failed, expired or were cancelled, one batch per request."""
    with caller.writing() as connection:
        outcome = tasks.retry_many(connection, request)
    wakeup.hint()
    return outcome


@router.post("/tasks/replay", responses=describes(401, 404, 409, 422))
def replay_tasks(request: BulkReplay, caller: Writes, idempotency_key: IdempotencyKey = None) -> BulkOutcome:
    """Replay matching tasks that have ended, each as a new task linked to the old one, one batch per request."""
    with caller.writing() as connection:
        outcome = tasks.replay_many(connection, request, _own_context(caller), idempotency_key=idempotency_key)
    wakeup.hint()
    return outcome


@router.post("/tasks/{task_id}/replay", status_code=202, responses=describes(401, 404, 409, 422))
def replay_task(
    task_id: UUID, changes: Replay, caller: Writes, response: Response, idempotency_key: IdempotencyKey = None
) -> Task:
    """Replay a task, optionally with another input: as a new task, linked to this one by `origin_id`."""
    with caller.writing() as connection:
        task = tasks.replay(connection, task_id, changes, _own_context(caller), idempotency_key=idempotency_key)
    wakeup.hint()
    response.headers["location"] = f"/v1/tasks/{task.id}"
    return task


@router.post("/tasks/{task_id}/steps/{seq}/outcome", responses=describes(401, 403, 404, 409, 422))
def settle(task_id: UUID, seq: Annotated[int, Path(ge=0, le=100_000)], settlement: Settlement, caller: Writes) -> Task:
    """Record the outcome of an action that a crash left unknown. The task continues when no outcome is unknown.

    To repeat an action that needed approval, the caller must be one of its approvers.
    """
    with caller.writing(seq=seq, outcome=settlement.outcome) as connection:
        approval = approvals.used_in(connection, task_id, seq) if settlement.outcome == "do_again" else None
        if approval is not None:  # only those who could have approved it may repeat it
            approvals.ensure_may_vote(connection, approval, caller.voter)
        task = tasks.settle(connection, task_id, seq, settlement)
    wakeup.hint()
    return task


@router.post("/tasks/{task_id}/tool-results", status_code=202, responses=describes(401, 404, 409, 422))
def give_tool_results(task_id: UUID, wanted: ToolResults, caller: Writes) -> Task:
    """Return the results of calls of client tools. The task goes on once it has a result for each of its `open_calls`.
    Idempotent. Only the user who submitted the task can do this.
    """
    with caller.writing(calls=len(wanted.results)) as connection:
        ensure_own(tasks.get_task(connection, task_id), caller)
        client_tools.give(connection, caller.org_id, task_id, wanted.results, caller.user_id)
        task = tasks.get_task(connection, task_id)
    wakeup.hint()
    return task


def ensure_own(task: Task, caller: Principal) -> None:
    """Raise NotFound unless the caller is the user for whom the task is done."""
    if task.user_id != caller.user_id:
        raise NotFound(f"There is no task {task.id} of yours.")


@router.post("/tasks/{task_id}/cancel", responses=describes(401, 404, 409, 422))
def cancel_task(task_id: UUID, caller: Writes) -> Task:
    """Cancel a task. A running task becomes `cancelled` within seconds."""
    with caller.writing() as connection:
        task = tasks.cancel(connection, task_id)
    wakeup.hint()  # the tasks that ended free capacity
    return task


@router.post("/tasks/{task_id}/retry", status_code=202, responses=describes(401, 404, 409, 422))
def retry_task(task_id: UUID, caller: Writes, wanted: Retry = Retry()) -> Task:
    """Retry a task that failed, expired or was cancelled. It continues after its last finished step, but not before its
    start time unless `now` is set.
    """
    with caller.writing() as connection:
        task = tasks.retry(connection, task_id, now=wanted.now)
    wakeup.hint()
    return task
