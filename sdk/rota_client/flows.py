"""What takes more than one request, written once for both clients: generators that yield what is to be done (a call,
a pause, a tool) and are sent what came of it. They do nothing themselves.
"""

import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx2
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from rota_client import calls, retries
from rota_client.calls import Call, TaskRef
from rota_client.errors import NotEnded, NotReachable, UnexpectedResponse, refusal
from rota_client.models import OpenCall, TaskDetail, ToolResult
from rota_client.retries import Reply

T = TypeVar("T")
Tool = Callable[..., Any]
"""carries out a client tool: it gets the call's arguments by name, and returns text, or what JSON can express"""

LONG_POLL = 20.0
"""seconds for which one request waits for the end of a task: proxies end requests that are quiet for longer"""
_LOOK_FIRST, _LOOK_LATER = 0.25, 2.0
"""seconds between two looks for calls of client tools"""


@dataclass(frozen=True)
class Pause:
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True)
class Invocation:
    """Call a function. Sent back: what it returned, or the exception that it raised."""

    tool: Tool
    arguments: Mapping[str, Any]


Step = Call[Any] | Pause | Invocation
Flow = Generator[Step, Any, T]


def exchange(call: Call[T], tries: int) -> Flow[T]:
    """Send a call, again if that is safe and may help, up to `tries` times.

    Raises:
        NotReachable: no response arrived.
        Refused: the API answered with an error.
        UnexpectedResponse: the response cannot be read.
    """
    repeats = 0
    while True:
        reply: Reply = yield call
        if isinstance(reply, httpx2.Response) and reply.is_success:
            return read(call, reply)
        pause = retries.pause_before_repeating(
            reply, is_repeatable=call.is_repeatable, repeats=repeats, now=datetime.now(UTC)
        )
        repeats += 1
        if pause is None or repeats >= tries:
            if isinstance(reply, httpx2.Response):
                raise refusal(reply)
            raise NotReachable(reply.request, reply) from reply
        yield Pause(pause)


def read(call: Call[T], response: httpx2.Response) -> T:
    """Return what the response to a call says.

    Raises:
        UnexpectedResponse: it cannot be read.
    """
    if call.is_text:
        return call.read(response.text)
    try:
        content = response.json() if response.content else None
    except ValueError as error:
        raise UnexpectedResponse(response, "is not JSON, so it is not Rota's API.") from error
    try:
        return call.read(content)
    except (ValidationError, KeyError, TypeError) as error:
        raise UnexpectedResponse(response, f"is not what this version of rota_client reads: {error}") from error


def wait(
    tries: int, task: TaskRef, *, timeout: float = 600, tools: Mapping[str, Tool] | None = None
) -> Flow[TaskDetail]:
    """Wait until a task ends, at most `timeout` seconds, and return it with its journal. Whether it succeeded, its
    `status` tells.

    `tools` are functions by the names of the client tools that the task was submitted with: they are called with the
    arguments that the agent chose, and what they return is given to the task. If one raises an exception, the agent is
    told its message.

    Raises:
        NotEnded: the time is over. The task goes on.
    """
    ends, look = time.monotonic() + timeout, _LOOK_FIRST
    while True:
        left = max(0.0, ends - time.monotonic())
        found = yield from exchange(calls.task(task, wait=min(left, look if tools else LONG_POLL)), tries)
        if found.has_ended:
            return found
        look = min(_LOOK_LATER, look * 2)
        if tools and found.open_calls:
            results = yield from _carry_out(found.open_calls, tools)
            yield from exchange(calls.give_results(task, results), tries)
            look = _LOOK_FIRST
        elif left == 0:
            raise NotEnded(found, timeout)


def _carry_out(open_calls: list[OpenCall], tools: Mapping[str, Tool]) -> Flow[list[ToolResult]]:
    results = []
    for one in open_calls:
        tool = tools.get(one.tool)
        if tool is None:
            outcome: Any = LookupError(f"There is no tool {one.tool} here.")
        else:
            outcome = yield Invocation(tool, one.arguments)
        results.append(result_of(one.call_id, outcome))
    return results


def result_of(call_id: str, outcome: Any) -> ToolResult:
    """Return the result of a client tool that returned `outcome`, or raised it."""
    if isinstance(outcome, Exception):
        said = str(outcome) or type(outcome).__name__
        return ToolResult(call_id=call_id, content=said, is_error=True)
    text = outcome if isinstance(outcome, str) else json.dumps(to_jsonable_python(outcome), ensure_ascii=False)
    return ToolResult(call_id=call_id, content=text)
