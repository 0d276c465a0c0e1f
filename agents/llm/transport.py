"""The HTTP transport of both SDKs: plain connections, reused last in, first out, whose waits an interrupt can end.

httpx2's own pool walks all of its connections at every call, so a call costs more the more calls are in progress. Here
a call takes a connection from a list, or opens one, and puts it back. The sockets are non-blocking and wait in one
place only: each time a call releases the interpreter lock, it must wait for another thread to release it, and sockets
with a time-out release it twice for every read and write. HTTP is parsed by httptools, the C parser that our API uses
as well.
"""

import contextlib
import functools
import select
import socket
import ssl
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import httptools
import httpx2

from agents.interrupt import attached_interrupt
from agents.llm.limits import note_answer
from core.addresses import checked_address
from core.clock import Stopwatch
from core.errors import RotaError
from core.ids import new_id

_KEPT = 1_000  # idle connections to one host
_KEEPALIVE = timedelta(seconds=30)
_CONNECT_SECONDS = 5.0
_PIECE = 64 * 1024
_LONGEST_HEAD = 256 * 1024

_Host = tuple[str, str, int]
Connect = Callable[[tuple[str, int], float | None], socket.socket]
_PORTS = {"http": 80, "https": 443}


def make_client(headers: dict[str, str]) -> httpx2.Client:
    """Return the HTTP client for an SDK: interruptible unless the environment sets a proxy. Calls set time-outs."""
    return httpx2.Client(
        transport=None if _has_proxy() else KeptConnections(),
        headers=headers,
        follow_redirects=False,
        event_hooks={"response": [note_answer]},
    )


def make_guarded_client(private_networks: Sequence[str]) -> httpx2.Client:
    """Return the HTTP client for an address that an organisation chose. It connects only to public addresses and those
    in `private_networks`, uses no proxy, and sends none of the installation's headers or credentials.
    """

    def connect(address: tuple[str, int], patience: float | None) -> socket.socket:
        try:
            return checked_address(*address, private_networks).connect(patience)
        except RotaError as error:
            raise OSError(error.message) from error

    return httpx2.Client(transport=KeptConnections(connect), follow_redirects=False, trust_env=False)


def call_timeout(whole: timedelta) -> httpx2.Timeout:
    """Return the time-outs of one call: at most five seconds to connect, and no silence longer than the call may take.

    A server that keeps sending a little at a time is cut off by the call's interrupt, which limits the whole call.
    """
    seconds = whole.total_seconds()
    return httpx2.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds))


def call_options(whole: timedelta) -> Any:
    """Return the options of one call for the SDKs' `post`, which may take as long as `whole`."""
    # Without a key, the SDK generates one from the system's randomness and never sends it.
    return {"timeout": call_timeout(whole), "idempotency_key": str(new_id())}


def whole_address(base: httpx2.URL, path: str) -> str:
    """Return the address of `path` under an SDK's base address, which ends with a slash.

    The SDKs put the two together anew for each call, which is an eighth of what a call costs.
    """
    return str(base.copy_with(raw_path=base.raw_path + path.lstrip("/").encode()))


def _has_proxy() -> bool:
    # A proxied client builds its own transports; its calls end by time-out instead of by interrupt.
    return bool(set(urllib.request.getproxies()) & {"http", "https", "all"})


