"""What tests answer and read in the format of each API, whichever provider uses it."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from core.model_providers import ProviderName
from embedded.rehearsal.wires import CHAT_COMPLETIONS, MESSAGES, WIRES, WireFormat
from tests.support.models import Canned

Json = dict[str, Any]


class Dialect(Protocol):
    """One format. A format that has none yet is added to `DIALECTS`."""

    cache_write: int
    """how many tokens of `cached` were written to the cache, as far as the format says"""
    counts_input_first: bool
    """whether a stream begins with the number of input tokens"""

    def saying(self, text: str) -> Json:
        """An answer in words."""
        ...

    def asking(self, *calls: tuple[str, str, str]) -> Canned:
        """An answer that asks for tools: the id, the name and the arguments as JSON text of each call."""
        ...

    def asking_in_pieces(self, *pieces: str) -> Canned:
        """A streamed answer that asks for `pay`, with its arguments as JSON text in pieces."""
        ...

    def sent_back(self, arguments: str) -> str:
        """How the JSON text of arguments stands in a request."""
        ...

    def cached(self) -> Json:
        """An answer to 100 input tokens, 70 of them read from the cache, with 3 output tokens."""
        ...

    def unreadable(self) -> Json:
        """An answer whose content is a number, with usage of 100 and 20 tokens."""
        ...

    def broken_off(self, *pieces: str) -> list[Json]:
        """Events of an answer in words that has no end. It answers 100 input tokens, as far as the format says."""
        ...

    def broken_off_in_a_call(self) -> list[Json]:
        """Events of an answer that ends in the middle of a call."""
        ...

    def error(self, kind: str, message: str) -> Json:
        """An error, as a body and as an event."""
        ...

    def heard(self, events: Iterable[Json]) -> tuple[str, list[Any]]:
        """The text and the arguments of the calls in the events of an answer."""
        ...


# ── Chat Completions ─────────────────────────────────────────────────────────────────────────────────────────────────


def completion(message: Json, finish: str | None = "stop", **more: Any) -> Json:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    return {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage,
    } | more  # fmt: skip


def chunks(deltas: Sequence[Json], finish: str | None = "stop", usage: Any = None) -> list[Json]:
    """A streamed chat completion."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    said = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    end = head | {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]} | ({"usage": usage} if usage else {})
    return [*said, end] if finish else said


def called(arguments: Any, name: Any = "pay", **more: Any) -> Json:
    """A call in a chat completion."""
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}} | more


class _ChatCompletions:
    cache_write = 0
    counts_input_first = False

    def saying(self, text: str) -> Json:
        return completion({"content": text})

    def asking(self, *calls: tuple[str, str, str]) -> Canned:
        asked = [called(arguments, name, id=call_id) for call_id, name, arguments in calls]
        return Canned(body=completion({"content": None, "tool_calls": asked}, "tool_calls"))

    def asking_in_pieces(self, *pieces: str) -> Canned:
        deltas = [
            {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "pay", "arguments": p}}]} for p in pieces
        ]
        return Canned(events=chunks(deltas, "tool_calls"))

    def sent_back(self, arguments: str) -> str:
        return json.dumps(arguments, ensure_ascii=False)

    def cached(self) -> Json:
        details = {"cached_tokens": 70}
        usage = {
            "prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103, "prompt_tokens_details": details,
        }  # fmt: skip
        return completion({"content": "hi"}, usage=usage)

    def unreadable(self) -> Json:
        return completion({"content": 7}, choices=[7])

    def broken_off(self, *pieces: str) -> list[Json]:
        return chunks([{"content": piece} for piece in pieces], None)

    def broken_off_in_a_call(self) -> list[Json]:
        return chunks([{"tool_calls": [{"index": 0} | called("{")]}], None)

    def error(self, kind: str, message: str) -> Json:
        return {"error": {"message": message, "type": kind, "code": kind, "param": None}}

    def heard(self, events: Iterable[Json]) -> tuple[str, list[Any]]:
        text, pieces = "", dict[int, str]()
        for event in events:
            delta = event["choices"][0]["delta"] if event["choices"] else {}
            text += delta.get("content") or ""
            for part in delta.get("tool_calls", []):
                pieces[part["index"]] = pieces.get(part["index"], "") + part["function"]["arguments"]
        return text, [json.loads(pieces[index]) for index in sorted(pieces)]


# ── Messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def message(content: list[Json], stop: str | None = "end_turn", **more: Any) -> Json:
    """A message of Anthropic's."""
    usage = {"input_tokens": 100, "output_tokens": 20}
    head = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
    return head | {"content": content, "stop_reason": stop, "usage": usage} | more


def used(arguments: Any, **more: Any) -> Json:
    """A call in a message."""
    return {"type": "tool_use", "id": "t", "name": "pay", "input": arguments} | more


def _words(text: str) -> Json:
    return {"type": "text", "text": text}


class _Messages:
    cache_write = 20
    counts_input_first = True

    def saying(self, text: str) -> Json:
        return message([_words(text)])

    def asking(self, *calls: tuple[str, str, str]) -> Canned:
        # The arguments stand word for word in the answer: as JSON, and not as text.
        blocks = [used(f"@{number}@", id=call_id, name=name) for number, (call_id, name, _) in enumerate(calls)]
        body = json.dumps(message(blocks, "tool_use"))
        for number, (_, _, arguments) in enumerate(calls):
            body = body.replace(f'"@{number}@"', arguments)
        return Canned(body=body)

    def asking_in_pieces(self, *pieces: str) -> Canned:
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        stop = {"delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 20}}
        return Canned(events=[*_begun(used({})), *map(_more, deltas), {"type": "message_delta"} | stop, _END])

    def sent_back(self, arguments: str) -> str:
        return arguments

    def cached(self) -> Json:
        usage = {
            "input_tokens": 10, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 20, "output_tokens": 3,
        }  # fmt: skip
        return message([_words("hi")], usage=usage)

    def unreadable(self) -> Json:
        return message([]) | {"content": 7}

    def broken_off(self, *pieces: str) -> list[Json]:
        return [*_begun(_words("")), *(_more({"type": "text_delta", "text": piece}) for piece in pieces)]

    def broken_off_in_a_call(self) -> list[Json]:
        return _begun(used({}))

    def error(self, kind: str, message: str) -> Json:
        return {"type": "error", "error": {"type": kind, "message": message}}

    def heard(self, events: Iterable[Json]) -> tuple[str, list[Any]]:
        text, pieces = "", dict[int, str]()
        for event in events:
            if event["type"] == "content_block_delta":
                text += event["delta"].get("text", "")
                part = event["delta"].get("partial_json", "")
                pieces |= {event["index"]: pieces.get(event["index"], "") + part} if part else {}
        return text, [json.loads(pieces[index]) for index in sorted(pieces)]


_END = {"type": "message_stop"}


def _begun(block: Json) -> list[Json]:
    start = message([], None, usage={"input_tokens": 100, "output_tokens": 1})
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
    ]


def _more(delta: Json) -> Json:
    return {"type": "content_block_delta", "index": 0, "delta": delta}


# ── of each provider ─────────────────────────────────────────────────────────────────────────────────────────────────

DIALECTS: dict[WireFormat, Dialect] = {CHAT_COMPLETIONS: _ChatCompletions(), MESSAGES: _Messages()}


def dialect_of(provider: ProviderName) -> Dialect:
    """The dialect of a provider."""
    found = DIALECTS.get(WIRES[provider].format)
    assert found, f"The format of {provider} has no dialect yet: write one in tests/support/dialects.py."
    return found
