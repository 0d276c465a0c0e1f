"""What a channel is: something that carries one message, and says honestly what became of it."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from core.errors import RotaError
from domain.channels.schemas import Outgoing


class NotSent(RotaError):
    """It certainly did not go out, for a reason that may pass."""


class Undeliverable(RotaError):
    """It did not go out and never will."""


class Sender(Protocol):
    """Carries messages of one channel. Any other exception than these two leaves open whether the message went out."""

    repeat_is_harmless: bool
    """whether the other side knows a message that comes twice"""

    def send(self, message: Outgoing) -> None:
        """Carry `message`.

        Raises:
            NotSent: try again later.
            Undeliverable: do not.
        """
        ...


@contextlib.contextmanager
def capped(connection: Any, seconds: float) -> Iterator[None]:
    """Within, the exchange over `connection.sock` takes no longer than so, however slowly the other side dribbles."""

    def cut() -> None:
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
