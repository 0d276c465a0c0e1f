"""Conversations: begin, list, send messages, regenerate and stop answers."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection

from api.routes.events import STREAM, After, LastEventId, PageSize, Types, answer_events
from api.routes.tasks import IdempotencyKey
from core.errors import NotPermitted
from core.wakeup import wakeup
from core.words import TYPING_FOR, Typing
from domain.conversations import service as conversations
from domain.conversations.schemas import (
    ChatMessage,
    ChatMessagePage,
    Conversation,
    ConversationChange,
    ConversationPage,
    NewChatMessage,
    NewConversation,
    Sent,
    Stopped,
    TypingTold,
)
from domain.events.schemas import EventPage
from domain.tasks.schemas import SubmissionContext, Word
from domain.tenants import service as tenants
from web.audience import Audience, audience
from web.auth import Needs, Principal
from web.listing import Before, Limit
from web.problems import describes
from web.rate_limits import limits
from web.words import words

router = APIRouter(prefix="/v1", tags=["conversations"])

_READS = Needs("conversations:read", at_a_location=True)
Reads = Annotated[Principal, Depends(_READS)]
Writes = Annotated[Principal, Depends(Needs("conversations:write", at_a_location=True))]
Position = Annotated[int | None, Query(ge=0, le=2**62)]


@router.post("/conversations", status_code=201, responses=describes(401, 403, 404, 422))
def begin_conversation(wanted: NewConversation, caller: Writes, response: Response) -> Conversation:
    """Begin a conversation with an agent. It acts for you, and may do what you may."""
    with caller.reading() as connection:
        begun = conversations.begin(connection, caller.org_id, wanted, _context(connection, caller, wanted))
    response.headers["location"] = f"/v1/conversations/{begun.id}"
    return begun


def _context(connection: Connection, caller: Principal, wanted: NewConversation) -> SubmissionContext:
    location = tenants.location_called(connection, wanted.location).id if wanted.location else None
    if not caller.reach.everywhere:
        mine = caller.reach.locations
        location = next(iter(mine)) if location is None and len(mine) == 1 else location
        if location not in mine:
            raise NotPermitted("You may hold conversations at some locations only: set `location` to one of them.")
    return SubmissionContext(user_id=caller.user_id, location_id=location)


@router.get("/conversations", responses=describes(401, 403, 422))
def list_conversations(
    caller: Reads,
    user: Annotated[UUID | None, Query(description="only of this user")] = None,
    visitor: Annotated[UUID | None, Query(description="only of this visitor")] = None,
    is_visitor: Annotated[
        bool | None, Query(description="true for those of visitors only, false for those of users only")
    ] = None,
    session: Annotated[Word | None, Query(description="only of this session")] = None,
    agent: Word | None = None,
    search: Annotated[Word | None, Query(description="words of a title or a message")] = None,
    is_archived: Annotated[bool, Query(description="the archived ones instead")] = False,
    before: Before = None,
    limit: Limit = 50,
) -> ConversationPage:
    """List conversations, latest first."""
    with caller.reading() as connection:
        return conversations.list_conversations(
            connection, user=user, visitor=visitor, is_visitor=is_visitor, session=session, agent=agent, search=search,
            is_archived=is_archived, before=before, limit=limit,
        )  # fmt: skip


@router.get("/conversations/{conversation_id}", responses=describes(401, 403, 404, 422))
def get_conversation(conversation_id: UUID, caller: Reads) -> Conversation:
    """Return a conversation, with what it cost."""
    with caller.reading() as connection:
        return conversations.get(connection, conversation_id)


@router.patch("/conversations/{conversation_id}", responses=describes(401, 403, 404, 422))
def change_conversation(conversation_id: UUID, changes: ConversationChange, caller: Writes) -> Conversation:
    """Rename a conversation, archive it, or change its agent, facts and preferences."""
    with caller.writing() as connection:
        if any(one is not None for one in (changes.context, changes.preferences, changes.agent)):
            _ensure_own(connection, caller, conversation_id)
        return conversations.change(connection, conversation_id, changes)


def _ensure_own(connection: Connection, caller: Principal, conversation_id: UUID) -> None:
    """Refuse to speak in another user's conversation: what is said in it is what its user said, to the agent."""
    if conversations.speaker(connection, conversation_id) != caller.user_id:
        raise NotPermitted(
            "This is another user's or a visitor's conversation. You may read, stop and delete it, not speak in it."
        )


