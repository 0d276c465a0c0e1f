"""A model server under the test's direction: the rehearsal model, and one that answers whatever it is told to."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


@dataclass
class Canned:
    """An answer word for word. With `events` it is a stream, which ends without an end where `is_cut`."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    events: list[Any] | None = None


def asking(*calls: tuple[str, str]) -> Canned:
    """An answer on OpenAI's wire that asks for tools: names with their arguments as JSON."""
    asked = [
        {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(calls)
    ]
    return _completion({"content": None, "tool_calls": asked}, "tool_calls")


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

    def __init__(self) -> None:
        self.answers: list[Canned] = []
        self.asked: list[dict[str, Any]] = []

    def app(self) -> Starlette:
        """The ASGI application, for both wires."""
        paths = ("/v1/chat/completions", "/v1/messages")
        return Starlette(routes=[Route(path, self._answer, methods=["POST"]) for path in paths])

    async def _answer(self, request: Request) -> Response:
        self.asked.append(await request.json())
        canned = self.answers.pop(0)
        if canned.events is not None:
            return StreamingResponse(_spoken(canned.events), media_type="text/event-stream", headers=canned.headers)
        body = canned.body if isinstance(canned.body, str) else json.dumps(canned.body)
        return Response(body, canned.status, {"content-type": "application/json"} | canned.headers)


async def _spoken(events: list[Any]) -> AsyncIterator[bytes]:
    for event in events:
        kind = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
        data = event if isinstance(event, str) else json.dumps(event)
        yield f"{kind}data: {data}\n\n".encode()


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
