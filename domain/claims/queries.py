"""All SQL about claims: what a worker does with the task that it has claimed, and the reaping of silent workers.

Four rules keep tasks, attempts and the journal consistent. The task row is the outbox: a message is published only for
a row marked as dispatched. `claim` is the fence: it grows with every claim, and every later write names it, so a worker
that lost its task cannot write. A step, its usage row and the check of the fence are one statement. No claim ends with
an open intent: a step that was begun and not recorded becomes `unknown`, and its task waits for a person.

In the order of a task's life: `_CLAIM` takes the task and its first hold; `_RECORD` writes steps, usage rows and
payments; `_FINISH` does that and ends a task that succeeded; `_END_CLAIM` ends any other claim; `_REAP` ends the claims
of silent workers.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.json_text import dump_json
from core.prepared import PreparedQuery, SingleStatement
from core.rows import fetch_all, fetch_one, fetch_optional
from domain.audit import service as audit
from domain.audit.schemas import Actor, AuditEvent
from domain.claims.schemas import Claimed, Spell, Spent
from domain.events import service as events
from domain.tasks.schemas import STEP_COLUMNS, Status, Step
from domain.wallet import service as wallet
from domain.wallet.schemas import Payment

# The wallet's SQL that holds and pays tokens in the same statement as a task's other writes.
_HOLD, _PAID = wallet.HOLD, wallet.PAID
_TOKENS = _PAID.parameter("tokens")

_STANDING_STEPS = text(f"""
    SELECT {STEP_COLUMNS} FROM steps WHERE task_id = :task AND status <> 'failed' ORDER BY seq
""")  # noqa: S608


def standing_steps(connection: Connection, task_id: UUID) -> list[Step]:
    """Return the steps that are done and are not done again, and those whose outcome is unknown."""
    return fetch_all(connection.execute(_STANDING_STEPS, {"task": task_id}), Step)


_STEP_BY_ID = text(f"SELECT {STEP_COLUMNS} FROM steps WHERE id = :id")  # noqa: S608
_STEP_UNDER_CLAIM = text(f"""
    SELECT {STEP_COLUMNS} FROM steps WHERE task_id = :task AND seq = :seq AND claim = :claim ORDER BY recorded_at DESC
     LIMIT 1
""")  # noqa: S608


def step_by_id(connection: Connection, step_id: UUID) -> Step | None:
    """Return the step with this id."""
    return fetch_optional(connection.execute(_STEP_BY_ID, {"id": step_id}), Step)


def step_under_claim(connection: Connection, task_id: UUID, seq: int, claim: int) -> Step | None:
    """Return the latest entry of the journal for step `seq` that this claim wrote."""
    values = {"task": task_id, "seq": seq, "claim": claim}
    return fetch_optional(connection.execute(_STEP_UNDER_CLAIM, values), Step)


_SPENT = text("""
    SELECT coalesce(sum(input_tokens + output_tokens), 0)::bigint AS tokens, coalesce(sum(billed_cost), 0) AS cost
      FROM usage WHERE task_id = :task
""")


def spent_on(connection: Connection, task_id: UUID) -> Spent:
    """Return the tokens used and dollars billed for a task so far, including failed attempts."""
    return fetch_one(connection.execute(_SPENT, {"task": task_id}), Spent)


# A successful turn is progress: outages before it do not count. Neither do those before a user's retry of the task.
_SPELL = text("""
    WITH progress AS (
        SELECT max(claim) AS claim FROM steps WHERE task_id = :task AND stage = 'decide' AND status = 'done'
    ), past AS (
        SELECT max(claim) FILTER (WHERE counted) AS counted,
               max(claim) FILTER (WHERE outcome IN ('failed', 'cancelled')) AS ended
          FROM attempts WHERE task_id = :task
    )
    SELECT coalesce(progress.claim > coalesce(past.counted, 0), false) AS has_progressed,
           coalesce(rota_now() - min(a.ended_at), interval '0') AS outage, count(a.claim) AS outages
      FROM progress CROSS JOIN past
      LEFT JOIN attempts a ON a.task_id = :task AND a.claim >= coalesce(progress.claim, 0)
                          AND a.claim > coalesce(past.ended, 0) AND NOT a.counted AND a.error ->> 'kind' = ANY(:kinds)
     GROUP BY progress.claim, past.counted
