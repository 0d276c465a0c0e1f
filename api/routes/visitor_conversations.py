"""The conversations of a visitor, and nothing else: text and status, without costs and internals."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import Connection

from api.routes.events import STREAM, After, LastEventId, PageSize, wants_page
from api.routes.tasks import IdempotencyKey
from api.routes.visitors import VISITOR, Visits
from core.errors import NotFound, Unavailable
from core.text import Storable
from core.wakeup import wakeup
from domain.agents import service as agents
from domain.conversations import service as conversations
from domain.conversations.schemas import (
    AgentSlug,
    ChatMessage,
    Conversation,
    ConversationChange,
    MessageStatus,
    NewChatMessage,
    NewConversation,
    Stopped,
    Title,
)
from domain.events.schemas import BEGINNING, Event
from domain.visitors import service as visitors
from domain.wallet import service as wallet
from web.audience import Audience, visitor_audience
from web.feed import feed
from web.following import Follower, Position, read
from web.listing import Before, Limit
from web.problems import describes
from web.streams import EventStream
from web.visitor_events import KINDS, VisitorEncoding, notice_of, told_to_visitor
from web.visitors import VisitorCaller

router = APIRouter(prefix="/v1/visitor", tags=["visitors"])

Words = Annotated[str, StringConstraints(min_length=1, max_length=8_000, pattern=r"\S"), Storable]
PositionOf = Annotated[int | None, Query(ge=0, le=2**62)]
_NOT_NOW = "This chat cannot answer now. Try again later."


class NewVisitorConversation(BaseModel):
    """A conversation to begin."""

    model_config = ConfigDict(extra="forbid")

    agent: AgentSlug | None = Field(
        default=None, description="slug of the agent that answers; the first by default", examples=["support-assistant"]
    )
    title: Title = Field(default="", description="without it, the beginning of the first message")


class VisitorConversationChange(BaseModel):
    """What to change of a conversation."""

    model_config = ConfigDict(extra="forbid")

    title: Title = Field(examples=["Opening hours"])


class VisitorConversation(BaseModel):
    """A conversation, as its visitor sees it."""

    id: UUID
    agent: str
    title: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, found: Conversation) -> Self:
        """Return a conversation as its visitor sees it."""
        return cls(**found.model_dump(include=set(cls.model_fields)))


class VisitorConversationPage(BaseModel):
    """Conversations, latest first."""

    conversations: list[VisitorConversation] = Field(description="conversations of this page")
    next_before: UUID | None = Field(description="pass it as `before` for the next page; null on the last")


class NewVisitorMessage(BaseModel):
    """A message to send."""

    model_config = ConfigDict(extra="forbid")

    text: Words = Field(description="what to say", examples=["Is there yoga tomorrow?"])
    edits: UUID | None = Field(
        default=None, description="id of an earlier message of the visitor that this one replaces: a new branch begins"
    )
    replaces_pending: bool = Field(
        default=False, description="stop what is being answered; without it the message waits for its turn"
    )


class VisitorMessage(BaseModel):
    """A message of a conversation, as its visitor sees it."""

    id: UUID
    conversation_id: UUID = Field(description="id of the conversation")
    position: int = Field(description="order in which it was sent, over all branches")
    parent_id: UUID | None = Field(
        description="the message that it follows; answers with the same one are alternatives"
    )
    role: Literal["user", "assistant"]
    status: MessageStatus
    text: str = Field(description="of an answer: empty until it ends", examples=["Is there yoga tomorrow?"])
    notice: str | None = Field(
        description="a sentence to show instead of an answer that waits or failed",
        examples=["This answer could not be given. Try again later."],
    )
    task_id: UUID | None = Field(description="of an answer: what its words in the stream are named by")
    is_current: bool = Field(description="whether it is on the branch that the conversation goes on from")
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, found: ChatMessage) -> Self:
        """Return a message as its visitor sees it."""
        shown: dict[str, Any] = found.model_dump(include=set(cls.model_fields))
        return cls(**shown, notice=notice_of(found.status))


class VisitorMessagePage(BaseModel):
    """Messages of a conversation in order."""

    messages: list[VisitorMessage] = Field(description="messages of this page")
    has_more: bool = Field(description="whether there are more in the direction that was asked for")


class VisitorSent(BaseModel):
    """A message that was sent, and the answer that is to come."""

    message: VisitorMessage = Field(description="the message that was sent")
    answer: VisitorMessage = Field(description="the answer that is to come")


class VisitorEventData(BaseModel):
    """What an event tells a visitor. Only the fields that its type has are given."""

    conversation_id: UUID | None = Field(default=None, description="id of the conversation")
    message_id: UUID | None = None
    parent_id: UUID | None = Field(default=None, description="the message that it follows")
    position: int | None = Field(default=None, description="order in which it was sent")
    task_id: UUID | None = Field(default=None, description="the `task_id` of the answer")
    status: MessageStatus | None = None
    text: str | None = Field(default=None, description="what was said", examples=["You are booked."])
    notice: str | None = Field(
        default=None,
        description="a sentence to show instead of an answer that waits or failed",
        examples=["This answer could not be given. Try again later."],
    )


class VisitorEvent(BaseModel):
    """An event of a conversation, as its visitor sees it."""

    id: str = Field(description="its cursor: pass it as `after` to get the events after it", examples=["7512-90211"])
    type: str = Field(description="its kind, see docs/visitors.md", examples=["message.answered"])
    at: datetime
    data: VisitorEventData

    @classmethod
    def of(cls, event: Event) -> Self:
        """Return an event as a visitor sees it."""
        data = VisitorEventData.model_validate(told_to_visitor(event.kind, event.told))
        return cls(id=str(event.cursor), type=event.kind, at=event.at, data=data)


class VisitorEventPage(BaseModel):
    """Events in order, and the cursor of the next page."""

    events: list[VisitorEvent]
    next_after: str = Field(
        description="pass it as `after` to get what comes next; there may be nothing yet", examples=["7512-90211"]
    )
    is_complete: bool = Field(description="whether this page reaches the latest event; otherwise get the next at once")
    is_reset: bool = Field(
        description="whether events after the given cursor were deleted: read the messages again", examples=[False]
    )


# ── conversations ────────────────────────────────────────────────────────────────────────────────────────────────────


@router.post("/conversations", status_code=201, responses=describes(401, 403, 404, 422, 429, 503))
def begin_visitor_conversation(
    caller: Visits, response: Response, wanted: NewVisitorConversation = NewVisitorConversation()
) -> VisitorConversation:
    """Begin a conversation with one of the agents that the publishable key names. It counts as a message."""
    agent = wanted.agent or caller.visitor.agents[0]
    if agent not in caller.visitor.agents:
        raise NotFound(f"There is no agent {agent!r} for visitors.")
    caller.take_message()
    with caller.reading() as connection:
        _ensure_answering(connection, caller, agent)
        new = NewConversation(agent=agent, title=wanted.title)
        begun = conversations.begin(connection, caller.org_id, new, caller.context, visitor=caller.id)
        visitors.count_message(connection, caller.visitor)
    response.headers["location"] = f"/v1/visitor/conversations/{begun.id}"
    return VisitorConversation.of(begun)


def _ensure_answering(connection: Connection, caller: VisitorCaller, agent: str | None) -> None:
    """Raises Unavailable, which does not say why: the agent is deleted or off, or the organisation has no tokens."""
    is_on = any(one.slug == agent and one.enabled for one in agents.list_agents(connection))
    if not is_on or not wallet.can_begin(connection, caller.org_id):
        raise Unavailable(_NOT_NOW, retry_after=60)


@router.get("/conversations", responses=describes(401, 403, 422, 429))
def list_visitor_conversations(caller: Visits, before: Before = None, limit: Limit = 50) -> VisitorConversationPage:
    """List the visitor's conversations, latest first."""
    with caller.reading() as connection:
        found = conversations.list_conversations(connection, visitor=caller.id, before=before, limit=limit)
    shown = [VisitorConversation.of(one) for one in found.conversations]
    return VisitorConversationPage(conversations=shown, next_before=found.next_before)


