"""All SQL about tasks: submission, lists, and what people do with them. What workers do is in `domain/claims`."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, func, select, text

from core.json_text import dump_json
from core.prepared import PreparedQuery, SingleStatement
from core.rows import fetch_all, fetch_one, fetch_optional
from domain.tasks.models import tasks
from domain.tasks.schemas import (
    STEP_COLUMNS,
    AgentState,
    AgentStatistics,
    Attempt,
    EarlierTask,
    Failures,
    Lineage,
    Original,
    QueueStatistics,
    Step,
    Task,
    TaskFilter,
    UnknownStep,
)

_INTERNAL = {
    "org_id", "agent_id", "idempotency_key", "request_digest", "dispatched_at", "claim", "parent_seq", "key_position",
    "parked", "queue", "provider", "model", "action", "wakes", "scopes",
    "waiting_amount", "bounds", "approvals_from", "is_streamed", "message_id", "notify",
}  # fmt: skip
_VISIBLE = [column for column in tasks.c if column.name not in _INTERNAL]
_VISIBLE_NAMES = ", ".join(column.name for column in _VISIBLE)

# ── submission ───────────────────────────────────────────────────────────────────────────────────────────────────────

# A task with a concurrency key gets the next position in it. The key's row stays locked until the submission commits,
# so positions follow the order of acceptance. The task starts parked; the dispatcher releases the first of each key.
# Key rows are locked in key order and idempotency keys inserted in order, so two bulk submissions cannot deadlock.
_SUBMIT = PreparedQuery(f"""
    WITH line AS MATERIALIZED (
        SELECT * FROM ROWS FROM (jsonb_to_recordset(CAST(:lines AS jsonb)) AS (
            id uuid, agent text, priority text, input jsonb, run_after timestamptz, deadline timestamptz,
            expires_at timestamptz, idempotency_key text, request_digest text, origin_id uuid, concurrency_key text,
            user_id uuid, location_id uuid, contact uuid, action jsonb, workflow_run uuid, scopes text[],
            root_id uuid, depth smallint, bounds jsonb, is_streamed boolean,
            conversation_id uuid, message_id uuid, notify text
        )) WITH ORDINALITY AS l (
            id, agent, priority, input, run_after, deadline, expires_at, idempotency_key, request_digest, origin_id,
            concurrency_key, user_id, location_id, contact, action, workflow_run, scopes, root_id,
            depth, bounds, is_streamed, conversation_id, message_id, notify, nth)
         WHERE (l.deadline IS NULL OR l.deadline > rota_now()) AND (l.expires_at IS NULL OR l.expires_at > rota_now())
           AND NOT EXISTS (SELECT FROM users u WHERE u.id = l.user_id AND u.disabled_at IS NOT NULL)
    ), place AS (
        INSERT INTO concurrency_keys (org_id, key, last_position)
        SELECT a.org_id, l.concurrency_key, count(*)
          FROM line l JOIN agents a ON a.slug = l.agent AND a.enabled AND a.deleted_at IS NULL
         WHERE l.concurrency_key IS NOT NULL
         GROUP BY a.org_id, l.concurrency_key ORDER BY l.concurrency_key
        ON CONFLICT (org_id, key) DO UPDATE
           SET last_position = concurrency_keys.last_position + excluded.last_position, used_at = excluded.used_at
        RETURNING key, last_position
    )
    INSERT INTO tasks (id, org_id, agent_id, agent, priority, input, run_after, deadline, expires_at,
                       idempotency_key, request_digest, max_attempts, origin_id, concurrency_key, key_position, parked,
                       user_id, location_id, contact, action, workflow_run, scopes, root_id, depth, bounds, is_streamed,
                       conversation_id, message_id, notify)
    SELECT l.id, a.org_id, a.id, a.slug, CAST(l.priority AS task_priority), l.input,
           coalesce(l.run_after, rota_now()), l.deadline, l.expires_at,
           l.idempotency_key, decode(l.request_digest, 'hex'), coalesce((a.retry ->> 'max_attempts')::int, 3),
           l.origin_id, l.concurrency_key,
           (SELECT p.last_position FROM place p WHERE p.key = l.concurrency_key) + 1
               - row_number() OVER (PARTITION BY l.concurrency_key ORDER BY l.nth DESC),
           l.concurrency_key IS NOT NULL, l.user_id, l.location_id, l.contact, l.action, l.workflow_run, l.scopes,
           l.root_id, l.depth, l.bounds, l.is_streamed, l.conversation_id, l.message_id, l.notify
      FROM line l JOIN agents a ON a.slug = l.agent AND a.enabled AND a.deleted_at IS NULL
     ORDER BY l.idempotency_key, l.nth
    ON CONFLICT (org_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING {_VISIBLE_NAMES}
""")  # noqa: S608


def insert_tasks(at: Connection | SingleStatement, rows: list[dict[str, Any]]) -> list[Task]:
    """Insert tasks of one organisation. Return the inserted ones, in no order. A task is left out if its agent does not
    exist or is switched off, its user is disabled, its deadline or expiry has passed, or its idempotency key was used
    before.
    """
    return [Task(**row) for row in _SUBMIT.run(at, {"lines": dump_json(rows)}).all]


def task_by_idempotency_key(connection: Connection, key: str) -> EarlierTask | None:
    """Return the task submitted with `key`, with the digest of its request, or None."""
    statement = select(*_VISIBLE, tasks.c.request_digest).where(tasks.c.idempotency_key == key)
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else EarlierTask(Task(**row), bytes(row["request_digest"]))


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


_BY_ID = PreparedQuery(f"SELECT {_VISIBLE_NAMES} FROM tasks WHERE id = :id")  # noqa: S608


def task_by_id(connection: Connection, task_id: UUID) -> Task | None:
    """Return the task with this id, or None."""
    row = _BY_ID.run(connection, {"id": task_id}).first()
    return None if row is None else Task(**row)


def scopes_of(connection: Connection, task_id: UUID) -> list[str] | None:
    """Return the scopes with which a task was submitted."""
    found: list[str] | None = connection.execute(select(tasks.c.scopes).where(tasks.c.id == task_id)).scalar()
    return found


def tasks_page(connection: Connection, wanted: TaskFilter, *, before: UUID | None, limit: int) -> list[Task]:
    """Return up to `limit` matching tasks, newest first, that were created before the task `before`."""
    statement = select(*_VISIBLE).where(*_conditions(wanted)).order_by(tasks.c.id.desc()).limit(limit)
    if before:
        statement = statement.where(tasks.c.id < before)
    return fetch_all(connection.execute(statement), Task)


def number_of_tasks(
    connection: Connection, wanted: TaskFilter, statuses: Iterable[str], *, after: UUID | None, unasked: bool
) -> int:
    """Count the matching tasks with one of these statuses; with `unasked`, only those without a request to cancel."""
    statement = select(func.count()).select_from(tasks).where(*_chosen(wanted, statuses, after, unasked=unasked))
    return connection.execute(statement).scalar_one()


def matching(
    connection: Connection,
    wanted: TaskFilter,
    statuses: Iterable[str],
    *,
    after: UUID | None,
    unasked: bool,
    limit: int,
    locked: bool,
) -> list[UUID]:
    """Return the ids of up to `limit` matching tasks with one of these statuses, oldest first. With `unasked`, leave
    out those with a request to cancel; with `locked`, lock their rows.
    """
    chosen = _chosen(wanted, statuses, after, unasked=unasked)
    statement = select(tasks.c.id).where(*chosen).order_by(tasks.c.id).limit(limit)
    return list(connection.execute(statement.with_for_update() if locked else statement).scalars())


def _chosen(
    wanted: TaskFilter, statuses: Iterable[str], after: UUID | None, *, unasked: bool
) -> list[ColumnElement[bool]]:
    conditions = [*_conditions(wanted), tasks.c.status.in_(statuses)]
    if after is not None:
        conditions.append(tasks.c.id > after)
    if unasked:
        conditions.append(tasks.c.cancel_requested_at.is_(None))
    return conditions


def _conditions(wanted: TaskFilter) -> list[ColumnElement[bool]]:
    column = tasks.c
    conditions: dict[str, Callable[[Any], ColumnElement[bool]]] = {
        "ids": column.id.in_,
        "id_prefix": _begins,
        "status": column.status.in_,
        "agent": column.agent.__eq__,
        "priority": column.priority.in_,
        "waiting_for": column.waiting_for.__eq__,
        "concurrency_key": column.concurrency_key.__eq__,
        "error_kind": column.error["kind"].astext.__eq__,
        "fingerprint": column.fingerprint.__eq__,
        "created_after": column.created_at.__ge__,
        "created_before": column.created_at.__lt__,
    }
    return [condition(value) for name, condition in conditions.items() if (value := getattr(wanted, name)) is not None]


def _begins(prefix: str) -> ColumnElement[bool]:
    """Return the condition that a task's id begins with `prefix`, as a range of the primary key."""
    digits = prefix.replace("-", "")[:32]
    return tasks.c.id.between(UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f")))


_STEPS = text(f"SELECT {STEP_COLUMNS} FROM steps WHERE task_id = :task ORDER BY seq, recorded_at, id")  # noqa: S608


def steps_of(connection: Connection, task_id: UUID) -> list[Step]:
    """Return the whole journal of a task, failed tries included."""
    return fetch_all(connection.execute(_STEPS, {"task": task_id}), Step)


_NOW = text("SELECT rota_now()")


def now(connection: Connection) -> datetime:
    """Return the database's time."""
    found: datetime = connection.execute(_NOW).scalar_one()
    return found


_ATTEMPTS = text("""
    SELECT claim, worker, started_at, ended_at, outcome, counted, error
      FROM attempts WHERE task_id = :task ORDER BY claim
""")


def attempts_of(connection: Connection, task_id: UUID) -> list[Attempt]:
    """Return all attempts of a task, in the order of their claims."""
    return fetch_all(connection.execute(_ATTEMPTS, {"task": task_id}), Attempt)


_QUEUE_STATISTICS = text("""
    WITH present AS (
        SELECT p.priority,
               count(t.id) FILTER (WHERE t.status = 'queued' AND t.run_after <= rota_now()) AS queued,
               count(t.id) FILTER (WHERE t.status = 'queued' AND t.run_after > rota_now()) AS scheduled,
               count(t.id) FILTER (WHERE t.parked AND t.status = 'queued') AS parked,
               count(t.id) FILTER (WHERE t.status = 'queued' AND t.dispatched_at IS NOT NULL) AS published,
               count(t.id) FILTER (WHERE t.status = 'running') AS running,
               count(t.id) FILTER (WHERE t.status = 'waiting') AS waiting,
               extract(epoch FROM max(rota_now() - t.run_after)
                   FILTER (WHERE t.status = 'queued' AND t.run_after <= rota_now()))::float AS oldest_seconds
          FROM unnest(enum_range(NULL::task_priority)) AS p (priority)
          LEFT JOIN tasks t ON t.priority = p.priority AND t.status IN ('queued', 'running', 'waiting')
         GROUP BY p.priority
    ), lately AS (
        SELECT t.priority,
               count(*) FILTER (WHERE a.outcome IN ('succeeded', 'failed')) / extract(epoch FROM CAST(:window AS
               interval))
                   * 60 AS ended_per_minute,
               percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY extract(epoch FROM a.waited)::float) AS waits,
               percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY
                   extract(epoch FROM a.ended_at - a.started_at)::float) AS runs
          FROM attempts a JOIN tasks t ON t.id = a.task_id
         WHERE a.started_at > rota_now() - CAST(:window AS interval)
         GROUP BY t.priority
    )
    SELECT present.*, coalesce(lately.ended_per_minute, 0)::float AS ended_per_minute,
           lately.waits[1] AS wait_p50, lately.waits[2] AS wait_p95,
           lately.runs[1] AS run_p50, lately.runs[2] AS run_p95
      FROM present LEFT JOIN lately USING (priority) ORDER BY priority
""")


def queue_statistics(connection: Connection, window: timedelta) -> list[QueueStatistics]:
    """Return the current state of each queue, and figures of the attempts that began within `window`."""
    return fetch_all(connection.execute(_QUEUE_STATISTICS, {"window": window}), QueueStatistics)


_FAILURES = text("""
    SELECT fingerprint, error ->> 'kind' AS kind, count(*) AS tasks, min(finished_at) AS first_at,
           max(finished_at) AS last_at, (array_agg(error ->> 'message' ORDER BY finished_at DESC))[1] AS message,
           array_agg(DISTINCT agent) AS agents, (array_agg(id ORDER BY finished_at DESC))[1:3] AS examples
      FROM tasks WHERE status = 'failed'
     GROUP BY fingerprint, error ->> 'kind' ORDER BY count(*) DESC, max(finished_at) DESC LIMIT 100
""")


def failures(connection: Connection) -> list[Failures]:
    """Return the failed tasks grouped by the fingerprint of their error, most frequent first."""
    return fetch_all(connection.execute(_FAILURES), Failures)


_AGENT_STATISTICS = text("""
    SELECT a.slug AS agent,
           count(t.id) AS tasks,
           count(*) FILTER (WHERE t.status = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE t.status IN ('failed', 'expired')) AS failed,
           count(*) FILTER (WHERE t.status IN ('queued', 'running', 'waiting')) AS unfinished,
           count(*) FILTER (WHERE t.status = 'succeeded')::float
               / nullif(count(*) FILTER (WHERE t.status IN ('succeeded', 'failed', 'expired')), 0) AS success_rate,
           extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY t.finished_at - t.started_at)
               FILTER (WHERE t.finished_at IS NOT NULL))::float AS median_seconds,
           coalesce(sum(t.model_calls), 0) AS model_calls,
           coalesce(sum(t.billed_cost), 0) AS billed_cost
      FROM agents a
      LEFT JOIN tasks t ON t.agent_id = a.id AND t.created_at > rota_now() - interval '30 days'
     WHERE a.deleted_at IS NULL
     GROUP BY a.slug ORDER BY a.slug
""")


def agent_statistics(connection: Connection) -> list[AgentStatistics]:
    """Return the statistics of each agent over the last 30 days."""
    return fetch_all(connection.execute(_AGENT_STATISTICS), AgentStatistics)


# ── waking, unknown outcomes ─────────────────────────────────────────────────────────────────────────────────────────


# An event arrived that a running task may be about to wait for: `wakes` marks the task so that it does not park (see
# `_LEAVE`). A task that is queued, or waits for something else, is updated too: a worker that claims it then blocks on
# this transaction, and sees the event.
_WAKE = """
    WITH chosen AS (
        SELECT id, status = 'waiting' AND waiting_for = ANY(:what) AS waits FROM tasks
         WHERE {which}
         ORDER BY id FOR UPDATE
    )
    UPDATE tasks t
       SET wakes = wakes + 1, status = CASE WHEN waits THEN 'queued' ELSE status END,
           waiting_for = CASE WHEN NOT waits THEN waiting_for END, error = CASE WHEN NOT waits THEN error END
      FROM chosen WHERE t.id = chosen.id
    RETURNING waits, coalesce(waiting_amount, 0) AS amount
"""
_WAKE_ONE = text(_WAKE.format(which="id = :task AND status IN ('queued', 'running', 'waiting')"))
_WAKE_WHAT_FITS = text(
    _WAKE.format(
        which="""
        id IN (
            SELECT id FROM tasks WHERE org_id = :org AND status = 'running'
             UNION ALL
            SELECT id FROM (
                SELECT id, sum(coalesce(waiting_amount, 0)) OVER (ORDER BY run_after, id) AS together
                  FROM tasks
                 WHERE org_id = :org AND status = 'waiting' AND waiting_for = ANY(:what)
                   AND (CAST(:agent AS text) IS NULL OR agent = :agent) AND agent <> ALL(:except_for)
            ) AS line WHERE CAST(:amount AS numeric) IS NULL OR together <= :amount)
        """
    )
)


def wake_task(connection: Connection, task_id: UUID, what: list[str]) -> None:
    """Requeue a task that waits for one of `what`; mark a running one so that it does not park."""
    connection.execute(_WAKE_ONE, {"task": task_id, "what": what}).all()


def wake_what_fits(connection: Connection, values: dict[str, Any]) -> list[Decimal]:
    """Requeue an organisation's tasks that wait for one of `what` and together need no more than `amount`, longest
    waiting first; mark its running tasks so that they do not park. Return the amount that each requeued task needs.
    """
    return [row.amount for row in connection.execute(_WAKE_WHAT_FITS, values) if row.waits]


_WAITING_ORGANISATIONS = text("SELECT DISTINCT org_id FROM tasks WHERE status = 'waiting' AND waiting_for = ANY(:what)")


def organisations_waiting(connection: Connection, what: list[str]) -> list[UUID]:
    """Return the organisations with tasks that wait for one of `what`."""
    return list(connection.execute(_WAITING_ORGANISATIONS, {"what": what}).scalars())


_SETTLE = text("""
    WITH step AS (
        UPDATE steps SET status = CAST(:status AS text), output = CAST(:output AS jsonb), recorded_at = rota_now()
         WHERE task_id = :task AND seq = :seq AND status = 'unknown'
           AND EXISTS (SELECT FROM tasks WHERE id = :task AND status = 'waiting')
        RETURNING seq
    )
    UPDATE tasks SET status = 'queued', waiting_for = NULL, run_after = rota_now()
     WHERE id = :task AND EXISTS (SELECT FROM step) AND waiting_for = 'outcome'
       AND NOT EXISTS (SELECT FROM steps WHERE task_id = :task AND status = 'unknown' AND seq <> :seq)
""")


def resolve_step(connection: Connection, task_id: UUID, seq: int, *, status: str, output: dict[str, Any]) -> None:
    """Record the outcome of an unknown step. After the last one the task is requeued. The task's row must be locked."""
    connection.execute(_SETTLE, {"task": task_id, "seq": seq, "status": status, "output": dump_json(output)})


_UNKNOWN = text("""
    SELECT s.org_id, s.output ->> 'call_id' AS call_id FROM steps s JOIN tasks t ON t.id = s.task_id
     WHERE t.id = :task AND t.status = 'waiting' AND s.seq = :seq AND s.status = 'unknown' FOR UPDATE OF t, s
""")


def lock_unknown_step(connection: Connection, task_id: UUID, seq: int) -> UnknownStep | None:
    """Lock a waiting task and its step `seq`, and return the step if its outcome is unknown."""
    return fetch_optional(connection.execute(_UNKNOWN, {"task": task_id, "seq": seq}), UnknownStep)


# ── control ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_CANCEL = text("""
    UPDATE tasks
       SET cancel_requested_at = coalesce(cancel_requested_at, rota_now()),
           status = CASE WHEN status = 'running' THEN status ELSE 'cancelled' END,
           finished_at = CASE WHEN status = 'running' THEN NULL ELSE rota_now() END,
           dispatched_at = NULL, waiting_for = NULL
     WHERE id = ANY(:tasks) AND status IN ('queued', 'waiting', 'running')
    RETURNING id
""")


def request_cancel(connection: Connection, ids: list[UUID]) -> list[UUID]:
    """Cancel queued and waiting tasks, and request running ones to stop. Ended tasks are left out. Return the ids."""
    return list(connection.execute(_CANCEL, {"tasks": ids}).scalars())


_OFF = text("""
    SELECT a.deleted_at IS NOT NULL AS is_deleted, NOT a.enabled AS is_switched_off
      FROM tasks t JOIN agents a ON a.id = t.agent_id WHERE t.id = :task
""")


def agent_state(connection: Connection, task_id: UUID) -> AgentState:
    """Return whether a task's agent is deleted or switched off."""
    return fetch_one(connection.execute(_OFF, {"task": task_id}), AgentState)


_BLOCK_TASKS_OF = text("""
    UPDATE tasks SET status = 'waiting', waiting_for = 'user', dispatched_at = NULL
     WHERE id IN (SELECT id FROM tasks WHERE user_id = :user AND status = 'queued' ORDER BY id FOR UPDATE)
""")
_UNBLOCK_TASKS_OF = text("""
    UPDATE tasks SET status = 'queued', waiting_for = NULL
     WHERE id IN (SELECT id FROM tasks WHERE user_id = :user AND status = 'waiting' AND waiting_for = 'user'
                   ORDER BY id FOR UPDATE)
""")


def block_tasks_of(connection: Connection, user: UUID) -> None:
    """Move a user's queued tasks to waiting, so that the dispatcher does not have to skip them at every poll."""
    connection.execute(_BLOCK_TASKS_OF, {"user": user})


def unblock_tasks_of(connection: Connection, user: UUID) -> None:
    """Requeue the tasks of a user that `block_tasks_of` moved to waiting."""
    connection.execute(_UNBLOCK_TASKS_OF, {"user": user})


# A submission that races with the deletion of its agent may commit after it, so a sweep cancels what is left.
_CANCEL_OF_DELETED = text("""
    UPDATE tasks
       SET cancel_requested_at = coalesce(cancel_requested_at, rota_now()),
           status = CASE WHEN status = 'running' THEN status ELSE 'cancelled' END,
           finished_at = CASE WHEN status = 'running' THEN NULL ELSE rota_now() END,
           dispatched_at = NULL, waiting_for = NULL,
           error = jsonb_build_object('kind', 'agent_deleted', 'message', 'Its agent was deleted.')
     WHERE id IN (
        SELECT t.id FROM agents a JOIN tasks t ON t.org_id = a.org_id AND t.agent_id = a.id
         WHERE NOT a.enabled AND a.deleted_at > rota_now() - interval '1 hour'
           AND t.status IN ('queued', 'waiting', 'running') AND t.cancel_requested_at IS NULL
         ORDER BY t.id FOR UPDATE OF t)
""")


def cancel_of_deleted(connection: Connection) -> int:
    """Cancel the unfinished tasks of agents that were deleted in the last hour. Return how many."""
    return connection.execute(_CANCEL_OF_DELETED).rowcount


# A retry drops a deadline or an expiry that has passed: it would end the task again at once. A `run_after` that lies
# ahead stays, unless the task is to run now. A task with a concurrency key moves to the end of its key: the
# conversation has gone on since.
_RETRY = text("""
    WITH chosen AS (
        SELECT id, org_id, concurrency_key, status = 'cancelled' AS was_cancelled FROM tasks
         WHERE id = ANY(:tasks) AND status IN ('failed', 'cancelled', 'expired')
           AND EXISTS (SELECT FROM agents a WHERE a.id = agent_id AND a.enabled)
           AND EXISTS (SELECT FROM users u WHERE u.id = user_id AND u.disabled_at IS NULL)
         ORDER BY id FOR UPDATE
    ), places AS (
        INSERT INTO concurrency_keys (org_id, key, last_position)
        SELECT org_id, concurrency_key, count(*) FROM chosen WHERE concurrency_key IS NOT NULL
         GROUP BY org_id, concurrency_key ORDER BY org_id, concurrency_key
        ON CONFLICT (org_id, key) DO UPDATE
           SET last_position = concurrency_keys.last_position + excluded.last_position, used_at = excluded.used_at
        RETURNING org_id, key, last_position
    ), placed AS (
        SELECT c.id, p.last_position + 1 - row_number() OVER (PARTITION BY c.org_id, c.concurrency_key
                                                              ORDER BY c.id DESC) AS position
          FROM chosen c JOIN places p ON p.org_id = c.org_id AND p.key = c.concurrency_key
    )
    UPDATE tasks t
       SET status = 'queued', attempts = 0,
           run_after = CASE WHEN :now THEN rota_now() ELSE greatest(run_after, rota_now()) END,
           finished_at = NULL, error = NULL, result = NULL,
           cancel_requested_at = NULL, dispatched_at = NULL, waiting_for = NULL,
           approvals_from = CASE WHEN was_cancelled THEN rota_now() ELSE approvals_from END,
           key_position = placed.position, parked = placed.position IS NOT NULL,
           deadline = CASE WHEN deadline > rota_now() THEN deadline END,
           expires_at = CASE WHEN expires_at > rota_now() THEN expires_at END
      FROM chosen LEFT JOIN placed USING (id)
     WHERE t.id = chosen.id
    RETURNING t.id
""")


def requeue_ended(connection: Connection, ids: list[UUID], *, now: bool = False) -> list[UUID]:
    """Requeue tasks that failed, expired or were cancelled. Other tasks are left out, and so are tasks whose agent is
    switched off or whose user is disabled. A `run_after` that lies ahead is kept unless `now`. Return the ids.
    """
    return list(connection.execute(_RETRY, {"tasks": ids, "now": now}).scalars())


# The `run_after` of a task that has started is the time of its next try, not one that its submitter asked for.
_ORIGINALS = text("""
    SELECT id, agent, priority, input, concurrency_key, conversation_id, location_id, contact, action, root_id, depth,
           bounds,
           CASE WHEN run_after > rota_now() AND started_at IS NULL THEN run_after END AS run_after,
           CASE WHEN deadline > rota_now() THEN deadline END AS deadline,
           CASE WHEN expires_at > rota_now() THEN expires_at END AS expires_at
      FROM tasks
     WHERE id = ANY(:tasks) ORDER BY concurrency_key NULLS FIRST, id
""")


_LINEAGE = text("SELECT root_id, depth, bounds FROM tasks WHERE id = :task")


def lineage_of(connection: Connection, task_id: UUID) -> Lineage | None:
    """Return a task's root, depth and bounds."""
    return fetch_optional(connection.execute(_LINEAGE, {"task": task_id}), Lineage)


_GROW = text("""
    INSERT INTO task_trees AS t (org_id, root_id, descendants) VALUES (:org, :root, :more)
    ON CONFLICT (org_id, root_id) DO UPDATE SET descendants = t.descendants + excluded.descendants, used_at = rota_now()
    RETURNING descendants
""")
_CHILDREN = text("SELECT count(*) FROM tasks WHERE root_id = :root AND origin_id = :task")
_SPENT_BY_TREE = text("""
    SELECT coalesce(sum(billed_cost), 0) FROM usage
     WHERE task_id IN (SELECT id FROM tasks WHERE root_id = :root UNION ALL SELECT :root)
""")
_FORGET_TREES = text("""
    DELETE FROM task_trees WHERE (org_id, root_id) IN (
        SELECT r.org_id, r.root_id FROM task_trees r
         WHERE r.used_at < rota_now() - interval '1 day'
           AND NOT EXISTS (SELECT FROM tasks t WHERE t.root_id = r.root_id OR t.id = r.root_id)
         ORDER BY r.used_at LIMIT :batch FOR UPDATE SKIP LOCKED)
""")


def grow_tree(connection: Connection, org: UUID, root: UUID, more: int) -> int:
    """Add `more` to the number of descendants of `root`; the row stays locked. Return the new number."""
    found: int = connection.execute(_GROW, {"org": org, "root": root, "more": more}).scalar_one()
    return found


def number_of_children(connection: Connection, root: UUID, task_id: UUID) -> int:
    """Count the tasks that a task has started."""
    found: int = connection.execute(_CHILDREN, {"root": root, "task": task_id}).scalar_one()
    return found


def spent_by_tree(connection: Connection, root: UUID) -> Decimal:
    """Return the US dollars billed for a root task and all its descendants."""
    found: Decimal = connection.execute(_SPENT_BY_TREE, {"root": root}).scalar_one()
    return found


def delete_unused_trees(connection: Connection, batch: int) -> int:
    """Delete the descendant counts of up to `batch` trees that have no task left. Return how many."""
    return connection.execute(_FORGET_TREES, {"batch": batch}).rowcount


def originals(connection: Connection, ids: list[UUID]) -> list[Original]:
    """Return what replaying these tasks needs, with only those of their times that lie ahead. They come in the order of
    their concurrency keys, so that two bulk replays lock keys in one order.
    """
    return fetch_all(connection.execute(_ORIGINALS, {"tasks": ids}), Original)


# ── upkeep ───────────────────────────────────────────────────────────────────────────────────────────────────────────


_EXPIRE = """
    UPDATE tasks SET status = 'expired', finished_at = rota_now(), dispatched_at = NULL, waiting_for = NULL,
           waiting_amount = NULL, error = jsonb_build_object('kind', CAST(:kind AS text), 'message', {message})
     WHERE id IN (SELECT id FROM tasks WHERE status IN ('queued', 'waiting') AND {limit} <= rota_now() AND {only}
                   ORDER BY {limit} LIMIT :batch FOR UPDATE SKIP LOCKED)
"""
_EXPIRE_UNSTARTED = text(
    _EXPIRE.format(
        limit="expires_at", only="started_at IS NULL", message="'Nobody could start this before it expired.'"
    )
)
# A task with an action of unknown outcome keeps waiting past its deadline: the outcome must be settled first.
_EXPIRE_LATE = text(
    _EXPIRE.format(
        limit="deadline",
        only="waiting_for IS DISTINCT FROM 'outcome'",
        message="""'The deadline passed while it '
            || CASE WHEN status = 'waiting' THEN 'waited for ' || waiting_for ELSE 'was queued' END || '.'""",
    )
)


def expire_unstarted(connection: Connection, batch: int) -> int:
    """End up to `batch` tasks that expired before they were started. Return how many."""
    return connection.execute(_EXPIRE_UNSTARTED, {"batch": batch, "kind": "expired"}).rowcount


def expire_late(connection: Connection, batch: int) -> int:
    """End up to `batch` queued or waiting tasks whose deadline has passed. Return how many."""
    return connection.execute(_EXPIRE_LATE, {"batch": batch, "kind": "deadline"}).rowcount


# Its last attempt ended when it began to wait.
_EXPIRE_ABANDONED = text(
    _EXPIRE.format(
        limit="""(SELECT a.ended_at + CAST(:patience AS interval) FROM attempts a
                   WHERE a.task_id = tasks.id AND a.claim = tasks.claim)""",
        only="status = 'waiting' AND waiting_for = 'client_tools'",
        message="'The client did not return the results of its tools.'",
    )
)


def expire_abandoned(connection: Connection, patience: timedelta, batch: int) -> int:
    """End up to `batch` tasks that have waited longer than `patience` for their clients' tools. Return how many."""
    values = {"batch": batch, "kind": "client_tools", "patience": patience}
    return connection.execute(_EXPIRE_ABANDONED, values).rowcount


_LOCK_TASK = text("SELECT 1 FROM tasks WHERE id = :task FOR UPDATE")


def lock_task(connection: Connection, task_id: UUID) -> None:
    """Lock a task until the transaction ends."""
    connection.execute(_LOCK_TASK, {"task": task_id})


_CLEAN_UP = text("""
    DELETE FROM tasks WHERE id IN (
        SELECT id FROM tasks
         WHERE finished_at < rota_now() - CASE WHEN status = 'succeeded' THEN CAST(:succeeded AS interval)
                                               ELSE CAST(:failed AS interval) END
         ORDER BY finished_at LIMIT :batch FOR UPDATE SKIP LOCKED)
""")
# The age is checked too: the tasks of an uncommitted submission are invisible here; only the key's own row is seen.
_CLEAN_UP_KEYS = text("""
    DELETE FROM concurrency_keys WHERE (org_id, key) IN (
        SELECT k.org_id, k.key FROM concurrency_keys k
         WHERE k.used_at < rota_now() - interval '1 day'
           AND NOT EXISTS (SELECT FROM tasks t WHERE t.org_id = k.org_id AND t.concurrency_key = k.key)
         ORDER BY k.used_at LIMIT :batch FOR UPDATE SKIP LOCKED)
""")


def delete_finished(connection: Connection, *, succeeded: timedelta, failed: timedelta, batch: int) -> int:
    """Delete up to `batch` ended tasks that are past their retention. Their usage rows stay."""
    values = {"succeeded": succeeded, "failed": failed, "batch": batch}
    return connection.execute(_CLEAN_UP, values).rowcount


def delete_unused_keys(connection: Connection, batch: int) -> int:
    """Delete up to `batch` concurrency keys that no task uses any more. Return how many."""
    return connection.execute(_CLEAN_UP_KEYS, {"batch": batch}).rowcount
