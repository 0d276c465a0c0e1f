"""Anthropic's Messages API through the official SDK."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Annotated, Any

import anthropic
import httpx2
from pydantic import BaseModel, BeforeValidator

from agents.llm.base import (
    AssistantMessage,
    MediaPart,
    Message,
    Reply,
    Request,
    StopReason,
    TextDelta,
    ToolCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from agents.llm.calls import read_call, written_at
from agents.llm.counting import Count, Report, counted
from agents.llm.errors import ModelError, Remedies, from_answer, mapped_errors
from agents.llm.replay import offered, presentable
from agents.llm.transport import call_options, whole_address
from domain.billing.schemas import Tokens

_STOP_REASONS: dict[str, StopReason] = {
    "end_turn": "end", "stop_sequence": "end", "tool_use": "tool_use", "max_tokens": "max_tokens",
    "model_context_window_exceeded": "window", "refusal": "refusal", "pause_turn": "pause",
}  # fmt: skip


class AnthropicProvider:
    """Claude models, or anything that serves the Messages API at `base_url`."""

    def __init__(
        self, *, name: str, api_key: str, base_url: str | None, http_client: httpx2.Client, remedies: Remedies
    ) -> None:
        self._name = name
        self._remedies = remedies
        self._client = anthropic.Anthropic(api_key=api_key, base_url=base_url, http_client=http_client, max_retries=0)
        self._address = whole_address(self._client.base_url, "/v1/messages")

    def complete(self, request: Request) -> Reply:
        """Return the whole reply at once."""
        assembly = _Assembly(request)
        with self._mapped_errors(assembly):
            # Equivalent to `messages.create`, without its walk through every tool's schema and its generic parsing of
            # the response, which are half the cost of a call.
            response = self._client.post(
                self._address,
                cast_to=httpx2.Response,
                content=_written(_body(request)),
                options=call_options(request.timeout),
            )
            return self._whole(request, response.text, assembly)

    def stream(self, request: Request) -> Iterator[TextDelta | Reply]:
        """Yield the text as it arrives, then the reply."""
        assembly = _Assembly(request)
        with (
            self._mapped_errors(assembly),
            self._client.post(
                self._address,
                cast_to=object,
                content=_written(_body(request) | {"stream": True}),
                options=call_options(request.timeout),
                stream=True,
                stream_cls=anthropic.Stream[object],
            ) as events,
        ):
            for event in events:
                if text := assembly.add(event):
                    yield TextDelta(text=text)
            yield self._reply(request, assembly.answer(), assembly.written)

    def _whole(self, request: Request, text: str, assembly: "_Assembly") -> Reply:
        body = json.loads(text)
        assembly.count(body.get("usage"))
        if body.get("error"):
            raise from_answer(self._name, httpx2.codes.OK, {}, body, text, self._remedies)
        return self._reply(request, _Answer.model_validate(body), lambda index: _input_at(text, index))

    def _mapped_errors(self, assembly: "_Assembly") -> AbstractContextManager[None]:
        return mapped_errors(anthropic, anthropic.AnthropicError, self._name, self._remedies, assembly.spent)

    def _reply(self, request: Request, answer: "_Answer", written: Any) -> Reply:
        """Build the reply. `written` returns the JSON text of the input of the block at an index."""
        text = "".join(block.text for block in answer.content if block.type == "text")
        calls = [
            read_call(id=block.id, name=block.name, arguments=block.input, text=written(index))
            for index, block in enumerate(answer.content)
            if block.type == "tool_use"
        ]
        tokens = _tokens(request, answer.usage, text + "".join(call.text for call in calls))
        # A truncated stream ends without an error, with an empty tool call and no stop reason.
        if answer.stop_reason is None:
            raise ModelError("incomplete", f"{self._name}'s answer broke off before its end.", tokens=tokens)
        stop_reason = _STOP_REASONS.get(answer.stop_reason, "unknown")
        # At the limit, the last call's arguments may be cut anywhere.
        is_cut = stop_reason in {"max_tokens", "window"} and bool(calls)
        return Reply(
            message=AssistantMessage(text=text, tool_calls=[] if is_cut else calls),
            stop_reason=stop_reason,
            tokens=tokens,
            provider=self._name,
            model=request.model,
            truncated_call=is_cut,
            missing_call=stop_reason == "tool_use" and not calls,
            reason=answer.stop_reason,
        )


# ── what is sent ─────────────────────────────────────────────────────────────────────────────────────────────────────


class _Verbatim(str):
    """Text that is JSON already."""

    __slots__ = ()


def _written(value: Any) -> bytes:
    """Return a request as JSON. A JSON library would respell the numbers in a tool call's input and drop duplicate
    keys, so inputs are inserted as the model wrote them.
    """
    return _json(value).encode()


def _json(value: Any) -> str:
    if isinstance(value, _Verbatim):
        return value
    if isinstance(value, dict) and value.get("role") != "user":  # a user message holds no verbatim text
        return "{" + ",".join(f"{json.dumps(name)}:{_json(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _tool(spec: ToolSpec) -> _Verbatim:
    head = json.dumps({"name": spec.name, "description": spec.description}, ensure_ascii=False)
    return _Verbatim(f'{head[:-1]}, "input_schema": {spec.parameters_json}}}')


def _body(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "messages": _messages(presentable(request.messages)),
        "max_tokens": request.max_output_tokens,
    }
    if request.system.strip():
        body["system"] = request.system
    if tools := offered(request):
        body["tools"] = list(map(_tool, tools))
    return body


def _messages(messages: list[Message]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    for message in messages:
        role, blocks = _blocks(message)
        if sent and sent[-1]["role"] == role:
            sent[-1]["content"] += blocks  # the results of parallel calls belong in one message
        else:
            sent.append({"role": role, "content": blocks})
    return sent


def _blocks(message: Message) -> tuple[str, list[dict[str, Any]]]:
    match message:
        case UserMessage():
            return "user", [*map(_media, message.media), {"type": "text", "text": message.text}]
        case AssistantMessage():
            text = [{"type": "text", "text": message.text}] if message.text else []
            return "assistant", [*text, *map(_tool_use, message.tool_calls)]
        case ToolMessage():
            return "user", [
                {
                    "type": "tool_result",
                    "tool_use_id": message.call_id,
                    "content": message.told,
                    "is_error": message.is_error,
                }
            ]


def _media(part: MediaPart) -> dict[str, Any]:
    source = {"type": "base64", "media_type": part.media_type, "data": part.base64}
    if part.medium == "image":
        return {"type": "image", "source": source}
    return {"type": "document", "source": source, "title": part.name}


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": _Verbatim(call.text)}


# ── what is read of an answer ────────────────────────────────────────────────────────────────────────────────────────


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


class _Block(BaseModel):
    type: str
    text: Annotated[str, BeforeValidator(_text)] = ""
    id: Any = None
    name: Any = None
    input: Any = None


class _CacheWrites(BaseModel):
    ephemeral_5m_input_tokens: Count = None
    ephemeral_1h_input_tokens: Count = None


class _Usage(BaseModel):
    input_tokens: Count = None
    output_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_creation: Annotated[_CacheWrites, Report] = _CacheWrites()


def _parts(value: Any) -> Any:
    """Return the blocks of a response. Compatible servers may send a single text instead, or nothing."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    return [] if value is None else value


