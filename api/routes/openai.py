"""Agents as models: OpenAI's wire under /openai/v1, so that its official clients work with a Rota key. Behind each
request stands an ordinary task.
"""

import itertools
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection

from api.openai_wire.chat import ChatRequest, Chunks, completion
from api.openai_wire.errors import PREFIX
from api.openai_wire.files import InlineFile
from api.openai_wire.parts import Segment, segments
from api.routes.tasks import IdempotencyKey, ensure_free, ensure_own
from core.errors import Conflict, InvalidInput, NotFound, NotPermitted
from core.json_text import dump_json
from core.wakeup import wakeup
from domain.agents import service as agents
from domain.agents.schemas import Agent
from domain.attachments import service as attachments
from domain.attachments.schemas import AttachedFile
from domain.client_tools import service as client_tools
from domain.client_tools.schemas import ToolResult
from domain.conversations import service as conversations
from domain.tasks import service as tasks
from domain.tasks.client_calls import WAITING, task_of
from domain.tasks.schemas import AttachedInput, SubmissionContext, Task, TaskDetail, TaskInput, TaskSubmission
from domain.tenants.permissions import Reach
from web.audience import Audience
from web.auth import Needs, Principal
from web.feed import feed
from web.following import Follower, until_ended
from web.problems import problem
from web.streams import EventStream, Write
from web.uploads import keep_in_hand

_MOST_FILES = 100  # of a request, in all of its messages
router = APIRouter(prefix=PREFIX, tags=["openai"], include_in_schema=False)

NEEDS = Needs("tasks:write", at_a_location=True)
Writes = Annotated[Principal, Depends(NEEDS)]
# Less than the clients' own time-out of ten minutes, after which they would ask again.
PATIENCE = 540.0
# The official clients ask again after 409, 429 and 5xx unless told not to: a task that acted must not be done again.
_NOT_AGAIN = {"x-should-retry": "false"}
_HEARD = (
    "task.accepted",
    "task.queued",
    "task.started",
    "task.waiting",
    "task.ended",
    "decision.made",
    "message.delta",
)


@router.get("/models")
def list_models(caller: Writes) -> dict[str, Any]:
    """List the agents that are switched on."""
    with caller.reading() as connection:
        found = [_model(agent) for agent in agents.list_agents(connection) if agent.enabled]
    return {"object": "list", "data": found}


@router.get("/models/{model}")
def get_model(model: str, caller: Writes) -> dict[str, Any]:
    """Return an agent."""
    with caller.reading() as connection:
        return _model(agents.get_agent(connection, model))


def _model(agent: Agent) -> dict[str, Any]:
    created = int(agent.created_at.timestamp())
    return {"id": agent.slug, "object": "model", "created": created, "owned_by": "rota", "name": agent.name}


@router.post("/chat/completions")
async def create_chat_completion(
    request: Request, wanted: ChatRequest, caller: Writes, idempotency_key: IdempotencyKey = None
) -> Response:
    """Have an agent answer. The task goes on if the connection drops; its id is in the header `x-rota-task-id`."""
    feed.ensure_room(caller.org_id)
    task, first = await run_in_threadpool(_accept, caller, wanted, idempotency_key)
    wakeup.hint()
    headers = {"x-rota-task-id": str(task.id)}
    if wanted.stream:
        has_usage = wanted.stream_options is not None and wanted.stream_options.include_usage
        chunks = Chunks(task, first=first, has_usage=has_usage)

        async def follow(write: Write) -> None:
            await follow_segment(request, caller, task.id, chunks, write)
            detail, segment = await run_in_threadpool(read_segment, caller, task.id, first)
            await write(chunks.finish(detail, segment))

        return EventStream(follow, headers)
    await wait_for_segment(request, caller, task.id, first)
    detail, segment = await run_in_threadpool(read_segment, caller, task.id, first)
    if segment.calls or (segment.is_closed and detail.status == "succeeded"):
        return Response(dump_json(completion(detail, segment)), headers=headers, media_type="application/json")
    status, why = _why_not(detail)
    return problem(status, why, headers | _NOT_AGAIN)


def _accept(caller: Principal, wanted: ChatRequest, key: str | None) -> tuple[Task, int]:
    """Return the task that answers a request, and the step with which its answer begins: a new task, or the one whose
    tools' results the request brings.
    """
    if results := wanted.results:
        with caller.reading() as connection:
            return give_results(connection, caller, results, "messages")
    wanted.ensure_possible()
    _ensure_model(caller, wanted.model)  # before its files are stored
    files = keep_files(caller, [message.files for message in wanted.messages])
    with caller.reading() as connection:
        return _submit(connection, caller, wanted, wanted.as_input(files), key), 0


def _ensure_model(caller: Principal, model: str) -> None:
    with caller.reading() as connection:
        try:
            agents.get_agent(connection, model)
        except NotFound as error:
            raise no_model(model) from error


def keep_files(caller: Principal, files: Sequence[Sequence[InlineFile]]) -> list[list[AttachedFile]]:
    """Store the files of messages, a file that occurs again once. No transaction is open meanwhile.

    Raises:
        InvalidInput: a file is not taken, or the files of a message, or of all, are too many or too large. Nothing is
            stored if they are too many or too large.
    """
    for theirs in files:
        attachments.ensure_fits([len(one.content) for one in theirs])
    distinct = dict.fromkeys(itertools.chain.from_iterable(files))
    if len(distinct) > _MOST_FILES:
        raise InvalidInput(f"A request may have {_MOST_FILES} files. Send them with several.")
    kept: dict[InlineFile, AttachedFile] = {}
    for one in distinct:
        kept[one] = keep_in_hand(caller, one.content, one.name, one.media_type, only_location(caller))
    return [[kept[one] for one in theirs] for theirs in files]


