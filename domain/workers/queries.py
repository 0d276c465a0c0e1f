"""All SQL about worker processes."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row, tuple_row
from sqlalchemy import Connection, text

from core.rows import fetch_all
from domain.pacing import service as pacing
from domain.workers.schemas import BeatAnswer, Stop, Vitals, Worker

_REGISTER = text("""
    INSERT INTO workers (id, name, hostname, pid, queues, concurrency, pool)
    VALUES (:id, :name, :hostname, :pid, :queues, :concurrency, :pool)
    ON CONFLICT (id) DO UPDATE SET last_seen_at = rota_now(), stopped_at = NULL
""")


def register_worker(connection: Connection, row: dict[str, Any]) -> None:
    """Record a worker process as alive."""
    connection.execute(_REGISTER, row)


# Plain SQL for a connection outside the pool: a busy pool must not make a worker look dead.
_BEAT = f"""
    UPDATE workers w
       SET last_seen_at = rota_now(), stopped_at = NULL, concurrency = %(concurrency)s, stuck = %(stuck)s,
           memory_bytes = %(memory_bytes)s, draining_because = %(draining_because)s, claims = %(claims)s,
           last_claimed_at = CASE WHEN claims = %(claims)s THEN last_claimed_at ELSE rota_now() END
     WHERE id = %(worker)s
    RETURNING (SELECT t.concurrency FROM worker_targets t WHERE t.name = w.name) AS wanted_concurrency,
              ({pacing.KNOWN.sql}) AS {pacing.KNOWN.name}
"""  # noqa: S608
_HELD = """
    SELECT t.id, t.claim, CASE WHEN t.cancel_requested_at IS NOT NULL THEN 'cancelled'
                               WHEN NOT a.enabled OR u.disabled_at IS NOT NULL THEN 'switched_off' END AS stop
      FROM tasks t JOIN agents a ON a.id = t.agent_id JOIN users u ON u.id = t.user_id
     WHERE t.worker = %(worker)s AND t.status = 'running'
"""


def record_beat(connection: psycopg.Connection[Any], worker: str, vitals: Vitals) -> BeatAnswer:
    """Record a heartbeat. Return the worker's wanted concurrency, and all paces and alerts."""
    with connection.cursor(row_factory=class_row(BeatAnswer)) as cursor:
        return cursor.execute(_BEAT, {"worker": worker, **vitals.model_dump()}).fetchone() or BeatAnswer()


def held_claims(connection: psycopg.Connection[Any], worker: str) -> dict[tuple[UUID, int], Stop | None]:
    """Return why each running task of the worker is to stop, if it is, by task and claim."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        return {(task, claim): stop for task, claim, stop in cursor.execute(_HELD, {"worker": worker})}


_STOPPED = text("UPDATE workers SET stopped_at = rota_now() WHERE id = :id")


def mark_worker_stopped(connection: Connection, worker: str) -> None:
    """Record that a worker shut down cleanly."""
    connection.execute(_STOPPED, {"id": worker})


_FORGET = text("""
    DELETE FROM workers w WHERE coalesce(stopped_at, last_seen_at) < rota_now() - CAST(:age AS interval)
       AND NOT EXISTS (SELECT FROM tasks t WHERE t.worker = w.id AND t.status = 'running')
""")


def forget_workers(connection: Connection, age: timedelta) -> int:
    """Delete the rows of workers that have been gone for longer than `age`. Return how many."""
    return connection.execute(_FORGET, {"age": age}).rowcount


_WORKERS = text("""
    SELECT w.id, w.name, w.hostname, w.pid, w.queues, w.pool, w.concurrency, target.concurrency AS wanted_concurrency,
           w.stuck, w.memory_bytes, w.draining_because, w.started_at, w.last_seen_at,
           CASE WHEN w.stopped_at IS NOT NULL THEN 'stopped'
                WHEN w.last_seen_at < rota_now() - CAST(:lease AS interval) THEN 'silent'
                WHEN w.draining_because IS NOT NULL THEN 'draining' ELSE 'alive' END AS status,
           in_hand.running, in_hand.tasks
      FROM workers w
      LEFT JOIN worker_targets target ON target.name = w.name
     CROSS JOIN LATERAL (
        SELECT count(*) AS running,
               coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'agent', t.agent, 'priority', t.priority,
                   'since', t.since) ORDER BY t.since) FILTER (WHERE t.number <= 20), '[]') AS tasks
          FROM (SELECT t.id, t.agent, t.priority, a.started_at AS since,
                       row_number() OVER (ORDER BY a.started_at) AS number
                  FROM tasks t JOIN attempts a ON a.task_id = t.id AND a.claim = t.claim
                 WHERE t.worker = w.id AND t.status = 'running') AS t) AS in_hand
     ORDER BY w.stopped_at IS NOT NULL, w.started_at DESC LIMIT 200
""")


def workers(connection: Connection, lease: timedelta) -> list[Worker]:
    """Return the known workers, newest first and stopped ones last. Lists only tasks that this connection may see."""
    return fetch_all(connection.execute(_WORKERS, {"lease": lease}), Worker)


_TARGET = text("""
    INSERT INTO worker_targets (name, concurrency) VALUES (:name, :concurrency)
    ON CONFLICT (name) DO UPDATE SET concurrency = excluded.concurrency, changed_at = rota_now()
""")


def set_target(connection: Connection, name: str, concurrency: int) -> None:
    """Set the wanted concurrency of the workers called `name`."""
    connection.execute(_TARGET, {"name": name, "concurrency": concurrency})


_NAMES = text("""
    SELECT name, count(*) FILTER (WHERE pool = 'elastic') AS elastic FROM workers
     WHERE stopped_at IS NULL AND last_seen_at > rota_now() - CAST(:lease AS interval) GROUP BY name ORDER BY name
""")


def elastic_by_name(connection: Connection, lease: timedelta) -> dict[str, int]:
    """Count, by name, the live processes that can change their concurrency."""
    return {row.name: row.elastic for row in connection.execute(_NAMES, {"lease": lease})}


def delete_target(connection: Connection, name: str) -> bool:
    """Remove the wanted concurrency of the workers called `name`. Return whether one was set."""
    statement = text("DELETE FROM worker_targets WHERE name = :name")
    return connection.execute(statement, {"name": name}).rowcount == 1
