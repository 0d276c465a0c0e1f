"""The two wire formats: parse a request into a `Talk`, and write a `Turn` as JSON or as server-sent events."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from core.model_providers import ProviderName
from embedded.rehearsal.talk import Call, Talk, ToolOffer, Turn, count_tokens, read_result

NAME = "rota-rehearsal"
_WORDS = re.compile(r"\S+\s*|\s+")
_PIECE = 24


@dataclass(frozen=True)
class Answer:
    """A turn with the metadata that the wire formats add."""

    turn: Turn
    model: str
    input_tokens: int
    stop: str  # end, tool_use, max_tokens, refusal
    seed: str

    @property
    def output_tokens(self) -> int:
        """The tokens in the turn's text and calls."""
        return count_tokens(self.turn.text) + sum(count_tokens(name) + count_tokens(a) for name, a in self.turn.calls)

    def call_id(self, index: int) -> str:
        """Return an id for a call. The same conversation gives the same ids."""
        return hashlib.sha256(f"{self.seed}{index}".encode()).hexdigest()[:24]


# ── Chat Completions ─────────────────────────────────────────────────────────────────────────────────────────────────


def read_openai(body: dict[str, Any]) -> Talk:
    """Parse a Chat Completions request."""
    talk = Talk(system="", message="")
    asked: dict[str, tuple[str, dict[str, Any]]] = {}
    for message in body["messages"]:
        content = _plain(message.get("content"))
        match message["role"]:
            case "system" | "developer":
                talk.system += content
            case "user":
                talk.message, talk.calls = content, []
            case "assistant":
                for call in message.get("tool_calls") or []:
                    function = call["function"]
                    asked[call["id"]] = (function["name"], json.loads(function["arguments"] or "{}"))
            case "tool":
                name, arguments = asked.get(message["tool_call_id"], ("unknown", {}))
                result, is_error = read_result(content)
                talk.calls.append(Call(name, arguments, result, is_error))
    talk.tools = [
        ToolOffer(tool["function"]["name"], tool["function"].get("description", ""), tool["function"]["parameters"])
        for tool in body.get("tools") or []
    ]
    return talk


def write_openai(answer: Answer) -> dict[str, Any]:
    """Return the answer as a chat completion."""
    calls = [
        {
            "id": f"call_{answer.call_id(index)}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
        }
        for index, (name, arguments) in enumerate(answer.turn.calls)
    ]
    refused = answer.stop == "refusal"
    message = {
        "role": "assistant",
        "content": None if refused else answer.turn.text or None,
        "refusal": answer.turn.text if refused else None,
    } | ({"tool_calls": calls} if calls else {})
    return {
        "id": f"chatcmpl-{answer.call_id(0)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": answer.model,
        "system_fingerprint": NAME,
        "choices": [{"index": 0, "message": message, "finish_reason": _openai_stop(answer), "logprobs": None}],
        "usage": _openai_usage(answer),
    }


def stream_openai(answer: Answer) -> Iterator[bytes]:
    """Yield the answer as a chat completion in server-sent events."""
    head = {
        "id": f"chatcmpl-{answer.call_id(0)}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": answer.model,
        "system_fingerprint": NAME,
    }

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return _data(head | {"choices": choices, "usage": None})

    yield chunk({"role": "assistant", "content": ""})
    for word in _WORDS.findall(answer.turn.text):
        yield chunk({"content": word})
    for index, (name, arguments) in enumerate(answer.turn.calls):
        function = {"name": name, "arguments": ""}
        yield chunk(
            {
                "tool_calls": [
                    {"index": index, "id": f"call_{answer.call_id(index)}", "type": "function", "function": function}
                ]
            }
        )
        for piece in _pieces(json.dumps(arguments, ensure_ascii=False)):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, _openai_stop(answer))
    yield _data(head | {"choices": [], "usage": _openai_usage(answer)})
    yield b"data: [DONE]\n\n"


def error_openai(status: int, message: str) -> dict[str, Any]:
    """Return an error in OpenAI's format."""
    kind = {429: "rate_limit_exceeded", 400: "invalid_request_error", 401: "invalid_api_key"}.get(
        status, "server_error"
    )
    return {"error": {"message": message, "type": kind, "code": kind, "param": None}}


def _openai_stop(answer: Answer) -> str:
    return {"end": "stop", "tool_use": "tool_calls", "max_tokens": "length", "refusal": "content_filter"}[answer.stop]


