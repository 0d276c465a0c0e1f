"""A worker process's presence: its row, its heartbeat, and the tasks it has in hand.

The heartbeat runs in a thread of its own on a connection of its own, so that busy threads and a full pool cannot make a
living worker look dead. Each beat also says what the database thinks we hold: what it no longer names was taken from us
and is stopped here; what it names and we do not know (a departure that could not be written) is handed back.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from agents.interrupt import Interrupt
from core.db import SYSTEM, dedicated_connection, system_transaction
from core.errors import RotaError
from core.ids import new_id
from core.logging import get_logger
from domain.tasks import service as tasks

log = get_logger(__name__)


@dataclass
class Presence:
    """One worker process, known to the others by `id`."""

    name: str
    queues: list[str]
    concurrency: int
    interval: timedelta
    id: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{new_id().hex[-6:]}")

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._in_hand: dict[tuple[UUID, int], Interrupt] = {}
        self._strays: set[tuple[UUID, int]] = set()
        self._stopping = threading.Event()
        self._draining = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Say that this process is there, and go on saying so. The database must answer."""
        self._register()
        self._thread.start()

    def stop(self) -> None:
        """Say that this process leaves. Whatever it still has in hand is taken back at once."""
        self._stopping.set()
        self._thread.join(timeout=5)
        with contextlib.suppress(RotaError), system_transaction() as connection:
            tasks.mark_worker_stopped(connection, self.id)

    @contextlib.contextmanager
    def holding(self, task_id: UUID, claim: int) -> Iterator[Interrupt]:
        """Within, the task is in hand: the heartbeat watches over it and stops it through the interrupt."""
        interrupt = Interrupt()
        with self._lock:
            self._in_hand[task_id, claim] = interrupt
            is_draining = self._draining
        if is_draining:
            interrupt.trigger("draining")
        try:
            yield interrupt
        finally:
            with self._lock:
                self._in_hand.pop((task_id, claim), None)

    def drain(self) -> None:
        """Stop every task in hand at its next step."""
        with self._lock:
            self._draining = True
            for interrupt in self._in_hand.values():
                interrupt.trigger("draining")

    @property
    def is_draining(self) -> bool:
        """Whether this process takes no more tasks."""
        return self._draining

    def in_hand(self) -> int:
        """How many tasks this process has in hand."""
        return len(self._in_hand)

    def _register(self) -> None:
        with system_transaction() as connection:
            tasks.register_worker(
                connection,
                {
                    "id": self.id,
                    "name": self.name,
                    "hostname": socket.gethostname(),
                    "pid": os.getpid(),
                    "queues": self.queues,
                    "concurrency": self.concurrency,
                },
            )

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with dedicated_connection(SYSTEM) as connection:
                    self._register()  # anew after every outage: somebody may have tidied the row away
                    while not self._stopping.is_set():
                        self._beat(connection)
                        self._stopping.wait(self.interval.total_seconds())
            except (psycopg.Error, RotaError) as error:
                log.warning("heartbeat missed", error=str(error))
                self._stopping.wait(min(1.0, self.interval.total_seconds()))

    def _beat(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        with self._lock:
            before = dict(self._in_hand)
        rows = connection.execute(tasks.HEARTBEAT, {"worker": self.id}).fetchall()
        held = {(row["id"], row["claim"]): bool(row["cancel_requested"]) for row in rows}
        for key, interrupt in before.items():
            if key not in held:
                interrupt.trigger("claim_lost")  # taken from us; or it ended in this very moment, and nobody minds
            elif held[key]:
                interrupt.trigger("cancelled")
        with self._lock:
            unknown = {key for key in held if key not in before and key not in self._in_hand}
        # Twice in a row: a claim that commits while we look is unknown for a moment.
        for task_id, claim in unknown & self._strays:
            connection.execute(tasks.RELEASE_STRAY, {"task": task_id, "claim": claim, "worker": self.id})
            log.warning("handed back a task whose departure was not written", task=str(task_id))
        self._strays = unknown


def wait_until_idle(presence: Presence, grace: timedelta) -> bool:
    """Wait up to `grace` until nothing is in hand. Whether that came true."""
    deadline = time.monotonic() + grace.total_seconds()
    while presence.in_hand() and time.monotonic() < deadline:
        time.sleep(0.05)
    return presence.in_hand() == 0
