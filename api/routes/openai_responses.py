"""Responses on OpenAI's wire: each is an answer in a conversation, so that it can be followed, resumed and built on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection

from api.openai_wire.errors import PREFIX
from api.openai_wire.parts import Segment, validated
from api.openai_wire.response_stream import ResponseEvents, ResponseLines
from api.openai_wire.responses import (
    Item,
    ParsedInput,
    ResponseRequest,
    items_of,
    page_of,
    parse_input,
    parse_response_id,
    response,
)
from api.routes.openai import (
    follow_segment,
    give_results,
    keep_files,
    no_model,
    only_location,
    read_segment,
    wait_for_segment,
)
from api.routes.tasks import IdempotencyKey, ensure_free
from core.errors import Conflict, InvalidInput, NotFound
from core.json_text import dump_json
from core.wakeup import wakeup
from domain.conversations import service as conversations
from domain.conversations.schemas import Answer, Asking, NewChatMessage, NewConversation
from domain.tasks import service as tasks
from domain.tasks.schemas import SubmissionContext, TaskDetail
from web.auth import Needs, Principal
from web.feed import feed
from web.streams import EventStream, Write

router = APIRouter(prefix=PREFIX, tags=["openai"], include_in_schema=False)

_NEEDS = Needs("conversations:write", at_a_location=True)
Writes = Annotated[Principal, Depends(_NEEDS)]
Order = Literal["asc", "desc"]
PageSize = Annotated[int, Query(ge=1, le=100)]
StartingAfter = Annotated[int, Query(ge=-1, le=2**53)]


@dataclass(frozen=True)
class _Part:
    """The part of an answer that a response is: from step `first` on."""

    answer: Answer
    first: int


@router.post("/responses")
async def create_response(
    request: Request, wanted: ResponseRequest, caller: Writes, idempotency_key: IdempotencyKey = None
) -> Response:
    """Have an agent answer. The task goes on if the connection drops; its id is in the header `x-rota-task-id`."""
    wanted.ensure_possible()
    if not wanted.background or wanted.stream:
        feed.ensure_room(caller.org_id)
    part = await run_in_threadpool(_accept, caller, wanted, idempotency_key)
    wakeup.hint()
    if wanted.stream:
        return await _stream(request, caller, part, -1)
    if not wanted.background:
        await wait_for_segment(request, caller, part.answer.task_id, part.first)
    return await _answer(caller, part)


@router.get("/responses/{response_id}")
async def get_response(
    request: Request, response_id: str, caller: Writes, *, stream: bool = False, starting_after: StartingAfter = -1
) -> Response:
    """Return a response, or follow it from an event on."""
    part = await run_in_threadpool(_find, caller, response_id)
    if stream:
        feed.ensure_room(caller.org_id)
        return await _stream(request, caller, part, starting_after)
    return await _answer(caller, part)


@router.post("/responses/{response_id}/cancel")
async def cancel_response(response_id: str, caller: Writes) -> Response:
    """Stop an answer. What was said stays. No-op if it has ended."""
    part = await run_in_threadpool(_cancel, caller, response_id)
    wakeup.hint()
    return await _answer(caller, part)


def _cancel(caller: Principal, response_id: str) -> _Part:
    part = _find(caller, response_id)
    with caller.reading() as connection:
        tasks.cancel_unended(connection, [part.answer.task_id])
    return part


@router.delete("/responses/{response_id}")
def delete_response(response_id: str, caller: Writes) -> dict[str, Any]:
    """Delete an answer and its question. What it cost stays on the bill."""
    part = _find(caller, response_id)
    with caller.writing() as connection:
        conversations.delete_answer(connection, caller.org_id, part.answer)
    wakeup.hint()
    return {"id": response_id, "object": "response", "deleted": True}


@router.get("/responses/{response_id}/input_items")
def list_input_items(
    response_id: str,
    caller: Writes,
    order: Order = "desc",
    after: str | None = None,
    limit: PageSize = 20,
) -> dict[str, Any]:
    """List what a response was asked with."""
    part = _find(caller, response_id)
    with caller.reading() as connection:
        asked = conversations.asked_with(connection, part.answer)
    items = [item for said in asked for item in items_of(said)]
    if order == "desc":
        items.reverse()
    ids = [item["id"] for item in items]
    begin = ids.index(after) + 1 if after in ids else 0
    return page_of(items[begin : begin + limit], has_more=len(items) > begin + limit)


# ── accepting ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _AskedMeanwhile(Exception):
    """Another request with the same idempotency key was accepted after this one had looked for it."""


def _accept(caller: Principal, wanted: ResponseRequest, key: str | None) -> _Part:
    """Return the answer to a request: a new one, or the next part of the one whose tools' results it brings."""
    try:
        return _accept_once(caller, wanted, key)
    except _AskedMeanwhile:  # nothing was written, and the other request is committed: its answer is found by the key
        return _accept_once(caller, wanted, key)


