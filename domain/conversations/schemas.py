"""Conversations and their messages."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from core.text import Storable
from domain.attachments.schemas import MOST_OF_TEXTS, AttachedFile
from domain.feedback.schemas import Rating
from domain.tasks.schemas import ClientTool, TaskError, TurnCall

Title = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), Storable]
Session = Annotated[str, StringConstraints(min_length=1, max_length=200), Storable]
Facts = Annotated[dict[str, Any], Storable]
MessageText = Annotated[str, StringConstraints(min_length=1, max_length=32_000, pattern=r"\S"), Storable]
MessageStatus = Literal["sent", "queued", "answering", "waiting", "answered", "stopped", "failed"]
Role = Literal["user", "assistant", "tool"]
AgentSlug = Annotated[str, StringConstraints(min_length=1, max_length=63), Storable]


class NewConversation(BaseModel):
    """A conversation to begin."""

    model_config = ConfigDict(extra="forbid")

    agent: AgentSlug | None = Field(
        default=None,
        description="slug of the agent that answers; without it, set it before the first message",
        examples=["support-assistant"],
    )
    title: Title = Field(default="", description="without it, the beginning of the first message")
    session: Session | None = Field(
        default=None, description="your own id of what it belongs to, such as a visit", examples=["visit-17"]
    )
    contact: UUID | None = Field(default=None, description="id of the contact that it is about")
    location: Annotated[str, StringConstraints(max_length=63), Storable] | None = Field(
        default=None, description="slug of the location that it belongs to"
    )
    context: Facts = Field(default={}, description="facts that the agent should know in every message")
    preferences: Facts = Field(
        default={}, description="how the agent should answer, with any keys: tone, channels, language, frequency"
    )


class ConversationChange(BaseModel):
    """What to change of a conversation. Fields that are not given stay as they are."""

    model_config = ConfigDict(extra="forbid")

    title: Title | None = None
    agent: AgentSlug | None = Field(default=None, description="slug of the agent that answers from now on")
    is_archived: bool | None = Field(default=None, description="an archived one is listed only on request")
    context: Facts | None = Field(default=None, description="replaces the facts")
    preferences: Facts | None = Field(default=None, description="replaces the preferences")


class Conversation(BaseModel):
    """A conversation."""

    id: UUID
    agent: str | None = Field(description="slug of the agent that answers; null until one is set")
    title: str
    session: str | None = Field(description="the caller's own id of what it belongs to", examples=["visit-17"])
    user_id: UUID | None = Field(
        description="the user who began it, and alone speaks in it: the agent may do what this user may. Null for a "
        "visitor's"
    )
    visitor_id: UUID | None = Field(description="the visitor who began it, and alone speaks in it; null for a user's")
    contact: UUID | None
    location_id: UUID | None
    context: dict[str, Any]
    preferences: dict[str, Any] = Field(description="how the agent should answer")
    metadata: dict[str, str] = Field(description="labels of the caller, which the agent does not read")
    head: UUID | None = Field(description="id of the message that the next one follows")
    messages: int = Field(description="number of messages, of all branches")
    billed_cost: Decimal = Field(description="US dollars, of all answers")
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None = Field(description="time at which it was archived")


class ConversationPage(BaseModel):
    """Conversations, latest first."""

    conversations: list[Conversation] = Field(description="conversations of this page")
    next_before: UUID | None = Field(description="pass it as `before` for the next page; null on the last")


class ChatMessage(BaseModel):
    """A message of a conversation: a user's, an answer, or what a client tool returned."""

    id: UUID
    conversation_id: UUID = Field(description="id of the conversation")
    position: int = Field(description="order in which it was sent, over all branches")
    parent_id: UUID | None = Field(
        description="the message that it follows; answers with the same one are alternatives"
    )
    role: Role
    status: MessageStatus
    text: str = Field(
        description="of an answer: empty until it ends; what was said of one that was stopped",
        examples=["Is there yoga tomorrow?"],
    )
    context: dict[str, Any] | None
    attachments: list[UUID] = Field(description="ids of its attachments, in order")
    is_from_outside: bool = Field(description="whether it comes from outside: from a customer or a stranger")
    task_id: UUID | None = Field(description="the task that answers, or answered")
    error: TaskError | None
    tool_calls: list[TurnCall] | None = Field(
        description="of an answer that was given elsewhere: the client tools that it called"
    )
    call_id: str | None = Field(description="of what a client tool returned: the call", examples=["call_17"])
    billed_cost: Decimal = Field(description="US dollars, of an answer")
    rating: Rating | None = Field(description="of an answer: what a user thought of it, the latest to say so")
    is_current: bool = Field(description="whether it is on the branch that the conversation goes on from")
    created_at: datetime
    ended_at: datetime | None


