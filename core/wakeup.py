"""Wake-up calls to the dispatcher: hints, at most one on its way per process, on a connection of its own.

A NOTIFY in every transaction would make commits queue for one global lock. And since the dispatcher looks by itself
anyway, nobody needs to wait for the hint, or mind when it is lost.
"""

import threading
import time

import psycopg

from core.db import APP, dedicated_connection
from core.logging import get_logger
from core.wire import Wire

CHANNEL = "rota_due"
_MOST_OFTEN = 0.005  # seconds; closer together than this, hints tell the dispatcher nothing new
_AFTER_A_FAILURE = 1.0

log = get_logger(__name__)


class Wakeup:
    """Tells the dispatcher that there may be something to do."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def hint(self) -> None:
        """Something may be due, or room was made. Returns at once."""
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
"""This process's wake-up."""
