"""The transport under the SDKs, against a server that says what it is told to, byte for byte."""

import contextlib
import datetime as dt
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agents.interrupt import Interrupt
from agents.llm import transport
from tests.support.servers import wait_until

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
_LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nyes"
_BIG = os.urandom(1 << 20) * 5


class Server:
    """Answers the requests of all connections in turn. An answer ends the connection where it is told to."""

    def __init__(self, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
        self._listening = listening
        self._tls = tls
        self.answers: list[bytes] = []
        self.ends_after = False
        self.pause = 0
        """where not 0, answers go out in so many pieces"""
        self.connections = self.ended = 0
        self.asked: list[bytes] = []
        self._open: list[socket.socket] = []
        self.port = listening.getsockname()[1]

    def serve(self) -> None:
        """Until the listening socket is closed."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._open.append(connection)
                self.connections += 1
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def hang_up(self) -> None:
        """End every connection."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()

    def _converse(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            while request := _read(connection):
                self.asked.append(request)
                if not self.answers:
                    continue
                answer = self.answers.pop(0)
                size = len(answer) // self.pause if self.pause else len(answer)
                for at in range(0, len(answer), max(1, size)):
                    connection.sendall(answer[at : at + max(1, size)])
                if self.ends_after:
                    connection.shutdown(socket.SHUT_RDWR)
                    self.ended += 1
                    return


def _read(connection: socket.socket) -> bytes:
    read = b""
    while b"\r\n\r\n" not in read:
        if not (piece := connection.recv(65536)):
            return b""
        read += piece
    head, _, body = read.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    parts, left = [read], int(lengths[0]) - len(body) if lengths else 0
    while left > 0:
        parts.append(connection.recv(65536))
        left -= len(parts[-1])
    return b"".join(parts)


@contextlib.contextmanager
def _serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(listening, tls)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        yield server
        listening.shutdown(socket.SHUT_RDWR)
    server.hang_up()
    thread.join(5)


@pytest.fixture
def server() -> Iterator[Server]:
    with _serving() as made:
        yield made


@pytest.fixture
def http(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx2.Client]:
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with transport.make_client({"x-team": "gym"}) as client:
        client.base_url = f"http://127.0.0.1:{server.port}"
        client.timeout = transport.call_timeout(dt.timedelta(seconds=5))
        yield client


def test_requests_arrive_whole_and_share_a_connection(server: Server, http: httpx2.Client) -> None:
    server.answers = [_OK, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_BIG), _BIG), _OK]
    assert http.get("/a?b=c").text == "yes"
    assert http.post("/big", content=_BIG).content == _BIG
    assert http.get("/").text == "yes"
    assert server.connections == 1
    assert server.asked[0].startswith(b"GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nx-team: gym\r\n" in server.asked[0]
    assert server.asked[1].endswith(b"\r\n\r\n" + _BIG)


@pytest.mark.parametrize("pieces", [0, 1_000])
@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (_OK, 200, b"yes"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nye\r\n1\r\ns\r\n0\r\nX-After: 1\r\n\r\n",
            200,
            b"yes",
        ),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + _OK, 200, b"yes"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 529 \xfcber\r\nContent-Length: 0\r\n\r\n", 529, b""),
        (b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nyes", 200, b"yes"),
        (b"HTTP/1.1 200 OK\nContent-Length: 3\n\nyes", 200, b"yes"),
    ],
)
def test_whatever_the_manner_an_answer_is_read_and_the_connection_kept(
    server: Server, http: httpx2.Client, answer: bytes, status: int, said: bytes, pieces: int
) -> None:
    server.pause = pieces
    server.answers = [answer, answer]
    for _ in range(2):
        found = http.get("/")
        assert (found.status_code, found.content) == (status, said)
        assert "link" not in found.headers
        assert "x-after" not in found.headers
    assert server.connections == 1


def test_a_stream_is_read_as_it_comes(server: Server, http: httpx2.Client) -> None:
    server.answers = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"]
    with http.stream("GET", "/") as answer:
        assert next(answer.iter_raw()) == b"first"


@pytest.mark.parametrize(
    "answer",
    [
        _LAST,
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n",
        _OK + b"HTTP/1.1 200 OK\r\n",
        _OK + b"rubbish",
    ],
)
def test_a_connection_that_is_done_with_is_not_used_again(server: Server, http: httpx2.Client, answer: bytes) -> None:
    server.answers = [answer, _OK]
    assert [http.get("/").text, http.get("/").text] == ["yes", "yes"]
    assert server.connections == 2