""")


def spell(connection: Connection, task_id: UUID, kinds: Iterable[str]) -> Spell:
    """Return the outages of a task since its last progress: attempts that ended with an error of one of `kinds` and
    were not counted.
    """
    return fetch_one(connection.execute(_SPELL, {"task": task_id, "kinds": list(kinds)}), Spell)


# When it was claimed is read from the clock: the transaction may have begun long before this task was dispatched.
# Whether it may still start is judged by the transaction's time, as everywhere.
_CLAIM = PreparedQuery(f"""
    WITH claimed AS (
        UPDATE tasks
           SET status = 'running', claim = claim + 1, worker = :worker, dispatched_at = NULL,
               started_at = coalesce(started_at, rota_clock())
         WHERE id = :task AND status = 'queued' AND claim = :claim AND dispatched_at IS NOT NULL
           AND (expires_at IS NULL OR expires_at > rota_now() OR started_at IS NOT NULL)
           AND (deadline IS NULL OR deadline > rota_now())
           AND EXISTS (SELECT FROM agents a WHERE a.id = agent_id AND a.enabled)
           AND EXISTS (SELECT FROM users u WHERE u.id = user_id AND u.disabled_at IS NULL)
        RETURNING id, org_id, agent_id, agent, claim, attempts, max_attempts, input, provider, model, queue, run_after,
                  user_id, location_id, contact, scopes, action, wakes, root_id, depth, bounds, approvals_from,
                  is_streamed, message_id, deadline - rota_now() AS remaining, rota_clock() AS claimed_at
    ), attempt AS (
        INSERT INTO attempts (task_id, claim, org_id, worker, started_at, provider, model, queue, waited)
        SELECT id, claim, org_id, :worker, claimed_at, provider, model, queue, claimed_at - greatest(run_after, (
                   SELECT ended_at FROM attempts before WHERE before.task_id = c.id AND before.claim = c.claim - 1))
          FROM claimed c
    ), {_HOLD.fill(org=f"(SELECT org_id FROM claimed WHERE {_HOLD.parameter('tokens')} > 0)")}
    SELECT id, org_id, agent_id, agent, claim, attempts, max_attempts, input, remaining, user_id, location_id, contact,
           scopes, action, wakes, root_id, depth, bounds, approvals_from, is_streamed, message_id,
           rota_now() AS now,
           coalesce((SELECT {_HOLD.column("tokens")} FROM {_HOLD.name}), 0) AS held_tokens,
           (SELECT CAST(o.xmin AS text) FROM organisations o WHERE o.id = c.org_id) AS organisation_version,
           (SELECT CAST(a.xmin AS text) FROM agents a WHERE a.id = c.agent_id) AS agent_version
      FROM claimed c
