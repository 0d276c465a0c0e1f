"""Operations on the audit log."""

from uuid import UUID

from sqlalchemy import Connection

from core.ids import new_id
from domain.audit import queries
from domain.audit.schemas import Actor, AuditEvent, AuditPage


def record(connection: Connection, actor: Actor, event: AuditEvent) -> None:
    """Add a line to the audit log in the transaction of the change itself, so that both are committed or neither."""
    queries.insert_line(
        connection,
        {
            "id": new_id(),
            "org_id": actor.org_id,
            "user_id": actor.user_id,
            "visitor_id": actor.visitor_id,
            "key_id": actor.key_id,
            "agent": actor.agent,
            "task_id": actor.task_id,
            "seq": actor.seq,
            "verb": event.verb,
            "subject": event.subject,
            "details": event.details,
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
    """Return a page of the audit log, newest first."""
    wanted = {"before": before, "subject": subject, "verb": verb, "task": task, "limit": limit}
    lines = queries.page(connection, wanted)
    return AuditPage(lines=lines, next_before=lines[-1].id if len(lines) == limit else None)