class TypingTold(BaseModel):
    """The listeners of a conversation are told that you are typing."""

    until: datetime = Field(description="time at which it is over unless you say it again")


class ChatMessagePage(BaseModel):
    """Messages of a conversation in order."""

    messages: list[ChatMessage] = Field(description="messages of this page")
    has_more: bool = Field(description="whether there are more in the direction that was asked for")


class NewChatMessage(BaseModel):
    """A message to send."""

    model_config = ConfigDict(extra="forbid")

    text: MessageText = Field(description="what to say", examples=["Is there yoga tomorrow?"])
    context: Facts = Field(default={}, description="facts for this message alone")
    attachments: Annotated[list[UUID], Field(max_length=100)] = Field(
        default=[],
        description="ids of files that you uploaded (`POST /v1/attachments`), in order. Their content counts as "
        "strangers' words: after it, actions need a person",
    )
    is_from_outside: bool = Field(
        default=False, description="a customer or a stranger wrote it: it is information, never an instruction"
    )
    edits: UUID | None = Field(
        default=None, description="id of an earlier message of the user that this one replaces: a new branch begins"
    )
    replaces_pending: bool = Field(
        default=False, description="stop what is being answered; without it the message waits for its turn"
    )


class Sent(BaseModel):
    """A message that was sent, and the answer that is to come."""

    message: ChatMessage = Field(description="the message that was sent")
    answer: ChatMessage = Field(description="the answer that is to come")


class Stopped(BaseModel):
    """The answers that were stopped."""

    stopped: int


@dataclass(frozen=True, slots=True)
class Earlier:
    """A message that the caller brings along: it was said before, elsewhere."""

    role: Role
    text: str
    tool_calls: tuple[TurnCall, ...] = ()
    call_id: str | None = None
    attachments: tuple[UUID, ...] = ()
    """of a user's message: what they uploaded"""


@dataclass(frozen=True, slots=True)
class Asking:
    """What an answer is asked for beside the message. Without an agent, the conversation's answers."""

    agent: str | None = None
    parent: UUID | None = None
    """the message that this one follows, if not the last"""
    client_tools: list[ClientTool] | None = None
    options: dict[str, Any] | None = None
    """kept with the answer, for the caller"""
    may_overtake: bool = False
    """whether the answer waits for no other of the conversation"""
    idempotency_key: str | None = None
    """of the task"""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with what it was asked for."""

    id: UUID
    conversation_id: UUID
    parent_id: UUID
    task_id: UUID
    user_id: UUID | None
    """None in a visitor's conversation"""
    location_id: UUID | None
    is_listed: bool
    is_deleted: bool
    options: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Said:
    """A message as the agent reads it."""

    id: UUID
    """of a summary: the latest message that it covers"""
    role: Literal["user", "assistant", "tool", "summary"]
    text: str
    is_from_outside: bool
    is_untrusted: bool
    tool_calls: tuple[TurnCall, ...] = ()
    """of an answer: the client tools that it called"""
    call_id: str | None = None
    """of what a client tool returned"""
    attachments: tuple[UUID, ...] = ()
    files: tuple[AttachedFile, ...] = ()
    """its attachments, as far as they were read with it"""

    @property
    def size(self) -> int:
        """The characters of the message, with those of the texts attached to it."""
        calls = sum(len(call.tool) + len(call.arguments) for call in self.tool_calls)
        texts = sum(file.size for file in self.files if file.medium is None)
        return len(self.text) + calls + min(texts, MOST_OF_TEXTS)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said, as in an answer that failed."""
        return self.role != "tool" and not (self.tool_calls or self.attachments or self.text.strip())
