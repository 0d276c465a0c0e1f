"""All SQL about cached replies."""

from typing import Any

from sqlalchemy import Connection, text

_FIND = text("SELECT reply FROM cached_replies WHERE digest = :digest AND expires_at > rota_now()")
_KEEP = text("""
    INSERT INTO cached_replies (org_id, digest, reply, expires_at)
    VALUES (:org, :digest, CAST(:reply AS jsonb), rota_now() + CAST(:ttl AS interval))
    ON CONFLICT (org_id, digest) DO UPDATE SET reply = excluded.reply, expires_at = excluded.expires_at
""")
_FORGET = text("DELETE FROM cached_replies WHERE expires_at <= rota_now()")


def unexpired_reply(connection: Connection, digest: bytes) -> dict[str, Any] | None:
    """Return the unexpired reply for a request with this digest, if any."""
    found: dict[str, Any] | None = connection.execute(_FIND, {"digest": digest}).scalar()
    return found


def put_reply(connection: Connection, row: dict[str, Any]) -> None:
    """Store a reply, replacing an older one."""
    connection.execute(_KEEP, row)


def delete_expired(connection: Connection) -> int:
    """Delete expired replies. Returns how many."""
    return connection.execute(_FORGET).rowcount
