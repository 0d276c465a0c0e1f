"""All SQL about how long organisations keep what."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.rows import fetch_all, fetch_optional
from domain.retention.schemas import Chosen

_CHOSEN = text("SELECT org_id AS org, reads, changes, conversations FROM retention WHERE org_id = :org")
_ALL = text("""
    SELECT o.id AS org, r.reads, r.changes, r.conversations
      FROM organisations o LEFT JOIN retention r ON r.org_id = o.id
""")


def chosen(connection: Connection, org: UUID) -> Chosen | None:
    """Return what an organisation chose, or None if it never did."""
    return fetch_optional(connection.execute(_CHOSEN, {"org": org}), Chosen)


def chosen_by_all(connection: Connection) -> list[Chosen]:
    """Return what each organisation chose."""
    return fetch_all(connection.execute(_ALL), Chosen)


_PUT = text("""
    INSERT INTO retention (org_id, reads, changes, conversations) VALUES (:org, :reads, :changes, :conversations)
    ON CONFLICT (org_id) DO UPDATE
       SET reads = excluded.reads, changes = excluded.changes, conversations = excluded.conversations
""")


def put_chosen(connection: Connection, org: UUID, row: dict[str, timedelta | None]) -> None:
    """Write what an organisation chose."""
    values: dict[str, Any] = {"org": org, **row}
    connection.execute(_PUT, values)
