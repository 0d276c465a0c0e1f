"""All SQL about the audit log. Lines are added and read, never changed."""

from typing import Any

from sqlalchemy import Connection, text

from core.json_text import dump_json
from core.rows import fetch_all
from domain.audit.schemas import AuditLine

_INSERT = text("""
    INSERT INTO audit_log (id, org_id, user_id, key_id, agent, verb, subject, task_id, seq, details,
                           visitor_id)
    VALUES (:id, :org_id, :user_id, :key_id, :agent, :verb, :subject, :task_id, :seq, CAST(:details AS jsonb),
            :visitor_id)
""")


def insert_line(connection: Connection, row: dict[str, Any]) -> None:
    """Add a line."""
    connection.execute(_INSERT, row | {"details": dump_json(row["details"])})


_PAGE = text("""
    SELECT a.id, a.at, a.user_id, u.email AS "user", a.visitor_id, a.key_id, a.agent, a.verb, a.subject,
           a.task_id, a.seq, a.details
      FROM audit_log a LEFT JOIN users u ON u.id = a.user_id
     WHERE (CAST(:before AS uuid) IS NULL OR a.id < :before)
       AND (CAST(:subject AS text) IS NULL OR a.subject = :subject)
       AND (CAST(:verb AS text) IS NULL OR a.verb = :verb)
       AND (CAST(:task AS uuid) IS NULL OR a.task_id = :task)
     ORDER BY a.id DESC LIMIT :limit
""")


def page(connection: Connection, wanted: dict[str, Any]) -> list[AuditLine]:
    """Return the lines that match, newest first."""
    return fetch_all(connection.execute(_PAGE, wanted), AuditLine)
