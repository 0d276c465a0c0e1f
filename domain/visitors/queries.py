"""All SQL about publishable keys and visitors."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.json_text import dump_json
from core.prepared import PreparedQuery, run_with_key
from core.rows import fetch_all, fetch_one, fetch_optional
from domain.visitors.schemas import Admission, DayCount, PublishableKey, Visitor, VisitorLimits, VisitorView

_TODAY = "CAST(rota_now() AT TIME ZONE 'UTC' AS date)"

# ── publishable keys ─────────────────────────────────────────────────────────────────────────────────────────────────

_INSERT_KEY = text("""
    INSERT INTO publishable_keys (id, org_id, user_id, name, secret, agents, location_id, origins, permissions, limits,
                                  lifetime, expires_at)
    VALUES (:id, :org, :user, :name, :secret, :agents, :location, :origins, :permissions, CAST(:limits AS jsonb),
            :lifetime, :expires_at)
""")


def insert_key(connection: Connection, row: dict[str, Any]) -> None:
    """Insert a publishable key."""
    connection.execute(_INSERT_KEY, row | {"limits": dump_json(row["limits"])})


_KEYS = f"""
    SELECT k.id, k.name, 'rotapub_' || replace(CAST(k.id AS text), '-', '') || '_' || k.secret AS key,
           u.email AS "user", k.agents, k.location_id, k.origins, k.permissions, k.limits, k.lifetime,
           coalesce(d.messages, 0) AS messages_today, k.created_at, k.expires_at, k.revoked_at
      FROM publishable_keys k JOIN users u ON u.id = k.user_id
      LEFT JOIN visitor_days d ON d.publishable_key_id = k.id AND d.day = {_TODAY}
"""  # noqa: S608
_KEY_LIST = text(f"{_KEYS} ORDER BY k.id DESC")
_KEY = text(f"{_KEYS} WHERE k.id = :key")


def publishable_keys(connection: Connection) -> list[PublishableKey]:
    """Return all publishable keys, newest first."""
    return fetch_all(connection.execute(_KEY_LIST), PublishableKey)


def publishable_key(connection: Connection, key_id: UUID) -> PublishableKey | None:
    """Return the publishable key with this id, or None."""
    return fetch_optional(connection.execute(_KEY, {"key": key_id}), PublishableKey)


_REVOKE = text("UPDATE publishable_keys SET revoked_at = coalesce(revoked_at, rota_now()) WHERE id = :key")


def revoke_key(connection: Connection, key_id: UUID) -> None:
    """Revoke a publishable key. Idempotent."""
    connection.execute(_REVOKE, {"key": key_id})


# A key stops with its user, as API keys do.
_IS_USABLE = """
    k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > rota_now())
    AND EXISTS (SELECT FROM users u WHERE u.id = k.user_id AND u.disabled_at IS NULL)
"""
_BECOME_ITS_ORGANISATION = PreparedQuery(
    "SELECT set_config('app.org', CAST(org_id AS text), true) FROM publishable_keys "
    "WHERE id = :key AND secret = :secret"
)
_ADMISSION = PreparedQuery(f"""
    SELECT k.id, k.org_id, k.origins, k.lifetime, k.limits FROM publishable_keys k
     WHERE k.id = :key AND k.secret = :secret AND {_IS_USABLE}
""")  # noqa: S608


def admission(key_id: UUID, secret: str) -> Admission | None:
    """Return a publishable key; None if it is revoked, has expired, or has another secret."""
    values = {"key": key_id, "secret": secret}
    found = run_with_key(key_id, (_BECOME_ITS_ORGANISATION, values), (_ADMISSION, values)).all
    return Admission(**_typed(found[0])) if found else None


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"limits": VisitorLimits.model_validate(row["limits"])}


# ── visitors ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_INSERT_VISITOR = text("""
    INSERT INTO visitors (id, org_id, publishable_key_id, secret_digest, name, contact_hint, expires_at)
    VALUES (:id, :org, :key, :digest, :name, :contact_hint, rota_now() + CAST(:lifetime AS interval))
    RETURNING expires_at
""")


def insert_visitor(connection: Connection, row: dict[str, Any]) -> datetime:
    """Insert a visitor. Return when its token expires."""
    found: datetime = connection.execute(_INSERT_VISITOR, row).scalar_one()
    return found


_VISITOR = text("""
    SELECT id, publishable_key_id, name, contact_hint, created_at, last_seen_at, expires_at
      FROM visitors WHERE id = :visitor
