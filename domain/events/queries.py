"""All SQL about events. They are written by triggers (migrations 0023 to 0035), by the statement that writes steps, and
by `insert_event`.
"""

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.fragments import Fragment
from core.json_text import dump_json
from core.prepared import PreparedQuery
from core.rows import fetch_all
from domain.events.schemas import Cursor, Event, Horizon, OpenTask, Wanted

PORTION = 500
"""events that the reader of many organisations gets at once"""
OF_STEPS = Fragment(
    name="told",
    columns=("subject_id",),
    parameters=(),
    sql="""
    told AS (
        INSERT INTO events (org_id, kind, task_id, subject_id, agent, location_id, conversation_id)
        SELECT t.org_id, rota_step_kind(s.stage, s.status), t.id, s.id, t.agent, t.location_id, t.conversation_id
          FROM {task} t, {steps} s
        RETURNING subject_id
    )
""",
)
"""A CTE that tells of new `steps` of a `task` in their order, for the one statement that writes them: a trigger costs a
task more than twice as much.
"""

_VALUES = """
    INSERT INTO events (org_id, kind, task_id, agent, location_id, data, once)
    VALUES (:org, :kind, :task, :agent, :location, CAST(:data AS jsonb), :once)
"""
_INSERT = text(_VALUES)
# ON CONFLICT reads the table, so the policy that hides other locations' rows would refuse the row: not where none is
# looked for.
_INSERT_ONCE = text(f"{_VALUES} ON CONFLICT (org_id, once) WHERE once IS NOT NULL DO NOTHING")


def insert_event(connection: Connection, row: dict[str, Any]) -> None:
    """Write an event, unless one with the same `once` was written before."""
    statement = _INSERT if row["once"] is None else _INSERT_ONCE
    connection.execute(statement, row | {"data": dump_json(row["data"])})


_INSERT_FOR_ALL = text("""
    INSERT INTO events (org_id, kind, data) SELECT id, :kind, CAST(:data AS jsonb) FROM organisations
""")


def insert_event_for_all(connection: Connection, kind: str, data: dict[str, Any]) -> None:
    """Write an event for each organisation."""
    connection.execute(_INSERT_FOR_ALL, {"kind": kind, "data": dump_json(data)})


