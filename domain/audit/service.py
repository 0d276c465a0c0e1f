"""Operations on the audit log."""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection

from domain.audit import queries
from domain.audit.schemas import READ, Actor, AuditEvent, AuditPage, Kind

LINES, line_values = queries.LINES, queries.line_values
"""CTEs that add lines in the statement of another slice, and their parameter"""
_BATCH = 1_000


def record(connection: Connection, actor: Actor, event: AuditEvent) -> None:
    """Add a line to the audit log in the transaction of the change itself, so that both are committed or neither."""
    queries.insert_line(connection, actor, event)


def read(
    connection: Connection,
    *,
    kind: Kind | None = None,
    before: UUID | None = None,
    subject: str | None = None,
    verb: str | None = None,
    task: UUID | None = None,
    record: UUID | None = None,
    limit: int = 50,
) -> AuditPage:
    """Return a page of the audit log, newest first. `record` is the id of what was read or changed. Without a `kind`,
    reads are left out unless a record or the verb asks for them.
    """
    wanted = {"before": before, "subject": subject, "verb": verb, "task": task, "record": record, "limit": limit}
    usual: Kind = "any" if record is not None or verb == READ else "change"
    lines = queries.page(connection, kind or usual, wanted)
    return AuditPage(lines=lines, next_before=lines[-1].id if len(lines) == limit else None)


def organisations_with_old_reads(connection: Connection, kept: Mapping[UUID, timedelta]) -> list[UUID]:
    """Return which of the organisations have lines of reads older than each keeps them."""
    return queries.organisations_with_old_lines(connection, kept, reads=True)


def organisations_with_old_changes(connection: Connection, kept: Mapping[UUID, timedelta]) -> list[UUID]:
    """Return which of the organisations have other lines older than each keeps them."""
    return queries.organisations_with_old_lines(connection, kept, reads=False)


def forget_reads(connection: Connection, org: UUID, kept: timedelta) -> int:
    """Delete lines of reads that are older than `kept`; at most 1,000 per call, and none of the last day."""
    return queries.forget(connection, org, kept, _BATCH, reads=True)


def forget_changes(connection: Connection, org: UUID, kept: timedelta) -> int:
    """Delete other lines that are older than `kept`; at most 1,000 per call, and none of the last 30 days."""
    return queries.forget(connection, org, kept, _BATCH, reads=False)
