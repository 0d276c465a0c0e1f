"""A model server under the test's direction: the rehearsal model, and one that answers whatever it is told to."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from core.model_providers import PROVIDERS
from core.settings import Settings
from embedded.rehearsal.wires import CHAT_COMPLETIONS, MESSAGES, WIRES


@dataclass
class Canned:
    """An answer word for word. With `events` it is a stream, which ends without an end where `is_cut`."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    events: list[Any] | None = None


def asking(*calls: tuple[str, str], text: str | None = None) -> Canned:
    """An answer on OpenAI's wire that asks for tools: names with their arguments as JSON."""
    asked = [
        {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(calls)
    ]
    return _completion({"content": text, "tool_calls": asked}, "tool_calls")


def saying(text: str) -> Canned:
    """An answer on OpenAI's wire in words."""
    return _completion({"content": text}, "stop")


def _completion(message: dict[str, Any], finish: str) -> Canned:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    choices = [{"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}]
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
    return Canned(body=body)


class Parrot:
    """Says what it was given, one answer a call, and keeps what it was asked."""

    def __init__(self, *, is_strict: bool = False) -> None:
        """A strict one refuses what a provider would, before it answers."""
        self.answers: list[Canned] = []
        self.asked: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self._is_strict = is_strict

    def app(self) -> Starlette:
        """The ASGI application, for the wires of all providers."""
        return Starlette(routes=[Route(wire.path, self._answer, methods=["POST"]) for wire in WIRES.values()])

    async def _answer(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        self.headers.append(dict(request.headers))
        self.asked.append(json.loads(self.bodies[-1]))
        [wire] = [wire for wire in WIRES.values() if wire.path == request.url.path]
        find = _REFUSALS.get(wire.format)
        if self._is_strict and find and (refusal := find(self.asked[-1])):
            error = {"type": "invalid_request_error", "message": refusal}
            return JSONResponse({"type": "error", "error": error}, 400)
        canned = self.answers.pop(0)
        if canned.events is not None:
            return StreamingResponse(_spoken(canned.events), media_type="text/event-stream", headers=canned.headers)
        body = canned.body if isinstance(canned.body, str) else json.dumps(canned.body)
        return Response(body, canned.status, {"content-type": "application/json"} | canned.headers)


def all_at(url: str, **more: Any) -> Settings:
    """Settings that have every provider at one server."""
    given: dict[str, Any] = {}
    for one in PROVIDERS.values():
        given |= {f"{one.name}_base_url": f"{url}{one.path}", f"{one.name}_api_key": SecretStr("k")}
    return Settings(**given, **more)


class Talker:
    """Says an answer on OpenAI's wire, piece by piece: as many as were let through."""

    def __init__(self, *answers: Sequence[str | tuple[str, str]] | Canned) -> None:
        """An answer whose last piece is empty breaks off there. Pieces that are a name with arguments are calls of
        tools, which come last.
        """
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self._let_through = threading.Semaphore(0)

    def let_through(self, pieces: int = 1_000_000) -> None:
        """Let the next pieces be said; the end of an answer counts as one."""
        for _ in range(min(pieces, 2_000)):
            self._let_through.release()

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(routes=[Route("/v1/chat/completions", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        self.asked.append(await request.json())
        pieces = self.answers.pop(0)
        if isinstance(pieces, Canned):
            return JSONResponse(pieces.body, pieces.status)
        words = [piece for piece in pieces if isinstance(piece, str)]
        calls = [piece for piece in pieces if isinstance(piece, tuple)]
        if not self.asked[-1].get("stream"):
            canned = asking(*calls, text="".join(words)) if calls else saying("".join(words))
            return Response(json.dumps(canned.body), media_type="application/json")
        return StreamingResponse(self._say(words, calls), media_type="text/event-stream")

    async def _say(self, words: list[str], calls: list[tuple[str, str]]) -> AsyncIterator[bytes]:
        for piece in [*words, None]:
            while not self._let_through.acquire(blocking=False):  # noqa: ASYNC110  another thread lets through
                await asyncio.sleep(0.001)
            if piece == "":
                return
            delta: dict[str, Any] = {"content": piece} if piece else {}
            if not piece and calls:
                made = asking(*calls).body["choices"][0]["message"]["tool_calls"]
                delta["tool_calls"] = [{"index": index} | call for index, call in enumerate(made)]
            end = "tool_calls" if calls else "stop"
            chunk: dict[str, Any] = {"choices": [{"index": 0, "delta": delta, "finish_reason": None if piece else end}]}
            if not piece:
                chunk["usage"] = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
            yield f"data: {json.dumps(chunk)}\n\n".encode()
        yield b"data: [DONE]\n\n"


class Actor:
    """Plays the part that the task's message spells: for each turn the tools to call, and then words. So many tasks can
    be at work at once, each with a script of its own.
    """

    def app(self) -> Starlette:
        """The ASGI application, on OpenAI's wire."""
        return Starlette(routes=[Route("/v1/chat/completions", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        messages = (await request.json())["messages"]
        script = json.loads(next(message["content"] for message in messages if message["role"] == "user"))
        turn = sum(message["role"] == "assistant" for message in messages)
        canned = asking(*script[turn]) if turn < len(script) else saying("done")
        return Response(json.dumps(canned.body), media_type="application/json")


async def _spoken(events: list[Any]) -> AsyncIterator[bytes]:
    for event in events:
        kind = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
        data = event if isinstance(event, str) else json.dumps(event)
        yield f"{kind}data: {data}\n\n".encode()


# What providers refuse a conversation for. Each function gives the first reason, in the provider's manner.


def openai_refusal(body: dict[str, Any]) -> str | None:
    """Why Chat Completions, or one of its stricter imitators, answers 400; None where it does not."""
    return next(_openai_refusals(body), None)


def _openai_refusals(body: dict[str, Any]) -> Iterator[str]:  # noqa: C901  one rule after the other
    yield from _bad_names([tool["function"]["name"] for tool in body.get("tools", [])], 64)
    messages = [message for message in body["messages"] if message["role"] != "system"]
    yield from _bad_ends(messages)
    open_calls: list[str] = []
    seen: set[str] = set()
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] not in open_calls:
                yield f"messages[{index}]: a tool message must follow the call it answers"
            else:
                open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            yield f"messages[{index}]: these calls have no tool message: {open_calls}"
        calls = message.get("tool_calls", [])
        if not isinstance(message["content"], str) and not (calls and message["content"] is None):
            yield f"messages[{index}].content: expected a string"
        if not calls and not str(message["content"]).strip():
            yield f"messages[{index}].content: is empty"
        if len(calls) > 128:
            yield f"messages[{index}].tool_calls: array too long"
        yield from _bad_names([call["function"]["name"] for call in calls], 64, may_repeat=True)
        for call in calls:
            if not re.fullmatch(r"[a-zA-Z0-9]{9}", call["id"]) or call["id"] in seen:
                yield f"messages[{index}]: the call id {call['id']!r} is not nine letters and digits, or is used twice"
            if not isinstance(_parsed(call["function"]["arguments"]), dict):
                yield f"messages[{index}]: the arguments are no JSON object"
            seen.add(call["id"])
            open_calls.append(call["id"])
    if open_calls:
        yield f"these calls have no tool message: {open_calls}"


def anthropic_refusal(body: dict[str, Any]) -> str | None:
    """Why the Messages API answers 400; None where it does not."""
    return next(_anthropic_refusals(body), None)


def _anthropic_refusals(body: dict[str, Any]) -> Iterator[str]:  # noqa: C901, PLR0912  as above
    names = [tool["name"] for tool in body.get("tools", [])]
    yield from _bad_names(names, 128)
    if "system" in body and not body["system"].strip():
        yield "system: text content blocks must be non-empty"
    yield from _bad_ends(body["messages"])
    open_calls: list[str] = []
    seen: set[str] = set()
    for index, message in enumerate(body["messages"]):
        kinds = [block["type"] for block in message["content"]]
        if not kinds:
            yield f"messages.{index}: content must be non-empty"
        if "tool_use" in kinds and not names:
            yield "requests which include tool_use or tool_result blocks must define tools"
        if sorted(kinds, key=lambda kind: kind != "tool_result") != kinds:
            yield f"messages.{index}: tool_result blocks must come first"
        for block in message["content"]:
            if block["type"] == "text" and not block["text"].strip():
                yield f"messages.{index}: text content blocks must contain non-whitespace text"
            if block["type"] == "tool_result":
                if block["tool_use_id"] not in open_calls:
                    yield f"messages.{index}: unexpected tool_use_id {block['tool_use_id']!r} in tool_result blocks"
                else:
                    open_calls.remove(block["tool_use_id"])
        if open_calls:
            yield f"messages.{index}: tool_use ids were found without tool_result blocks: {open_calls}"
        for block in message["content"]:
            if block["type"] == "tool_use":
                yield from _bad_names([block["name"]], 128)
                if not re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]) or block["id"] in seen:
                    yield f"messages.{index}: the tool_use id {block['id']!r} has bad letters or is used twice"
                if not isinstance(block["input"], dict):
                    yield f"messages.{index}: input should be a valid dictionary"
                seen.add(block["id"])
                open_calls.append(block["id"])
    if open_calls:
        yield f"tool_use ids were found without tool_result blocks: {open_calls}"


def _bad_names(names: list[str], longest: int, *, may_repeat: bool = False) -> Iterator[str]:
    for name in names:
        if not re.fullmatch(rf"[a-zA-Z0-9_-]{{1,{longest}}}", name):
            yield f"the tool name {name!r} does not match the pattern"
    if len(set(names)) < len(names) and not may_repeat:
        yield "tool names must be unique"


def _bad_ends(messages: list[dict[str, Any]]) -> Iterator[str]:
    if not messages or messages[0]["role"] != "user":
        yield "messages: the first must be the user's"
    elif messages[-1]["role"] == "assistant":
        yield "this model does not support assistant message prefill: the conversation must end with a user message"


_REFUSALS = {CHAT_COMPLETIONS: openai_refusal, MESSAGES: anthropic_refusal}


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None


class Director:
    """Tells a rehearsal server what trouble to make, and asks what it did."""

    def __init__(self, url: str) -> None:
        self.url = url

    def expect(self, *faults: str, match: str = "") -> None:
        """The next calls (whose message holds `match`) meet these faults, one each."""
        body = {"faults": list(faults), "match": match}
        httpx2.post(f"{self.url}/rehearsal/script", json=body, trust_env=False).raise_for_status()

    def troubled(self) -> int:
        """How many calls have met a fault."""
        counts: dict[str, Any] = httpx2.get(f"{self.url}/rehearsal/counts", trust_env=False).json()
        return int(counts["faults"])

    def answered(self) -> int:
        """How many calls were answered well."""
        counts: dict[str, Any] = httpx2.get(f"{self.url}/rehearsal/counts", trust_env=False).json()
        return sum(counts["answered"].values())
