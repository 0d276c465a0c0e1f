"""Limits on connections, enforced before the application does any work for a request.

uvicorn's httptools protocol has no limits: it buffers a header of any length and waits forever for the second half of
a request. Here a connection has a deadline for its request's head, its body, the next request, and for reading a
response; the bytes of a head and of a body's framing are counted. A refusal is a problem document written straight to
the socket: no asyncio task is started for it.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api.metrics import count_refused_connection
from core.addresses import Network, is_within, subscriber
from core.settings import Settings, settings
from web.problems import problem
from web.streams import EventStream

_LOOK_EVERY = 0.25
# Connections above the limits, kept briefly to answer /health: a process under load must not look dead.
_SPARE = 32
_SPARE_HEAD_TIME = 2.0
_HEALTH = {b"/health", b"/health/ready"}
# Bytes of framing allowed per byte of the body: a chunk of one byte needs five.
_FRAMING = 8


@dataclass(frozen=True)
class ConnectionLimits:
    """The limits that one process sets for its connections."""

    header_bytes: int
    head_time: float  # seconds, like all times below
    body_time: float
    idle_time: float
    take_time: float
    connections: int
    connections_address: int
    proxies: tuple[Network, ...] = ()
    linger_time: float = 5  # after an early response: time for a peer that is still sending to stop and read it

    @classmethod
    def of(cls, config: Settings) -> Self:
        """Return the limits that the settings give."""
        return cls(
            header_bytes=config.max_header_bytes,
            head_time=config.head_timeout,
            body_time=config.body_timeout,
            idle_time=config.idle_timeout,
            take_time=config.send_timeout,
            connections=config.max_connections,
            connections_address=config.max_connections_address,
            proxies=tuple(config.trusted_proxies),
        )


class Refused(Exception):
    """Raised in the parser's callbacks: the request must not be served."""

    def __init__(self, status: HTTPStatus, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after

    def answer(self) -> bytes:
        """Return the complete response as bytes for the socket."""
        headers = {"connection": "close"} | ({"retry-after": str(self.retry_after)} if self.retry_after else {})
        document = problem(self.status, self.detail, headers)
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}".encode()]
        lines += [name + b": " + value for name, value in document.raw_headers]
        return b"\r\n".join([*lines, b"", bytes(document.body)])


class _Awaits(Enum):
    """Which part of a request the parser is waiting for."""

    REQUEST = auto()
    HEAD = auto()
    BODY = auto()


