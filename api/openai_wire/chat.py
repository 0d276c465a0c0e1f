"""Chat Completions: its requests as tasks, and what happens in a task as its chunks."""

import itertools
import json
from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.openai_wire.files import SEE_FILES, InlineFile, files_of
from api.openai_wire.parts import Segment, text_of, tools_of, validated
from core.errors import InvalidInput
from domain.attachments.schemas import AttachedFile
from domain.client_tools.schemas import ToolResult
from domain.events.schemas import Cursor, Event, Reset
from domain.tasks.client_calls import WAITING, ClientCall
from domain.tasks.schemas import AttachedInput, AttachedTurn, Task, TaskDetail, TaskInput, TurnCall
from web.following import Encoding, Position
from web.said import Piece

_SEPARATOR = "\n\n"
"""between what was said before and after an action"""


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class CalledFunction(BaseModel):
    """A function that was called, with its arguments as JSON."""

    model_config = ConfigDict(extra="ignore")

    name: str
    arguments: str = "{}"


class MadeCall(BaseModel):
    """A call of a tool in an earlier answer."""

    model_config = ConfigDict(extra="ignore")

    id: str
    function: CalledFunction


class ChatMessage(BaseModel):
    """A message of a request: text, and images and files of the user. Other parts are refused."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[MadeCall] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The text of the message.

        Raises:
            InvalidInput: it has parts that are neither text nor files of a user.
        """
        text = text_of(self.content, "messages", or_files=self.role == "user")
        return text if text.strip() or not self.files else SEE_FILES

    @property
    def files(self) -> tuple[InlineFile, ...]:
        """The files in the message.

        Raises:
            InvalidInput: one cannot be taken.
        """
        return files_of(self.content, "messages") if self.role == "user" else ()

    def as_turn(self, files: Sequence[AttachedFile]) -> AttachedTurn:
        """Return the message as the agent reads it, with its files as they were stored."""
        assert self.role in {"user", "assistant", "tool"}  # noqa: S101  instructions are no turns
        calls = [
            TurnCall(id=call.id, tool=call.function.name, arguments=call.function.arguments)
            for call in self.tool_calls or ()
        ]
        return AttachedTurn.model_validate({
            "role": self.role, "text": self.text, "tool_calls": calls or None, "call_id": self.tool_call_id,
            "attachments": list(files),
        })  # fmt: skip


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ChatRequest(BaseModel):
    """A request for a chat completion. What the agent decides itself (temperature, limits of tokens) is ignored."""

    model_config = ConfigDict(extra="ignore")

    model: str = Field(min_length=1, max_length=63)
    messages: list[ChatMessage] = Field(min_length=1, max_length=500)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    functions: list[dict[str, Any]] | None = None

    @property
    def results(self) -> list[ToolResult]:
        """The results of tools with which the request ends: it goes on with the task that called them.

        Raises:
            InvalidInput: they are not valid.
        """
        ending = list(itertools.takewhile(lambda message: message.role == "tool", reversed(self.messages)))
        return validated(
            lambda: [ToolResult(call_id=one.tool_call_id or "", content=one.text) for one in reversed(ending)],
            "messages",
        )

    def ensure_possible(self) -> None:
        """Raise InvalidInput if something is asked for that an agent cannot do."""
        if self.n not in {None, 1}:
            raise InvalidInput("n: an agent gives one answer.")
        if self.functions:
            raise InvalidInput("functions: use tools instead.")
        if self.messages[-1].role != "user":
            raise InvalidInput("messages: the last message must be one of the user, or the result of a tool.")
        if other := {str(tool.get("type")) for tool in self.tools or ()} - {"function"}:
            raise InvalidInput(f"tools: tools of the type {', '.join(sorted(other))} are not taken; functions are.")

    def as_input(self, files: Sequence[Sequence[AttachedFile]]) -> TaskInput:
        """Return what the agent is asked: the last message, after those before it. Instructions of the caller are facts
        that the agent knows; its own prompt stays. `files` are those of each message, as they were stored.

        Raises:
            InvalidInput: something is asked for that an agent cannot do.
        """
        self.ensure_possible()
        tools = tools_of([tool.get("function") or {} for tool in self.tools or ()], self.tool_choice)
        instructions = "\n\n".join(one.text for one in self.messages if one.role in {"system", "developer"})
        before = zip(self.messages[:-1], files, strict=False)
        said = [(one, theirs) for one, theirs in before if one.role in {"user", "assistant", "tool"}]
        made = validated(
            lambda: AttachedInput(
                message=self.messages[-1].text,
                context={"instructions": instructions} if instructions else {},
                history=[one.as_turn(theirs) for one, theirs in said],
                client_tools=tools,
                attachments=list(files[-1]),
            ),
            "messages",
        )
        return made if made.has_attachments else made.without_attachments()


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def completion(task: TaskDetail, segment: Segment) -> dict[str, Any]:
    """Return a segment that is closed as a chat completion."""
    text = _SEPARATOR.join(one.text for one in segment.spoken)
    message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
    if segment.calls:
        message["tool_calls"] = [_call(call) for call in segment.calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(task, segment)}
    return _head(task, "chat.completion") | {
        "choices": [choice], "usage": _usage(segment.input_tokens, segment.output_tokens),
    }  # fmt: skip