def test_a_body_may_end_with_its_connection(server: Server, http: httpx2.Client) -> None:
    server.ends_after = True
    server.answers = [b"HTTP/1.1 200 OK\r\n\r\nyes", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nyes"]
    assert [http.get("/").text, http.get("/").text] == ["yes", "yes"]


def test_what_is_left_unread_ends_its_connection(server: Server, http: httpx2.Client) -> None:
    server.answers = [_OK.replace(b"3", b"4"), _OK]
    with http.stream("GET", "/") as answer:
        assert answer.status_code == 200
    assert http.get("/").text == "yes"
    assert server.connections == 2


def test_only_the_head_of_an_answer_to_head_is_read(server: Server, http: httpx2.Client) -> None:
    server.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", _OK]
    assert http.head("/").headers["content-length"] == "3"
    assert http.get("/").text == "yes"


def test_a_connection_the_server_ended_meanwhile_costs_no_error(server: Server, http: httpx2.Client) -> None:
    server.ends_after = True
    server.answers = [_OK, _OK, _OK]
    for number in (1, 2, 3):
        assert http.get("/").text == "yes"
        wait_until(lambda: server.ended == number)  # noqa: B023  it is asked at once
    assert server.connections == 3


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "without an answer"),
        (_OK[:-1], "before its end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n", "before its end"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: three\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "no HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nabc", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X-Much: of it\r\n" * 30_000, "too many headers"),
    ],
)
def test_what_is_no_answer_is_said_to_be_none(server: Server, http: httpx2.Client, answer: bytes, problem: str) -> None:
    server.ends_after = True
    server.answers = [answer, _OK]
    with pytest.raises(httpx2.RemoteProtocolError, match=problem):
        http.get("/")
    assert http.get("/").text == "yes"


@pytest.mark.parametrize("begun", [None, b"HTTP/1.1 200 OK\r\nContent-Le", _OK[:-1]])
def test_silence_ends_at_the_time_out(server: Server, http: httpx2.Client, begun: bytes | None) -> None:
    server.answers = [] if begun is None else [begun]
    with pytest.raises(httpx2.ReadTimeout):
        http.get("/", timeout=0.2)
    server.answers = [_OK]
    assert http.get("/").text == "yes"


def test_who_does_not_listen_cannot_be_reached(http: httpx2.Client) -> None:
    with pytest.raises(httpx2.ConnectError, match="refused"):
        http.get("http://127.0.0.1:9/")


def test_a_header_with_a_line_break_is_not_sent(server: Server, http: httpx2.Client) -> None:
    with pytest.raises(httpx2.LocalProtocolError, match="line break"):
        http.get("/", headers={"authorization": "Bearer key\n"})
    assert not server.asked


def test_a_proxy_of_the_environment_is_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    server.answers = [_OK]
    with transport.make_client({}) as client:
        assert client.get("http://models.example/v1").text == "yes"
    assert server.asked[0].startswith(b"GET http://models.example/v1 HTTP/1.1\r\n")


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a model server")])
    today = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


@pytest.fixture
def secret_server(certificate: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with _serving(context) as made:
        yield made


@pytest.fixture
def trusting(
    secret_server: Server, http: httpx2.Client, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> httpx2.Client:
    """A client of the secret server that trusts it."""
    context = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(transport, "_tls", lambda: context)
    http.base_url = f"https://127.0.0.1:{secret_server.port}"
    return http


def test_over_tls_it_is_the_same(secret_server: Server, trusting: httpx2.Client) -> None:
    secret_server.answers = [_OK, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_BIG), _BIG), _OK[:-1]]
    assert trusting.get("/").text == "yes"
    assert trusting.post("/", content=_BIG).content == _BIG
    with pytest.raises(httpx2.ReadTimeout):
        trusting.get("/", timeout=0.2)
    assert secret_server.connections == 1
    assert secret_server.asked[1].endswith(_BIG)


def test_a_server_nobody_vouches_for_is_told_nothing(secret_server: Server, http: httpx2.Client) -> None:
    with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        http.get(f"https://127.0.0.1:{secret_server.port}/")
    assert not secret_server.asked


# ── interrupts ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("begun", [None, _OK[:-1]])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_interrupt_ends_the_wait(
    server: Server,
    secret_server: Server,
    http: httpx2.Client,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    begun: bytes | None,
) -> None:
    context = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(transport, "_tls", lambda: context)
    used = secret_server if scheme == "https" else server
    used.answers = [] if begun is None else [begun]
    interrupt = Interrupt()

    def stop() -> None:
        wait_until(lambda: used.asked)
        interrupt.trigger("cancelled")

    stopper = threading.Thread(target=stop)
    stopper.start()
    with interrupt.attached(), pytest.raises(httpx2.TransportError) as caught:
        http.get(f"{scheme}://127.0.0.1:{used.port}/", timeout=30)
    stopper.join()
    assert not isinstance(caught.value, httpx2.TimeoutException)


def test_what_comes_over_tls_after_an_interrupt_is_read_as_tls_or_not_at_all(
    secret_server: Server, trusting: httpx2.Client
) -> None:
    secret_server.answers = [b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 100_000]
    secret_server.pause = 1_000
    interrupt = Interrupt()
    read = b""
    with interrupt.attached(), contextlib.suppress(httpx2.TransportError), trusting.stream("GET", "/") as answer:
        for piece in answer.iter_raw(1):
            read += piece
            if len(read) == 1_000:
                interrupt.trigger("cancelled")
    assert set(read) == {ord("a")}