@router.get("/conversations/{conversation_id}", responses=describes(401, 403, 404, 422, 429))
def get_visitor_conversation(conversation_id: UUID, caller: Visits) -> VisitorConversation:
    """Return a conversation of the visitor."""
    with caller.reading() as connection:
        return VisitorConversation.of(conversations.get_of_visitor(connection, conversation_id, caller.id))


@router.patch("/conversations/{conversation_id}", responses=describes(401, 403, 404, 422, 429))
def change_visitor_conversation(
    conversation_id: UUID, wanted: VisitorConversationChange, caller: Visits
) -> VisitorConversation:
    """Rename a conversation of the visitor."""
    with caller.writing() as connection:
        conversations.get_of_visitor(connection, conversation_id, caller.id)
        changes = ConversationChange(title=wanted.title)
        return VisitorConversation.of(conversations.change(connection, conversation_id, changes))


@router.delete("/conversations/{conversation_id}", status_code=204, responses=describes(401, 403, 404, 422, 429))
def remove_visitor_conversation(conversation_id: UUID, caller: Visits) -> None:
    """Delete a conversation of the visitor and its words. Answers under way are stopped."""
    with caller.writing() as connection:
        conversations.get_of_visitor(connection, conversation_id, caller.id)
        conversations.delete(connection, conversation_id)
    wakeup.hint()


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/conversations/{conversation_id}/messages", responses=describes(401, 403, 404, 422, 429))
def list_visitor_messages(
    conversation_id: UUID,
    caller: Visits,
    before: Annotated[PositionOf, Query(description="position: only messages before it")] = None,
    after: Annotated[PositionOf, Query(description="position: only messages after it")] = None,
    limit: Limit = 50,
) -> VisitorMessagePage:
    """List messages in order: the last ones, or those before or after a position."""
    with caller.reading() as connection:
        conversations.get_of_visitor(connection, conversation_id, caller.id)
        found = conversations.list_messages(connection, conversation_id, before=before, after=after, limit=limit)
    return VisitorMessagePage(messages=[VisitorMessage.of(one) for one in found.messages], has_more=found.has_more)


