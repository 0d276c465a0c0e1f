"""A worker process's presence: its row, its heartbeat, and its claimed tasks.

The heartbeat has its own thread and its own connection, so that busy threads and an exhausted pool cannot make a live
worker look dead. Each beat also returns the claims that the database has for this worker: a task that is missing there
was reaped and is stopped here; a claim that is unknown here (its outcome could not be written) is handed back.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from agents.interrupt import Interrupt
from core.clock import Stopwatch
from core.db import system_transaction
from core.engines import SYSTEM, dedicated_connection
from core.errors import RotaError
from core.ids import new_id
from core.logging import get_logger
from domain.claims import service as claims
from domain.claims.schemas import Claimed
from domain.workers import service as workers
from domain.workers.schemas import Beat, Vitals

log = get_logger(__name__)


def _bare_vitals(presence: "Presence") -> Vitals:
    return Vitals(concurrency=presence.concurrency, memory_bytes=0, claims=presence.claims)


@dataclass
class Presence:
    """One worker process. `id` is unique; `name` is what people use to scale it."""

    name: str
    queues: list[str]
    concurrency: int
    interval: timedelta
    lease: timedelta = timedelta(seconds=10)
    pool: str = "elastic"
    """`elastic` (its size can change), `threads` or `prefork`"""
    vitals: Callable[["Presence"], Vitals] = _bare_vitals
    """returns what the next beat reports of this process; called before every beat, so it may also run self-checks"""
    on_beat: Callable[["Presence", Beat], None] = lambda _presence, _beat: None
    """called with the result of every beat"""
    id: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{new_id().hex[-6:]}")

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._in_hand: dict[tuple[UUID, int], tuple[Claimed, Interrupt]] = {}
        self._strays: set[tuple[UUID, int]] = set()
        self._stopping = threading.Event()
        self._draining = False
        self._claims = 0
        self._last_beat: Stopwatch | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Register this process and start the heartbeat. During an outage of the database, register once it is over."""
        with contextlib.suppress(RotaError):
            self._register()
        self._thread.start()

    def stop(self) -> None:
        """Stop the heartbeat and record that this process has stopped. Tasks that it still holds are reaped at once."""
        self._stopping.set()
        self._thread.join(timeout=5)
        with contextlib.suppress(RotaError), system_transaction() as connection:
            workers.mark_worker_stopped(connection, self.id)

    @contextlib.contextmanager
    def holding(self, task: Claimed) -> Iterator[Interrupt]:
        """Register the claimed task for the duration of the block: the heartbeat watches it, and stops it through the
        interrupt.
        """
        interrupt = Interrupt(task.remaining)
        with self._lock:
            self._in_hand[task.id, task.claim] = (task, interrupt)
            self._claims += 1
            is_draining = self._draining
        if is_draining:
            interrupt.trigger("draining")
        try:
            yield interrupt
        finally:
            self.let_go(task)

    def let_go(self, task: Claimed) -> None:
        """Unregister the task."""
        with self._lock:
            self._in_hand.pop((task.id, task.claim), None)

    def drain(self, grace: timedelta) -> None:
        """Stop every registered task at its next step; after `grace`, also end the calls that they wait for."""
        timer = threading.Timer(grace.total_seconds(), self._end_calls)
        timer.daemon = True
        timer.start()
        with self._lock:
            self._draining = True
            for _, interrupt in self._in_hand.values():
                interrupt.trigger("draining")

    def _end_calls(self) -> None:
        with self._lock:
            for _, interrupt in self._in_hand.values():
                interrupt.end_calls()

    @property
    def is_fresh(self) -> bool:
        """Whether the last registration or beat succeeded within the lease. A silent worker takes no new tasks."""
        return self._last_beat is not None and self._last_beat.elapsed() < self.lease

    @property
    def is_draining(self) -> bool:
        """Whether this process takes no more tasks."""
        return self._draining

    @property
    def claims(self) -> int:
        """How many tasks this process has claimed."""
        return self._claims

    def in_hand(self) -> list[tuple[Claimed, Interrupt]]:
        """Return the registered tasks of this process, with their interrupts."""
        with self._lock:
            return list(self._in_hand.values())

    def _register(self) -> None:
        with system_transaction() as connection:
            workers.register_worker(
                connection,
                {
                    "id": self.id,
                    "name": self.name,
                    "hostname": socket.gethostname(),
                    "pid": os.getpid(),
                    "queues": self.queues,
                    "concurrency": self.concurrency,
                    "pool": self.pool,
                },
            )
        self._last_beat = Stopwatch()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with dedicated_connection(SYSTEM) as connection:
                    self._register()  # again after every outage: the row may have been deleted
                    while not self._stopping.is_set():
                        self._beat(connection)
                        self._stopping.wait(self.interval.total_seconds())
            except Exception as error:  # noqa: BLE001  without this thread the worker would be reaped
                log.warning("heartbeat missed", error=str(error))
                self._stopping.wait(min(1.0, self.interval.total_seconds()))

    def _beat(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        vitals = self.vitals(self)
        with self._lock:
            before = dict(self._in_hand)
        beat = workers.beat(connection, self.id, vitals)
        self._last_beat = Stopwatch()
        for key, (_, interrupt) in before.items():
            if key not in beat.held:
                interrupt.trigger("claim_lost")  # it was reaped, or it has just ended, when this does no harm
                continue
            if (stop := beat.held[key]) is not None:
                interrupt.trigger(stop)
            interrupt.look_at_the_time()
        self._hand_back_strays(beat, before.keys())
        self.on_beat(self, beat)

    def _hand_back_strays(self, beat: Beat, before: Any) -> None:
        with self._lock:
            unknown = {key for key in beat.held if key not in before and key not in self._in_hand}
        # Only if unknown in two beats in a row: a claim that commits during a beat is unknown for a moment.
        for task_id, claim in unknown & self._strays:
            with system_transaction() as connection:
                claims.release_stray(connection, task_id, claim)
            log.warning("handed back a task whose claim ended without being recorded", task=str(task_id))
        self._strays = unknown