""")  # noqa: S608


def claim_task(at: Connection | SingleStatement, task_id: UUID, claim: int, worker: str, tokens: int) -> Claimed | None:
    """Make `worker` the owner of the task under the next claim number, and reserve `tokens` in the task's hold if the
    wallet has them. Return None if the message is out of date.
    """
    values = {"task": task_id, "claim": claim, "worker": worker, "tokens": tokens}
    row = _CLAIM.run(at, values).first()
    return Claimed(**row) if row else None


_UNDO_DISPATCH = text("UPDATE tasks SET dispatched_at = NULL WHERE id = :task AND claim = :claim AND status = 'queued'")


def undo_dispatch(connection: Connection, task_id: UUID, claim: int) -> None:
    """Unpublish a task. No-op if it has been claimed since."""
    connection.execute(_UNDO_DISPATCH, {"task": task_id, "claim": claim})


# `status::text` keeps the planner from using the index of running tasks: if it estimates that they are few, it would
# scan that whole index to find one task by its id.
_LOCK_SHARED = PreparedQuery(
    "SELECT true FROM tasks WHERE id = :task AND claim = :claim AND status::text = 'running' FOR SHARE"
)


def lock_shared(connection: Connection, task_id: UUID, claim: int) -> bool:
    """Lock the task in share mode until this transaction ends. Return False if `claim` does not own it any more."""
    return _LOCK_SHARED.run(connection, {"task": task_id, "claim": claim}).first() is not None


_TASK_COLUMNS = "id, org_id, agent_id, agent, location_id, conversation_id, concurrency_key, workflow_run"
# CTEs that write the steps, their events, and the usage rows of those that called a model, if `fence` has a row.
_JOURNAL = f"""
    line AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(CAST(:lines AS jsonb)) AS l (
            id uuid, seq integer, stage text, name text, status text, input jsonb, output jsonb, duration_ms integer,
            age_ms integer, usage_id uuid, provider text, model text, input_tokens integer, cached_tokens integer,
            cache_write_tokens integer, output_tokens integer, base_cost numeric, markup numeric, billed_cost numeric,
            price jsonb, is_rehearsal boolean, is_estimated boolean, is_unpriced boolean)
    ), step AS (
        INSERT INTO steps (id, org_id, task_id, seq, claim, stage, name, status, input, output, started_at, duration_ms,
                           model, input_tokens, output_tokens, billed_cost)
        SELECT l.id, f.org_id, f.id, l.seq, :claim, l.stage, l.name, l.status, l.input, l.output,
               rota_now() - (l.duration_ms + l.age_ms) * interval '1 millisecond', l.duration_ms, l.model,
               coalesce(l.input_tokens, 0), coalesce(l.output_tokens, 0), coalesce(l.billed_cost, 0)
          FROM fence f, line l
    ), {events.OF_STEPS.fill(task="fence", steps="line")}, usage_row AS (
        INSERT INTO usage (id, org_id, task_id, seq, step_id, agent_id, agent, provider, model, input_tokens,
                           cached_tokens, cache_write_tokens, output_tokens, base_cost, markup, billed_cost, price,
                           is_rehearsal, is_estimated, is_unpriced, conversation, workflow_run)
        SELECT l.usage_id, f.org_id, f.id, l.seq, l.id, f.agent_id, f.agent, l.provider, l.model, l.input_tokens,
               l.cached_tokens, l.cache_write_tokens, l.output_tokens, l.base_cost, l.markup, l.billed_cost, l.price,
               l.is_rehearsal, l.is_estimated, l.is_unpriced, f.concurrency_key, f.workflow_run
          FROM fence f, line l WHERE l.usage_id IS NOT NULL
    )
"""  # noqa: S608
_RECORDING = f"""
    WITH fence AS (
        SELECT {_TASK_COLUMNS} FROM tasks
         WHERE id = :task AND claim = :claim AND status::text = 'running' FOR SHARE
    ), {_PAID.fill(condition=f"{_TOKENS} > 0 AND EXISTS (SELECT FROM fence)", is_last="false")}, {_JOURNAL}
