"""All SQL about attachments. That a blob goes with its row is seen to by a trigger (migration 0029)."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.rows import fetch_all, fetch_one, fetch_optional
from domain.attachments.schemas import Removal, StoredAttachment

_COLUMNS = """
    id, user_id, location_id, conversation_id, task_id, name, media_type, size, pages, sha256, key, created_at,
    deleted_at
"""
_INSERT = text(f"""
    INSERT INTO attachments (id, org_id, user_id, location_id, name, media_type, size, pages, sha256, key)
    VALUES (:id, :org, :user, :location, :name, :media_type, :size, :pages, :sha256, :key)
    RETURNING {_COLUMNS}
""")  # noqa: S608


def insert_attachment(connection: Connection, row: dict[str, Any]) -> StoredAttachment:
    """Write an attachment whose bytes are not stored yet, and return it."""
    return fetch_one(connection.execute(_INSERT, row), StoredAttachment)


_STORED = text("SELECT coalesce(sum(size), 0) FROM attachments WHERE org_id = :org AND deleted_at IS NULL")


def bytes_stored(connection: Connection, org: UUID) -> int:
    """Return how many bytes the attachments of an organisation have together."""
    return int(connection.execute(_STORED, {"org": org}).scalar_one())


_MARK_STORED = text("UPDATE attachments SET stored_at = rota_now() WHERE id = :id AND deleted_at IS NULL")


def mark_stored(connection: Connection, attachment_id: UUID) -> bool:
    """Note that the bytes of an attachment are stored. Return whether it is still there."""
    return connection.execute(_MARK_STORED, {"id": attachment_id}).rowcount == 1


_ONE = text(f"""
    SELECT {_COLUMNS} FROM attachments a WHERE id = :id AND stored_at IS NOT NULL AND deleted_at IS NULL
       AND NOT EXISTS (SELECT FROM conversations c WHERE c.id = a.conversation_id AND c.deleted_at IS NOT NULL)
""")  # noqa: S608


def attachment(connection: Connection, attachment_id: UUID) -> StoredAttachment | None:
    """Return the attachment with this id, or None if there is none or it was deleted."""
    return fetch_optional(connection.execute(_ONE, {"id": attachment_id}), StoredAttachment)


_SOME = text(f"SELECT {_COLUMNS} FROM attachments WHERE id = ANY(:ids) AND stored_at IS NOT NULL")  # noqa: S608


def attachments(connection: Connection, ids: list[UUID]) -> list[StoredAttachment]:
    """Return attachments by their ids, in no order; also those that were deleted."""
    return fetch_all(connection.execute(_SOME, {"ids": ids}), StoredAttachment)


_SEND = text(f"""
    UPDATE attachments SET conversation_id = :conversation, location_id = :location
     WHERE id = ANY(:ids) AND user_id = :user AND stored_at IS NOT NULL AND deleted_at IS NULL AND task_id IS NULL
       AND (conversation_id IS NULL OR conversation_id = :conversation)
    RETURNING {_COLUMNS}
""")  # noqa: S608


def send(
    connection: Connection, ids: list[UUID], user: UUID | None, conversation: UUID, location: UUID | None
) -> list[StoredAttachment]:
    """Make attachments of a user part of a conversation, and return them, in no order. Those that are part of another
    one, or not there, are left out.
    """
    values = {"ids": ids, "user": user, "conversation": conversation, "location": location}
    return fetch_all(connection.execute(_SEND, values), StoredAttachment)


_SEND_WITH_TASK = text("""
    UPDATE attachments SET task_id = :task
     WHERE id = ANY(:ids) AND conversation_id IS NULL AND task_id IS NULL AND deleted_at IS NULL
""")


def send_with_task(connection: Connection, ids: list[UUID], task: UUID) -> None:
    """Make attachments part of a task."""
    connection.execute(_SEND_WITH_TASK, {"ids": ids, "task": task})


_MOVE = text("UPDATE attachments SET conversation_id = :to WHERE id = ANY(:ids)")


def move(connection: Connection, ids: list[UUID], conversation: UUID) -> None:
    """Make attachments part of another conversation."""
    connection.execute(_MOVE, {"ids": ids, "to": conversation})


_DELETE = text("""
    UPDATE attachments SET deleted_at = rota_now() WHERE id = :id AND deleted_at IS NULL
""")


def mark_deleted(connection: Connection, attachment_id: UUID) -> None:
    """Delete an attachment for everybody. Its row stays for as long as messages name it."""
    connection.execute(_DELETE, {"id": attachment_id})


_FORGET = text("""
    DELETE FROM attachments WHERE id IN (
        SELECT id FROM attachments
         WHERE conversation_id IS NULL AND task_id IS NULL
           AND (deleted_at IS NOT NULL OR created_at < rota_now() - make_interval(hours => :hours))
         ORDER BY created_at LIMIT :batch FOR UPDATE SKIP LOCKED)
""")


def delete_unsent(connection: Connection, hours: int, batch: int) -> int:
    """Delete up to `batch` attachments that were not sent within so many hours. Return how many."""
    return connection.execute(_FORGET, {"hours": hours, "batch": batch}).rowcount


_REMOVALS = text("SELECT key FROM blob_removals ORDER BY asked_at LIMIT :batch")


def removals(connection: Connection, batch: int) -> list[Removal]:
    """Return up to `batch` blobs that are to be deleted, the oldest first."""
    return fetch_all(connection.execute(_REMOVALS, {"batch": batch}), Removal)


_REMOVED = text("DELETE FROM blob_removals WHERE key = ANY(:keys)")


def delete_removals(connection: Connection, keys: list[str]) -> None:
    """Note that blobs were deleted."""
    connection.execute(_REMOVED, {"keys": keys})


_POSTPONE = text("UPDATE blob_removals SET asked_at = rota_now() WHERE key = ANY(:keys)")


def postpone_removals(connection: Connection, keys: list[str]) -> None:
    """Have blobs come after those that are to be deleted, too."""
    connection.execute(_POSTPONE, {"keys": keys})
