"""Verbs on the audit log."""

from uuid import UUID

from sqlalchemy import Connection

from core.ids import new_id
from domain.audit import queries
from domain.audit.schemas import AuditLine, AuditPage, Deed, Doer


def record(connection: Connection, doer: Doer, deed: Deed) -> None:
    """Write down who did what, in the transaction in which it is done: both hold, or neither."""
    queries.insert_line(
        connection,
        {
            "id": new_id(),
            "org_id": doer.org_id,
            "user_id": doer.user_id,
            "key_id": doer.key_id,
            "agent": doer.agent,
            "task_id": doer.task_id,
            "seq": doer.seq,
            "verb": deed.verb,
            "subject": deed.subject,
            "details": deed.details,
        },
    )


def read(
    connection: Connection,
    *,
    before: UUID | None = None,
    subject: str | None = None,
    verb: str | None = None,
    task: UUID | None = None,
    limit: int = 50,
) -> AuditPage:
    """A page of the log, newest first."""
    wanted = {"before": before, "subject": subject, "verb": verb, "task": task, "limit": limit}
    lines = [AuditLine(**row) for row in queries.page(connection, wanted)]
    return AuditPage(lines=lines, next_before=lines[-1].id if len(lines) == limit else None)
