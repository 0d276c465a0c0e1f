"""`Rota`, the client for threads. What it does is described in `calls`, `flows` and `streams`; here it is sent. The
client for asyncio is in `aio`.
"""

import time
from collections.abc import Callable, Generator, Iterator
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


class Stream(Following):
    """Events as they happen: iterate over it. To leave before its end, close it, or use it as a context manager."""

    def __init__(self, rota: "Rota", source: Source) -> None:
        super().__init__(source)
        self._events = self._read(rota)

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the stream."""
        self._events.close()

    def _read(self, rota: "Rota") -> Generator[Event, None, None]:
        while self.goes_on():
            try:
                with rota.http.stream(**rota.connection.stream(self)) as response:
                    reply: Reply = response
                    if not self.begin(response):
                        response.read()
                    else:
                        for message in httpx2.EventSource(response, max_event_size=None):
                            yield from self.take(message)
                            if not self.goes_on():
                                break
            except httpx2.RequestError as error:
                reply = error
            time.sleep(self.pause_after(reply))


def _sends(make: Callable[P, Call[T]]) -> Callable[Concatenate["Rota", P], T]:
    def method(self: "Rota", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(make(*args, **kwargs))

    as_method(method, make)
    return method


def _lists(make: Callable[P, Call[Page[T]]]) -> Callable[Concatenate["Rota", P], Iterator[T]]:
    def method(self: "Rota", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        call: Call[Page[T]] | None = make(*args, **kwargs)
        while call is not None:
            page = self.send(call)
            yield from page.items
            call = page.next

    as_method(method, make)
    return method


def _follows(make: Callable[P, Source]) -> Callable[Concatenate["Rota", P], Stream]:
    def method(self: "Rota", /, *args: P.args, **kwargs: P.kwargs) -> Stream:
        return Stream(self, make(*args, **kwargs))

    as_method(method, make)
    return method


def _does(make: Callable[Concatenate[int, P], Flow[T]]) -> Callable[Concatenate["Rota", P], T]:
    def method(self: "Rota", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.do(make(self.connection.tries, *args, **kwargs))

    as_method(method, make, skip=1)
    return method


class Rota:
    """A client of Rota's API. Threads may share it."""

    def __init__(
        self, url: str | None = None, key: str | None = None, *, tries: int = 5, timeout: float = 30, **options: Any
    ) -> None:
        """Without `url` and `key`, ROTA_API_URL and ROTA_API_KEY are used. A request that may be repeated is tried
        `tries` times; a response may take `timeout` seconds. `options` are those of `httpx2.Client`, such as `verify`.

        Raises:
            NotConfigured: the address or the key is missing.
        """
        self.connection = Connection(url, key, tries, timeout)
        self.http = httpx2.Client(base_url=self.connection.url, headers=self.connection.headers, **options)

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

    def send(self, call: Call[T], *, tries: int | None = None) -> T:
        """Send a call, and return what it says. Repeated if that is safe, up to `tries` times.

        Raises:
            NotReachable: no response arrived.
            Refused: the API answered with an error.
            UnexpectedResponse: the response cannot be read.
        """
        return self.do(flows.exchange(call, tries or self.connection.tries))

    def do(self, flow: Flow[T]) -> T:
        """Carry out the steps of a flow, and return its result."""
        outcome: Any = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            outcome = self._take(step)

    def _take(self, step: Step) -> Any:
        match step:
            case Pause():
                return time.sleep(step.seconds)
            case Invocation():
                try:
                    return step.tool(**step.arguments)
                except Exception as error:  # noqa: BLE001  the agent is told of it, whatever it is
                    return error
            case Call():
                try:
                    return self.http.request(**self.connection.request(step))
                except httpx2.RequestError as error:
                    return error

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
