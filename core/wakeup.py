"""Wake-up hints to the dispatcher: one connection and at most one pending hint per process.

A NOTIFY in every transaction would make commits queue for one global lock. The dispatcher also polls, so no caller
waits for a hint, and a lost hint does no harm.
"""

import threading
import time

import psycopg

from core.engines import APP, dedicated_connection
from core.logging import get_logger
from core.wire import Wire

CHANNEL = "rota_due"
_MOST_OFTEN = 0.005  # seconds; more frequent hints tell the dispatcher nothing new
_AFTER_A_FAILURE = 1.0

log = get_logger(__name__)


class Wakeup:
    """Sends hints to the dispatcher from a background thread."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def hint(self) -> None:
        """Tell the dispatcher that a task may be due, or that there is room for more. Returns at once."""
        if self._thread is None:
            self._start()
        self._wanted.set()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wakeup", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                with dedicated_connection(APP) as connection:
                    wire = Wire(connection)
                    while True:
                        self._wanted.wait()
                        self._wanted.clear()
                        wire.command(f"NOTIFY {CHANNEL}".encode())
                        time.sleep(_MOST_OFTEN)
            except psycopg.Error as error:
                log.debug("wake-up not sent", error=str(error))
                time.sleep(_AFTER_A_FAILURE)


wakeup = Wakeup()
"""this process's sender of hints"""
