"""Replies kept for a while, for agents that are asked the very same again and again. Off unless the agent says so."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from agents.llm.base import Reply

_FIND = text("SELECT reply FROM cached_replies WHERE digest = :digest AND expires_at > rota_now()")
_KEEP = text("""
    INSERT INTO cached_replies (org_id, digest, reply, expires_at)
    VALUES (:org, :digest, CAST(:reply AS jsonb), rota_now() + CAST(:ttl AS interval))
    ON CONFLICT (org_id, digest) DO UPDATE SET reply = excluded.reply, expires_at = excluded.expires_at
""")
_FORGET = text("DELETE FROM cached_replies WHERE expires_at <= rota_now()")


def find(connection: Connection, digest: bytes) -> Reply | None:
    """The reply kept for a request with this digest."""
    row = connection.execute(_FIND, {"digest": digest}).scalar()
    return Reply.model_validate(row) if row else None


def keep(connection: Connection, org: UUID, digest: bytes, reply: Reply, ttl: timedelta) -> None:
    """Keep a reply for `ttl`."""
    values = {"org": org, "digest": digest, "reply": reply.model_dump_json(), "ttl": ttl}
    connection.execute(_KEEP, values)


def forget_expired(connection: Connection) -> int:
    """Delete replies kept long enough. Returns how many."""
    return connection.execute(_FORGET).rowcount
