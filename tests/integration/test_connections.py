"""What a connection may ask before any work is done: bytes of a head, time for each part, how many there may be."""

import asyncio
import contextlib
import ipaddress
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from api.connections import ConnectionLimits, GuardedProtocol
from tests.support.servers import serving, wait_until

PATIENT = ConnectionLimits(
    header_bytes=8_192, head_time=60, body_time=60, idle_time=60, take_time=60, connections=200, connections_address=100
)
WHOLE = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = b"GET /v1/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
MEGABYTE = 1_000_000


class App:
    """Answers with what it was asked, and remembers it; /large answers with megabytes, /early before the
    body came, /slow when it may."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.was_left = threading.Event()
        self.may_answer = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        self.asked.append(scope["path"])
        body, answer = b"", b"done"
        if scope["path"] == "/large":
            answer = b"x" * 50 * MEGABYTE
        elif scope["path"] == "/slow":
            await asyncio.to_thread(self.may_answer.wait)
        if scope["path"] != "/early":
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.was_left.set()
                    return
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
        self.body, self.headers = body, list(scope["headers"])
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _live(self, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})


class Served:
    """A server with limits, and ways to talk to it byte by byte."""

    def __init__(self, url: str, app: App) -> None:
        self.address = (str(urlsplit(url).hostname), urlsplit(url).port or 0)
        self.app = app

    @contextlib.contextmanager
    def connected(self, *, receive_buffer: int | None = None) -> Iterator[socket.socket]:
        with socket.socket() as made:
            if receive_buffer is not None:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            made.settimeout(20)
            made.connect(self.address)
            yield made

    def ask(self, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
        with self.connected() as connection:
            for piece in pieces:
                connection.sendall(piece)
            return answer_on(connection)


def answer_on(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; status 0 where the connection ends without an answer."""
    head = b""
    with contextlib.suppress(ConnectionResetError):
        while not head.endswith(b"\r\n\r\n") and (piece := connection.recv(1)):
            head += piece
    if not head.endswith(b"\r\n\r\n"):
        return 0, {}, head
    first, *lines = head.decode().strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    length = int(headers.get("content-length", 0))
    return int(first.split()[1]), headers, connection.recv(length, socket.MSG_WAITALL) if length else b""


def assert_refused(answer: tuple[int, dict[str, str], bytes], status: int) -> None:
    assert answer[0] == status, answer
    assert answer[1]["content-type"] == "application/problem+json"
    assert answer[1]["connection"] == "close"
    assert json.loads(answer[2])["status"] == status


def is_ended(connection: socket.socket) -> bool:
    """Whether the server ends the connection before 20 s are over."""
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(65_536):
            pass
    return True


@contextlib.contextmanager
def served(loop: str = "uvloop", ws: Any = "none", **changes: Any) -> Iterator[Served]:
    class Limited(GuardedProtocol):
        limits: ClassVar[ConnectionLimits | None] = replace(PATIENT, **changes)

    app = App()
    with serving(app, http=Limited, loop=loop, ws=ws) as url:
        yield Served(url, app)


@pytest.fixture(params=["asyncio", "uvloop"])
def start(request: pytest.FixtureRequest) -> Callable[..., contextlib.AbstractContextManager[Served]]:
    """Starts a server, on either event loop."""
    return lambda **changes: served(loop=request.param, **changes)


# ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────────