def _call(call: ClientCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.tool, "arguments": call.text}}


def _finish(task: TaskDetail, segment: Segment) -> str:
    if segment.calls:
        return "tool_calls"
    return "length" if task.result and task.result.get("is_truncated") else "stop"


def _head(task: Task, kind: str) -> dict[str, Any]:
    created = int(task.created_at.timestamp())
    return {"id": f"chatcmpl-{task.id.hex}", "object": kind, "created": created, "model": task.agent}


def _usage(asked: int, said: int) -> dict[str, int]:
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


class Chunks(Encoding):
    """A task's stream as chunks of a chat completion, from step `first` on. `finish` writes the end."""

    def __init__(self, task: Task, *, first: int = 0, has_usage: bool = False) -> None:
        self._head = _head(task, "chat.completion.chunk")
        self._first = first
        self._has_usage = has_usage
        self._has_begun = False
        self._step: int | None = None
        self._text = ""
        """what was said so far"""
        self._decided = -1
        self._is_broken = False

    def ready(self, cursor: Cursor) -> bytes:  # noqa: ARG002  a task's stream begins with its first event
        """Nothing."""
        return b""

    def reset(self, reset: Reset, cursor: Cursor) -> bytes:  # noqa: ARG002
        """Nothing: the stream begins with the request."""
        return b""

    def event(self, event: Event, position: Position) -> bytes:  # noqa: ARG002
        """Return that the task waits; of other events nothing."""
        told = event.told
        if event.kind == "decision.made":
            self._decided = told["step"]
        elif event.kind == "task.ended":
            self.is_over = True
        elif event.kind == "task.waiting" and self._decided >= self._first:
            self.is_over = told["waiting_for"] == WAITING
            if not self.is_over and not self._is_broken:
                return self._chunk({}, rota={"waiting_for": told["waiting_for"], "task_id": str(event.task_id)})
        return b""

    def piece(self, task: UUID, piece: Piece, position: Position) -> bytes:  # noqa: ARG002
        """Return a piece as a chunk. What was said cannot be taken back on this wire: a step that begins anew is an
        error.
        """
        if self._is_broken or piece.place.step < self._first:
            return b""
        if piece.text is None:
            self._is_broken = True
            return _failed(
                "The answer was interrupted and begins anew. Read the task for the whole answer.", "superseded"
            )
        text = piece.text
        if self._step not in {None, piece.place.step}:
            text = f"{_SEPARATOR}{text}"
        self._step = piece.place.step
        return self._say(text)

    def broken(self) -> bytes:
        """Return an error: this wire cannot be resumed, and the answer must not be taken for whole."""
        return _failed("The stream was interrupted. The task goes on: read it for the whole answer.", "interrupted")

    def ended(self, task: Task, cursor: Cursor) -> bytes:  # noqa: ARG002
        """Nothing: `finish` writes the end."""
        return b""

    def finish(self, task: TaskDetail, segment: Segment) -> bytes:
        """Return what was not said yet, the calls of the caller's tools, and the end."""
        if self._is_broken:
            return b""
        if task.has_ended and task.status != "succeeded" and not segment.calls:
            return _failed(f"The task {task.status}.", task.error.kind if task.error else task.status)
        text = _SEPARATOR.join(one.text for one in segment.spoken)
        lines = self._say(text[len(self._text) :]) if text.startswith(self._text) else b""
        for index, call in enumerate(segment.calls):
            lines += self._chunk({"tool_calls": [{"index": index} | _call(call)]})
        lines += self._chunk({}, finish=_finish(task, segment))
        if self._has_usage:
            usage = _usage(segment.input_tokens, segment.output_tokens)
            lines += _line(self._head | {"choices": [], "usage": usage})
        return lines + b"data: [DONE]\n\n"

    def _say(self, text: str) -> bytes:
        self._text += text
        return self._chunk({"content": text}) if text else b""

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None, **more: Any) -> bytes:
        if not self._has_begun:
            self._has_begun = True
            delta = {"role": "assistant", "content": ""} | delta
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _line(self._head | {"choices": [choice]} | more)


def _line(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def _failed(message: str, code: str) -> bytes:
    return _line({"error": {"message": message, "type": "server_error", "param": None, "code": code}})
