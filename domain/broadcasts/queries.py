"""All SQL about broadcasts."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.rows import fetch_all, fetch_one, fetch_optional
from domain.broadcasts.schemas import Announcement, Broadcast

_COLUMNS = "id, text, level, until, created_at, created_by, withdrawn_at"
_INSERT = text(f"""
    INSERT INTO broadcasts (id, text, level, until, created_by)
    VALUES (:id, :text, :level, :until, :created_by) RETURNING {_COLUMNS}
""")  # noqa: S608
_HAS_PASSED = text("SELECT CAST(:moment AS timestamptz) <= rota_now()")


def insert_broadcast(connection: Connection, row: dict[str, Any]) -> Broadcast:
    """Write a broadcast."""
    return fetch_one(connection.execute(_INSERT, row), Broadcast)


def has_passed(connection: Connection, moment: Any) -> bool:
    """Whether a time has passed."""
    return bool(connection.execute(_HAS_PASSED, {"moment": moment}).scalar_one())


_PAGE = text(f"""
    SELECT {_COLUMNS} FROM broadcasts WHERE CAST(:before AS uuid) IS NULL OR id < :before ORDER BY id DESC LIMIT :limit
""")  # noqa: S608
_CURRENT = text("""
    SELECT id, text, level, until, created_at FROM broadcasts
     WHERE withdrawn_at IS NULL AND (until IS NULL OR until > rota_now()) ORDER BY id DESC LIMIT :limit
""")


def broadcasts(connection: Connection, before: UUID | None, limit: int) -> list[Broadcast]:
    """Return broadcasts, newest first."""
    return fetch_all(connection.execute(_PAGE, {"before": before, "limit": limit}), Broadcast)


def current(connection: Connection, limit: int) -> list[Announcement]:
    """Return the broadcasts that are neither over nor withdrawn, newest first."""
    return fetch_all(connection.execute(_CURRENT, {"limit": limit}), Announcement)


_ONE = text(f"SELECT {_COLUMNS} FROM broadcasts WHERE id = :id FOR UPDATE")  # noqa: S608
_WITHDRAW = text("UPDATE broadcasts SET withdrawn_at = rota_now() WHERE id = :id")


def lock_broadcast(connection: Connection, broadcast_id: UUID) -> Broadcast | None:
    """Lock a broadcast and return it, or None if there is none."""
    return fetch_optional(connection.execute(_ONE, {"id": broadcast_id}), Broadcast)


def withdraw(connection: Connection, broadcast_id: UUID) -> None:
    """Mark a broadcast as withdrawn."""
    connection.execute(_WITHDRAW, {"id": broadcast_id})
