"""All SQL about organisations and API keys."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

_ORGANISATION = "id, slug, name, time_zone, markup"


def organisation_by_slug(connection: Connection, slug: str) -> RowMapping | None:
    """The organisation called `slug`."""
    statement = text(f"SELECT {_ORGANISATION} FROM organisations WHERE slug = :slug")  # noqa: S608
    return connection.execute(statement, {"slug": slug}).mappings().one_or_none()


def organisation(connection: Connection, org: UUID) -> RowMapping | None:
    """The organisation with this id."""
    statement = text(f"SELECT {_ORGANISATION} FROM organisations WHERE id = :org")  # noqa: S608
    return connection.execute(statement, {"org": org}).mappings().one_or_none()


def insert_organisation(connection: Connection, row: dict[str, Any]) -> None:
    """Add an organisation, unless its slug is there already."""
    connection.execute(
        text(
            "INSERT INTO organisations (id, slug, name, time_zone) VALUES (:id, :slug, :name, :time_zone) "
            "ON CONFLICT (slug) DO NOTHING"
        ),
        row,
    )


def insert_api_key(connection: Connection, row: dict[str, Any]) -> None:
    """Add an API key."""
    connection.execute(
        text(
            "INSERT INTO api_keys (id, org_id, name, secret_digest, expires_at) "
            "VALUES (:id, :org_id, :name, :secret_digest, :expires_at)"
        ),
        row,
    )


def usable_api_key(connection: Connection, key_id: UUID) -> RowMapping | None:
    """The owner and digest of the key `key_id`, unless it was revoked or has expired."""
    statement = text(
        "SELECT org_id, secret_digest FROM api_keys WHERE id = :id AND revoked_at IS NULL "
        "AND (expires_at IS NULL OR expires_at > rota_now())"
    )
    return connection.execute(statement, {"id": key_id}).mappings().one_or_none()


def api_key_exists(connection: Connection, key_id: UUID, digest: bytes) -> bool:
    """Whether that key stands in this database with that very secret."""
    statement = text("SELECT true FROM api_keys WHERE id = :id AND secret_digest = :digest AND revoked_at IS NULL")
    return connection.execute(statement, {"id": key_id, "digest": digest}).scalar() is not None
