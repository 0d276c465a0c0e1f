"""Responses and Conversations: their requests as messages of a conversation, and answers as their objects. Pure."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.openai_wire.files import SEE_FILES, InlineFile, files_of
from api.openai_wire.parts import Segment, text_of, tools_of, validated
from core.errors import InvalidInput, NotFound
from core.text import Storable
from domain.client_tools.schemas import ToolResult
from domain.conversations.schemas import Answer, ChatMessage, Conversation, Earlier, Said
from domain.tasks.client_calls import ClientCall
from domain.tasks.schemas import ClientTool, TaskDetail, TurnCall, unmatched_call

_IGNORED = {"reasoning"}
_MOST_ITEMS = 500

Label = Annotated[str, StringConstraints(max_length=512), Storable]
Metadata = Annotated[dict[Annotated[str, StringConstraints(max_length=64), Storable], Label], Field(max_length=16)]


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class ConversationReference(BaseModel):
    """A conversation by its id."""

    model_config = ConfigDict(extra="ignore")

    id: str


class ResponseRequest(BaseModel):
    """A request for a response. What the agent decides itself (temperature, limits of tokens) is ignored."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(default=None, min_length=1, max_length=63)
    input: Annotated[str, StringConstraints(max_length=200_000)] | list[dict[str, Any]] | None = None
    instructions: Annotated[str, StringConstraints(max_length=200_000), Storable] | None = None
    conversation: str | ConversationReference | None = None
    previous_response_id: str | None = None
    background: bool | None = None
    stream: bool | None = None
    store: bool | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    metadata: Metadata | None = None
    text: dict[str, Any] | None = None
    prompt: Any = None

    @property
    def conversation_id(self) -> UUID | None:
        """The conversation in which it is asked, or None.

        Raises:
            NotFound: there is no such conversation.
        """
        if self.conversation is None:
            return None
        given = self.conversation if isinstance(self.conversation, str) else self.conversation.id
        return parse_id("conv", given)

    def client_tools(self) -> list[ClientTool] | None:
        """Return the tools that the caller brings.

        Raises:
            InvalidInput: a tool is none that an agent can be given.
        """
        if other := {str(tool.get("type")) for tool in self.tools or ()} - {"function"}:
            raise InvalidInput(f"tools: tools of the type {', '.join(sorted(other))} are not taken; functions are.")
        return tools_of(self.tools or (), self.tool_choice)

    def ensure_possible(self) -> None:
        """Raise InvalidInput if something is asked for that an agent cannot do."""
        if self.prompt is not None:
            raise InvalidInput("prompt: an agent has its own prompt; use instructions.")
        if ((self.text or {}).get("format") or {}).get("type", "text") != "text":
            raise InvalidInput("text.format: an agent answers in text.")
        if self.conversation is not None and self.previous_response_id is not None:
            raise InvalidInput("Give conversation or previous_response_id, not both.")
        if self.store is False and (self.conversation is not None or self.previous_response_id is not None):
            raise InvalidInput(
                "store: false is for responses that continue nothing; this one would be kept with others."
            )

    def options(self) -> dict[str, Any]:
        """Return what is kept of the request, to be told with the response."""
        return {
            "instructions": self.instructions,
            "metadata": self.metadata or {},
            "tools": self.tools or [],
            "background": bool(self.background),
            "previous_response_id": self.previous_response_id,
            "is_stored": self.store is not False,
        }


@dataclass(frozen=True, slots=True)
class Item(Earlier):
    """A message that came with a request, with the files in it."""

    files: tuple[InlineFile, ...] = ()


@dataclass(frozen=True)
class ParsedInput:
    """The items of a request: what is asked, what was said before, and the results of tools with which it ends."""

    earlier: list[Item]
    message: str | None
    """None if the request ends with results"""
    results: list[ToolResult]
    instructions: list[str]
    files: tuple[InlineFile, ...] = ()
    """of the message"""
    attachments: tuple[UUID, ...] = ()
    """of the message: its files as they were stored"""

    @property
    def has_files(self) -> bool:
        """Whether the message or one before it has any."""
        return bool(self.files or any(one.files for one in self.earlier))


