"""Stopping work that is under way: asked for at once, seen before every step, and inside a call to a provider.

Python cannot stop a thread, but a thread that waits for a provider waits on a socket, and shutting the socket down from
another thread wakes it. Closing the client instead would tear down everybody's connections.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Literal

from core.errors import RotaError

Reason = Literal["cancelled", "claim_lost", "draining", "switched_off", "deadline"]

# The step under way is finished and recorded before these stop the task. Any other reason may still replace them.
_AFTER_THE_STEP: tuple[Reason | None, ...] = ("draining", "switched_off")

_attached = threading.local()


class Stopped(RotaError):
    """The work was stopped before its end."""

    def __init__(self, reason: Reason) -> None:
        self.reason: Reason = reason
        super().__init__(f"stopped: {reason}")


class Interrupt:
    """One task's stop signal. Any thread may trigger it; the first reason stays."""

    def __init__(self, remaining: timedelta | None = None) -> None:
        """`remaining` is the time until the task's deadline, None where it has none."""
        self._lock = threading.Lock()
        self._ends = None if remaining is None else time.monotonic() + remaining.total_seconds()
        self._call_ends: float | None = None
        self._reason: Reason | None = None
        self._sockets: set[socket.socket] = set()
        self._doing: dict[int, tuple[str, float]] = {}
        self._stopped = threading.Event()

    @property
    def reason(self) -> Reason | None:
        """Why to stop, None while there is no reason."""
        return self._reason

    def trigger(self, reason: Reason) -> None:
        """Ask for a stop and wake the threads that wait for a provider. When draining or switched off, the current
        step ends first.
        """
        with self._lock:
            if self._reason is None or self._reason in _AFTER_THE_STEP:
                self._reason = reason
        self._stopped.set()
        if reason not in _AFTER_THE_STEP:
            self.end_calls()

    def end_calls(self) -> None:
        """Wake a thread that waits for a provider."""
        with self._lock:
            for waiting in self._sockets:
                _shut_down(waiting)

    def look_at_the_time(self) -> None:
        """Called every few seconds: stop past the deadline, and end a call that takes longer than it may."""
        now = time.monotonic()
        if self._ends is not None and now >= self._ends:
            self.trigger("deadline")
        elif self._call_ends is not None and now >= self._call_ends:
            self.end_calls()

    @contextlib.contextmanager
    def doing(self, what: str, limit: timedelta) -> Iterator[None]:
        """Within, this thread does `what`, which should not take longer than `limit`."""
        thread = threading.get_ident()
        self._doing[thread] = (what, time.monotonic() + limit.total_seconds())
        try:
            yield
        finally:
            self._doing.pop(thread, None)

    def stuck(self, after: timedelta) -> dict[int, str]:
        """The threads that are late by more than `after`, and with what."""
        late = time.monotonic() - after.total_seconds()
        return {thread: what for thread, (what, ends) in list(self._doing.items()) if ends < late}

    def check(self) -> None:
        """Raise `Stopped` when a stop was asked for."""
        if self._reason is not None:
            raise Stopped(self._reason)

    def wait(self, span: timedelta) -> None:
        """Wait for `span`.

        Raises:
            Stopped: a stop was asked for meanwhile.
        """
        self._stopped.wait(span.total_seconds())
        self.check()

    @contextlib.contextmanager
    def attached(self, limit: timedelta | None = None) -> Iterator[None]:
        """Within, this thread's waits for providers end when the interrupt is triggered, or after about `limit`."""
        _attached.interrupt = self
        self._call_ends = None if limit is None else time.monotonic() + limit.total_seconds()
        try:
            yield
        finally:
            _attached.interrupt = self._call_ends = None

    @contextlib.contextmanager
    def watching(self, waiting: socket.socket) -> Iterator[None]:
        """Within, `waiting` is shut down when the interrupt is triggered; at once if it has been."""
        with self._lock:
            self._sockets.add(waiting)
            if self._reason is not None and self._reason not in _AFTER_THE_STEP:
                _shut_down(waiting)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.discard(waiting)


def attached_interrupt() -> Interrupt | None:
    """The interrupt of the task that this thread works on."""
    return getattr(_attached, "interrupt", None)


def _shut_down(waiting: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already, which is what was wanted
        # Not its own `shutdown`: a TLS socket would first forget its keys, and go on in the clear.
        socket.socket.shutdown(waiting, socket.SHUT_RDWR)
