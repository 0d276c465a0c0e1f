"""Operations of worker processes, and of the people who manage them."""

from datetime import timedelta
from typing import Any

import psycopg
from sqlalchemy import Connection

from core.errors import Conflict, NotFound
from domain.workers import queries
from domain.workers.schemas import Beat, ScaledWorkers, Vitals, Worker


def register_worker(connection: Connection, row: dict[str, Any]) -> None:
    """Record a worker process as alive. `row` has id, name, hostname, pid, queues, concurrency and pool."""
    queries.register_worker(connection, row)


def beat(connection: psycopg.Connection[Any], worker: str, vitals: Vitals) -> Beat:
    """Record a heartbeat. Return the tasks that the worker holds by the database, and its wanted concurrency."""
    answer = queries.record_beat(connection, worker, vitals)
    held = queries.held_claims(connection, worker)
    return Beat(held=held, wanted_concurrency=answer.wanted_concurrency, known=answer.known)


def mark_worker_stopped(connection: Connection, worker: str) -> None:
    """Record that a worker shut down cleanly."""
    queries.mark_worker_stopped(connection, worker)


def forget_workers(connection: Connection, age: timedelta) -> int:
    """Delete the rows of workers that have been gone for longer than `age`. Return how many."""
    return queries.forget_workers(connection, age)


def list_workers(connection: Connection, lease: timedelta) -> list[Worker]:
    """Return the known workers, newest first and stopped ones last."""
    return queries.workers(connection, lease)


def scale(connection: Connection, name: str, concurrency: int, lease: timedelta) -> ScaledWorkers:
    """Set the wanted concurrency of all workers called `name`, including those that start later.

    Raises:
        NotFound: no live worker has that name; the message lists the names of live workers.
        Conflict: the workers of that name cannot change the concurrency that they were started with.
    """
    elastic = queries.elastic_by_name(connection, lease)
    if name not in elastic:
        known = ", ".join(elastic) or "none, as no worker is alive"
        raise NotFound(f"There is no living worker called {name!r}. The names: {known}.")
    if not elastic[name]:
        raise Conflict(
            f"The workers called {name!r} keep the size they were started with, as prefork and brokers other than "
            "Redis have it. Start more of them, or start them with another --concurrency."
        )
    queries.set_target(connection, name, concurrency)
    return ScaledWorkers(name=name, concurrency=concurrency, following=elastic[name])


def unscale(connection: Connection, name: str) -> None:
    """Remove the wanted concurrency of the workers called `name`: from their next start on they use their own setting.

    Raises:
        NotFound: no concurrency is set for that name.
    """
    if not queries.delete_target(connection, name):
        raise NotFound(f"No size is set for workers called {name!r}.")