# The details are read from the rows that an event names, one subquery for each kind of row: joined, they would take the
# planner ten times as long, and it might read a whole table for them.
_STEP = """
    SELECT jsonb_build_object('step', seq, 'stage', stage, 'name', name, 'claim', claim, 'duration_ms', duration_ms)
           || CASE WHEN model IS NULL THEN '{}' ELSE jsonb_build_object(
               'model', model, 'input_tokens', input_tokens, 'output_tokens', output_tokens,
               'billed_cost', billed_cost::text) END
           || CASE e.kind
              WHEN 'decision.made' THEN jsonb_build_object(
                  'intent', output -> 'intent', 'confidence', output -> 'confidence',
                  'reasoning', output -> 'reasoning', 'actions', output -> 'actions',
                  'text', output -> 'message' -> 'text', 'attempt', input -> 'attempt')
              WHEN 'action.executed' THEN jsonb_build_object('tool', name, 'ok', output -> 'ok')
              WHEN 'task.step' THEN jsonb_build_object('status', status)
                  || CASE WHEN status = 'failed' THEN jsonb_build_object('error', output -> 'error' -> 'kind')
                          ELSE '{}' END
              ELSE jsonb_build_object('tool', name) END
      FROM steps WHERE id = e.subject_id
"""
_APPROVAL = """
    SELECT jsonb_build_object(
               'approval_id', id, 'step', seq, 'tool', tool, 'arguments', arguments,
               'digest', encode(digest, 'hex'), 'expires_at', expires_at)
           || CASE WHEN decided_at IS NULL THEN '{}' ELSE jsonb_build_object(
               'decided_at', decided_at, 'decided_by', decided_by, 'reason', reason) END
      FROM approvals WHERE id = e.subject_id
"""
_RESULT = """
    SELECT jsonb_build_object(
               'answer', result -> 'answer', 'is_truncated', result -> 'is_truncated',
               'input_tokens', input_tokens, 'output_tokens', output_tokens, 'billed_cost', billed_cost::text)
      FROM tasks WHERE id = e.task_id AND e.kind = 'task.ended' AND status = 'succeeded'
"""
_MESSAGE = """
    SELECT jsonb_build_object(
               'message_id', id, 'parent_id', parent_id, 'position', position, 'status', status, 'text', text,
               'billed_cost', billed_cost::text)
      FROM conversation_messages WHERE id = e.subject_id
"""
_DETAILS = " || ".join(f"coalesce(({details}), '{{}}')" for details in (_STEP, _APPROVAL, _RESULT, _MESSAGE))
_COLUMNS = f"""
    SELECT CAST(CAST(e.xid AS text) AS bigint) AS xid, e.seq, e.org_id, e.kind, e.at, e.task_id, e.agent, e.location_id,
           e.conversation_id, c.session, coalesce(e.data, '{{}}') || {_DETAILS} AS data
"""
_CONVERSATION = "LEFT JOIN conversations c ON c.id = e.conversation_id AND c.deleted_at IS NULL"
_SELECT = f"{_COLUMNS} FROM events e {_CONVERSATION}"
_AFTER = "(e.xid, e.seq) > (CAST(CAST(:xid AS text) AS xid8), CAST(:seq AS bigint))"
# Transactions that are still open may write events with ids from here on, and become visible in any order.
_IS_FINAL = "e.xid < pg_snapshot_xmin(pg_current_snapshot())"
_FILTERS = f"""
       AND e.org_id = :org AND {_AFTER} AND {_IS_FINAL}
       AND (CAST(:session AS text) IS NULL OR c.session = :session)
       AND (CAST(:kinds AS text[]) IS NULL OR e.kind = ANY(CAST(:kinds AS text[])))
       AND (CAST(:agent AS text) IS NULL OR e.agent = :agent)
     ORDER BY e.xid, e.seq LIMIT CAST(:limit AS integer)
"""
# Planning a page takes ten times as long as reading it, and each listener reads some: they are prepared. A prepared
# statement has one plan for all values, so there is one for each index that a page is read from.
_PAGE = PreparedQuery(f"{_SELECT} WHERE true {_FILTERS}")
_PAGE_OF_CONVERSATION = PreparedQuery(f"{_SELECT} WHERE e.conversation_id = :conversation {_FILTERS}")
_PAGE_OF_TASK = PreparedQuery(f"""{_SELECT}
     WHERE e.task_id = :task AND (CAST(:conversation AS uuid) IS NULL OR e.conversation_id = :conversation) {_FILTERS}
""")


def page(connection: Connection, wanted: Wanted, after: Cursor, limit: int) -> list[Event]:
    """Return up to `limit` events after a cursor, in order."""
    values = {
        "org": wanted.org, "task": wanted.task, "conversation": wanted.conversation, "kinds": wanted.kinds,
        "session": wanted.session, "agent": wanted.agent, "limit": limit,
    }  # fmt: skip
    statement = _PAGE_OF_TASK if wanted.task else _PAGE_OF_CONVERSATION if wanted.conversation else _PAGE
    found = statement.run(connection, values | {"xid": str(after.xid), "seq": after.seq})
    return [Event(**row) for row in found.all]


# Each organisation's events are read from the index in their order.
_OF_MANY = PreparedQuery(f"""{_COLUMNS}
      FROM unnest(CAST(:orgs AS uuid[])) AS o (id) CROSS JOIN LATERAL (
        SELECT * FROM events e WHERE e.org_id = o.id AND {_AFTER} AND {_IS_FINAL} ORDER BY e.xid, e.seq LIMIT {PORTION}
      ) e {_CONVERSATION}
     ORDER BY e.xid, e.seq LIMIT {PORTION}
""")  # noqa: S608


