"""The dispatcher: moves due tasks from Postgres to the Celery queues, and takes back what was lost on the way.

Everything it does stands in Postgres before it is published. It can be killed between any two lines.
"""

import os
import socket
import threading
from datetime import timedelta
from typing import Any

import psycopg
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from core.clock import Stopwatch
from core.db import SYSTEM, dedicated_connection, dump_json
from core.errors import Unavailable
from core.logging import get_logger
from core.settings import Settings
from core.wakeup import CHANNEL
from domain.tasks import service as tasks
from workers.broker import Broker
from workers.leader import Leadership
from workers.queues import TASK_QUEUES
from workers.reaper import reap

log = get_logger(__name__)

_UPKEEP_EVERY = timedelta(seconds=1)
_AFTER_A_FAILURE = timedelta(seconds=1)


class Dispatcher:
    """One dispatcher process. `run()` returns after `stop()`."""

    def __init__(self, config: Settings, broker: Broker) -> None:
        self._config = config
        self._broker = broker
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask for the end; what is under way is finished first."""
        self._stopping.set()

    def run(self) -> None:
        """Lead, or stand by until the leader is gone, and go on after every outage."""
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
        # SQLAlchemy on the leader's own connection: when it is lost, no statement of ours can follow.
        raw.row_factory = psycopg.rows.tuple_row  # type: ignore[assignment]
        raw.autocommit = False
        engine = create_engine(
            "postgresql+psycopg://", creator=lambda: raw, poolclass=StaticPool, json_serializer=dump_json
        )
        with engine.connect() as connection:
            self._lead(connection, raw, leadership)

    def _lead(self, connection: Connection, raw: psycopg.Connection[Any], leadership: Leadership) -> None:
        upkeep = _Upkeep(connection, self._broker, self._config)
        while not self._stopping.is_set():
            published = self._dispatch(connection)
            with connection.begin():
                leadership.show_life()
            upkeep.run_if_due()
            if not published:
                self._wait(raw, self._pause(connection))

    def _dispatch(self, connection: Connection) -> int:
        """Commit first, publish then: a message for a task that is not marked would be a lie, the reverse is mended."""
        with connection.begin():
            due = tasks.take_due(connection, bound=self._config.queue_bound, priorities=TASK_QUEUES)
        if due:
            self._broker.publish(due)
        return len(due)

    def _pause(self, connection: Connection) -> float:
        with connection.begin():
            next_due = tasks.seconds_to_next_due(connection)
        pause = self._config.dispatch_interval
        return pause if next_due is None else min(pause, max(0.005, next_due))

    def _wait(self, raw: psycopg.Connection[Any], pause: float) -> None:
        """Until a hint comes, or `pause` seconds have passed, or we are asked to stop."""
        raw.autocommit = True
        try:
            for _ in raw.notifies(timeout=pause, stop_after=1):
                pass
        finally:
            raw.autocommit = False


class _Upkeep:
    """What the leader looks after once a second: silent workers, and messages that Redis forgot."""

    def __init__(self, connection: Connection, broker: Broker, config: Settings) -> None:
        self._connection = connection
        self._broker = broker
        self._lease = timedelta(seconds=config.worker_lease)
        self._patience = timedelta(seconds=config.republish_after)
        self._since: Stopwatch | None = None
        self._connected = Stopwatch()

    def run_if_due(self) -> None:
        if self._since is not None and self._since.elapsed() < _UPKEEP_EVERY:
            return
        self._since = Stopwatch()
        # After an outage everybody looks silent, us included: a lease must pass before anybody is held to be dead.
        if self._connected.elapsed() > self._lease:
            with self._connection.begin():
                reap(self._connection, self._lease)
        try:
            self._notice_loss()
        except Unavailable as error:
            log.warning("cannot look into Redis", error=error.message)

    def _notice_loss(self) -> None:
        if self._broker.has_forgotten():
            with self._connection.begin():
                again = tasks.take_back_everything_published(self._connection)
            log.info("Redis starts empty; published tasks are due again", count=again)
            return
        with self._connection.begin():
            is_any_late = tasks.has_long_unclaimed(self._connection, self._patience)
        if is_any_late:
            published = self._broker.published()
            with self._connection.begin():
                again = tasks.take_back_lost(self._connection, published, self._patience)
            if again:
                log.warning("messages were lost; their tasks are due again", count=again)
