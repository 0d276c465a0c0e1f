"""A cap on the whole of an exchange with a server that is not ours: connecting, TLS, and every byte that it sends.

The time-out of a socket counts from the last byte, so a server that sends one byte now and then keeps its client for
ever. The socket that a library holds cannot be relied on either: TLS takes it over, and `http.client` lets go of it
once the headers are there. So a deadline keeps a handle of its own on the connection.
"""

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self

from core.addresses import Address


class Deadline:
    """Within, every connection made through `connect` is shut down when `seconds` have passed."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._handles: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    @property
    def has_passed(self) -> bool:
        """Whether the time is over. What was read then may be the first part of something longer."""
        return time.monotonic() >= self._ends

    def left(self) -> float:
        """The seconds that are left.

        Raises:
            TimeoutError: none are.
        """
        if self.has_passed:
            raise TimeoutError("The time for the whole exchange is over.")
        return self._ends - time.monotonic()

    def connect(self, address: Address, patience: float) -> socket.socket:
        """A connection whose every wait lasts at most `patience`, and which does not outlive the deadline.

        Raises:
            OSError: there is none, or not in time.
        """
        opened = address.connect(min(patience, self.left()))
        opened.settimeout(patience)
        self._handles.append(opened.dup())
        if self.has_passed:  # the timer may have gone off before there was a handle
            self._cut()
        return opened

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._timer.join()  # it may be at work on the handles
        for handle in self._handles:
            handle.close()

    def _cut(self) -> None:
        for handle in list(self._handles):
            with contextlib.suppress(OSError):  # it is closed already
                handle.shutdown(socket.SHUT_RDWR)
