"""Tasks: submit, read, cancel, retry, replay, settle."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AwareDatetime
from sqlalchemy import Connection

from core.batches import Batches
from core.db import system_transaction
from core.errors import NotPermitted
from core.prepared import SingleStatement
from core.refusals import is_refusal
from core.settings import settings
from core.wakeup import wakeup
from domain.approvals import service as approvals
from domain.dispatch.schemas import Why
from domain.dispatch.why import why as why_it_waits
from domain.tasks import service as tasks
from domain.tasks.schemas import (
    BulkOutcome,
    BulkReplay,
    BulkRequest,
    BulkRetry,
    Failures,
    IdPrefix,
    Offer,
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
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["tasks"])

Reads = Annotated[Principal, Depends(Needs("tasks:read", at_a_location=True))]
Writes = Annotated[Principal, Depends(Needs("tasks:write", at_a_location=True))]


IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=150,
        description="makes repeating the request safe: the same key and body return the same task",
    ),
]


# Submissions of an organisation that arrive at the same time share one transaction, hence one commit. Each concurrency
# key has batches of its own, because a submission may wait long for its key. (A submission waits for an idempotency key
# only while another process is accepting the same key.)
_Line = tuple[UUID, str | None]
_MOST_BYTES = 1_000_000  # of request bodies in a batch
_EACH = 10_000  # bytes that each submission counts for in addition to its body


def _accept(line: _Line, offers: Sequence[Offer]) -> list[Task | None]:
    return tasks.accept(SingleStatement(line[0]), offers)


_acceptance: Batches[_Line, Offer, Task | None] = Batches(_accept, is_refusal=is_refusal, most=_MOST_BYTES, threads=8)


@router.post(
    "/tasks", status_code=202, response_model=Task, responses=describes(400, 401, 403, 404, 409, 413, 422, 503)
)
async def submit_task(
    request: Request, submission: TaskSubmission, caller: Writes, idempotency_key: IdempotencyKey = None
) -> Response:
    """Accept a task. It is durable once this has answered, and runs as soon as its priority and start time allow."""
    task = None
    if caller.reach.everywhere and submission.for_user is None and submission.location is None:
        # Nothing has to be looked up: the task is accepted in one round trip.
        line = (caller.org_id, submission.concurrency_key)
        weight = _EACH + int(request.headers.get("content-length", _MOST_BYTES))
        task = await _acceptance.add(line, Offer(submission, _for(caller), idempotency_key), weight=weight)
    if task is None:
        task = await run_in_threadpool(_submit, submission, caller, idempotency_key)
    wakeup.hint()
    headers = {"location": f"/v1/tasks/{task.id}"}
    return Response(task.model_dump_json(), status_code=202, headers=headers, media_type="application/json")


def _submit(submission: TaskSubmission, caller: Principal, idempotency_key: str | None) -> Task:
    with caller.reading() as connection:
        terms = _terms(connection, caller, submission)
        return tasks.submit(connection, submission, terms, idempotency_key=idempotency_key)


def _for(caller: Principal) -> SubmissionContext:
    return SubmissionContext(user_id=caller.user_id, scopes=caller.scopes)


def _terms(connection: Connection, caller: Principal, submission: TaskSubmission) -> SubmissionContext:
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
            raise NotPermitted("You may submit tasks at some locations only: name one of them as `location`.")
    if user_id != caller.user_id:
        _refuse_acting_as(connection, caller, user_id, location)
    return SubmissionContext(user_id=user_id, location_id=location, scopes=caller.scopes)


def _refuse_acting_as(connection: Connection, caller: Principal, user_id: UUID, location: UUID | None) -> None:
    reach = caller.reach_of("users:act_as").at(location)
    if reach.is_nowhere or (location is None and not reach.everywhere):
        raise NotPermitted("To have a task done for another user needs the permission users:act_as, there.")
    if beyond(caller.own, tenants.permissions_held(connection, user_id)):
        raise NotPermitted("That user may do more than you; have them submit it themselves.")


@router.get("/tasks", responses=describes(401, 422))
def list_tasks(
    caller: Reads,
    ids: Annotated[list[UUID], Query(alias="id", max_length=200)] = [],  # noqa: B006  FastAPI copies defaults
    id_prefix: Annotated[IdPrefix | None, Query(description="how the id begins")] = None,
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
    """List tasks, newest first, one page at a time."""
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
def get_task(task_id: UUID, caller: Reads) -> TaskDetail:
    """Return a task with its journal: every step, what it returned, how long it took and what it cost."""
    with caller.reading() as connection:
        return tasks.get_task_detail(connection, task_id)


@router.get("/tasks/{task_id}/why", responses=describes(401, 404, 422))
def why(task_id: UUID, caller: Reads) -> Why:
    """Say what a task is waiting for, in one sentence."""
    with caller.reading() as connection:
        tasks.get_task(connection, task_id)  # raises NotFound unless the caller may see it
    with system_transaction() as connection:
        config = settings()
        lease = timedelta(seconds=config.worker_lease)
        return why_it_waits(connection, caller.org_id, task_id, lease, config.usable_providers)


@router.get("/failures", responses=describes(401))
def list_failures(caller: Reads) -> list[Failures]:
    """List the tasks that failed, grouped by the fingerprint of their errors, the most frequent first."""
    with caller.reading() as connection:
        return tasks.failures(connection)


@router.post("/tasks/cancel", responses=describes(401, 422))
def cancel_tasks(request: BulkRequest, caller: Writes) -> BulkOutcome:
    """Cancel the tasks that match and have not ended, one portion at a time."""
    with caller.writing() as connection:
        outcome = tasks.cancel_many(connection, request)
    wakeup.hint()  # the tasks that ended free capacity
    return outcome


@router.post("/tasks/retry", responses=describes(401, 422))
def retry_tasks(request: BulkRetry, caller: Writes) -> BulkOutcome:
    """Queue the tasks again that match and failed, expired or were cancelled, one portion at a time."""
    with caller.writing() as connection:
        outcome = tasks.retry_many(connection, request)
    wakeup.hint()
    return outcome


@router.post("/tasks/replay", responses=describes(401, 404, 409, 422))
def replay_tasks(request: BulkReplay, caller: Writes, idempotency_key: IdempotencyKey = None) -> BulkOutcome:
    """Run the ended tasks again that match, each as a new task linked to the old one, one portion at a time."""
    with caller.writing() as connection:
        outcome = tasks.replay_many(connection, request, _for(caller), idempotency_key=idempotency_key)
    wakeup.hint()
    return outcome


@router.post("/tasks/{task_id}/replay", status_code=202, responses=describes(401, 404, 409, 422))
def replay_task(
    task_id: UUID, changes: Replay, caller: Writes, response: Response, idempotency_key: IdempotencyKey = None
) -> Task:
    """Run a task again, with another input if one is given: as a new task, linked to this one by `origin_id`."""
    with caller.writing() as connection:
        task = tasks.replay(connection, task_id, changes, _for(caller), idempotency_key=idempotency_key)
    wakeup.hint()
    response.headers["location"] = f"/v1/tasks/{task.id}"
    return task


@router.post("/tasks/{task_id}/steps/{seq}/outcome", responses=describes(401, 403, 404, 409, 422))
def settle(task_id: UUID, seq: Annotated[int, Path(ge=0, le=100_000)], settlement: Settlement, caller: Writes) -> Task:
    """Record the outcome of an action of which a crash left no record. The task goes on when none
    is left in doubt.

    To have an action done again that needed approval, the caller must be one of those who could have approved it.
    """
    with caller.writing(seq=seq, outcome=settlement.outcome) as connection:
        approval = approvals.used_in(connection, task_id, seq) if settlement.outcome == "do_again" else None
        if approval is not None:  # only those who could have approved it may repeat it
            approvals.ensure_may_vote(connection, approval, caller.voter)
        task = tasks.settle(connection, task_id, seq, settlement)
    wakeup.hint()
    return task


@router.post("/tasks/{task_id}/cancel", responses=describes(401, 404, 409, 422))
def cancel_task(task_id: UUID, caller: Writes) -> Task:
    """Cancel a task. A running task stops within seconds; fetch it again to see it `cancelled`."""
    with caller.writing() as connection:
        task = tasks.cancel(connection, task_id)
    wakeup.hint()  # the tasks that ended free capacity
    return task


@router.post("/tasks/{task_id}/retry", status_code=202, responses=describes(401, 404, 409, 422))
def retry_task(task_id: UUID, caller: Writes, wanted: Retry = Retry()) -> Task:
    """Queue a task again that failed, expired or was cancelled. It goes on after its last finished step, and not before
    its start time, unless `now` is set.
    """
    with caller.writing() as connection:
        task = tasks.retry(connection, task_id, now=wanted.now)
    wakeup.hint()
    return task