"""  # noqa: S608
_IS_PAID = f"SELECT EXISTS (SELECT FROM {_PAID.name}) AS is_paid FROM fence"  # noqa: S608
_RECORD = PreparedQuery(f"{_RECORDING} {_IS_PAID}")
# Another statement, so that steps that read nothing pay nothing for it.
_RECORD_READING = PreparedQuery(f"{_RECORDING}, {audit.LINES.fill(condition='EXISTS (SELECT FROM fence)')} {_IS_PAID}")
# The conditions on the task hold for its row as of when the lock is acquired. The condition on its steps is safe
# because only a task's own worker writes the journal while the task runs, and that worker runs this statement.
_FINISH = PreparedQuery(f"""
    WITH held AS (
        SELECT {_TASK_COLUMNS} FROM tasks
         WHERE id = :task AND claim = :claim AND status::text = 'running'
           AND NOT EXISTS (SELECT FROM steps s WHERE s.task_id = :task AND s.status IN ('begun', 'unknown'))
           FOR UPDATE
    ), {_PAID.fill(condition="EXISTS (SELECT FROM held)", is_last="true")}, fence AS (
        SELECT * FROM held WHERE {_TOKENS} = 0 OR EXISTS (SELECT FROM {_PAID.name})
    ), {_JOURNAL}, spent AS (
        SELECT count(*) AS calls, coalesce(sum(input_tokens), 0) AS input, coalesce(sum(output_tokens), 0) AS output,
               coalesce(sum(billed_cost), 0) AS cost
          FROM (SELECT input_tokens, output_tokens, billed_cost FROM usage WHERE task_id = :task
                 UNION ALL
                SELECT input_tokens, output_tokens, billed_cost FROM line WHERE usage_id IS NOT NULL) AS all_of_it
    ), departed AS (
        UPDATE tasks t
           SET status = 'succeeded', worker = NULL, dispatched_at = NULL, waiting_for = NULL, waiting_amount = NULL,
               attempts = attempts + 1, result = CAST(:result AS jsonb), error = NULL, finished_at = rota_now(),
               model_calls = spent.calls, input_tokens = spent.input, output_tokens = spent.output,
               billed_cost = spent.cost
          FROM fence, spent
         WHERE t.id = :task
    )
    UPDATE attempts a SET ended_at = rota_now(), outcome = 'succeeded', counted = true
      FROM fence WHERE a.task_id = :task AND a.claim = :claim
""")  # noqa: S608


def insert_steps(
    connection: Connection,
    task: dict[str, Any],
    lines: list[dict[str, Any]],
    payments: Sequence[Payment],
    reads: Sequence[tuple[Actor, AuditEvent]] = (),
) -> bool | None:
    """Write steps, a usage row for each line that has a `usage_id`, and what was read into the audit log, and pay for
    them from the task's hold. Return whether the hold had enough; if not, nothing is paid. Return None and write
    nothing if the claim is lost.
    """
    values = _journal_values(task, lines, payments)
    if reads:
        found = _RECORD_READING.run(connection, values | audit.line_values(reads)).first()
    else:
        found = _RECORD.run(connection, values).first()
    return found["is_paid"] if found else None


def finish_task(
    at: Connection | SingleStatement,
    task: dict[str, Any],
    lines: list[dict[str, Any]],
    payments: Sequence[Payment],
    result: dict[str, Any],
) -> bool:
    """Write the last steps and end the task and its hold. Return False and write nothing if the claim is lost, the hold
    does not have enough left, or the outcome of a step is unknown.
    """
    values = _journal_values(task, lines, payments) | {"result": dump_json(result)}
    return _FINISH.run(at, values).count == 1


def _journal_values(task: dict[str, Any], lines: list[dict[str, Any]], payments: Sequence[Payment]) -> dict[str, Any]:
    return task | {"lines": dump_json(lines)} | wallet.payment_values(payments)


_FINISH_BEGUN = PreparedQuery("""
    WITH fence AS (
        SELECT id FROM tasks WHERE id = :task AND claim = :claim AND status::text = 'running' FOR SHARE
    )
    UPDATE steps s SET status = CAST(:status AS text), output = CAST(:output AS jsonb), duration_ms = :duration_ms,
           recorded_at = rota_now()
      FROM fence WHERE s.task_id = :task AND s.seq = :seq AND s.claim = :claim AND s.status = 'begun'
