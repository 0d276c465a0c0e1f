"""The HTTP transport under both SDKs: plain connections, kept and taken last in first out, whose waits an interrupt can
end.

httpx2's own pool walks over all of its connections at every call, so that a call costs more the more are under way.
Here a call takes a connection from a list, or makes one, and puts it back. HTTP itself is the standard library's.
"""

import contextlib
import functools
import http.client
import select
import socket
import ssl
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta

import httpx2

from agents.interrupt import attached_interrupt
from core.clock import Stopwatch

_KEPT = 1_000  # idle connections to one host
_KEEPALIVE = timedelta(seconds=30)
_CONNECT_SECONDS = 5.0
_PIECE = 64 * 1024

_Host = tuple[str, str, int]
_PORTS = {"http": 80, "https": 443}


def make_client(headers: dict[str, str]) -> httpx2.Client:
    """The HTTP client that an SDK is given: proxies from the environment, interruptible; calls say their time-outs."""
    return httpx2.Client(transport=None if _has_proxy() else KeptConnections(), headers=headers, follow_redirects=False)


def call_timeout(whole: timedelta) -> httpx2.Timeout:
    """Time-outs of one call: at most five seconds to connect, and no silence longer than the call may take.

    A server that keeps dribbling is ended by the call's interrupt, which watches the whole.
    """
    seconds = whole.total_seconds()
    return httpx2.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds))


def _has_proxy() -> bool:
    # A proxied client builds its own transports; its calls end by time-out instead of by interrupt.
    return bool(set(urllib.request.getproxies()) & {"http", "https", "all"})


@functools.cache
def _tls() -> ssl.SSLContext:
    """One context for all: reading the certificates takes longer than a call."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class KeptConnections(httpx2.BaseTransport):
    """Sends each request on a connection of its own, kept afterwards for the next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[_Host, list[_Connection]] = defaultdict(list)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer, whose body is read as it is asked for.

        Raises:
            httpx2.TransportError: what went wrong, in httpx2's own terms.
        """
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        url = request.url
        host = (url.scheme, url.host, url.port or _PORTS[url.scheme])
        connection = self._take(host) or _Connection(host)
        try:
            answer = connection.ask(request, timeouts)
        except BaseException:
            connection.close()
            raise
        response = httpx2.Response(
            answer.status,
            headers=[(name.encode(), value.encode("latin-1")) for name, value in answer.getheaders()],
            stream=_Body(self, connection, answer),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": answer.reason.encode("latin-1", "replace")},
        )
        response.headers.encoding = "latin-1"  # or it tries every header in one encoding after the other
        return response

    def _take(self, host: _Host) -> "_Connection | None":
        """The connection used last, unless it has been closed or was idle for long."""
        while True:
            with self._lock:
                if not self._idle[host]:
                    return None
                connection = self._idle[host].pop()
            if connection.is_usable():
                return connection
            connection.close()

    def keep(self, connection: "_Connection") -> None:
        """Have a connection for the next request."""
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


class _Connection:
    """A connection to one host, opened at the first request."""

    def __init__(self, host: _Host) -> None:
        self.host = host
        self.idle = Stopwatch()
        scheme, name, port = host
        self._http = (
            http.client.HTTPSConnection(name, port, context=_tls())
            if scheme == "https"
            else http.client.HTTPConnection(name, port)
        )
        self._socket: socket.socket | None = None  # the response, too, may take it from the connection

    def is_usable(self) -> bool:
        """Whether nothing is to be read, which between two requests could only be the end."""
        if self._socket is None or self.idle.elapsed() > _KEEPALIVE:
            return False
        poll = select.poll()  # which, unlike select, knows numbers above 1,023
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def ask(self, request: httpx2.Request, timeouts: dict[str, float | None]) -> http.client.HTTPResponse:
        """Send a request, and read the head of its answer."""
        if self._socket is None:
            self._connect(timeouts.get("connect"))
        with self._watched(), _in_terms_of_httpx2():
            self._patience(timeouts.get("write"))
            body = request.read()
            self._http.putrequest(
                request.method, request.url.raw_path.decode("ascii"), skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers.raw:
                self._http.putheader(name, value)
            self._http.endheaders(body or None)
            self._patience(timeouts.get("read"))
            return self._http.getresponse()

    def _connect(self, patience: float | None) -> None:
        self._http.timeout = patience  # None is for ever
        try:
            self._http.connect()
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(str(error) or "no connection in time") from error
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from error
        self._socket = self._http.sock
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        """The body, piece by piece as it comes."""
        whole = answer.length
        with self._watched(), _in_terms_of_httpx2():
            while piece := answer.read1(_PIECE):
                yield piece
            if whole is not None and answer.length:
                raise httpx2.RemoteProtocolError("the answer ended before its length was reached")

    def _patience(self, seconds: float | None) -> None:
        if self._socket is not None:
            self._socket.settimeout(seconds)

    def _watched(self) -> AbstractContextManager[None]:
        interrupt = attached_interrupt()
        if interrupt is None or self._socket is None:
            return contextlib.nullcontext()
        return interrupt.watching(self._socket)

    def close(self) -> None:
        """Close it."""
        self._http.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Body(httpx2.SyncByteStream):
    """An answer's body; read to its end, the connection is kept."""

    def __init__(self, owner: KeptConnections, connection: _Connection, answer: http.client.HTTPResponse) -> None:
        self._owner = owner
        self._connection = connection
        self._answer = answer
        self._is_whole = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._connection.read(self._answer)
        self._is_whole = True

    def close(self) -> None:
        """Keep the connection, or close it where something was left unread or the server wants it so."""
        is_kept = self._is_whole and not self._answer.will_close
        self._answer.close()
        if is_kept:
            self._owner.keep(self._connection)
        else:
            self._connection.close()


@contextlib.contextmanager
def _in_terms_of_httpx2() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise httpx2.ReadTimeout(str(error) or "no answer in time") from error
    except http.client.HTTPException as error:
        raise httpx2.RemoteProtocolError(str(error) or type(error).__name__) from error
    except OSError as error:
        raise httpx2.ReadError(str(error)) from error
    except ValueError as error:  # a length or a piece that is no number
        raise httpx2.RemoteProtocolError(str(error)) from error
