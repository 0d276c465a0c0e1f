"""Delete what organisations keep no longer: old lines of the audit log, and conversations that nobody goes on with.

Each portion is deleted in a transaction that also says so in the audit log, so after a crash the log is right about
what was deleted, and the next run goes on.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection

from core.db import system_transaction
from core.duties import for_each, in_batches
from domain.audit import service as audit
from domain.audit.schemas import Actor, AuditEvent
from domain.conversations import service as conversations
from domain.retention import service as retention
from domain.retention.service import What

_Find = Callable[[Connection, Mapping[UUID, timedelta]], list[UUID]]
_Delete = Callable[[Connection, UUID, timedelta], int]


def forget_audit() -> None:
    """Delete lines of the audit log that are older than their organisation keeps them."""
    _clean_up("reads", audit.organisations_with_old_reads, audit.forget_reads)
    _clean_up("changes", audit.organisations_with_old_changes, audit.forget_changes)


def delete_idle_conversations() -> None:
    """Delete conversations whose last message is older than their organisation keeps them."""
    _clean_up("conversations", conversations.organisations_with_idle, conversations.delete_idle)


def _clean_up(what: What, find: _Find, delete: _Delete) -> None:
    with system_transaction() as connection:
        kept = retention.kept_by_all(connection, what)
        due = find(connection, kept)
    for_each(
        due,
        f"cannot delete old {what}",
        lambda org: in_batches(f"deleted old {what}", lambda: _delete_portion(org, what, kept[org], delete)),
    )


def _delete_portion(org: UUID, what: What, kept: timedelta, delete: _Delete) -> int:
    with system_transaction() as connection:
        count = delete(connection, org, kept)
        if count:
            details = {"deleted": count, "older_than_days": kept / timedelta(days=1)}
            audit.record(connection, Actor(org_id=org), AuditEvent("cleaned up", what, details))
    return count