""")


def finish_begun_step(connection: Connection, row: dict[str, Any]) -> bool:
    """Record the outcome of a step that this claim began. Return False and write nothing if the claim is lost."""
    return _FINISH_BEGUN.run(connection, row | {"output": dump_json(row["output"])}).count == 1


def _next_status(wanted: str, *, has_ended: str = "false", was_woken: str = "false") -> str:
    """Return SQL for the status that a task gets when a claim on it ends. It reads the `wanted` status and the columns
    `cancel_requested_at` and `is_in_doubt` (an action of the task has no recorded outcome).

    A request to cancel overrides everything but an end that was reached. Doubt overrides everything but a cancellation.
    `was_woken` (what tasks wait for arrived while the task was running) overrides waiting.
    """
    return f"""CASE WHEN cancel_requested_at IS NOT NULL AND NOT {has_ended} THEN 'cancelled'
                        WHEN {wanted} <> 'cancelled' AND is_in_doubt THEN 'waiting'
                        WHEN {wanted} = 'waiting' AND {was_woken} THEN 'queued'
                        ELSE {wanted} END"""


# Each table is filtered by a parameter, not joined to the result of an earlier CTE: for a join, the planner may scan
# all of the organisation's rows, which it estimates to be few while its statistics are young.
# A separate statement locks the row: a step that was being written while we waited for the lock is not in the snapshot
# of the locking statement, only in that of a statement that starts afterwards.
_LOCK_EXCLUSIVELY = PreparedQuery(
    "SELECT true FROM tasks WHERE id = :task AND claim = :claim AND status::text = 'running' FOR UPDATE"
)
_END_CLAIM = PreparedQuery(f"""
    WITH held AS (
        SELECT id, cancel_requested_at, coalesce(wakes <> CAST(:wakes AS integer), false) AS was_woken,
               EXISTS (SELECT FROM steps s WHERE s.task_id = :task AND s.status IN ('begun', 'unknown')) AS is_in_doubt
          FROM tasks WHERE id = :task AND claim = :claim AND status::text = 'running'
    ), spent AS (
        SELECT count(*) AS calls, coalesce(sum(input_tokens), 0) AS input, coalesce(sum(output_tokens), 0) AS output,
               coalesce(sum(billed_cost), 0) AS cost
          FROM usage WHERE task_id = :task
    ), doubtful AS (
        UPDATE steps s SET status = 'unknown', recorded_at = rota_now()
          FROM held WHERE s.task_id = :task AND s.status = 'begun'
    ), decided AS (
        SELECT id, {_next_status("CAST(:status AS text)", has_ended="CAST(:ended AS boolean)", was_woken="was_woken")}
                   AS status, is_in_doubt
          FROM held
    ), departed AS (
        UPDATE tasks t
           SET status = decided.status::task_status, worker = NULL, dispatched_at = NULL,
               waiting_for = CASE WHEN decided.status = 'waiting'
                                  THEN CASE WHEN decided.is_in_doubt THEN 'outcome' ELSE :waiting_for END END,
               waiting_amount = :waiting_amount,
               attempts = CASE WHEN CAST(:counts_anew AS boolean) THEN 0 ELSE attempts END
                          + CAST(:counted AS boolean)::int,
               run_after = coalesce(rota_now() + CAST(:delay AS interval), run_after),
               result = CAST(:result AS jsonb), error = CAST(:error AS jsonb),
               finished_at = CASE WHEN decided.status NOT IN ('queued', 'waiting') THEN rota_now() END,
               model_calls = spent.calls, input_tokens = spent.input, output_tokens = spent.output,
               billed_cost = spent.cost
          FROM spent, decided
         WHERE t.id = :task
        RETURNING t.id, t.claim, t.status
    )
    UPDATE attempts a
       SET ended_at = rota_now(), outcome = CASE WHEN d.status = 'waiting' THEN 'waiting' ELSE :outcome END,
           counted = :counted, error = CAST(:error AS jsonb)
      FROM departed d WHERE a.task_id = :task AND a.claim = :claim
    RETURNING d.status