def _openai_usage(answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


# ── Messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_anthropic(body: dict[str, Any]) -> Talk:
    """Parse a Messages request."""
    talk = Talk(system=_plain(body.get("system")), message="")
    asked: dict[str, tuple[str, Any]] = {}
    for message in body["messages"]:
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            match block["type"]:
                case "text" if message["role"] == "user":
                    talk.message, talk.calls = block["text"], []
                case "tool_use":
                    asked[block["id"]] = (block["name"], block["input"])
                case "tool_result":
                    name, arguments = asked.get(block["tool_use_id"], ("unknown", {}))
                    result, is_error = read_result(_plain(block.get("content")))
                    talk.calls.append(Call(name, arguments, result, is_error or bool(block.get("is_error"))))
    talk.tools = [
        ToolOffer(tool["name"], tool.get("description", ""), tool["input_schema"]) for tool in body.get("tools") or []
    ]
    return talk


def write_anthropic(answer: Answer) -> dict[str, Any]:
    """Return the answer as a message."""
    text = [{"type": "text", "text": answer.turn.text}] if answer.turn.text else []
    calls = [
        {"type": "tool_use", "id": f"toolu_{answer.call_id(index)}", "name": name, "input": arguments}
        for index, (name, arguments) in enumerate(answer.turn.calls)
    ]
    return _anthropic_head(answer) | {
        "content": [*text, *calls],
        "stop_reason": _anthropic_stop(answer),
        "usage": _anthropic_usage(answer),
    }


def stream_anthropic(answer: Answer) -> Iterator[bytes]:
    """Yield the answer as a message in server-sent events."""
    start = _anthropic_head(answer) | {"content": [], "stop_reason": None, "usage": _anthropic_usage(answer)}
    yield _event("message_start", {"message": start})
    index = 0
    if answer.turn.text:
        yield _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
        for word in _WORDS.findall(answer.turn.text):
            yield _event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": word}})
        yield _event("content_block_stop", {"index": 0})
        index = 1
    for number, (name, arguments) in enumerate(answer.turn.calls):
        block = {"type": "tool_use", "id": f"toolu_{answer.call_id(number)}", "name": name, "input": {}}
        yield _event("content_block_start", {"index": index, "content_block": block})
        for piece in _pieces(json.dumps(arguments, ensure_ascii=False)):
            delta = {"type": "input_json_delta", "partial_json": piece}
            yield _event("content_block_delta", {"index": index, "delta": delta})
        yield _event("content_block_stop", {"index": index})
        index += 1
    stop = {"stop_reason": _anthropic_stop(answer), "stop_sequence": None}
    yield _event("message_delta", {"delta": stop, "usage": {"output_tokens": answer.output_tokens}})
    yield _event("message_stop", {})


def error_anthropic(status: int, message: str) -> dict[str, Any]:
    """Return an error in Anthropic's format."""
    kinds = {
        429: "rate_limit_error",
        529: "overloaded_error",
        400: "invalid_request_error",
        401: "authentication_error",
    }
    return {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}}


def _anthropic_head(answer: Answer) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.call_id(0)}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "stop_sequence": None,
    }


def _anthropic_stop(answer: Answer) -> str:
    return {"end": "end_turn"}.get(answer.stop, answer.stop)


def _anthropic_usage(answer: Answer) -> dict[str, int]:
    return {
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
    }


# ── both ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _plain(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def _pieces(text: str) -> list[str]:
    return [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]


def _data(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def _event(kind: str, value: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | value, ensure_ascii=False)}\n\n".encode()


@dataclass(frozen=True)
class WireFormat:
    """How requests in the format of an API are read, and its answers written."""

    read: Callable[[dict[str, Any]], Talk]
    write: Callable[[Answer], dict[str, Any]]
    stream: Callable[[Answer], Iterator[bytes]]
    error: Callable[[int, str], dict[str, Any]]


CHAT_COMPLETIONS = WireFormat(read_openai, write_openai, stream_openai, error_openai)
MESSAGES = WireFormat(read_anthropic, write_anthropic, stream_anthropic, error_anthropic)


@dataclass(frozen=True)
class RehearsedWire:
    """Where the requests to one provider arrive, and their format."""

    path: str
    format: WireFormat


WIRES: dict[ProviderName, RehearsedWire] = {
    "openai": RehearsedWire("/v1/chat/completions", CHAT_COMPLETIONS),
    "anthropic": RehearsedWire("/v1/messages", MESSAGES),
}