@router.delete("/conversations/{conversation_id}", status_code=204, responses=describes(401, 403, 404, 422))
def remove_conversation(conversation_id: UUID, caller: Writes) -> None:
    """Delete a conversation and its words. Answers under way are stopped; what it cost stays on the bill."""
    with caller.writing() as connection:
        conversations.delete(connection, conversation_id)
    wakeup.hint()


@router.get("/conversations/{conversation_id}/messages", responses=describes(401, 403, 404, 422))
def list_conversation_messages(
    conversation_id: UUID,
    caller: Reads,
    before: Annotated[Position, Query(description="position: only messages before it")] = None,
    after: Annotated[Position, Query(description="position: only messages after it")] = None,
    limit: Limit = 50,
) -> ChatMessagePage:
    """List messages in order: the last ones, or those before or after a position."""
    with caller.reading() as connection:
        return conversations.list_messages(connection, conversation_id, before=before, after=after, limit=limit)


@router.post("/conversations/{conversation_id}/messages", status_code=202, responses=describes(401, 403, 404, 409, 422))
def send_message(
    conversation_id: UUID, wanted: NewChatMessage, caller: Writes, idempotency_key: IdempotencyKey = None
) -> Sent:
    """Send a message. The agent answers messages in their order; follow the answer at `/v1/tasks/{task_id}/events`."""
    with caller.reading() as connection:
        _ensure_own(connection, caller, conversation_id)
        sent = conversations.send(
            connection,
            caller.org_id,
            conversation_id,
            wanted,
            SubmissionContext(user_id=caller.user_id, scopes=caller.scopes),
            idempotency_key=idempotency_key,
        )
    wakeup.hint()
    return sent


@router.post(
    "/conversations/{conversation_id}/messages/{answer_id}/regenerate",
    status_code=202,
    responses=describes(401, 403, 404, 409, 422),
)
def regenerate_answer(conversation_id: UUID, answer_id: UUID, caller: Writes) -> ChatMessage:
    """Have an answer given anew. The old one is kept as an alternative."""
    context = SubmissionContext(user_id=caller.user_id, scopes=caller.scopes)
    with caller.reading() as connection:
        _ensure_own(connection, caller, conversation_id)
        answer = conversations.regenerate(connection, caller.org_id, conversation_id, answer_id, context)
    wakeup.hint()
    return answer


@router.post("/conversations/{conversation_id}/stop", responses=describes(401, 403, 404, 422))
def stop_answers(conversation_id: UUID, caller: Writes) -> Stopped:
    """Stop the answers that are being given or wait for their turn. What was said stays."""
    with caller.writing() as connection:
        conversations.get(connection, conversation_id)
        stopped = conversations.stop(connection, conversation_id)
    wakeup.hint()
    return Stopped(stopped=stopped)


@router.post("/conversations/{conversation_id}/typing", status_code=202, responses=describes(401, 403, 404, 422, 429))
def tell_typing(conversation_id: UUID, caller: Writes) -> TypingTold:
    """Tell the others who follow the conversation that you are typing, by `user.typing`. Say it again every few seconds
    while it is so; nothing of it is kept.
    """
    limits().take_typing(caller.owner)
    with caller.reading() as connection:
        _ensure_own(connection, caller, conversation_id)
    until = datetime.now(UTC) + timedelta(seconds=TYPING_FOR)
    words.tell(Typing(conversation_id, caller.user_id, until))
    return TypingTold(until=until)


@router.get(
    "/conversations/{conversation_id}/events",
    response_model=EventPage,
    responses=STREAM | describes(401, 403, 404, 422, 429),
)
async def follow_conversation_events(
    request: Request,
    conversation_id: UUID,
    caller: Reads,
    types: Types = [],  # noqa: B006  FastAPI copies defaults
    after: After = None,
    last_event_id: LastEventId = None,
    limit: PageSize = 100,
) -> Response:
    """Follow the events of a conversation from now on: messages, answers, and the tasks that give them."""
    await run_in_threadpool(get_conversation, conversation_id, caller)

    def who(principal: Principal) -> Audience:
        return audience(principal, types, conversation=conversation_id)

    return await answer_events(request, _READS, caller, who, last_event_id or after, limit)
