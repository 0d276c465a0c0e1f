"""A server that answers a byte at a time, for ever, in the ways that keep careless clients."""

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

Answer = Callable[[], Iterable[bytes]]
"""what is sent first, and then piece by piece without an end"""


def _first_then(first: bytes, then: bytes) -> Iterable[bytes]:
    return itertools.chain([first], itertools.repeat(then))


ANSWERS: dict[str, Answer] = {
    "a status, then headers without an end": lambda: _first_then(b"HTTP/1.0 200 OK\r\nx-a: ", b"a"),
    "half a status": lambda: _first_then(b"HTTP/1.0 2", b""),
    "interim answers without an end": lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "nothing that TLS could be": lambda: _first_then(b"\x16\x03\x03\x40\x00", b"\x02"),
    "a greeting without an end": lambda: _first_then(b"220-mail", b"x"),
    "greetings line by line": lambda: itertools.repeat(b"220-mail\r\n"),
    "a greeting, then silence": lambda: _first_then(b"220 mail\r\n", b""),
    "a body without an end": lambda: _first_then(b"HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n", b"a"),
    "a refusal with a body without an end": lambda: _first_then(b"HTTP/1.0 500 Oops\r\n\r\n", b"a"),
}


@dataclass
class Dribbler:
    """Where it listens, and how many connections it has had."""

    port: int = 0
    connections: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        """As a receiver of webhooks."""
        return f"http://127.0.0.1:{self.port}/hook"


@contextlib.contextmanager
def dribbler(answer: str, *, every: float = 0.05) -> Iterator[Dribbler]:
    """A running server that gives the answer of that name, a piece `every` so many seconds."""
    made, is_over = Dribbler(), threading.Event()
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    made.port = listener.getsockname()[1]

    def dribble(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            for piece in ANSWERS[answer]():
                connection.sendall(piece)
                if is_over.wait(every):
                    return

    def accept() -> None:
        with contextlib.suppress(OSError):
            while not is_over.is_set():
                connection, _ = listener.accept()
                made.connections.append(connection)
                threading.Thread(target=dribble, args=[connection], daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        is_over.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
