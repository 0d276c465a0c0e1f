"""Events: follow them live as server-sent events, or read them in pages."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection

from core.db import transaction
from core.errors import NotFound
from domain.agents import service as agents
from domain.conversations import service as conversations
from domain.events.schemas import BEGINNING, EventPage, ShownEvent
from domain.tasks import service as tasks
from domain.tasks.schemas import Word
from web.audience import Audience, audience
from web.auth import Needs, Principal
from web.feed import feed
from web.following import Follower, Position, end_of, read
from web.problems import describes
from web.streams import MEDIA_TYPE, EventStream

router = APIRouter(prefix="/v1", tags=["events"])

_OF_ALL = Needs("events:read", at_a_location=True)
_OF_TASKS = Needs("tasks:read", at_a_location=True)

Types = Annotated[
    list[Word], Query(alias="type", max_length=50, description="only these types, or patterns such as task.*")
]
After = Annotated[str | None, Query(max_length=90, description="cursor: only events after it", examples=["7512-90211"])]
LastEventId = Annotated[str | None, Header(max_length=90, description="cursor, as `after`; sent by EventSource")]
PageSize = Annotated[int, Query(ge=1, le=1_000, description="of a page; streams have no limit")]
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "a page if the request accepts application/json, otherwise a stream of server-sent events",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}


@router.get("/events", response_model=EventPage, responses=STREAM | describes(401, 403, 422, 429))
async def follow_events(
    request: Request,
    caller: Annotated[Principal, Depends(_OF_ALL)],
    types: Types = [],  # noqa: B006  FastAPI copies defaults
    agent: Word | None = None,
    task: UUID | None = None,
    conversation: UUID | None = None,
    session: Annotated[Word | None, Query(description="only of the conversations of this session")] = None,
    after: After = None,
    last_event_id: LastEventId = None,
    limit: PageSize = 100,
) -> Response:
    """Follow the events of the organisation. A stream without a cursor begins now, a page without one begins with the
    oldest event that is kept.
    """

    def who(principal: Principal) -> Audience:
        return audience(principal, types, agent=agent, task=task, conversation=conversation, session=session)

    await run_in_threadpool(ensure_there, caller, task, conversation, session=session, agent=agent)
    return await answer_events(request, _OF_ALL, caller, who, last_event_id or after, limit)


def ensure_there(
    caller: Principal,
    task: UUID | None = None,
    conversation: UUID | None = None,
    *,
    session: str | None = None,
    agent: str | None = None,
) -> None:
    """Raises NotFound: what events are narrowed to does not exist, where the caller may look."""
    if task is not None:
        with _looking(caller, "tasks:read", task) as connection:
            tasks.get_task(connection, task)
    if conversation is not None:
        with _looking(caller, "conversations:read", conversation) as connection:
            conversations.get(connection, conversation)
    if session is not None:
        with _looking(caller, "conversations:read", session) as connection:
            conversations.ensure_session(connection, session)
    if agent is not None:
        with transaction(caller.org_id) as connection:
            agents.ensure_known(connection, agent)


@contextlib.contextmanager
def _looking(caller: Principal, permission: str, wanted: object) -> Iterator[Connection]:
    """Open a transaction that sees what a permission of the caller covers.

    Raises:
        NotFound: the caller does not have it, so `wanted` is not there for it.
    """
    reach = caller.reach_of(permission)
    if reach.is_nowhere:
        raise NotFound(f"There is no {permission.partition(':')[0].removesuffix('s')} {wanted}.")
    with transaction(caller.org_id, () if reach.everywhere else reach.locations) as connection:
        yield connection


async def answer_events(
    request: Request,
    needs: Needs,
    caller: Principal,
    who: Callable[[Principal], Audience],
    after: str | None,
    limit: int,
) -> Response:
    """Answer with a page of the events that an audience hears, or with a stream of them."""
    position = Position.parse(after) if after else None
    if wants_page(request):
        return await _page(caller, who(caller), position, limit)
    return _stream(request, needs, caller, who, position)


@router.get(
    "/tasks/{task_id}/events",
    response_model=EventPage,
    responses=STREAM | {204: {"description": "the task has ended, and the cursor is its end"}}
    | describes(401, 404, 422, 429),
)  # fmt: skip
async def follow_task_events(
    request: Request,
    task_id: UUID,
    caller: Annotated[Principal, Depends(_OF_TASKS)],
    types: Types = [],  # noqa: B006
    after: After = None,
    last_event_id: LastEventId = None,
    limit: PageSize = 100,
) -> Response:
    """Follow the events of a task from its first one on. The stream ends with `task.ended`."""
    await run_in_threadpool(_ensure_visible, caller, task_id)
    wanted = [*types, "task.ended"] if types else []

    def who(principal: Principal) -> Audience:
        return audience(principal, wanted, task=task_id)

    given = last_event_id or after
    if wants_page(request):
        return await answer_events(request, _OF_TASKS, caller, who, given, limit)
    position = Position.parse(given) if given else None
    end = await run_in_threadpool(end_of, caller.org_id, task_id, caller.reach)
    if position is not None and end.event is not None and position.cursor >= end.event.cursor:
        return Response(status_code=204)  # tells an EventSource not to connect again
    return await answer_events(request, _OF_TASKS, caller, who, given, limit)


def _ensure_visible(caller: Principal, task_id: UUID) -> None:
    with caller.reading() as connection:
        tasks.get_task(connection, task_id)


def wants_page(request: Request) -> bool:
    """Whether a request wants a page of events rather than a stream of them."""
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and MEDIA_TYPE not in accepted


async def _page(caller: Principal, who: Audience, after: Position | None, limit: int) -> Response:
    portion = await run_in_threadpool(read, caller, who, after.cursor if after else BEGINNING, limit)
    page = EventPage(
        events=[ShownEvent.of(event) for event in portion.events if event.kind not in who.quiet],
        next_after=str(portion.next),
        is_complete=portion.is_last,
        reset=portion.reset,
    )
    return Response(page.model_dump_json(), media_type="application/json")


def _stream(
    request: Request, needs: Needs, caller: Principal, who: Callable[[Principal], Audience], after: Position | None
) -> Response:
    feed.ensure_room(caller.org_id)
    return EventStream(Follower(request, needs, caller, who, after).follow)
