"""A time limit for a whole exchange with a foreign server: connecting, TLS, and every byte that it sends.

A socket's time-out counts from the last byte, so a server that sends one byte now and then can hold its client for
ever. The library's socket object cannot be relied on either: TLS takes it over, and `http.client` drops it once the
headers have arrived. So a deadline keeps a duplicate handle of the connection.
"""

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self

from core.addresses import Address


class Deadline:
    """A context manager that shuts down every connection made through `connect` after `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._handles: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    @property
    def has_passed(self) -> bool:
        """Whether the time is over. What was read may then be truncated."""
        return time.monotonic() >= self._ends

    def left(self) -> float:
        """Return the remaining seconds.

        Raises:
            TimeoutError: the time is over.
        """
        if self.has_passed:
            raise TimeoutError("The time for the whole exchange is over.")
        return self._ends - time.monotonic()

    def connect(self, address: Address, patience: float) -> socket.socket:
        """Connect to `address`. Each wait on the connection lasts at most `patience` seconds. The connection is shut
        down at the deadline.

        Raises:
            OSError: the connection failed, or was not made in time.
        """
        opened = address.connect(min(patience, self.left()))
        opened.settimeout(patience)
        self._handles.append(opened.dup())
        if self.has_passed:  # the timer may have fired before the handle was in the list
            self._cut()
        return opened

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._timer.join()  # it may still be using the handles
        for handle in self._handles:
            handle.close()

    def _cut(self) -> None:
        for handle in list(self._handles):
            with contextlib.suppress(OSError):  # already closed
                handle.shutdown(socket.SHUT_RDWR)
