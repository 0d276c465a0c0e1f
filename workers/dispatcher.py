"""The dispatcher: publishes due tasks from Postgres to the Celery queues, and unpublishes those whose message was lost.

Everything is committed in Postgres before it is published, so the dispatcher can be killed between any two lines.
"""

import os
import socket
import threading
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from core.clock import Stopwatch
from core.db import transaction_on
from core.engines import SYSTEM, dedicated_connection, engine_on
from core.errors import Unavailable
from core.failpoints import failpoint
from core.logging import get_logger
from core.settings import Settings
from core.wakeup import CHANNEL
from domain.dispatch import service as dispatch
from domain.dispatch.planner import Planner
from domain.dispatch.schemas import Crew, PublishedTask
from domain.dispatch.shares import bounds_for, most_in_flight, slots_by_queue
from domain.tasks.schemas import Priority
from workers.broker import Broker
from workers.leader import Leadership
from workers.reaper import reap

log = get_logger(__name__)

_UPKEEP_EVERY = timedelta(seconds=1)
_SHOW_LIFE_EVERY = timedelta(milliseconds=250)
# Under load, due tasks are taken in batches, since a round costs the same for one task as for fifty: a pause of four
# times its duration follows each round. After an idle period, the first task is taken at once.
_PAUSE_FOR_ROUNDS = 4
_LONGEST_PAUSE = timedelta(milliseconds=100)
_AFTER_A_FAILURE = timedelta(seconds=1)


class Dispatcher:
    """One dispatcher process. `run()` returns after `stop()`."""

    def __init__(self, config: Settings, broker: Broker) -> None:
        self._config = config
        self._broker = broker
        self._usable = config.usable_providers
        self._stopping = threading.Event()
        self._no_reaping_before = 0.0

    def stop(self) -> None:
        """Ask the dispatcher to stop; it finishes the present round first."""
        self._stopping.set()

    def run(self) -> None:
        """Lead, or stand by until the leader is gone, and start over after every outage."""
        self._broker.connect()
        while not self._stopping.is_set():
            try:
                with dedicated_connection(SYSTEM) as connection:
                    self._serve(connection)
            except (psycopg.Error, DBAPIError, Unavailable) as error:
                log.warning("dispatcher starts over", error=str(error).strip())
                self._stopping.wait(_AFTER_A_FAILURE.total_seconds())

    def _serve(self, raw: psycopg.Connection[dict[str, Any]]) -> None:
        leadership = Leadership(
            raw,
            duty="dispatcher",
            process=f"{socket.gethostname()}:{os.getpid()}",
            lease=timedelta(seconds=self._config.leader_lease),
        )
        while not self._stopping.is_set() and not leadership.campaign():
            self._stopping.wait(self._config.dispatch_interval)
        raw.execute(f"LISTEN {CHANNEL}".encode())
        raw.execute(b"SET synchronous_commit = off")  # a mark that a crash loses leaves its task due
        # Our queries fetch a few rows among millions by id, so a sequential scan is never right. The planner does not
        # know the length of an array of ids, and may choose one.
        raw.execute(b"SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off")
        with engine_on(raw).connect() as connection:
            self._lead(connection, raw, leadership)

    def _lead(self, connection: Connection, raw: psycopg.Connection[Any], leadership: Leadership) -> None:
        planner = Planner(timedelta(seconds=self._config.ageing))
        upkeep = _Upkeep(connection, self._broker, self._config, planner, self._first_reaping(leadership.gap))
        shown: Stopwatch | None = None
        while not self._stopping.is_set():
            round_ = Stopwatch()
            _take_hints(raw)  # this round handles them
            if shown is None or shown.elapsed() > _SHOW_LIFE_EVERY:
                with transaction_on(connection):
                    silence = leadership.show_life()
                shown = Stopwatch()
                if silence > timedelta(seconds=self._config.worker_lease) / 2:  # workers may have frozen too
                    upkeep.put_off_reaping(self._first_reaping(silence))
            upkeep.run_if_due()
            taken = self._dispatch(connection, planner, upkeep)
            if taken.due or taken.made_room:
                self._stopping.wait(min(_PAUSE_FOR_ROUNDS * round_.elapsed(), _LONGEST_PAUSE).total_seconds())
            else:
                pause = self._config.dispatch_interval
                self._wait(raw, pause if taken.next_due is None else min(pause, max(0.005, taken.next_due)))

    def _first_reaping(self, gap: timedelta | None) -> float:
        """Return the monotonic time from which silent workers may be reaped. After an outage every worker looks silent,
        so a lease must pass first. If another dispatcher led until just now, there was no outage, or one too short to
        matter. The time is kept when the dispatcher starts over.
        """
        lease = timedelta(seconds=self._config.worker_lease)
        if gap is None or gap > lease / 2:
            self._no_reaping_before = time.monotonic() + lease.total_seconds()
        return self._no_reaping_before

    def _dispatch(self, connection: Connection, planner: Planner, upkeep: "_Upkeep") -> dispatch.Taken:
        """Take the due tasks and publish them. Commit first, publish then: a message for a task that is not marked
        would be wrong, while a marked task without a message is published again.
        """
        with transaction_on(connection):
            crews = upkeep.crews()
            taken = dispatch.take_due(
                connection, planner, upkeep.bounds(crews), upkeep.crowding, self._usable, most_in_flight(crews)
            )
        if taken.due:
            failpoint("after-mark")
            self._broker.publish(taken.due)
            failpoint("after-publish")
        return taken

    def _wait(self, raw: psycopg.Connection[Any], pause: float) -> None:
        """Wait until a hint arrives, but at most `pause` seconds."""
        if not _take_hints(raw):
            for _ in raw.notifies(timeout=pause, stop_after=1):
                pass