def parse_input(given: str | Sequence[Mapping[str, Any]] | None) -> ParsedInput:
    """Return what the items of a request say.

    Raises:
        InvalidInput: an item is none that an agent takes, or the last is neither a user's message nor a result.
    """
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not given:
        raise InvalidInput("input: say what the agent should do.")
    earlier, instructions = parse_items(given)
    results = _ending(earlier)
    if results:
        return ParsedInput(earlier[: -len(results)], None, results, instructions)
    if not earlier or earlier[-1].role != "user":
        raise InvalidInput("input: the last item must be a message of the user, or the result of a tool.")
    before = earlier[:-1]
    if problem := unmatched_call(before):
        raise InvalidInput(f"input: {problem}.")
    return ParsedInput(before, earlier[-1].text, [], instructions, earlier[-1].files)


def _ending(earlier: Sequence[Earlier]) -> list[ToolResult]:
    ending = list(itertools.takewhile(lambda one: one.role == "tool", reversed(earlier)))
    return validated(
        lambda: [ToolResult(call_id=one.call_id or "", content=one.text) for one in reversed(ending)], "input"
    )


def parse_items(given: Sequence[Mapping[str, Any]]) -> tuple[list[Item], list[str]]:
    """Return items as messages in order, and the instructions among them.

    Raises:
        InvalidInput: an item is none that an agent takes.
    """
    if len(given) > _MOST_ITEMS:
        raise InvalidInput(f"input: at most {_MOST_ITEMS} items are taken.")
    earlier: list[Item] = []
    instructions: list[str] = []
    for item in given:
        kind, role = item.get("type", "message"), item.get("role")
        if kind == "function_call":
            _add_call(earlier, item)
        elif kind == "function_call_output":
            output = text_of(item.get("output"), "input")
            earlier.append(Item("tool", output, call_id=str(item.get("call_id") or "")))
        elif kind == "message" and role in {"system", "developer"}:
            instructions.append(text_of(item.get("content"), "input"))
        elif kind == "message" and role in {"user", "assistant"}:
            earlier.append(_message(item))
        elif kind not in _IGNORED:
            raise InvalidInput(f"input: items of the type {kind} and the role {role} are not taken.")
    return earlier, instructions


def _message(item: Mapping[str, Any]) -> Item:
    is_users = item["role"] == "user"
    text = text_of(item.get("content"), "input", or_files=is_users)
    files = files_of(item.get("content"), "input") if is_users else ()
    if is_users and not text.strip():
        if not files:
            raise InvalidInput("input: a message is empty.")
        text = SEE_FILES
    return Item(item["role"], text, files=files)


def _add_call(earlier: list[Item], item: Mapping[str, Any]) -> None:
    """Add a call to the answer that made it: the one just before, or one without words."""
    call = validated(
        lambda: TurnCall(id=item.get("call_id"), tool=item.get("name"), arguments=item.get("arguments") or "{}"),
        "input",
    )
    last = earlier[-1] if earlier and earlier[-1].role == "assistant" else None
    if last is not None:
        earlier[-1] = Item("assistant", last.text, (*last.tool_calls, call))
    else:
        earlier.append(Item("assistant", "", (call,)))


# ── ids ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_id(prefix: str, one: UUID) -> str:
    """Return the id of a conversation (`conv`) or a message (`msg`) on this wire."""
    return f"{prefix}_{one.hex}"


def parse_id(prefix: str, given: str) -> UUID:
    """Return what an id stands for.

    Raises:
        NotFound: it is none of ours.
    """
    found = re.fullmatch(rf"{prefix}_([0-9a-f]{{32}})(_[0-9]+)*", given)
    if found is None:
        raise NotFound(f"There is no {given!r}.")
    return UUID(found[1])


def response_id(answer: UUID, first: int) -> str:
    """Return the id of a response: of an answer, or of its part from step `first` on, after results of tools."""
    return f"resp_{answer.hex}_{first}" if first else f"resp_{answer.hex}"


def parse_response_id(given: str) -> tuple[UUID, int]:
    """Return the answer and the first step that the id of a response stands for.

    Raises:
        NotFound: it is none of ours.
    """
    found = re.fullmatch(r"resp_([0-9a-f]{32})(?:_([1-9][0-9]{0,8}))?", given)
    if found is None:
        raise NotFound(f"There is no response {given!r}.")
    return UUID(found[1]), int(found[2] or 0)


# ── objects ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def message_id(answer: UUID, step: int, epoch: int) -> str:
    """Return the id of what is said in a step. A step that begins anew has another."""
    return f"msg_{answer.hex}_{step}_{epoch}"


def message_item(item_id: str, text: str, status: str = "completed") -> dict[str, Any]:
    """Return what was said as an item."""
    return {
        "id": item_id, "type": "message", "role": "assistant", "status": status, "content": [output_text(text)],
    }  # fmt: skip


