"""Verbs of worker processes, and of those who look after them."""

from datetime import timedelta
from typing import Any

import psycopg
from sqlalchemy import Connection

from core.errors import Conflict, NotFound
from domain.pacing.schemas import Known
from domain.workers import queries
from domain.workers.schemas import Beat, ScaledWorkers, Vitals, Worker


def register_worker(connection: Connection, row: dict[str, Any]) -> None:
    """Note a worker process as alive: id, name, hostname, pid, queues, concurrency, pool."""
    queries.register_worker(connection, row)


def beat(connection: psycopg.Connection[dict[str, Any]], worker: str, vitals: Vitals) -> Beat:
    """Keep the worker alive, and learn what the database says it holds and should be."""
    target = connection.execute(queries.BEAT, {"worker": worker, **vitals.model_dump()}).fetchone()
    rows = connection.execute(queries.HELD, {"worker": worker}).fetchall()
    return Beat(
        held={(row["id"], row["claim"]): row["stop"] for row in rows},
        wanted_concurrency=target["wanted_concurrency"] if target else None,
        known=Known.model_validate(target["known"]) if target else Known(),
    )


def mark_worker_stopped(connection: Connection, worker: str) -> None:
    """Note that a worker left in good order."""
    queries.mark_worker_stopped(connection, worker)


def forget_workers(connection: Connection, age: timedelta) -> int:
    """Delete the rows of workers gone for longer than `age`."""
    return queries.forget_workers(connection, age)


def list_workers(connection: Connection, lease: timedelta) -> list[Worker]:
    """The workers known of, the newest first and those that stopped last."""
    return [Worker(**row) for row in queries.workers(connection, lease)]


def scale(connection: Connection, name: str, concurrency: int, lease: timedelta) -> ScaledWorkers:
    """Have every worker called `name` take `concurrency` tasks at once, those that start later as well.

    Raises:
        NotFound: no living worker has that name; the message says which names there are.
        Conflict: those of that name have the size they were started with.
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
    """Leave the size of the workers called `name` to how they are started: from their next start on.

    Raises:
        NotFound: nothing else was wanted.
    """
    if not queries.delete_target(connection, name):
        raise NotFound(f"No size is set for workers called {name!r}.")
