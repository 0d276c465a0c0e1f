"""All SQL about the installation as a whole."""

from datetime import timedelta

from sqlalchemy import Connection, text

from core.rows import fetch_all
from domain.monitoring.schemas import Leader, TaskCount, WorkerCount, WorkerNotAccepting

_LEADERS = text("""
    SELECT duty, process, term, elected_at, extract(epoch FROM rota_now() - last_seen_at)::float AS silent_seconds
      FROM leaders ORDER BY duty
""")


def leaders(connection: Connection) -> list[Leader]:
    """Return the leader of each duty, and the time since its last heartbeat."""
    return fetch_all(connection.execute(_LEADERS), Leader)


_COUNTS = text("""
    SELECT status, priority, count(*) AS tasks,
           greatest(0, extract(epoch FROM max(rota_now() - run_after)))::float AS oldest_seconds
      FROM tasks WHERE status IN ('queued', 'running', 'waiting') GROUP BY status, priority
""")


def unfinished(connection: Connection) -> list[TaskCount]:
    """Count the unfinished tasks of all organisations by status and priority."""
    return fetch_all(connection.execute(_COUNTS), TaskCount)


_WORKERS = text("""
    SELECT CASE WHEN last_seen_at < rota_now() - CAST(:lease AS interval) THEN 'silent' ELSE 'alive' END AS status,
           count(*) AS workers, sum(concurrency) AS concurrency
      FROM workers
     WHERE stopped_at IS NULL AND last_seen_at > rota_now() - interval '1 hour' GROUP BY 1
""")


def workers(connection: Connection, lease: timedelta) -> list[WorkerCount]:
    """Count the live workers, and those that went silent within the last hour."""
    return fetch_all(connection.execute(_WORKERS, {"lease": lease}), WorkerCount)


# A worker with free slots takes a message within a fraction of a second. Messages that the broker lost do not count
# against it: their tasks are published again, with a later `dispatched_at`.
_NOT_ACCEPTING = text("""
    SELECT w.id, w.name, w.concurrency - in_hand.running AS free_slots, waiting.tasks AS waiting_tasks,
           extract(epoch FROM rota_now() - w.last_claimed_at)::float AS idle_seconds
      FROM workers w
     CROSS JOIN LATERAL (SELECT count(*) AS running FROM tasks t WHERE t.worker = w.id AND t.status = 'running')
           AS in_hand
     CROSS JOIN LATERAL (SELECT count(*) AS tasks FROM tasks t
                          WHERE t.status = 'queued' AND t.queue::text = ANY(w.queues)
                            AND t.dispatched_at < rota_now() - CAST(:patience AS interval)) AS waiting
     WHERE w.stopped_at IS NULL AND w.draining_because IS NULL
       AND w.last_seen_at > rota_now() - CAST(:lease AS interval)
       AND w.last_claimed_at < rota_now() - CAST(:patience AS interval)
       AND in_hand.running < w.concurrency AND waiting.tasks > 0
     ORDER BY w.id
""")


def workers_not_accepting(connection: Connection, lease: timedelta, patience: timedelta) -> list[WorkerNotAccepting]:
    """Return the live workers with free slots that have claimed nothing for `patience`, although tasks have waited on
    their queues for at least as long.
    """
    values = {"lease": lease, "patience": patience}
    return fetch_all(connection.execute(_NOT_ACCEPTING, values), WorkerNotAccepting)


def revision(connection: Connection) -> str | None:
    """Return the migration that the database is at."""
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found