@router.post(
    "/conversations/{conversation_id}/messages",
    status_code=202,
    responses=describes(401, 403, 404, 409, 422, 429, 503),
)
def send_visitor_message(
    conversation_id: UUID, wanted: NewVisitorMessage, caller: Visits, idempotency_key: IdempotencyKey = None
) -> VisitorSent:
    """Send a message. It is marked as a stranger's: what the agent then does beside answering needs a person."""
    caller.take_message()
    message = NewChatMessage(**wanted.model_dump(), is_from_outside=True)
    with caller.reading() as connection:
        found = conversations.get_of_visitor(connection, conversation_id, caller.id)
        _ensure_answering(connection, caller, found.agent)
        sent = conversations.send(
            connection, caller.org_id, conversation_id, message, caller.context, idempotency_key=idempotency_key
        )
        visitors.count_message(connection, caller.visitor)
    wakeup.hint()
    return VisitorSent(message=VisitorMessage.of(sent.message), answer=VisitorMessage.of(sent.answer))


@router.post(
    "/conversations/{conversation_id}/messages/{answer_id}/regenerate",
    status_code=202,
    responses=describes(401, 403, 404, 409, 422, 429, 503),
)
def regenerate_visitor_answer(conversation_id: UUID, answer_id: UUID, caller: Visits) -> VisitorMessage:
    """Have an answer given anew. The old one is kept as an alternative. It counts as a message."""
    caller.take_message()
    with caller.reading() as connection:
        found = conversations.get_of_visitor(connection, conversation_id, caller.id)
        _ensure_answering(connection, caller, found.agent)
        answer = conversations.regenerate(connection, caller.org_id, conversation_id, answer_id, caller.context)
        visitors.count_message(connection, caller.visitor)
    wakeup.hint()
    return VisitorMessage.of(answer)


@router.post("/conversations/{conversation_id}/stop", responses=describes(401, 403, 404, 422, 429))
def stop_visitor_answers(conversation_id: UUID, caller: Visits) -> Stopped:
    """Stop the answers that are being given or wait for their turn. What was said stays."""
    with caller.writing() as connection:
        conversations.get_of_visitor(connection, conversation_id, caller.id)
        stopped = conversations.stop(connection, conversation_id)
    wakeup.hint()
    return Stopped(stopped=stopped)


# ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get(
    "/conversations/{conversation_id}/events",
    response_model=VisitorEventPage,
    responses=STREAM | describes(401, 403, 404, 422, 429),
)
async def follow_visitor_events(
    request: Request,
    conversation_id: UUID,
    caller: Visits,
    after: After = None,
    last_event_id: LastEventId = None,
    limit: PageSize = 100,
) -> Response:
    """Follow a conversation of the visitor from now on: its messages, the words of answers while they are said, and
    their status.
    """
    await run_in_threadpool(get_visitor_conversation, conversation_id, caller)
    given = last_event_id or after
    position = Position.parse(given) if given else None

    def who(principal: VisitorCaller) -> Audience:
        return visitor_audience(principal.id, KINDS, conversation_id)

    if wants_page(request):
        return await run_in_threadpool(_page, caller, who(caller), position, limit)
    feed.ensure_room_for_visitor(caller.org_id, caller.id)
    return EventStream(Follower(request, VISITOR, caller, who, position, VisitorEncoding()).follow)


def _page(caller: VisitorCaller, who: Audience, after: Position | None, limit: int) -> Response:
    portion = read(caller, who, after.cursor if after else BEGINNING, limit)
    page = VisitorEventPage(
        events=[VisitorEvent.of(event) for event in portion.events if event.kind not in who.quiet],
        next_after=str(portion.next),
        is_complete=portion.is_last,
        is_reset=portion.reset is not None,
    )
    return Response(page.model_dump_json(exclude_none=True), media_type="application/json")
