"""What a client may join: a room is a stream of events, checked and narrowed like the streams of server-sent events."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from api.routes.events import ensure_there
from api.routes.visitors import VISITOR
from api.sockets.messages import (
    Vocabulary,
    campaign_message,
    conductor_message,
    feed_message,
    marketing_message,
    no_message,
    visitor_message,
)
from core.errors import InvalidInput, NotFound, NotPermitted
from domain.conversations import service as conversations
from domain.tasks.schemas import Word
from web.audience import Audience, audience, visitor_audience
from web.auth import ANYTHING, Needs, Principal
from web.following import Checks, Position, Reader
from web.visitor_events import KINDS
from web.visitors import VisitorCaller

OF_ANYBODY = Needs(ANYTHING)
OF_ALL = Needs("events:read", at_a_location=True)
OF_TASKS = Needs("tasks:read", at_a_location=True)
OF_CONVERSATIONS = Needs("conversations:read", at_a_location=True)

_After = Annotated[str | None, Field(default=None, max_length=90)]
_Wanted = TypeVar("_Wanted", bound=BaseModel)
_Reader = TypeVar("_Reader", bound=Reader)


class Join(BaseModel):
    """The session to join: the name that conversations were begun with, or the id of a conversation."""

    sessionId: Word  # noqa: N815  as these clients name it
    after: _After


class Subscription(BaseModel):
    """The events to follow: all, or those of one task, conversation or session."""

    model_config = ConfigDict(extra="forbid")

    types: list[Word] = Field(default=[], max_length=50)
    agent: Word | None = None
    task: UUID | None = None
    conversation: UUID | None = None
    session: Word | None = None
    after: _After

    @model_validator(mode="after")
    def _of_one(self) -> Self:
        if len(self._narrowed) > 1:
            raise ValueError("name a task, a conversation or a session; to follow several, subscribe to each")
        return self

    @property
    def _narrowed(self) -> dict[str, Any]:
        named = {"task": self.task, "conversation": self.conversation, "session": self.session}
        return {kind: value for kind, value in named.items() if value is not None}

    @property
    def room(self) -> str:
        """The room's name."""
        return next((f"{kind}:{value}" for kind, value in self._narrowed.items()), "organisation")

    @property
    def needs(self) -> Needs:
        """The permission that it takes, the same as of the stream of server-sent events."""
        return OF_TASKS if self.task else OF_CONVERSATIONS if self.conversation or self.session else OF_ALL


class Auth(BaseModel):
    """What a client connects with."""

    token: Annotated[str, Field(max_length=500)] = ""
    after: _After
    subscribe: Subscription | None = None


@dataclass(frozen=True)
class Room(Generic[_Reader]):
    """A stream of events: who may follow it, what is heard, in which vocabulary, and from where on."""

    name: str
    shown: str
    """what messages name it by"""
    needs: Checks[_Reader]
    who: Callable[[_Reader], Audience]
    words: Vocabulary
    after: Position | None = None


def parsed(kind: type[_Wanted], given: Any) -> _Wanted:
    """Return what a client sent.

    Raises:
        InvalidInput: it does not fit.
    """
    try:
        return kind.model_validate({} if given is None else given)
    except ValidationError as error:
        told = [f"{'.'.join(map(str, one['loc'])) or 'data'}: {one['msg']}" for one in error.errors()[:5]]
        raise InvalidInput("; ".join(told)[:1_000]) from error


def own_room(namespace: str, after: str | None) -> Room[Principal]:
    """Return the room that each connection is in: on `/` it tells of the organisation's campaigns, elsewhere of
    nothing. With it a connection counts as a stream, and its key is checked.
    """
    tells_of = ["campaign.*"] if namespace == "/" else []

    def who(caller: Principal) -> Audience:
        return audience(caller, tells_of) if tells_of and caller.may("events:read") else Audience({})

    words = campaign_message if tells_of else no_message
    return Room("own", "", OF_ANYBODY, who, words, _position(after))


def session_room(caller: Principal, wanted: Join, namespace: str) -> Room[Principal]:
    """Return the room of a session.

    Raises:
        NotFound: no conversation that the caller may read is in the session.
    """
    words = marketing_message if namespace == "/" else conductor_message
    session = wanted.sessionId
    conversation = _conversation_called(caller, session)

    def who(caller: Principal) -> Audience:
        return audience(caller, conversation=conversation) if conversation else audience(caller, session=session)

    return Room(f"session:{session}", session, OF_CONVERSATIONS, who, words, _position(wanted.after))


def events_room(caller: Principal, wanted: Subscription) -> Room[Principal]:
    """Return the room of a subscription.

    Raises:
        NotFound: what is to be followed is not there, where the caller may look.
    """
    task, conversation, session = wanted.task, wanted.conversation, wanted.session
    ensure_there(caller, task, conversation, session=session, agent=wanted.agent)
    types = [*wanted.types, "task.ended"] if task and wanted.types else wanted.types

    def who(caller: Principal) -> Audience:
        return audience(caller, types, agent=wanted.agent, task=task, conversation=conversation, session=session)

    return Room(f"events:{wanted.room}", wanted.room, wanted.needs, who, feed_message, _position(wanted.after))


def visitor_room(caller: VisitorCaller, wanted: Subscription | None) -> Room[VisitorCaller]:
    """Return the room of one of a visitor's conversations; without a subscription the one that each connection is in,
    which tells of nothing.

    Raises:
        NotPermitted: something else is to be followed.
        NotFound: the visitor has no such conversation.
    """
    conversation = wanted.conversation if wanted else None
    if wanted and (conversation is None or wanted.types or wanted.agent):
        raise NotPermitted("A visitor follows its own conversations: subscribe with {conversation: id} alone.")
    if conversation is not None:
        with caller.reading() as connection:
            conversations.get_of_visitor(connection, conversation, caller.id)

    def who(visitor: VisitorCaller) -> Audience:
        return visitor_audience(visitor.id, KINDS, conversation)

    if wanted is None:
        return Room("own", "", VISITOR, who, no_message)
    return Room(f"events:{wanted.room}", wanted.room, VISITOR, who, visitor_message, _position(wanted.after))


def _position(after: str | None) -> Position | None:
    return Position.parse(after) if after else None


def _conversation_called(caller: Principal, session: str) -> UUID | None:
    """Return the conversation whose id was given for a session; None for a session's own name."""
    with contextlib.suppress(ValueError, NotFound):
        conversation = UUID(session)
        ensure_there(caller, conversation=conversation)
        return conversation
    ensure_there(caller, session=session)
    return None