def _take_hints(raw: psycopg.Connection[Any]) -> bool:
    """Consume all hints, both those that libpq read along with our statements and those that the driver read, and
    return whether there were any.
    """
    has_come = False
    while raw.pgconn.notifies() is not None:
        has_come = True
    for _ in raw.notifies(timeout=0):
        has_come = True
    return has_come


class _Upkeep:
    """The leader's maintenance, once a second: reap silent workers, unpublish tasks whose messages the broker lost,
    promote tasks that have been due for long, and measure the queues.
    """

    def __init__(
        self, connection: Connection, broker: Broker, config: Settings, planner: Planner, first_reaping: float
    ) -> None:
        self._connection = connection
        self._broker = broker
        self._lease = timedelta(seconds=config.worker_lease)
        self._patience = timedelta(seconds=config.republish_after)
        self._planner = planner
        self._ceiling = config.queue_bound
        self._since: Stopwatch | None = None
        self._first_reaping = first_reaping
        self.crowding: dict[str, int] = {}
        """number of stale messages on each queue, such as those of tasks that have since moved to a higher queue"""

    def put_off_reaping(self, until: float) -> None:
        """Reap no worker before the monotonic time `until`."""
        self._first_reaping = until

    def crews(self) -> list[Crew]:
        """Return the slots of the live workers, by the queues that they serve."""
        return dispatch.crews(self._connection, self._lease)

    def bounds(self, crews: list[Crew]) -> dict[Priority, int]:
        """Return how many unclaimed messages each queue may hold."""
        return bounds_for(slots_by_queue(crews), self._ceiling)

    def run_if_due(self) -> None:
        if self._since is not None and self._since.elapsed() < _UPKEEP_EVERY:
            return
        self._since = Stopwatch()
        if time.monotonic() >= self._first_reaping:
            with transaction_on(self._connection):
                reap(self._connection, self._lease)
        try:
            self._notice_loss()
            self._look_at_depths()
            self._promote_old()
        except Unavailable as error:
            log.warning("cannot look into the broker", error=error.message)

    def _notice_loss(self) -> None:
        if self._broker.has_forgotten():
            with transaction_on(self._connection):
                again = dispatch.unpublish_all(self._connection)
            log.info("the broker starts empty; published tasks are due again", count=again)
            return
        with transaction_on(self._connection):
            late = dispatch.long_unclaimed(self._connection, self._patience)
        if late:
            lost = self._lost(late)
            with transaction_on(self._connection):
                again = dispatch.unpublish(self._connection, lost)
            if again:
                log.warning("messages were lost; their tasks are due again", count=again)

    def _lost(self, late: Iterable[PublishedTask]) -> list[UUID]:
        """Return the tasks whose messages are not on their queue. For a broker that cannot list messages, return the
        tasks whose queue is empty.
        """
        published = self._broker.published()
        if published is not None:
            return [task.id for task in late if (task.id, task.claim, task.queue) not in published]
        depths = self._broker.depths()
        return [task.id for task in late if depths[task.queue] == 0]

    def _look_at_depths(self) -> None:
        depths = self._broker.depths()
        with transaction_on(self._connection):
            unclaimed = dispatch.unclaimed_by_queue(self._connection)
        self.crowding = {queue: max(0, depth - unclaimed.get(queue, 0)) for queue, depth in depths.items()}

    def _promote_old(self) -> None:
        with transaction_on(self._connection):
            due = dispatch.promote_old(self._connection, self._planner, self.bounds(self.crews()))
        if due:
            self._broker.publish(due)
