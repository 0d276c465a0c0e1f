"""Operations on cached replies."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from core.json_text import dump_json
from domain.replies import queries
from domain.replies.schemas import KeptReply


def find(connection: Connection, digest: bytes) -> dict[str, Any] | None:
    """Return the cached reply for a request with this digest; None if there is none or it has expired."""
    return queries.unexpired_reply(connection, digest)


def keep(connection: Connection, org: UUID, kept: KeptReply) -> None:
    """Store a reply in the cache."""
    row = {"org": org, "digest": kept.digest, "reply": dump_json(kept.reply), "ttl": kept.ttl}
    queries.put_reply(connection, row)


def forget_expired(connection: Connection) -> int:
    """Delete expired replies. Returns how many."""
    return queries.delete_expired(connection)