def give_results(
    connection: Connection, caller: Principal, results: list[ToolResult], field: str
) -> tuple[TaskDetail, int]:
    """Hand results of the caller's tools to the task that called them. Return it, and the first step after the calls.

    Raises:
        InvalidInput: they are not the results of all calls of one decision of a task of the caller.
        Conflict: the task has ended, or was given other results.
    """
    found = {task_of(one.call_id) for one in results}
    task_id = next(iter(found))
    if len(found) > 1 or task_id is None or (known := tasks.find_task(connection, task_id)) is None:
        raise InvalidInput(f"{field}: {results[0].call_id!r} is no call that waits for a result.")
    ensure_own(known, caller)
    task = tasks.get_task_detail(connection, task_id)
    given = {one.call_id for one in results}
    for segment in segments(task, client_tools.results(connection, task_id)):
        calls = {call.id for call in segment.calls}
        if given & calls:
            if missing := calls - given:
                raise InvalidInput(f"{field}: the result of the call {min(missing)} is missing.")
            of_these = [one for one in results if one.call_id in calls]
            client_tools.give(connection, caller.org_id, task_id, of_these, caller.user_id)
            return tasks.get_task_detail(connection, task_id), segment.next or 0
    raise InvalidInput(f"{field}: {results[0].call_id!r} is no call that waits for a result.")


def only_location(caller: Principal) -> UUID | None:
    """Return the location at which a caller's tasks are done.

    Raises:
        NotPermitted: there are several, and this wire names none.
    """
    mine = caller.reach.locations
    if not caller.reach.everywhere and len(mine) > 1:
        raise NotPermitted("You may submit tasks at several locations: use POST /v1/tasks, which takes a location.")
    return None if caller.reach.everywhere else next(iter(mine))


def _submit(connection: Connection, caller: Principal, wanted: ChatRequest, given: TaskInput, key: str | None) -> Task:
    ensure_free(given.client_tools)
    context = SubmissionContext(
        user_id=caller.user_id,
        scopes=caller.scopes,
        location_id=only_location(caller),
        is_streamed=wanted.stream,
    )
    submission = TaskSubmission(agent=wanted.model, input=given, priority="high")
    try:
        if isinstance(given, AttachedInput):
            conversations.ensure_read(connection, wanted.model, given.attachments)
        task = tasks.submit(connection, submission, context, idempotency_key=key)
    except NotFound as error:
        raise no_model(wanted.model) from error
    if isinstance(given, AttachedInput):
        _attach(connection, task, given)
    return task


def _attach(connection: Connection, task: Task, given: AttachedInput) -> None:
    """Make the files of a request part of its task. If the task is an earlier one, of the same idempotency key, it has
    its own.

    Raises:
        Conflict: the earlier request had other files.
    """
    mine, theirs = given.all_attachments(), AttachedInput.model_validate(task.input).all_attachments()
    if [one.sha256 for one in mine] != [one.sha256 for one in theirs]:
        raise Conflict("This idempotency key was used with other files. Use a new key for a new request.")
    if mine == theirs:
        attachments.send_with_task(connection, [one.id for one in mine], task.id)


def no_model(model: str) -> NotFound:
    """Return the error for a model that is no agent."""
    return NotFound(f"The model {model!r} does not exist: there is no such agent.")


# ── following ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def follow_segment(
    request: Request, caller: Principal, task_id: UUID, encoding: Any, write: Write, needs: Needs = NEEDS
) -> None:
    """Write what happens in a task until it ends, or waits for results of the caller's tools."""
    everywhere = Reach(everywhere=True)  # the caller's own task
    audience = Audience(dict.fromkeys(_HEARD, everywhere), task=task_id)
    await Follower(request, needs, caller, lambda _: audience, None, encoding).follow(write)


async def wait_for_segment(request: Request, caller: Principal, task_id: UUID, first: int) -> None:
    """Wait until the segment of a task that begins with step `first` is closed, for as long as a client waits."""
    _, segment = await run_in_threadpool(read_segment, caller, task_id, first)
    if not segment.is_closed:
        await until_ended(request, caller.org_id, task_id, PATIENCE, or_waits_for=WAITING)


def read_segment(caller: Principal, task_id: UUID, first: int) -> tuple[TaskDetail, Segment]:
    """Return a task and its segment that begins with step `first`.

    Raises:
        NotFound: there is no such task or segment.
    """
    with caller.reading() as connection:
        task = tasks.get_task_detail(connection, task_id)
        given = client_tools.results(connection, task_id)
    for segment in segments(task, given):
        if segment.first == first:
            return task, segment
    raise NotFound(f"The task {task_id} has no answer that begins with step {first}.")


def _why_not(task: TaskDetail) -> tuple[HTTPStatus, str]:
    """Return why there is no answer, and the status that tells it."""
    if not task.has_ended:
        waits = f" It waits for {task.waiting_for}." if task.waiting_for else ""
        return HTTPStatus.SERVICE_UNAVAILABLE, f"The task goes on.{waits} Read it: GET /v1/tasks/{task.id}"
    said = task.error.message if task.error else "It was ended before its answer."
    if task.status == "failed":
        return HTTPStatus.INTERNAL_SERVER_ERROR, f"The task failed. {said}"
    return HTTPStatus.CONFLICT, f"The task was {task.status}. {said}"