def _accept_once(caller: Principal, wanted: ResponseRequest, key: str | None) -> _Part:
    asked = parse_input(wanted.input)
    with caller.reading() as connection:
        if asked.results:
            task, first = give_results(connection, caller, asked.results, "input")
            answer = conversations.answer_of_task(connection, task.id)
            if answer is None:
                raise InvalidInput("input: these tools were called in a chat completion. Return the results there.")
            return _Part(answer, first)
        if key is not None and (earlier := _earlier(connection, caller, key, wanted, asked)) is not None:
            return _Part(earlier, 0)
        if not asked.has_files:
            return _Part(_ask(connection, caller, wanted, asked, key), 0)
    kept = _keep_files(caller, asked)
    with caller.reading() as connection:
        return _Part(_ask(connection, caller, wanted, kept, key), 0)


def _keep_files(caller: Principal, asked: ParsedInput) -> ParsedInput:
    """Return what is asked with its files stored."""
    earlier = with_files_kept(caller, asked.earlier)
    ((*files,),) = keep_files(caller, [asked.files])
    return replace(asked, earlier=earlier, attachments=tuple(one.id for one in files))


def with_files_kept(caller: Principal, items: Sequence[Item]) -> list[Item]:
    """Return messages with their files stored."""
    kept = keep_files(caller, [one.files for one in items])
    return [replace(one, attachments=tuple(file.id for file in files)) for one, files in zip(items, kept, strict=True)]


def _earlier(
    connection: Connection, caller: Principal, key: str, wanted: ResponseRequest, asked: ParsedInput
) -> Answer | None:
    """Return the answer that was asked for with the same key.

    Raises:
        Conflict: the key was used for something else.
    """
    task = tasks.find_with_key(connection, key)
    if task is None:
        return None
    answer = conversations.answer_of_task(connection, task.id)
    files = [one["sha256"] for one in task.input.get("attachments") or ()]
    is_same = (
        answer is not None
        and answer.options == wanted.options()
        and task.input["message"] == asked.message
        and files == [one.sha256 for one in asked.files]
    )
    if answer is None or not is_same or task.user_id != caller.user_id:
        raise Conflict("This idempotency key was used for something else. Use a new key for a new request.")
    return answer