def page_of_many(connection: Connection, orgs: Collection[UUID], after: Cursor) -> list[Event]:
    """Return up to `PORTION` events of these organisations after a cursor, in order."""
    values = {"orgs": list(orgs), "xid": str(after.xid), "seq": after.seq}
    return [Event(**row) for row in _OF_MANY.run(connection, values).all]


_HORIZON = PreparedQuery("""
    SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS xid,
           CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint) AS latest,
           CAST(CAST(d.xid AS text) AS bigint) AS deleted_xid, d.seq AS deleted_seq
      FROM (VALUES (1)) AS one (row) LEFT JOIN deleted_events d ON d.org_id = CAST(:org AS uuid)
""")


def horizon(connection: Connection, org: UUID | None) -> Horizon:
    """Return where reading must stop now, and where what is kept of an organisation begins."""
    (row,) = _HORIZON.run(connection, {"org": org}).all
    return Horizon(**row)


_ENDING = PreparedQuery(f"""{_SELECT}
     WHERE e.org_id = :org AND e.task_id = :task AND e.kind = 'task.ended'
     ORDER BY e.xid DESC, e.seq DESC LIMIT 1
""")


def last_ending(connection: Connection, org: UUID, task: UUID) -> Event | None:
    """Return the latest event that tells of the end of a task."""
    row = _ENDING.run(connection, {"org": org, "task": task}).first()
    return None if row is None else Event(**row)


# Decisions of which readers up to the cursor have heard.
_LAST_DECISION = PreparedQuery("""
    SELECT coalesce(max(s.seq), -1) AS step FROM events e JOIN steps s ON s.id = e.subject_id
     WHERE e.task_id = :task AND e.kind = 'decision.made'
       AND (e.xid, e.seq) <= (CAST(CAST(:xid AS text) AS xid8), CAST(:seq AS bigint))
""")


def last_decision(connection: Connection, task: UUID, until: Cursor) -> int:
    """Return the step of the last decision of a task that events up to a cursor tell of, -1 if there is none."""
    values = {"task": task, "xid": str(until.xid), "seq": until.seq}
    (row,) = _LAST_DECISION.run(connection, values).all
    found: int = row["step"]
    return found


_OPEN_TASKS = text("""
    SELECT id, agent, status, waiting_for FROM tasks
     WHERE status IN ('queued', 'running', 'waiting') AND (CAST(:task AS uuid) IS NULL OR id = :task)
     ORDER BY id DESC LIMIT :limit
""")


def open_tasks(connection: Connection, task: UUID | None, limit: int) -> list[OpenTask]:
    """Return up to `limit` tasks that have not ended, newest first."""
    return fetch_all(connection.execute(_OPEN_TASKS, {"task": task, "limit": limit}), OpenTask)


_DELETE = text("""
    WITH deleted AS (
        DELETE FROM events WHERE (org_id, xid, seq) IN (
            SELECT org_id, xid, seq FROM events
             WHERE at < rota_now() - CAST(:kept AS interval)
             ORDER BY at LIMIT :batch FOR UPDATE SKIP LOCKED)
        RETURNING org_id, xid, seq
    ), last AS (
        SELECT DISTINCT ON (org_id) org_id, xid, seq FROM deleted
         WHERE xid < pg_snapshot_xmax(pg_current_snapshot()) ORDER BY org_id, xid DESC, seq DESC
    ), noted AS (
        INSERT INTO deleted_events AS d (org_id, xid, seq) SELECT org_id, xid, seq FROM last
        ON CONFLICT (org_id) DO UPDATE SET xid = excluded.xid, seq = excluded.seq
         WHERE (excluded.xid, excluded.seq) > (d.xid, d.seq) OR d.xid > pg_snapshot_xmax(pg_current_snapshot())
    )
    SELECT count(*) FROM deleted
""")


def delete_events(connection: Connection, kept: timedelta, batch: int) -> int:
    """Delete up to `batch` events older than `kept`, oldest first, and note up to where. Return how many."""
    found: int = connection.execute(_DELETE, {"kept": kept, "batch": batch}).scalar_one()
    return found