@functools.cache
def _tls() -> ssl.SSLContext:
    """Return the TLS context, shared by all connections: loading the certificates takes longer than a call."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class KeptConnections(httpx2.BaseTransport):
    """Sends each request on a connection of its own, and keeps the connection for later requests."""

    def __init__(self, connect: Connect = socket.create_connection) -> None:
        """`connect` opens a connection to a host and port, within the given number of seconds."""
        self._connect = connect
        self._lock = threading.Lock()
        self._idle: dict[_Host, list[_Connection]] = defaultdict(list)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return the response, whose body is read on demand.

        Raises:
            httpx2.TransportError: the request failed; the subclass says how.
        """
        url = request.url
        host = (url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme])
        connection = self._take(host) or _Connection(host, self._connect)
        try:
            timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
            answer = connection.ask(request, timeouts)
        except BaseException:
            connection.close()
            raise
        response = httpx2.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(self, connection, answer, timeouts.get("read")),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": answer.reason},
        )
        response.headers.encoding = "latin-1"  # otherwise it tries one encoding after another on every header
        return response

    def _take(self, host: _Host) -> "_Connection | None":
        """Return the connection used last that is neither closed nor idle for too long; None if there is none."""
        while True:
            with self._lock:
                if not self._idle[host]:
                    return None
                connection = self._idle[host].pop()
            if connection.is_usable():
                return connection
            connection.close()

    def keep(self, connection: "_Connection") -> None:
        """Keep a connection for later requests."""
        connection.idle = Stopwatch()
        with self._lock:
            kept = self._idle[connection.host]
            kept.append(connection)
            oldest = kept.pop(0) if len(kept) > _KEPT else None
        if oldest is not None:
            oldest.close()

    def close(self) -> None:
        """Close every idle connection."""
        with self._lock:
            idle = [connection for kept in self._idle.values() for connection in kept]
            self._idle.clear()
        for connection in idle:
            connection.close()