def output_text(text: str) -> dict[str, Any]:
    """Return text as a part of an item."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call_item(call: ClientCall, arguments: str | None = None, status: str = "completed") -> dict[str, Any]:
    """Return a call of the caller's tool as an item."""
    return {
        "id": f"fc_{call.task_id.hex}_{call.seq}", "type": "function_call", "call_id": call.id, "name": call.tool,
        "arguments": call.text if arguments is None else arguments, "status": status,
    }  # fmt: skip


def response(answer: Answer, task: TaskDetail, segment: Segment, output: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an answer, or a part of it, as a response with these items."""
    status = _status(answer, task, segment)
    has_usage = segment.is_closed
    return empty_response(answer, task, segment.first) | {
        "status": status,
        "completed_at": _seconds(task.finished_at) if status == "completed" else None,
        "error": _error(task) if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "output": output,
        "usage": _usage(segment) if has_usage else None,
        "rota": {"task_id": str(task.id), "waiting_for": None if segment.is_closed else task.waiting_for},
    }


def empty_response(answer: Answer, task: TaskDetail, first: int) -> dict[str, Any]:
    """Return a response that has just begun."""
    asked = answer.options
    return {
        "id": response_id(answer.id, first),
        "object": "response",
        "created_at": int(answer.created_at.timestamp()),
        "completed_at": None,
        "status": "queued" if asked.get("background") else "in_progress",
        "background": bool(asked.get("background")),
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "metadata": asked.get("metadata") or {},
        "model": task.agent,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": asked.get("previous_response_id"),
        "conversation": {"id": make_id("conv", answer.conversation_id)} if answer.is_listed else None,
        "store": asked.get("is_stored", True),
        "temperature": None,
        "top_p": None,
        "tool_choice": "auto",
        "tools": asked.get("tools") or [],
        "text": {"format": {"type": "text"}},
        "truncation": "auto",
        "usage": None,
        "rota": {"task_id": str(task.id), "waiting_for": None},
    }


def _status(answer: Answer, task: TaskDetail, segment: Segment) -> str:
    if not segment.is_closed:
        return "queued" if task.status == "queued" and answer.options.get("background") else "in_progress"
    if segment.calls:
        return "completed"
    if task.status == "succeeded":
        return "incomplete" if (task.result or {}).get("is_truncated") else "completed"
    return "cancelled" if task.status == "cancelled" else "failed"


def _error(task: TaskDetail) -> dict[str, Any]:
    why = task.error.message if task.error else f"The task {task.status}."
    return {"code": "server_error", "message": why}


def _usage(segment: Segment) -> dict[str, Any]:
    return {
        "input_tokens": segment.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": segment.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": segment.input_tokens + segment.output_tokens,
    }


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


# ── conversations ────────────────────────────────────────────────────────────────────────────────────────────────────


def conversation_object(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation."""
    return {
        "id": make_id("conv", conversation.id), "object": "conversation", "metadata": conversation.metadata,
        "created_at": int(conversation.created_at.timestamp()),
    }  # fmt: skip


def items_of(message: ChatMessage | Said) -> list[dict[str, Any]]:
    """Return a message of a conversation as items."""
    item_id = make_id("msg", message.id)
    if message.role == "tool":
        return [{"id": item_id, "type": "function_call_output", "call_id": message.call_id, "output": message.text}]
    made = [
        {
            "id": f"{item_id}_{number}", "type": "function_call", "call_id": call.id, "name": call.tool,
            "arguments": call.arguments, "status": "completed",
        }
        for number, call in enumerate(message.tool_calls or ())
    ]  # fmt: skip
    if made and not message.text:
        return made
    kind = "output_text" if message.role == "assistant" else "input_text"
    part = output_text(message.text) if kind == "output_text" else {"type": kind, "text": message.text}
    files = [{"type": "input_file", "file_id": f"file-{one.hex}"} for one in message.attachments]
    status = {"queued": "in_progress", "answering": "in_progress", "waiting": "in_progress"}.get(
        getattr(message, "status", "answered"), "completed"
    )
    item = {"id": item_id, "type": "message", "role": message.role, "status": status, "content": [part, *files]}
    return [item, *made]


def page_of(items: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return a list of items."""
    return {
        "object": "list", "data": items, "has_more": has_more,
        "first_id": items[0]["id"] if items else None, "last_id": items[-1]["id"] if items else None,
    }  # fmt: skip