""")


def visitor(connection: Connection, visitor_id: UUID) -> VisitorView | None:
    """Return the visitor with this id, or None."""
    return fetch_optional(connection.execute(_VISITOR, {"visitor": visitor_id}), VisitorView)


_BECOME_ITS_OWN = PreparedQuery(
    "SELECT set_config('app.org', CAST(org_id AS text), true) FROM visitors WHERE id = :visitor "
    "AND secret_digest = :digest AND expires_at > rota_now()"
)
# `last_seen_at` is exact to a minute, which avoids a write at every request.
_OF_TOKEN = PreparedQuery(f"""
    WITH usable AS (
        SELECT v.id, v.org_id, v.publishable_key_id, k.user_id, k.agents, k.location_id, k.origins, k.permissions,
               k.limits, k.lifetime, v.expires_at
          FROM visitors v JOIN publishable_keys k ON k.id = v.publishable_key_id
         WHERE v.id = :visitor AND v.secret_digest = :digest AND v.expires_at > rota_now() AND {_IS_USABLE}
    ), renewed AS (
        UPDATE visitors v SET last_seen_at = rota_now(), expires_at = rota_now() + usable.lifetime
          FROM usable WHERE v.id = usable.id AND v.last_seen_at < rota_now() - interval '1 minute'
        RETURNING v.expires_at
    )
    SELECT id, org_id, publishable_key_id, user_id, agents, location_id, origins, permissions, limits,
           coalesce((SELECT renewed.expires_at FROM renewed), usable.expires_at) AS expires_at
      FROM usable
""")  # noqa: S608


def visitor_of_token(visitor_id: UUID, digest: bytes) -> Visitor | None:
    """Return the visitor of a token and renew the token; None if it is not valid, or its publishable key is not."""
    values = {"visitor": visitor_id, "digest": digest}
    found = run_with_key(visitor_id, (_BECOME_ITS_OWN, values), (_OF_TOKEN, values)).all
    return Visitor(**_typed(found[0])) if found else None


# The count of the key is one row for all its visitors: it is locked last, and for the shortest time.
_COUNT = text(f"""
    WITH own AS (
        UPDATE visitors SET day = {_TODAY}, messages = CASE WHEN day = {_TODAY} THEN messages + 1 ELSE 1 END
         WHERE id = :visitor RETURNING messages, org_id, publishable_key_id
    ), counted AS (
        INSERT INTO visitor_days (org_id, publishable_key_id, day, messages)
        SELECT org_id, publishable_key_id, {_TODAY}, 1 FROM own
        ON CONFLICT (publishable_key_id, day) DO UPDATE SET messages = visitor_days.messages + 1
        RETURNING messages
    )
    SELECT own.messages AS of_visitor, counted.messages AS in_all,
           CAST(ceil(extract(epoch FROM (({_TODAY} + 1)::timestamp AT TIME ZONE 'UTC') - rota_now())) AS int)
               AS seconds_left
      FROM own, counted
""")  # noqa: S608


def count_message(connection: Connection, visitor_id: UUID) -> DayCount:
    """Count a message of a visitor. Return the counts of the day, with this message."""
    return fetch_one(connection.execute(_COUNT, {"visitor": visitor_id}), DayCount)


_LONG_EXPIRED = text("""
    SELECT id FROM visitors WHERE expires_at < rota_now() - CAST(:kept AS interval)
     ORDER BY expires_at LIMIT :batch FOR UPDATE SKIP LOCKED
""")


def long_expired(connection: Connection, kept: timedelta, batch: int) -> list[UUID]:
    """Lock and return visitors whose tokens expired longer ago than `kept`."""
    return list(connection.execute(_LONG_EXPIRED, {"kept": kept, "batch": batch}).scalars())


_LOCK = text("SELECT id FROM visitors WHERE id = :visitor FOR UPDATE")


def lock(connection: Connection, visitor_id: UUID) -> None:
    """Lock a visitor until the transaction ends."""
    connection.execute(_LOCK, {"visitor": visitor_id})


_DELETE = text("DELETE FROM visitors WHERE id = ANY(:visitors)")


def delete_visitors(connection: Connection, visitors: list[UUID]) -> int:
    """Delete visitors. Return how many."""
    return connection.execute(_DELETE, {"visitors": visitors}).rowcount


_DELETE_DAYS = text("DELETE FROM visitor_days WHERE day < CAST(rota_now() - CAST(:kept AS interval) AS date)")


def delete_days(connection: Connection, kept: timedelta) -> int:
    """Delete the counts of days that are over. Return how many."""
    return connection.execute(_DELETE_DAYS, {"kept": kept}).rowcount
