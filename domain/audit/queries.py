"""All SQL about the audit log. Lines are added and read, never changed; old ones are deleted by functions of the owner,
which keep those that are younger than the least time (migration 0035).
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.fragments import Fragment
from core.ids import new_id
from core.json_text import dump_json
from core.rows import fetch_all
from domain.audit.schemas import Actor, AuditEvent, AuditLine, Kind

LINES = Fragment(
    name="audited",
    columns=("id",),
    parameters=("audit",),
    sql="""
    audited AS (
        INSERT INTO audit_log (id, org_id, user_id, visitor_id, key_id, agent, verb, subject, task_id, seq, details,
                               records)
        SELECT id, org_id, user_id, visitor_id, key_id, agent, verb, subject, task_id, seq, details, records
          FROM jsonb_to_recordset(CAST(:audit AS jsonb)) AS a (
               id uuid, org_id uuid, user_id uuid, visitor_id uuid, key_id uuid, agent text, verb text, subject text,
               task_id uuid, seq integer, details jsonb, records uuid[])
         WHERE {condition}
        RETURNING id
    )
""",
)
"""A CTE that adds the lines `:audit` if `condition` is true."""
_INSERT = text(f"WITH {LINES.fill(condition='true')} SELECT FROM {LINES.name}")


def line_values(lines: Sequence[tuple[Actor, AuditEvent]]) -> dict[str, Any]:
    """Return the parameter of `LINES`."""
    rows = [
        {
            "id": new_id(), "org_id": actor.org_id, "user_id": actor.user_id, "visitor_id": actor.visitor_id,
            "key_id": actor.key_id, "agent": actor.agent, "task_id": actor.task_id, "seq": actor.seq,
            "verb": event.verb, "subject": event.subject, "details": event.details, "records": event.records,
        }
        for actor, event in lines
    ]  # fmt: skip
    return {"audit": dump_json(rows)}


def insert_line(connection: Connection, actor: Actor, event: AuditEvent) -> None:
    """Add a line."""
    connection.execute(_INSERT, line_values([(actor, event)]))


_SELECT = """
    SELECT a.id, a.at, a.user_id, u.email AS "user", a.visitor_id, a.key_id, a.agent, a.verb, a.subject, a.task_id,
           a.seq, a.details, a.records
      FROM audit_log a LEFT JOIN users u ON u.id = a.user_id
     WHERE (CAST(:before AS uuid) IS NULL OR a.id < :before)
       AND (CAST(:subject AS text) IS NULL OR a.subject = :subject)
       AND (CAST(:verb AS text) IS NULL OR a.verb = :verb)
       AND (CAST(:task AS uuid) IS NULL OR a.task_id = :task)
"""
_OF_RECORD = """
       AND a.id IN (SELECT rota_lines_naming(CAST(:record AS uuid))
                     UNION ALL
                    SELECT s.id FROM audit_log s WHERE s.subject = CAST(CAST(:record AS uuid) AS text))
"""
_NEWEST = "ORDER BY a.id DESC LIMIT :limit"
# A statement for each kind, so that the planner sees that the index of changes serves it; and for a record, whose lines
# are few.
_OF_KIND = {"change": "AND a.verb <> 'read'", "read": "AND a.verb = 'read'", "any": ""}
_PAGES = {kind: text(f"{_SELECT} {condition} {_NEWEST}") for kind, condition in _OF_KIND.items()}
_PAGES_OF_RECORD = {kind: text(f"{_SELECT} {condition} {_OF_RECORD} {_NEWEST}") for kind, condition in _OF_KIND.items()}


def page(connection: Connection, kind: Kind, wanted: dict[str, Any]) -> list[AuditLine]:
    """Return the lines that match, newest first."""
    pages = _PAGES if wanted["record"] is None else _PAGES_OF_RECORD
    return fetch_all(connection.execute(pages[kind], wanted), AuditLine)


_OLD = """
    SELECT k.org FROM unnest(CAST(:orgs AS uuid[]), CAST(:kept AS interval[])) AS k (org, kept)
     WHERE EXISTS (SELECT FROM audit_log a WHERE a.org_id = k.org AND a.at < rota_now() - k.kept AND
"""
_OLD_READS = text(f"{_OLD} a.verb = 'read')")
_OLD_CHANGES = text(f"{_OLD} a.verb <> 'read')")
_FORGET_READS = text("SELECT rota_forget_reads(:org, CAST(:kept AS interval), :batch)")
_FORGET_CHANGES = text("SELECT rota_forget_changes(:org, CAST(:kept AS interval), :batch)")


def organisations_with_old_lines(connection: Connection, kept: Mapping[UUID, timedelta], *, reads: bool) -> list[UUID]:
    """Return which of the organisations have lines older than each keeps them."""
    values = {"orgs": list(kept), "kept": list(kept.values())}
    return list(connection.execute(_OLD_READS if reads else _OLD_CHANGES, values).scalars())


def forget(connection: Connection, org: UUID, kept: timedelta, batch: int, *, reads: bool) -> int:
    """Delete up to `batch` lines of an organisation that are older than `kept`, oldest first. Return how many."""
    values = {"org": org, "kept": kept, "batch": batch}
    found: int = connection.execute(_FORGET_READS if reads else _FORGET_CHANGES, values).scalar_one()
    return found
