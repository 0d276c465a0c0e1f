"""All SQL about tasks, attempts and the journal.

Three rules hold it together. The task row is the outbox: a message is only ever published for a row marked dispatched.
`claim` is the fence: it grows with every claim, and every later write names it, so a worker that lost its task cannot
write. A step, its usage row and the fence's check are one statement.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, select, text

from core.db import dump_json
from domain.tasks.models import tasks
from domain.tasks.schemas import TaskFilter

_INTERNAL = {"org_id", "agent_id", "idempotency_key", "request_digest", "dispatched_at", "claim", "parent_seq"}
_VISIBLE = [column for column in tasks.c if column.name not in _INTERNAL]
_VISIBLE_NAMES = ", ".join(column.name for column in _VISIBLE)

# ── submission ───────────────────────────────────────────────────────────────────────────────────────────────────────

_SUBMIT = text(f"""
    INSERT INTO tasks (id, org_id, agent_id, agent, priority, input, run_after, deadline, expires_at,
                       idempotency_key, request_digest, max_attempts, origin_id)
    SELECT :id, a.org_id, a.id, a.slug, CAST(:priority AS task_priority), CAST(:input AS jsonb),
           coalesce(CAST(:run_after AS timestamptz), rota_now()), :deadline, :expires_at,
           :idempotency_key, :request_digest, coalesce((a.retry ->> 'max_attempts')::int, 3), :origin_id
      FROM agents a
     WHERE a.slug = :agent AND a.enabled AND a.deleted_at IS NULL
    ON CONFLICT (org_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING {_VISIBLE_NAMES}
""")  # noqa: S608


def insert_task(connection: Connection, row: dict[str, Any]) -> RowMapping | None:
    """Submit a task. None when the agent is not there (or switched off) or the idempotency key was used before."""
    values = row | {"input": dump_json(row["input"])}
    return connection.execute(_SUBMIT, values).mappings().one_or_none()


def task_by_idempotency_key(connection: Connection, key: str) -> RowMapping | None:
    """The task submitted with `key`, with the digest of its request."""
    statement = select(*_VISIBLE, tasks.c.request_digest).where(tasks.c.idempotency_key == key)
    return connection.execute(statement).mappings().one_or_none()


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def task_by_id(connection: Connection, task_id: UUID) -> RowMapping | None:
    """The task with this id."""
    return connection.execute(select(*_VISIBLE).where(tasks.c.id == task_id)).mappings().one_or_none()


def tasks_page(connection: Connection, wanted: TaskFilter, *, before: UUID | None, limit: int) -> list[RowMapping]:
    """Up to `limit` tasks, newest first, that were made before the task `before`."""
    statement = select(*_VISIBLE).order_by(tasks.c.id.desc()).limit(limit)
    if wanted.ids:
        statement = statement.where(tasks.c.id.in_(wanted.ids))
    if wanted.status:
        statement = statement.where(tasks.c.status.in_(wanted.status))
    if wanted.priority:
        statement = statement.where(tasks.c.priority.in_(wanted.priority))
    if wanted.agent:
        statement = statement.where(tasks.c.agent == wanted.agent)
    if wanted.created_after:
        statement = statement.where(tasks.c.created_at >= wanted.created_after)
    if wanted.created_before:
        statement = statement.where(tasks.c.created_at < wanted.created_before)
    if before:
        statement = statement.where(tasks.c.id < before)
    return list(connection.execute(statement).mappings())


_STEPS = text("""
    SELECT seq, stage, name, status, claim, input, output, model, input_tokens, output_tokens, billed_cost,
           started_at, duration_ms
      FROM steps WHERE task_id = :task ORDER BY seq, recorded_at, id
""")
_FINISHED_STEPS = text("""
    SELECT seq, stage, name, status, claim, input, output, model, input_tokens, output_tokens, billed_cost,
           started_at, duration_ms
      FROM steps WHERE task_id = :task AND status = 'done' ORDER BY seq
""")


def steps_of(connection: Connection, task_id: UUID) -> list[RowMapping]:
    """The whole journal of a task, failed tries included."""
    return list(connection.execute(_STEPS, {"task": task_id}).mappings())


def finished_steps(connection: Connection, task_id: UUID) -> list[RowMapping]:
    """The steps that are done and will not be done again."""
    return list(connection.execute(_FINISHED_STEPS, {"task": task_id}).mappings())


_SPENT = text("""
    SELECT coalesce(sum(input_tokens + output_tokens), 0)::bigint AS tokens, coalesce(sum(billed_cost), 0) AS cost
      FROM usage WHERE task_id = :task
""")


def spent_on(connection: Connection, task_id: UUID) -> RowMapping:
    """Tokens used and dollars billed for a task so far, by failed tries too."""
    return connection.execute(_SPENT, {"task": task_id}).mappings().one()


_NOW = text("SELECT rota_now()")


def now(connection: Connection) -> datetime:
    """The database's time."""
    found: datetime = connection.execute(_NOW).scalar_one()
    return found


_ATTEMPTS = text("""
    SELECT claim, worker, started_at, ended_at, outcome, counted, error
      FROM attempts WHERE task_id = :task ORDER BY claim
""")


def attempts_of(connection: Connection, task_id: UUID) -> list[RowMapping]:
    """Every time a worker had the task."""
    return list(connection.execute(_ATTEMPTS, {"task": task_id}).mappings())


_QUEUE_STATISTICS = text("""
    SELECT p.priority,
           count(t.id) FILTER (WHERE t.status = 'queued' AND t.run_after <= rota_now()) AS queued,
           count(t.id) FILTER (WHERE t.status = 'queued' AND t.run_after > rota_now()) AS scheduled,
           count(t.id) FILTER (WHERE t.status = 'queued' AND t.dispatched_at IS NOT NULL) AS published,
           count(t.id) FILTER (WHERE t.status = 'running') AS running,
           extract(epoch FROM max(rota_now() - t.run_after)
               FILTER (WHERE t.status = 'queued' AND t.run_after <= rota_now()))::float AS oldest_seconds
      FROM unnest(enum_range(NULL::task_priority)) AS p (priority)
      LEFT JOIN tasks t ON t.priority = p.priority AND t.status IN ('queued', 'running')
     GROUP BY p.priority ORDER BY p.priority
""")


def queue_statistics(connection: Connection) -> list[RowMapping]:
    """How each queue stands."""
    return list(connection.execute(_QUEUE_STATISTICS).mappings())


_AGENT_STATISTICS = text("""
    SELECT a.slug AS agent,
           count(t.id) AS tasks,
           count(*) FILTER (WHERE t.status = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE t.status IN ('failed', 'expired')) AS failed,
           count(*) FILTER (WHERE t.status IN ('queued', 'running', 'waiting')) AS unfinished,
           extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY t.finished_at - t.started_at)
               FILTER (WHERE t.finished_at IS NOT NULL))::float AS median_seconds,
           coalesce(sum(t.model_calls), 0) AS model_calls,
           coalesce(sum(t.billed_cost), 0) AS billed_cost
      FROM agents a
      LEFT JOIN tasks t ON t.agent_id = a.id AND t.created_at > rota_now() - interval '30 days'
     WHERE a.deleted_at IS NULL
     GROUP BY a.slug ORDER BY a.slug
""")


def agent_statistics(connection: Connection) -> list[RowMapping]:
    """What each agent did in the last 30 days."""
    return list(connection.execute(_AGENT_STATISTICS).mappings())


# ── dispatch ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_UNCLAIMED = text("""
    SELECT priority, count(*) AS unclaimed FROM tasks
     WHERE status = 'queued' AND dispatched_at IS NOT NULL GROUP BY priority
""")


def unclaimed_by_priority(connection: Connection) -> dict[str, int]:
    """How many tasks were published and not yet claimed, by priority. Bounded by what is published at once."""
    return {row.priority: row.unclaimed for row in connection.execute(_UNCLAIMED)}


_DISPATCH = text("""
    WITH room AS (
        SELECT * FROM unnest(CAST(:priorities AS task_priority[]), CAST(:rooms AS int[])) AS r (priority, free)
    ), due AS (
        SELECT head.id
          FROM room
         CROSS JOIN LATERAL (
            SELECT t.id FROM tasks t
             WHERE t.status = 'queued' AND t.dispatched_at IS NULL AND t.priority = room.priority
               AND t.run_after <= rota_now()
               AND (t.expires_at IS NULL OR t.expires_at > rota_now() OR t.started_at IS NOT NULL)
             ORDER BY t.run_after, t.id
             LIMIT room.free
               FOR UPDATE SKIP LOCKED
         ) AS head
    )
    UPDATE tasks t SET dispatched_at = rota_now()
      FROM due WHERE t.id = due.id
    RETURNING t.id, t.org_id, t.claim, t.priority, t.agent
""")


def mark_due_as_dispatched(connection: Connection, rooms: dict[str, int]) -> list[RowMapping]:
    """Mark the tasks that are due as dispatched, at most `rooms[priority]` of each, and return them for publishing."""
    values = {"priorities": list(rooms), "rooms": list(rooms.values())}
    return list(connection.execute(_DISPATCH, values).mappings())


_LONG_UNCLAIMED = text("""
    SELECT id, priority, claim FROM tasks
     WHERE status = 'queued' AND dispatched_at < rota_now() - CAST(:patience AS interval)
""")


def long_unclaimed(connection: Connection, patience: timedelta) -> list[RowMapping]:
    """Tasks published longer than `patience` ago that nobody has claimed."""
    return list(connection.execute(_LONG_UNCLAIMED, {"patience": patience}).mappings())


_TAKE_BACK_UNCLAIMED = text("""
    UPDATE tasks SET dispatched_at = NULL
     WHERE status = 'queued' AND dispatched_at IS NOT NULL AND (CAST(:ids AS uuid[]) IS NULL OR id = ANY(:ids))
""")


def take_back_unclaimed(connection: Connection, ids: list[UUID] | None) -> int:
    """Make published tasks due again, so that they are published anew: those in `ids`, or all. Returns how many."""
    return connection.execute(_TAKE_BACK_UNCLAIMED, {"ids": ids}).rowcount


_NEXT_DUE = text("""
    SELECT extract(epoch FROM min(first.run_after) - rota_now())::float
      FROM unnest(enum_range(NULL::task_priority)) AS p (priority)
     CROSS JOIN LATERAL (
        SELECT run_after FROM tasks t
         WHERE t.status = 'queued' AND t.dispatched_at IS NULL AND t.priority = p.priority
           AND t.run_after > rota_now()
         ORDER BY run_after LIMIT 1
     ) AS first
""")


def seconds_to_next_due(connection: Connection) -> float | None:
    """Seconds until the next scheduled task is due; None when nothing is scheduled."""
    found: float | None = connection.execute(_NEXT_DUE).scalar_one()
    return found


# ── claim, journal, departure ────────────────────────────────────────────────────────────────────────────────────────

_CLAIM = text("""
    WITH claimed AS (
        UPDATE tasks
           SET status = 'running', claim = claim + 1, worker = :worker, dispatched_at = NULL,
               started_at = coalesce(started_at, rota_now())
         WHERE id = :task AND status = 'queued' AND claim = :claim
           AND (expires_at IS NULL OR expires_at > rota_now() OR started_at IS NOT NULL)
        RETURNING id, org_id, agent_id, agent, claim, attempts, max_attempts, input,
                  deadline - rota_now() AS remaining
    ), attempt AS (
        INSERT INTO attempts (task_id, claim, org_id, worker) SELECT id, claim, org_id, :worker FROM claimed
    )
    SELECT * FROM claimed
""")


def claim_task(connection: Connection, task_id: UUID, claim: int, worker: str) -> RowMapping | None:
    """Make `worker` the owner of the task under the next claim number. None when the message is out of date."""
    values = {"task": task_id, "claim": claim, "worker": worker}
    return connection.execute(_CLAIM, values).mappings().one_or_none()


_HOLD = text("SELECT true FROM tasks WHERE id = :task AND claim = :claim AND status = 'running' FOR SHARE")


def holds_claim(connection: Connection, task_id: UUID, claim: int) -> bool:
    """Whether `claim` still owns the task; it does until this transaction ends."""
    return connection.execute(_HOLD, {"task": task_id, "claim": claim}).scalar() is not None


_STEP = """
    WITH fence AS (
        SELECT id, org_id, agent_id, agent FROM tasks
         WHERE id = :task AND claim = :claim AND status = 'running' FOR SHARE
    ), {usage}
    INSERT INTO steps (id, org_id, task_id, seq, claim, stage, name, status, input, output, started_at, duration_ms,
                       model, input_tokens, output_tokens, billed_cost)
    SELECT :step, org_id, id, :seq, :claim, :stage, :name, CAST(:status AS text), CAST(:input AS jsonb),
           CAST(:output AS jsonb), rota_now() - :duration_ms * interval '1 millisecond', :duration_ms,
           :model, :input_tokens, :output_tokens, :billed_cost
      FROM fence
"""
_WITH_USAGE = """bill AS (
        INSERT INTO usage (id, org_id, task_id, seq, step_id, agent_id, agent, provider, model, input_tokens,
                           cached_tokens, cache_write_tokens, output_tokens, base_cost, markup, billed_cost, price,
                           is_rehearsal)
        SELECT :usage_id, org_id, id, :seq, :step, agent_id, agent, :provider, :model, :input_tokens, :cached_tokens,
               :cache_write_tokens, :output_tokens, :base_cost, :markup, :billed_cost, CAST(:price AS jsonb),
               :is_rehearsal
          FROM fence
    )"""
_RECORD_STEP = text(_STEP.format(usage="nothing AS (SELECT)"))
_RECORD_BILLED_STEP = text(_STEP.format(usage=_WITH_USAGE))


def insert_step(connection: Connection, row: dict[str, Any]) -> bool:
    """Write a step, and its usage row where `row` has a `usage_id`. False, and nothing, when the claim is lost."""
    statement = _RECORD_BILLED_STEP if "usage_id" in row else _RECORD_STEP
    values = row | {name: dump_json(row[name]) for name in ("input", "output", "price") if name in row}
    return connection.execute(statement, values).rowcount == 1


_LEAVE = text("""
    WITH spent AS (
        SELECT count(*) AS calls, coalesce(sum(input_tokens), 0) AS input, coalesce(sum(output_tokens), 0) AS output,
               coalesce(sum(billed_cost), 0) AS cost
          FROM usage WHERE task_id = :task
    ), departed AS (
        UPDATE tasks
           SET status = CASE WHEN cancel_requested_at IS NOT NULL AND NOT CAST(:ended AS boolean) THEN 'cancelled'
                             ELSE CAST(:status AS text) END::task_status,
               worker = NULL, dispatched_at = NULL,
               attempts = attempts + CAST(:counted AS boolean)::int,
               run_after = coalesce(rota_now() + CAST(:delay AS interval), run_after),
               result = CAST(:result AS jsonb), error = CAST(:error AS jsonb),
               finished_at = CASE WHEN CAST(:ended AS boolean) OR cancel_requested_at IS NOT NULL
                                  THEN rota_now() END,
               model_calls = spent.calls, input_tokens = spent.input, output_tokens = spent.output,
               billed_cost = spent.cost
          FROM spent
         WHERE id = :task AND claim = :claim AND status = 'running'
        RETURNING id, claim
    )
    UPDATE attempts a
       SET ended_at = rota_now(), outcome = :outcome, counted = :counted, error = CAST(:error AS jsonb)
      FROM departed d WHERE a.task_id = d.id AND a.claim = d.claim
""")


def leave_task(connection: Connection, values: dict[str, Any]) -> bool:
    """End a claim: give the task its next status and close the attempt. False when the claim is lost."""
    prepared = values | {
        name: None if values[name] is None else dump_json(values[name]) for name in ("result", "error")
    }
    return connection.execute(_LEAVE, prepared).rowcount == 1


# ── control ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_CANCEL = text(f"""
    UPDATE tasks
       SET cancel_requested_at = coalesce(cancel_requested_at, rota_now()),
           status = CASE WHEN status = 'running' THEN status ELSE 'cancelled' END,
           finished_at = CASE WHEN status = 'running' THEN NULL ELSE rota_now() END,
           dispatched_at = NULL
     WHERE id = :task AND status IN ('queued', 'waiting', 'running')
    RETURNING {_VISIBLE_NAMES}
""")  # noqa: S608


def request_cancel(connection: Connection, task_id: UUID) -> RowMapping | None:
    """Cancel a task that waits, or ask the worker that runs it to stop. None when it is not there or has ended."""
    return connection.execute(_CANCEL, {"task": task_id}).mappings().one_or_none()


# A person who retries wants it done: limits in time that have passed would only end it again at once.
_RETRY = text(f"""
    UPDATE tasks
       SET status = 'queued', attempts = 0, run_after = rota_now(), finished_at = NULL, error = NULL, result = NULL,
           cancel_requested_at = NULL, dispatched_at = NULL,
           deadline = CASE WHEN deadline > rota_now() THEN deadline END,
           expires_at = CASE WHEN expires_at > rota_now() THEN expires_at END
     WHERE id = :task AND status IN ('failed', 'cancelled', 'expired')
    RETURNING {_VISIBLE_NAMES}
""")  # noqa: S608


def requeue_ended(connection: Connection, task_id: UUID) -> RowMapping | None:
    """Put a task that failed, expired or was cancelled back on its queue. None when it is not such a task."""
    return connection.execute(_RETRY, {"task": task_id}).mappings().one_or_none()


# ── upkeep ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_REAP = text("""
    WITH orphaned AS (
        SELECT t.id FROM tasks t LEFT JOIN workers w ON w.id = t.worker
         WHERE t.status = 'running'
           AND (w.id IS NULL OR w.stopped_at IS NOT NULL OR w.last_seen_at < rota_now() - CAST(:lease AS interval))
         ORDER BY t.id LIMIT 500 FOR UPDATE OF t SKIP LOCKED
    ), spent AS (
        SELECT o.id, count(u.id) AS calls, coalesce(sum(u.input_tokens), 0) AS input,
               coalesce(sum(u.output_tokens), 0) AS output, coalesce(sum(u.billed_cost), 0) AS cost
          FROM orphaned o LEFT JOIN usage u ON u.task_id = o.id GROUP BY o.id
    ), taken AS (
        UPDATE tasks t
           SET attempts = t.attempts + 1, worker = NULL, dispatched_at = NULL, run_after = rota_now(),
               status = CASE WHEN t.cancel_requested_at IS NOT NULL THEN 'cancelled'
                             WHEN t.attempts + 1 >= t.max_attempts THEN 'failed' ELSE 'queued' END::task_status,
               finished_at = CASE WHEN t.cancel_requested_at IS NOT NULL OR t.attempts + 1 >= t.max_attempts
                                  THEN rota_now() END,
               error = jsonb_build_object('kind', 'worker_lost', 'message', CAST(:message AS text)),
               model_calls = spent.calls, input_tokens = spent.input, output_tokens = spent.output,
               billed_cost = spent.cost
          FROM spent WHERE t.id = spent.id
        RETURNING t.id, t.claim, t.status
    ), closed AS (
        UPDATE attempts a SET ended_at = rota_now(), outcome = 'lost', counted = true,
               error = jsonb_build_object('kind', 'worker_lost', 'message', CAST(:message AS text))
          FROM taken WHERE a.task_id = taken.id AND a.claim = taken.claim
    )
    SELECT id, status FROM taken
""")


def take_back_orphaned(connection: Connection, lease: timedelta, message: str) -> list[RowMapping]:
    """Take the tasks of workers silent for longer than `lease`: queued again, or failed when attempts are used up."""
    return list(connection.execute(_REAP, {"lease": lease, "message": message}).mappings())


_EXPIRE = text("""
    UPDATE tasks SET status = 'expired', finished_at = rota_now(), dispatched_at = NULL,
           error = jsonb_build_object('kind', 'expired', 'message', 'Nobody could start this before it expired.')
     WHERE id IN (SELECT id FROM tasks WHERE status IN ('queued', 'waiting') AND expires_at <= rota_now()
                     AND started_at IS NULL
                   ORDER BY expires_at LIMIT :batch FOR UPDATE SKIP LOCKED)
""")


def expire_overdue(connection: Connection, batch: int) -> int:
    """End up to `batch` tasks whose time to start has passed. Returns how many."""
    return connection.execute(_EXPIRE, {"batch": batch}).rowcount


_CLEAN_UP = text("""
    DELETE FROM tasks WHERE id IN (
        SELECT id FROM tasks
         WHERE finished_at < rota_now() - CASE WHEN status = 'succeeded' THEN CAST(:succeeded AS interval)
                                               ELSE CAST(:failed AS interval) END
         ORDER BY finished_at LIMIT :batch FOR UPDATE SKIP LOCKED)
""")


def delete_finished(connection: Connection, *, succeeded: timedelta, failed: timedelta, batch: int) -> int:
    """Delete up to `batch` tasks that ended longer ago than they are kept. Their usage rows stay."""
    values = {"succeeded": succeeded, "failed": failed, "batch": batch}
    return connection.execute(_CLEAN_UP, values).rowcount


# ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_REGISTER = text("""
    INSERT INTO workers (id, name, hostname, pid, queues, concurrency)
    VALUES (:id, :name, :hostname, :pid, :queues, :concurrency)
    ON CONFLICT (id) DO UPDATE SET last_seen_at = rota_now(), stopped_at = NULL
""")


def register_worker(connection: Connection, row: dict[str, Any]) -> None:
    """Note a worker process as alive."""
    connection.execute(_REGISTER, row)


# One plain statement a beat, on a connection outside the pool: a busy pool must not make a worker look dead.
HEARTBEAT = """
    WITH alive AS (UPDATE workers SET last_seen_at = rota_now(), stopped_at = NULL WHERE id = %(worker)s)
    SELECT id, claim, cancel_requested_at IS NOT NULL AS cancel_requested
      FROM tasks WHERE worker = %(worker)s AND status = 'running'
"""

RELEASE_STRAY = """
    WITH spent AS (
        SELECT count(*) AS calls, coalesce(sum(input_tokens), 0) AS input, coalesce(sum(output_tokens), 0) AS output,
               coalesce(sum(billed_cost), 0) AS cost
          FROM usage WHERE task_id = %(task)s
    ), released AS (
        UPDATE tasks
           SET status = CASE WHEN cancel_requested_at IS NULL THEN 'queued' ELSE 'cancelled' END::task_status,
               finished_at = CASE WHEN cancel_requested_at IS NOT NULL THEN rota_now() END,
               worker = NULL, dispatched_at = NULL, run_after = rota_now(),
               model_calls = spent.calls, input_tokens = spent.input, output_tokens = spent.output,
               billed_cost = spent.cost
          FROM spent
         WHERE id = %(task)s AND claim = %(claim)s AND worker = %(worker)s AND status = 'running'
        RETURNING id, claim
    )
    UPDATE attempts a SET ended_at = rota_now(), outcome = 'released', counted = false
      FROM released r WHERE a.task_id = r.id AND a.claim = r.claim
"""

_STOPPED = text("UPDATE workers SET stopped_at = rota_now() WHERE id = :id")


def mark_worker_stopped(connection: Connection, worker: str) -> None:
    """Note that a worker left in good order."""
    connection.execute(_STOPPED, {"id": worker})


_FORGET = text("""
    DELETE FROM workers w WHERE coalesce(stopped_at, last_seen_at) < rota_now() - CAST(:age AS interval)
       AND NOT EXISTS (SELECT FROM tasks t WHERE t.worker = w.id AND t.status = 'running')
""")


def forget_workers(connection: Connection, age: timedelta) -> int:
    """Delete the rows of workers gone for longer than `age`."""
    return connection.execute(_FORGET, {"age": age}).rowcount


_WORKERS = text("""
    SELECT w.id, w.name, w.hostname, w.pid, w.queues, w.concurrency, w.started_at, w.last_seen_at,
           CASE WHEN w.stopped_at IS NOT NULL THEN 'stopped'
                WHEN w.last_seen_at < rota_now() - CAST(:lease AS interval) THEN 'silent' ELSE 'alive' END AS status,
           (SELECT count(*) FROM tasks t WHERE t.worker = w.id AND t.status = 'running') AS running
      FROM workers w ORDER BY w.started_at DESC LIMIT 200
""")


def workers(connection: Connection, lease: timedelta) -> list[RowMapping]:
    """The workers known of, newest first. `running` counts the tasks this connection may see."""
    return list(connection.execute(_WORKERS, {"lease": lease}).mappings())