class _Answer:
    """A response as far as it has been received. The parser calls the `on_…` methods."""

    def __init__(self, *, has_body: bool = True) -> None:
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_head = False
        self.is_whole = False
        self.keeps_alive = False
        """whether the connection can be reused once the response is complete"""
        self._has_body = has_body
        self._pieces: list[bytes] = []
        self._size = 0
        self._parser = httptools.HttpResponseParser(self)
        # Self-hosted servers, and proxies in front of them, violate HTTP in small ways.
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_chunked_length=True)

    def feed(self, data: bytes) -> None:
        """Parse received data. Empty data means that the connection has ended.

        Raises:
            httpx2.RemoteProtocolError: the data is no response, or it ended too early.
        """
        if not data:
            self._end()
            return
        self._size += len(data)
        if not self.has_head and self._size > _LONGEST_HEAD:
            raise httpx2.RemoteProtocolError("the answer begins with too many headers")
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.is_whole:  # surplus data follows the response: do not reuse the connection
                self.keeps_alive = False
                return
            raise httpx2.RemoteProtocolError(f"the answer is no HTTP: {error}") from error

    def _end(self) -> None:
        if not self.has_head:
            raise httpx2.RemoteProtocolError("the connection ended without an answer")
        if self._lengths():
            raise httpx2.RemoteProtocolError("the answer ended before its end")
        self.is_whole = True

    def _lengths(self) -> set[bytes]:
        """Return the names of the headers that say where the body ends."""
        return {name.lower() for name, _ in self.headers} & {b"content-length", b"transfer-encoding"}

    def take(self) -> list[bytes]:
        """Return the pieces of the body received since the last call."""
        taken, self._pieces = self._pieces, []
        return taken

    def on_message_begin(self) -> None:
        """Drop an informational response (such as 100 or 103). After a complete one, forbid reuse of the connection."""
        if self.is_whole:
            self.keeps_alive = False
        elif not self.has_head:
            self.reason, self.headers = b"", []

    def on_status(self, reason: bytes) -> None:
        """Add a part of the reason phrase."""
        if not self.has_head:
            self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header. Trailers after the body are ignored."""
        if not self.has_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Finish the head, unless the response is informational."""
        status = self._parser.get_status_code()
        if self.has_head or 100 <= status < 200:  # noqa: PLR2004  informational responses
            return
        self.status, self.has_head = status, True
        is_clear = len(self._lengths()) <= 1  # with both, it is ambiguous where the next response begins
        self.keeps_alive = self._has_body and self._parser.should_keep_alive() and is_clear
        self.is_whole = not self._has_body

    def on_body(self, piece: bytes) -> None:
        """Add a piece of the body."""
        if not self.is_whole:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Mark the response as complete, unless it is informational."""
        self.is_whole = self.has_head


class _Connection:
    """A connection to one host, opened by the first request."""

    def __init__(self, host: _Host, connect: Connect) -> None:
        self.host = host
        self._connect = connect
        self.idle = Stopwatch()
        self._socket: socket.socket | None = None
        self._readable, self._writable = select.poll(), select.poll()  # select fails above descriptor 1,023

    def is_usable(self) -> bool:
        """Whether it is open, was used recently and has no data: between requests, data can only be its end."""
        return self._socket is not None and self.idle.elapsed() <= _KEEPALIVE and not self._readable.poll(0)

    def ask(self, request: httpx2.Request, timeouts: dict[str, float | None]) -> _Answer:
        """Send a request and read the head of its response.

        Raises:
            httpx2.TransportError: the request failed.
        """
        message = _head(request) + request.read()
        opened = self._socket or self._open(timeouts.get("connect"))
        answer = _Answer(has_body=request.method != "HEAD")
        with self._watched(opened), _in_terms_of_httpx2():
            self._send(opened, message, timeouts.get("write"))
            while not answer.has_head:
                answer.feed(self._receive(opened, timeouts.get("read")))
        return answer

    def read(self, answer: _Answer, patience: float | None) -> Iterator[bytes]:
        """Yield the body piece by piece as it arrives. `patience` is in seconds; None waits for ever."""
        opened = self._socket
        if opened is None:
            raise httpx2.ReadError("the connection is closed")
        with self._watched(opened), _in_terms_of_httpx2():
            yield from answer.take()
            while not answer.is_whole:
                answer.feed(self._receive(opened, patience))
                yield from answer.take()

    def _open(self, patience: float | None) -> socket.socket:
        scheme, name, port = self.host
        try:
            opened = self._connect((name, port), patience)
            if scheme == "https":
                opened = _tls().wrap_socket(opened, server_hostname=name)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(str(error) or "no connection in time") from error
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from error
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setblocking(False)  # so that only our polls wait
        self._readable.register(opened, select.POLLIN)
        self._writable.register(opened, select.POLLOUT)
        self._socket = opened
        return opened

    def _send(self, opened: socket.socket, message: bytes, patience: float | None) -> None:
        left = memoryview(message)
        while left:
            try:
                left = left[opened.send(left) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                _wait(self._writable, patience)
            except ssl.SSLWantReadError:
                _wait(self._readable, patience)

    def _receive(self, opened: socket.socket, patience: float | None) -> bytes:
        """Return received data: at least one byte, or none if the connection has ended."""
        if not isinstance(opened, ssl.SSLSocket):  # a TLS socket may hold decrypted data already
            _wait(self._readable, patience)
        while True:
            try:
                return opened.recv(_PIECE)
            except (BlockingIOError, ssl.SSLWantReadError):
                _wait(self._readable, patience)
            except ssl.SSLWantWriteError:
                _wait(self._writable, patience)

    @staticmethod
    def _watched(opened: socket.socket) -> AbstractContextManager[None]:
        interrupt = attached_interrupt()
        return contextlib.nullcontext() if interrupt is None else interrupt.watching(opened)

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _head(request: httpx2.Request) -> bytes:
    """Return a request's first line and headers as they are sent.

    Raises:
        httpx2.LocalProtocolError: a header contains a line break, as a key that was read from a file may.
    """
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%s: %s" % header for header in request.headers.raw]
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
        raise httpx2.LocalProtocolError("a header of the request holds a line break")
    return head + b"\r\n\r\n"


def _wait(poll: select.poll, patience: float | None) -> None:
    if not poll.poll(None if patience is None else patience * 1000):
        raise TimeoutError


class _Body(httpx2.SyncByteStream):
    """A response's body. Once it is read to its end, the connection is kept."""

    def __init__(
        self, owner: KeptConnections, connection: _Connection, answer: _Answer, patience: float | None
    ) -> None:
        self._owner = owner
        self._connection = connection
        self._answer = answer
        self._patience = patience

    def __iter__(self) -> Iterator[bytes]:
        return self._connection.read(self._answer, self._patience)

    def close(self) -> None:
        """Keep the connection; close it if the body was not read to its end or the server asks for it."""
        if self._answer.is_whole and self._answer.keeps_alive:
            self._owner.keep(self._connection)
        else:
            self._connection.close()


@contextlib.contextmanager
def _in_terms_of_httpx2() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise httpx2.ReadTimeout(str(error) or "no answer in time") from error
    except OSError as error:
        raise httpx2.ReadError(str(error)) from error
