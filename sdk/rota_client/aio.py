"""`AsyncRota`, the client for asyncio: as `Rota`, with `await`, `async for` and `async with`."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx2

from rota_client import calls, flows, streams
from rota_client.calls import Call, Page
from rota_client.connection import Connection, as_method
from rota_client.flows import Flow, Invocation, Pause, Step
from rota_client.models import Event
from rota_client.retries import Reply
from rota_client.streams import Following, Source

P = ParamSpec("P")
T = TypeVar("T")


class AsyncStream(Following):
    """Events as they happen: iterate over it. To leave before its end, close it, or use it as a context manager."""

    def __init__(self, rota: "AsyncRota", source: Source) -> None:
        super().__init__(source)
        self._events = self._read(rota)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the stream."""
        await self._events.aclose()

    async def _read(self, rota: "AsyncRota") -> AsyncGenerator[Event, None]:
        while self.goes_on():
            try:
                async with rota.http.stream(**rota.connection.stream(self)) as response:
                    reply: Reply = response
                    if not self.begin(response):
                        await response.aread()
                    else:
                        source = httpx2.EventSource(response, max_event_size=None)
                        async with aclosing(source.__aiter__()) as messages:  # type: ignore[type-var]
                            async for message in messages:
                                for event in self.take(message):
                                    yield event
                                if not self.goes_on():
                                    break
            except httpx2.RequestError as error:
                reply = error
            await asyncio.sleep(self.pause_after(reply))


def _sends(make: Callable[P, Call[T]]) -> Callable[Concatenate["AsyncRota", P], Coroutine[Any, Any, T]]:
    async def method(self: "AsyncRota", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(make(*args, **kwargs))

    as_method(method, make)
    return method


def _lists(make: Callable[P, Call[Page[T]]]) -> Callable[Concatenate["AsyncRota", P], AsyncIterator[T]]:
    async def method(self: "AsyncRota", /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        call: Call[Page[T]] | None = make(*args, **kwargs)
        while call is not None:
            page = await self.send(call)
            for item in page.items:
                yield item
            call = page.next

    as_method(method, make)
    return method


def _follows(make: Callable[P, Source]) -> Callable[Concatenate["AsyncRota", P], AsyncStream]:
    def method(self: "AsyncRota", /, *args: P.args, **kwargs: P.kwargs) -> AsyncStream:
        return AsyncStream(self, make(*args, **kwargs))

    as_method(method, make)
    return method


def _does(
    make: Callable[Concatenate[int, P], Flow[T]],
) -> Callable[Concatenate["AsyncRota", P], Coroutine[Any, Any, T]]:
    async def method(self: "AsyncRota", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.do(make(self.connection.tries, *args, **kwargs))

    as_method(method, make, skip=1)
    return method


class AsyncRota:
    """A client of Rota's API for asyncio: as `Rota`, with `await`, `async for` and `async with`."""

    def __init__(
        self, url: str | None = None, key: str | None = None, *, tries: int = 5, timeout: float = 30, **options: Any
    ) -> None:
        """As of `Rota`; `options` are those of `httpx2.AsyncClient`."""
        self.connection = Connection(url, key, tries, timeout)
        self.http = httpx2.AsyncClient(base_url=self.connection.url, headers=self.connection.headers, **options)

    submit = _sends(calls.submit)
    wait = _does(flows.wait)
    follow = _follows(streams.follow)
    task = _sends(calls.task)
    tasks = _lists(calls.tasks)
    why = _sends(calls.why)
    cancel = _sends(calls.cancel)
    retry = _sends(calls.retry)
    replay = _sends(calls.replay)
    settle = _sends(calls.settle)
    give_results = _sends(calls.give_results)

    approvals = _lists(calls.approvals)
    approval = _sends(calls.approval)
    approve = _sends(calls.approve)
    reject = _sends(calls.reject)

    begin = _sends(calls.begin)
    say = _sends(calls.say)
    upload = _sends(calls.upload)
    attachment = _sends(calls.attachment)
    delete_attachment = _sends(calls.delete_attachment)
    edit = _sends(calls.edit)
    regenerate = _sends(calls.regenerate)
    rate = _sends(calls.rate)
    stop = _sends(calls.stop)
    messages = _lists(calls.messages)
    latest_messages = _sends(calls.latest_messages)
    conversation = _sends(calls.conversation)
    conversations = _lists(calls.conversations)
    change_conversation = _sends(calls.change_conversation)
    delete_conversation = _sends(calls.delete_conversation)
    follow_conversation = _follows(streams.follow_conversation)

    events = _sends(calls.events)
    follow_all = _follows(streams.follow_all)
    request = _sends(calls.request)

    async def send(self, call: Call[T], *, tries: int | None = None) -> T:
        """As of `Rota`."""
        return await self.do(flows.exchange(call, tries or self.connection.tries))

    async def do(self, flow: Flow[T]) -> T:
        """Carry out the steps of a flow, and return its result."""
        outcome: Any = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            outcome = await self._take(step)

    async def _take(self, step: Step) -> Any:
        match step:
            case Pause():
                return await asyncio.sleep(step.seconds)
            case Invocation():
                try:
                    outcome = step.tool(**step.arguments)
                    return await outcome if inspect.isawaitable(outcome) else outcome
                except Exception as error:  # noqa: BLE001  the agent is told of it, whatever it is
                    return error
            case Call():
                try:
                    return await self.http.request(**self.connection.request(step))
                except httpx2.RequestError as error:
                    return error

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