""")  # noqa: S608


def lock_exclusively(connection: Connection, task_id: UUID, claim: int) -> bool:
    """Lock the task exclusively until this transaction ends. Return False if `claim` does not own it any more."""
    return _LOCK_EXCLUSIVELY.run(connection, {"task": task_id, "claim": claim}).first() is not None


def end_claim(connection: Connection, values: dict[str, Any]) -> Status | None:
    """End a claim that is locked: set the task's next status and close the attempt. Return that status, or None if the
    claim is lost.
    """
    prepared = values | {
        name: None if values[name] is None else dump_json(values[name]) for name in ("result", "error")
    }
    found = _END_CLAIM.run(connection, prepared).first()
    return found["status"] if found else None


# Sorted as the index of running tasks is: sorted by id, the planner would scan every task ever made.
_LOCK_ORPHANED = text("""
    SELECT t.id FROM tasks t LEFT JOIN workers w ON w.id = t.worker
     WHERE t.status = 'running'
       AND (w.id IS NULL OR w.stopped_at IS NOT NULL OR w.last_seen_at < rota_now() - CAST(:lease AS interval))
     ORDER BY t.worker, t.id LIMIT 500 FOR UPDATE OF t SKIP LOCKED
""")
_AFTER_SILENCE = "CASE WHEN attempts >= max_attempts THEN 'failed' ELSE 'queued' END"
_REAP = text(f"""
    WITH orphaned AS (
        SELECT t.id, t.max_attempts, t.cancel_requested_at,
               1 + CASE WHEN EXISTS (
                       SELECT FROM steps s WHERE s.task_id = t.id AND s.stage = 'decide' AND s.status = 'done'
                          AND s.claim > coalesce((SELECT max(claim) FROM attempts a
                                                   WHERE a.task_id = t.id AND a.counted), 0)
                   ) THEN 0 ELSE t.attempts END AS attempts,
               EXISTS (SELECT FROM steps s WHERE s.task_id = t.id AND s.status IN ('begun', 'unknown')) AS is_in_doubt
          FROM tasks t WHERE t.id = ANY(:tasks) AND t.status = 'running'
    ), spent AS (
        SELECT o.id, count(u.id) AS calls, coalesce(sum(u.input_tokens), 0) AS input,
               coalesce(sum(u.output_tokens), 0) AS output, coalesce(sum(u.billed_cost), 0) AS cost
          FROM orphaned o LEFT JOIN usage u ON u.task_id = o.id GROUP BY o.id
    ), doubtful AS (
        UPDATE steps s SET status = 'unknown', recorded_at = rota_now()
          FROM orphaned o WHERE s.task_id = o.id AND s.status = 'begun'
    ), decided AS (
        SELECT id, attempts, {_next_status(_AFTER_SILENCE)} AS status FROM orphaned
    ), taken AS (
        UPDATE tasks t
           SET attempts = decided.attempts, worker = NULL, dispatched_at = NULL,  -- and keeps its place in the line
               status = decided.status::task_status,
               waiting_for = CASE WHEN decided.status = 'waiting' THEN 'outcome' END,
               finished_at = CASE WHEN decided.status IN ('cancelled', 'failed') THEN rota_now() END,
               error = jsonb_build_object('kind', 'worker_lost', 'message', CAST(:message AS text)),
               model_calls = spent.calls, input_tokens = spent.input, output_tokens = spent.output,
               billed_cost = spent.cost
          FROM spent JOIN decided USING (id) WHERE t.id = spent.id
        RETURNING t.id, t.claim, t.status
    ), closed AS (
        UPDATE attempts a SET ended_at = rota_now(), outcome = 'lost', counted = true,
               error = jsonb_build_object('kind', 'worker_lost', 'message', CAST(:message AS text))
          FROM taken WHERE a.task_id = taken.id AND a.claim = taken.claim
    )
    SELECT status FROM taken
""")  # noqa: S608


def reap_orphaned(connection: Connection, lease: timedelta, message: str) -> list[Status]:
    """Reap the tasks of workers that have been silent for longer than `lease`: queued again, waiting for a person if an
    effect was under way, cancelled if that was requested, or failed if no attempt is left. Return their new statuses.
    """
    orphaned = list(connection.execute(_LOCK_ORPHANED, {"lease": lease}).scalars())
    if not orphaned:
        return []
    return list(connection.execute(_REAP, {"tasks": orphaned, "message": message}).scalars())