class _Answer(BaseModel):
    content: Annotated[list[_Block], BeforeValidator(_parts)]
    stop_reason: str | None = None
    usage: Annotated[_Usage, Report] = _Usage()


def _input_at(text: str, index: int) -> str | None:
    """Return the JSON text of a block's input in a response; None if it has no input."""
    try:
        return written_at(text, "content", index, "input")
    except (ValueError, KeyError, IndexError):  # the block has no input
        return None


class _Assembly:
    """A reply assembled from the events of a stream."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._blocks: dict[int, dict[str, Any]] = {}
        self._pieces: dict[int, str] = {}
        self._usage: dict[str, Any] = {}
        self._stop_reason: str | None = None
        self._has_begun = False

    def add(self, event: Any) -> str:
        """Add an event. Return the text that it contributes."""
        match event["type"]:
            case "message_start":
                self._has_begun = True
                # Its count of output tokens is preliminary; `message_delta` has the final one.
                self.count((event["message"].get("usage") or {}) | {"output_tokens": None})
            case "content_block_start":
                self._blocks[event["index"]] = dict(event["content_block"])
                return self._say(event["index"], event["content_block"].get("text"), is_first=True)
            case "content_block_delta":
                return self._change(event["index"], event["delta"])
            case "message_delta":
                self._stop_reason = event["delta"].get("stop_reason") or self._stop_reason
                self.count(event.get("usage"))
        return ""

    def _change(self, index: int, delta: dict[str, Any]) -> str:
        if delta["type"] == "text_delta":
            return self._say(index, delta["text"])
        if delta["type"] == "input_json_delta":
            self._pieces[index] = self._pieces.get(index, "") + delta["partial_json"]
        return ""

    def _say(self, index: int, text: str | None, *, is_first: bool = False) -> str:
        block = self._blocks[index]
        block["text"] = ("" if is_first else block.get("text") or "") + (text or "")
        return text or "" if block["type"] == "text" else ""

    def count(self, usage: Any) -> None:
        """Merge a usage report."""
        if isinstance(usage, dict):
            self._usage |= {name: value for name, value in usage.items() if value is not None}

    def answer(self) -> _Answer:
        """Return everything received so far."""
        content = [
            block | ({"input": self._pieces[index]} if self._pieces.get(index) else {})
            for index, block in sorted(self._blocks.items())
        ]
        return _Answer.model_validate({"content": content, "stop_reason": self._stop_reason, "usage": self._usage})

    def written(self, _: int) -> None:
        """Return None: a streamed input is text already."""

    def spent(self) -> Tokens | None:
        """Return the tokens used if the reply ends here; None if it has not begun."""
        if not (self._has_begun or self._usage):
            return None
        said = "".join(block.get("text") or "" for block in self._blocks.values()) + "".join(self._pieces.values())
        return _tokens(self._request, _Usage.model_validate(self._usage), said)


def _tokens(request: Request, usage: _Usage, said: str) -> Tokens:
    cached, parts = usage.cache_read_input_tokens or 0, usage.cache_creation
    cache_write = usage.cache_creation_input_tokens or (
        (parts.ephemeral_5m_input_tokens or 0) + (parts.ephemeral_1h_input_tokens or 0)
    )
    # Anthropic reports cache reads and writes apart from the prompt; everywhere else they are a part of it.
    sent = None if usage.input_tokens is None else usage.input_tokens + cached + cache_write
    return counted(request, said, sent=sent, answered=usage.output_tokens, cached=cached, cache_write=cache_write)