LARGE_HEADS = {
    "one header": [b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: ", b"a" * MEGABYTE, b"\r\n\r\n"],
    "a header's name": [b"GET /health HTTP/1.1\r\nHost: x\r\n", b"a" * MEGABYTE, b": 1\r\n\r\n"],
    "many headers": [b"GET /health HTTP/1.1\r\n", b"X-A: aaaaaaaa\r\n" * 60_000, b"\r\n"],
    "two halves": [b"GET /health HTTP/1.1\r\nX-A: ", b"a" * 5_000, b"\r\nX-B: ", b"b" * 5_000, b"\r\n\r\n"],
    "the address": [b"GET /health?", b"a" * MEGABYTE, b" HTTP/1.1\r\nHost: x\r\n\r\n"],
    "blank lines": [b"\r\n" * MEGABYTE, WHOLE],
    "an upgrade": [UPGRADE + b"X-A: ", b"a" * MEGABYTE, b"\r\n\r\n"],
    "of a second request": [WHOLE + b"GET /health HTTP/1.1\r\nX-A: ", b"a" * MEGABYTE, b"\r\n\r\n"],
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE_HEADS)
def test_a_head_that_is_too_large_is_refused(start: Any, name: str) -> None:
    with start() as server:
        with server.connected() as connection:
            for piece in LARGE_HEADS[name]:
                connection.sendall(piece)
            if "second" in name:
                assert answer_on(connection)[0] == 200
            assert_refused(answer_on(connection), 431)
            connection.settimeout(20)
            assert is_ended(connection)
        assert server.app.asked == (["/health"] if "second" in name else [])
        assert server.ask(WHOLE)[0] == 200


def test_a_head_up_to_the_limit_passes_however_it_is_cut_up(start: Any) -> None:
    head = b"GET /a?" + b"q" * 4_000 + b" HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 4_000 + b"\r\n\r\n"
    with start() as server:
        assert server.ask(head)[0] == 200
        with server.connected() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for begin in range(0, len(head), 500):
                connection.sendall(head[begin : begin + 500])
            assert answer_on(connection)[0] == 200
            connection.sendall(head * 20)  # sent along one behind the other
            assert answer_on(connection)[0] == 200


CHUNKED = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [[b"1;a=", b"x" * MEGABYTE, b"\r\nx\r\n"], [b"0\r\nX-A: ", b"a" * MEGABYTE, b"\r\n\r\n"],
     [b"0\r\n", b"X-A: aaaaaaaa\r\n" * 60_000, b"\r\n"]],
)  # fmt: skip
def test_what_frames_a_body_is_limited_too(start: Any, framing: list[bytes]) -> None:
    with start() as server:
        assert server.ask(CHUNKED, *framing)[0] in {431, 0}
        wait_until(server.app.was_left.is_set, what="the application is told")
        assert server.ask(WHOLE)[0] == 200


def test_a_body_in_small_chunks_passes_and_its_trailers_are_no_headers(start: Any) -> None:
    with start() as server:
        answer = server.ask(CHUNKED, b"1\r\nx\r\n" * 20_000, b"0\r\nAuthorization: late\r\n\r\n")
        assert answer[0] == 200
        assert server.app.body == b"x" * 20_000
        assert b"authorization" not in dict(server.app.headers)