def _ask(
    connection: Connection, caller: Principal, wanted: ResponseRequest, asked: ParsedInput, key: str | None
) -> Answer:
    conversation, parent = _where(connection, caller, wanted)
    if wanted.model is None and conversation is None:
        raise InvalidInput("model: name the agent that is to answer.")
    tools = wanted.client_tools()
    ensure_free(tools)
    location = only_location(caller)
    context = SubmissionContext(user_id=caller.user_id, location_id=location, scopes=caller.scopes)
    if conversation is None:
        new = NewConversation()
        conversation = conversations.begin(connection, caller.org_id, new, context, is_listed=False).id
    added = conversations.append(connection, caller.org_id, conversation, asked.earlier, parent)
    instructions = "\n\n".join(filter(None, [wanted.instructions, *asked.instructions]))
    facts = {"instructions": instructions} if instructions else {}
    message = validated(
        lambda: NewChatMessage(text=asked.message or "", context=facts, attachments=list(asked.attachments)), "input"
    )
    asking = Asking(
        agent=wanted.model,
        parent=added[-1] if added else parent,
        client_tools=tools,
        options=wanted.options(),
        may_overtake=wanted.conversation_id is None,
        idempotency_key=key,
    )
    try:
        sent = conversations.send(connection, caller.org_id, conversation, message, context, asking=asking)
    except NotFound as error:
        raise no_model(wanted.model or "") from error
    answer = conversations.find_answer(connection, sent.answer.id)
    if answer is None:
        raise NotFound("The answer was deleted while it was asked for.")
    if key is not None and conversations.answer_of_task(connection, answer.task_id) != answer:
        raise _AskedMeanwhile
    if wanted.store is False:
        conversations.hide(connection, conversation)
    return answer


def _where(connection: Connection, caller: Principal, wanted: ResponseRequest) -> tuple[UUID | None, UUID | None]:
    """Return the conversation in which it is asked, and the message that it follows; None for a new one, or the last.

    Raises:
        NotFound: the caller has no such conversation or response.
        Conflict: the response that it follows is still being given.
    """
    if (conversation_id := wanted.conversation_id) is not None:
        found = conversations.get(connection, conversation_id)
        if found.user_id != caller.user_id:
            raise NotFound(f"There is no conversation {conversation_id} of yours.")
        return conversation_id, None
    if wanted.previous_response_id is None:
        return None, None
    answer = _own(connection, caller, wanted.previous_response_id)
    task = tasks.get_task_detail(connection, answer.task_id)
    if task.open_calls:
        raise InvalidInput(f"input: the result of the call {task.open_calls[0].call_id} is missing.")
    if not task.has_ended:
        raise Conflict("The previous response is still being given. Wait for its end, or cancel it.")
    return answer.conversation_id, answer.id


# ── finding and telling ──────────────────────────────────────────────────────────────────────────────────────────────


def _find(caller: Principal, given: str) -> _Part:
    _, first = parse_response_id(given)
    with caller.reading() as connection:
        return _Part(_own(connection, caller, given), first)


def _own(connection: Connection, caller: Principal, given: str) -> Answer:
    """Return the answer of a response.

    Raises:
        NotFound: the caller has no such response.
    """
    answer_id, _ = parse_response_id(given)
    answer = conversations.find_answer(connection, answer_id)
    if answer is None or answer.user_id != caller.user_id or answer.is_deleted:
        raise NotFound(f"There is no response {given!r}.")
    return answer


async def _answer(caller: Principal, part: _Part) -> Response:
    task, segment = await run_in_threadpool(read_segment, caller, part.answer.task_id, part.first)
    headers = {"x-rota-task-id": str(task.id)}
    content = response(part.answer, task, segment, _output(part, task, segment))
    return Response(dump_json(content), headers=headers, media_type="application/json")


def _output(part: _Part, task: TaskDetail, segment: Segment) -> list[dict[str, Any]]:
    """Return the items of a response: those that its events tell."""
    events = ResponseEvents(part.answer, task, segment.first, segment.claim)
    output: list[dict[str, Any]] = events.finish(task, segment)[-1]["response"]["output"]
    return output


async def _stream(request: Request, caller: Principal, part: _Part, after: int) -> Response:
    task, segment = await run_in_threadpool(read_segment, caller, part.answer.task_id, part.first)
    lines = ResponseLines(ResponseEvents(part.answer, task, segment.first, segment.claim, after))

    async def follow(write: Write) -> None:
        if begun := lines.begin():
            await write(begun)
        if not segment.is_closed:
            await follow_segment(request, caller, task.id, lines, write, _NEEDS)
        detail, whole = await run_in_threadpool(read_segment, caller, task.id, part.first)
        if rest := lines.finish(detail, whole):
            await write(rest)

    return EventStream(follow, {"x-rota-task-id": str(task.id)})