class Guard:
    """Counts the connections of one server and enforces their deadlines."""

    _guards: ClassVar[WeakKeyDictionary[ServerState, "Guard"]] = WeakKeyDictionary()

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._admitted: set[GuardedProtocol] = set()
        self._spare: dict[GuardedProtocol, None] = {}  # oldest first
        self._addresses: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, server: ServerState, limits: ConnectionLimits) -> "Guard":
        """Return the guard of a server; the first call creates it."""
        return cls._guards.setdefault(server, cls(limits))

    def admit(self, connection: "GuardedProtocol") -> Refused | None:
        """Count a new connection. If a limit is reached, return the refusal for every request except health."""
        refused = self._over_limit(connection.address)
        if refused is None:
            self._admitted.add(connection)
            self._addresses[connection.address] += 1
        else:
            if len(self._spare) >= _SPARE:
                oldest = next(iter(self._spare))
                self.release(oldest)
                oldest.transport.abort()
            self._spare[connection] = None
        if self._timer is None:
            self._timer = connection.loop.call_later(_LOOK_EVERY, self._look, connection.loop)
        return refused

    def _over_limit(self, address: str) -> Refused | None:
        if len(self._admitted) >= self.limits.connections:
            return Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "This server has all the connections that it takes. Try again.", 2
            )
        if address and self._addresses[address] >= self.limits.connections_address:
            return Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"This address has {self.limits.connections_address} connections open. Use these, or close some.",
                2,
            )
        return None

    def release(self, connection: "GuardedProtocol") -> None:
        """Stop counting a connection that has closed."""
        self._spare.pop(connection, None)
        if connection in self._admitted:
            self._admitted.remove(connection)
            self._addresses[connection.address] -= 1
            if not self._addresses[connection.address]:
                del self._addresses[connection.address]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        everyone: Iterable[GuardedProtocol] = [*self._admitted, *self._spare]
        for connection in everyone:
            connection.look(now)
        has_any = self._admitted or self._spare
        self._timer = loop.call_later(_LOOK_EVERY, self._look, loop) if has_any else None


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits. A subclass may set `limits` to replace those of the settings."""

    limits: ClassVar[ConnectionLimits | None] = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = self.limits or ConnectionLimits.of(settings())
        self._guard = Guard.of(self.server_state, self._limits)
        self.address = ""
        self._awaits = _Awaits.REQUEST
        self._deadline: float | None = None
        self._only_health: Refused | None = None
        self._refused: Refused | None = None
        self._stopped_by: Refused | None = None
        self._is_handed_over = False
        self._message = self._head_bytes = self._body_bytes = self._held_back = 0
        self._unsent, self._stuck_since = 0, 0.0

    # ── from the transport ───────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        host = self.client[0] if self.client else ""
        self.address = "" if is_within(host, self._limits.proxies) else subscriber(host)
        self._only_health = self._guard.admit(self)
        self._wait(min(self._limits.head_time, _SPARE_HEAD_TIME) if self._only_health else self._limits.head_time)

    def connection_lost(self, exc: Exception | None) -> None:
        self._guard.release(self)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        EventStream.end_all(self.loop)
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return  # discard it: the peer has a moment to stop sending and to read the refusal
        if self._awaits is _Awaits.REQUEST:
            self._begin_head()  # at the first byte: blank lines before a request must not extend the deadline
        message, awaited, body_bytes = self._message, self._awaits, self._body_bytes
        super().data_received(data)
        # The parser reports neither an unfinished header nor a body's framing: count the bytes that it kept.
        if (self._message, self._awaits) == (message, awaited) and not self._is_refused:
            self._held_back += len(data) - (self._body_bytes - body_bytes)
            if self._held_back > self._limits.header_bytes + _FRAMING * self._body_bytes:
                self._refuse(self._too_large())

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        # The other protocol now gets the transport's events: `look` detects that the connection ended.
        self._is_handed_over = True

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: a server may ignore an upgrade (RFC 9110, 7.8), and clients could fill the log."""

    # ── from the parser ──────────────────────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._message += 1
        self._head_bytes = self._body_bytes = self._held_back = 0
        if self._awaits is _Awaits.REQUEST:
            self._begin_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._awaits is _Awaits.HEAD:  # trailers are dropped: no route reads them
            self._count_head(len(name) + len(value))
            super().on_header(name, value)

    def _count_head(self, number: int) -> None:
        self._head_bytes += number
        if self._head_bytes > self._limits.header_bytes:
            self._stop_parsing(self._too_large())

    def on_headers_complete(self) -> None:
        if self._only_health and self.url.partition(b"?")[0] not in _HEALTH:
            self._stop_parsing(self._only_health)
        self._awaits, self._held_back = _Awaits.BODY, 0
        self._wait(self._limits.body_time)
        super().on_headers_complete()
        if self._only_health and self._is_busy:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._awaits = _Awaits.REQUEST
        self._wait(None if self._is_busy else self._limits.idle_time)

    def _stop_parsing(self, refused: Refused) -> None:
        """Stop the parser: it reports an exception in a callback as an invalid request (`send_400_response`)."""
        self._stopped_by = refused
        raise refused

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn names no reason
        malformed = Refused(HTTPStatus.BAD_REQUEST, "This is not a request of HTTP/1.1 that can be read.")
        self._refuse(self._stopped_by or malformed)

    # ── from the application ─────────────────────────────────────────────────────────────────────────────────────────

    def on_response_complete(self) -> None:
        super().on_response_complete()
        limits = self._limits
        if self._is_refused:
            self._say_refused()
        elif self._is_busy:  # with the next pipelined request
            self._wait(limits.body_time if self._awaits is _Awaits.BODY else None)
        elif self._awaits is _Awaits.BODY:  # answered before the body was complete: do not wait for the rest
            self._wait(limits.linger_time)
        else:
            self._wait(limits.idle_time if self._awaits is _Awaits.REQUEST else limits.head_time)

    # ── deadlines ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_refused(self) -> bool:
        return self._refused is not None

    def _wait(self, seconds: float | None) -> None:
        self._deadline = None if seconds is None else self.loop.time() + seconds

    def _begin_head(self) -> None:
        self._awaits = _Awaits.HEAD
        if self.cycle is not None:  # the first head's time began with the connection
            self._wait(self._limits.head_time)

    def look(self, now: float) -> None:
        """Close the connection if a deadline has passed."""
        if self._is_stuck(now):
            self.transport.abort()
        if self._is_handed_over:
            if self.transport.is_closing() and not self.transport.get_write_buffer_size():
                self._guard.release(self)
        elif self._deadline is not None and now >= self._deadline and not self.transport.is_closing():
            self._end_waiting()

    def _is_stuck(self, now: float) -> bool:
        """Whether the peer has read nothing of a response for too long."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._stuck_since = now
        self._unsent = unsent
        return now - self._stuck_since > self._limits.take_time

    def _end_waiting(self) -> None:
        if self._is_refused:
            self.transport.close()
        elif self._is_busy:
            # While reading is paused, or an earlier answer is pending, the delay is ours.
            if self._awaits is _Awaits.BODY and not self.flow.read_paused:
                self._refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "The body did not come in time."))
        elif self._awaits is _Awaits.HEAD:
            late = Refused(HTTPStatus.REQUEST_TIMEOUT, "The request's head did not come in time.")
            self._refuse(self._only_health or late)
        else:
            self.transport.close()  # after sending what is buffered

    # ── refusing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _too_large(self) -> Refused:
        return Refused(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"The address and headers are larger than this server takes, {self._limits.header_bytes} bytes. Send less.",
        )

    def _refuse(self, refused: Refused) -> None:
        """Serve nothing more on this connection, and answer with the refusal unless an answer has begun."""
        self._refused = refused
        self._wait(None)
        count_refused_connection(refused.status)
        if self._is_busy and self._awaits is _Awaits.BODY and not self.pipeline:
            if self.cycle.response_started:
                self.transport.abort()
                return
            self.cycle.disconnected = self.cycle.response_complete = True  # the application's answer is dropped
            self.cycle.message_event.set()
        self._say_refused()

    def _say_refused(self) -> None:
        """Write the refusal after pending answers, then wait for the peer to close: closing while the peer still sends
        would reset the connection, and the reset can overtake the refusal.
        """
        if self._refused is None or self._is_busy:
            return
        self.flow.resume_reading()
        self.transport.write(self._refused.answer())
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._wait(self._limits.linger_time)
