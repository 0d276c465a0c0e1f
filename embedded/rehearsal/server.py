"""The rehearsal model's HTTP server: `POST /v1/chat/completions`, `POST /v1/messages`, and routes that control it."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agents.llm.base import REHEARSAL_HEADER
from core.model_providers import ProviderName
from embedded.rehearsal.faults import GOOD, Fault, Script, parse_fault
from embedded.rehearsal.mind import next_turn
from embedded.rehearsal.talk import Talk, Turn, count_tokens
from embedded.rehearsal.wires import NAME, WIRES, Answer, WireFormat

_HEADERS = {REHEARSAL_HEADER: "true"}


class Cut(Exception):
    """Breaks the connection at this point of the response."""


@dataclass
class Counts:
    """What the server has done since it started."""

    answered: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WIRES, 0))
    input_tokens: int = 0
    output_tokens: int = 0
    faults: int = 0


def make_server() -> Starlette:
    """Create the ASGI application."""
    script, counts = Script(), Counts()

    def speaking(name: ProviderName) -> Callable[[Request], Awaitable[Response]]:
        async def converse(request: Request) -> Response:
            return await _converse(request, name, script, counts)

        return converse

    async def add_to_script(request: Request) -> Response:
        asked = await request.json()
        try:
            script.extend(asked["faults"], asked.get("match", ""))
        except ValueError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse({"added": len(asked["faults"])})

    async def show_counts(_: Request) -> Response:
        return JSONResponse(vars(counts))

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "model": NAME, "note": "a rehearsal, not intelligence"})

    return Starlette(
        routes=[
            *(Route(wire.path, speaking(name), methods=["POST"]) for name, wire in WIRES.items()),
            Route("/rehearsal/script", add_to_script, methods=["POST"]),
            Route("/rehearsal/counts", show_counts),
            Route("/health", health),
        ]
    )


async def _converse(request: Request, name: ProviderName, script: Script, counts: Counts) -> Response:
    body = await request.json()
    wire = WIRES[name].format
    talk = wire.read(body)
    fault = _fault(request, body["model"], talk, script)
    if fault is not GOOD:
        counts.faults += 1
    if fault.hang:
        await _until_hung_up(request)
        return Response(status_code=499)
    if fault.slow:
        await asyncio.sleep(fault.slow)
    if fault.status != 200:  # noqa: PLR2004
        return _error(wire, fault)
    answer = _answer(body, talk, fault)
    if not fault.cut:
        counts.answered[name] += 1
        counts.input_tokens += answer.input_tokens
        counts.output_tokens += answer.output_tokens
    return _send(wire, answer, is_stream=bool(body.get("stream")), is_cut=fault.cut)


def _fault(request: Request, model: str, talk: Talk, script: Script) -> Fault:
    """Return the fault for a call: from the script, else from the header, else from the model's name."""
    scripted = script.next_for(talk.message)
    if scripted is not None:
        return scripted
    ordered = request.headers.get("x-rehearsal") or model.partition(";")[2].replace(";", " ")
    return parse_fault(ordered) if ordered.strip() else GOOD


async def _until_hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _error(wire: WireFormat, fault: Fault) -> Response:
    headers = _HEADERS | ({"retry-after": fault.retry_after} if fault.retry_after else {})
    body = wire.error(fault.status, f"rehearsed trouble: {fault.status}")
    return JSONResponse(body, status_code=fault.status, headers=headers)


def _answer(body: dict[str, Any], talk: Talk, fault: Fault) -> Answer:
    turn = Turn(text="[Rehearsal] I will not answer that.") if fault.refuse else next_turn(talk)
    stop = "refusal" if fault.refuse else "max_tokens" if fault.truncate else "tool_use" if turn.calls else "end"
    said = {key: body[key] for key in ("system", "messages", "tools") if body.get(key)}
    seed = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return Answer(turn=turn, model=body["model"], input_tokens=count_tokens(said), stop=stop, seed=seed)


def _send(wire: WireFormat, answer: Answer, *, is_stream: bool, is_cut: bool) -> Response:
    if is_stream:
        events = list(wire.stream(answer))
        kept = events[: max(1, len(events) // 2)] if is_cut else events
        return StreamingResponse(_spoken(kept, is_cut=is_cut), media_type="text/event-stream", headers=_HEADERS)
    body = wire.write(answer)
    if not is_cut:
        return JSONResponse(body, headers=_HEADERS)
    whole = json.dumps(body).encode()
    headers = _HEADERS | {"content-length": str(len(whole))}
    return StreamingResponse(
        _spoken([whole[: len(whole) // 2]], is_cut=True), media_type="application/json", headers=headers
    )


async def _spoken(parts: list[bytes], *, is_cut: bool) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if is_cut:
        await asyncio.sleep(0)
        raise Cut  # the server closes the connection before the end of the response


def quiet_about_cuts(app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Wrap the application so that a connection cut on purpose logs no traceback."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except* Cut:
            # Returning here leaves the response unfinished, and uvicorn closes the connection.
            pass

    return wrapped


def make_app() -> Callable[..., Awaitable[None]]:
    """Create the application that uvicorn serves."""
    return quiet_about_cuts(make_server())