def test_while_64_megabytes_of_a_header_come_others_are_answered(start: Any) -> None:
    def flood(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(b"GET /health HTTP/1.1\r\nX-A: ")
            for _ in range(64):
                connection.sendall(b"a" * MEGABYTE)

    with start() as server, server.connected() as connection:
        sender = threading.Thread(target=flood, args=(connection,))
        sender.start()
        slowest = 0.0
        while sender.is_alive() or not slowest:
            begun = time.monotonic()
            assert server.ask(WHOLE)[0] == 200
            slowest = max(slowest, time.monotonic() - begun)
        sender.join()
        assert slowest < 1


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("begun", [b"GET /health HTTP/1.1\r\nX-A", b"G", b"GET /hea", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_half_a_head_is_waited_for_so_long_and_no_longer(start: Any, begun: bytes) -> None:
    with start(head_time=0.5) as server:
        assert_refused(server.ask(begun), 408)
        with server.connected() as connection:  # as a second request
            connection.sendall(WHOLE)
            assert answer_on(connection)[0] == 200
            connection.sendall(begun)
            assert_refused(answer_on(connection), 408)


def test_two_hundred_half_sent_requests_are_ended_and_health_answers_meanwhile(start: Any) -> None:
    with start(head_time=1.0, connections_address=200) as server, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(server.connected()) for _ in range(200)]
        for connection in connections:
            connection.sendall(b"GET /health HTTP/1.1\r\nX-A")
        assert server.ask(WHOLE)[0] == 200
        assert all(is_ended(connection) for connection in connections)


def ends_while_dribbling(connection: socket.socket, piece: bytes, seconds: float = 15) -> bool:
    """Send a piece every 50 ms, whatever is answered, until the server ends the connection."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline:
            connection.sendall(piece)
            if select.select([connection], [], [], 0.05)[0] and not connection.recv(65_536):
                connection.sendall(piece)
        return False
    return True


@pytest.mark.parametrize("piece", [b"a", b"\r\n"])
def test_bytes_that_dribble_in_do_not_extend_a_heads_time(start: Any, piece: bytes) -> None:
    with start(head_time=0.6, idle_time=0.6, linger_time=0.3) as server:
        for first in (b"", WHOLE):
            with server.connected() as connection:
                connection.sendall(first or b"GET /health")
                assert not first or answer_on(connection)[0] == 200
                assert ends_while_dribbling(connection, piece)


def test_an_idle_connection_is_ended(start: Any) -> None:
    with start(idle_time=0.5, head_time=1.0) as server:
        with server.connected() as connection:
            assert is_ended(connection)  # nothing was ever asked
        with server.connected() as connection:
            connection.sendall(WHOLE)
            assert answer_on(connection)[0] == 200
            assert is_ended(connection)


@pytest.mark.parametrize("kind", [CHUNKED + b"1\r\n", b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"])
def test_a_body_that_dribbles_in_is_refused_at_its_time(start: Any, kind: bytes) -> None:
    with start(body_time=0.6, linger_time=0.3) as server:
        with server.connected() as connection:
            connection.sendall(kind)
            assert_refused(answer_on(connection), 408)
            wait_until(server.app.was_left.is_set, what="the application is told")
        with server.connected() as connection:
            connection.sendall(kind)
            assert ends_while_dribbling(connection, b"x" if b"Content" in kind else b"x\r\n1\r\n")


def test_a_body_that_nobody_waits_for_any_more_does_not_keep_the_connection(start: Any) -> None:
    with start(linger_time=0.3) as server, server.connected() as connection:
        connection.sendall(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx")
        assert answer_on(connection)[0] == 200
        assert ends_while_dribbling(connection, b"x")  # though a body may take a minute


def test_a_client_that_takes_nothing_of_an_answer_is_ended(start: Any) -> None:
    with start(take_time=0.5) as server, server.connected(receive_buffer=4_096) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: server.app.asked == ["/large"])
        wait_until(lambda: sends_fail(connection), what="the server gives up")


def sends_fail(connection: socket.socket) -> bool:
    try:
        connection.send(b"x")
    except OSError:
        return True
    return False


def test_a_slow_answer_is_nobodys_fault(start: Any) -> None:
    with start(head_time=0.3, body_time=0.3, idle_time=0.3) as server, server.connected() as connection:
        connection.sendall(WHOLE.replace(b"/health", b"/slow") + b"GET /b HTTP/1.1\r\nHost")  # and half of another
        assert select.select([connection], [], [], 1)[0] == []  # neither an answer nor an end
        server.app.may_answer.set()
        assert answer_on(connection)[0] == 200
        connection.sendall(b": x\r\n\r\n")
        assert answer_on(connection)[0] == 200


# ── how many ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("limit", "status"), [("connections", 503), ("connections_address", 429)])
def test_above_the_number_of_connections_only_health_is_answered(start: Any, limit: str, status: int) -> None:
    with start(**{limit: 3}) as server, contextlib.ExitStack() as stack:
        kept = [stack.enter_context(server.connected()) for _ in range(3)]
        for connection in kept:
            connection.sendall(WHOLE)
            assert answer_on(connection)[0] == 200
        refused = server.ask(WHOLE.replace(b"/health", b"/v1/tasks"))
        assert_refused(refused, status)
        assert int(refused[1]["retry-after"]) > 0
        assert_refused(server.ask(UPGRADE + b"\r\n"), status)
        answer = server.ask(WHOLE)
        assert (answer[0], answer[1]["connection"]) == (200, "close")
        # However many half-sent requests wait beside the limit, health still finds a place.
        for _ in range(60):
            stack.enter_context(server.connected()).sendall(b"GET /v1")
        assert server.ask(WHOLE)[0] == 200
        kept[0].close()
        wait_until(lambda: server.ask(WHOLE.replace(b"/health", b"/v1/tasks"))[0] == 200, what="a place is free again")
        assert "/v1/x" not in server.app.asked


def test_connections_of_a_named_proxy_have_no_limit_by_address(start: Any) -> None:
    proxies = (ipaddress.ip_network("127.0.0.0/8"),)
    with start(connections_address=1, proxies=proxies) as server, server.connected(), server.connected() as second:
        second.sendall(WHOLE.replace(b"/health", b"/v1/tasks"))
        assert answer_on(second)[0] == 200


class Handed(asyncio.Protocol):
    """Another protocol that connections are handed over to, as those of web sockets are."""

    def __init__(self, **_: Any) -> None:
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")


def test_a_connection_that_was_handed_over_counts_until_it_ends(start: Any) -> None:
    tasks = WHOLE.replace(b"/health", b"/v1/tasks")
    with start(ws=Handed, connections=1, idle_time=0.3, head_time=0.3) as server:
        with server.connected() as connection:
            connection.sendall(UPGRADE + b"\r\n")
            assert answer_on(connection)[0] == 101
            assert_refused(server.ask(tasks), 503)
            assert_refused(server.ask(UPGRADE, b"X-A: " + b"a" * 10_000, b"\r\n\r\n"), 431)
            connection.settimeout(1)
            with pytest.raises(TimeoutError):  # no deadline of ours ends it
                connection.recv(1)
        wait_until(lambda: server.ask(tasks)[0] == 200, what="its place is free again")


def test_what_is_no_http_is_refused_in_words(start: Any) -> None:
    with start() as server:
        assert_refused(server.ask(b"\x16\x03\x01 hello\r\n\r\n"), 400)
        assert_refused(server.ask(b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), 400)
