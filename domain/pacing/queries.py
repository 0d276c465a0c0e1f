"""All SQL about paces and alerts. They belong to the installation, like the accounts at the providers."""

from dataclasses import asdict, fields
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, text

from core.fragments import Fragment
from core.rows import fetch_all
from domain.pacing.schemas import Account, Alert, AlertKind, LockedPace, Pace, Route, Standing

_PACE = """cause, rate, ceiling, evidence, extract(epoch FROM held_until)::float AS held_until,
           extract(epoch FROM next_at)::float AS next_at, strikes, successes,
           extract(epoch FROM changed_at)::float AS changed_at, extract(epoch FROM ready_at)::float AS ready_at, sent"""

_PACE_FIELDS = [field.name for field in fields(Pace)]
_LOCK = text(f"""
    SELECT {_PACE}, extract(epoch FROM rota_clock())::float AS now
      FROM provider_paces WHERE provider = :provider AND model = :model AND key = :key FOR UPDATE
""")  # noqa: S608
# Two processes may get the first refusal at once, and a row that does not exist yet cannot be locked.
_LOCK_FIRST = text("SELECT pg_advisory_xact_lock(hashtextextended('pace ' || :provider || :model || :key, 0))")
_NOW = text("SELECT extract(epoch FROM rota_clock())::float")


def lock_pace(connection: Connection, route: Route, *, to_make: bool) -> LockedPace | None:
    """Lock a model's pace until this transaction ends, and return it with the time. With `to_make`, a pace that does
    not exist yet is locked as well.
    """
    if to_make:
        connection.execute(_LOCK_FIRST, _named(route))
    row = connection.execute(_LOCK, _named(route)).mappings().one_or_none()
    return None if row is None else LockedPace(Pace(**{name: row[name] for name in _PACE_FIELDS}), row["now"])


def now(connection: Connection) -> float:
    """Return the current time in seconds since the epoch, correct also after a wait for a lock in the transaction."""
    found: float = connection.execute(_NOW).scalar_one()
    return found


_CHANGED_AT = text("""
    SELECT extract(epoch FROM changed_at)::float FROM provider_paces
     WHERE provider = :provider AND model = :model AND key = :key
""")


def changed_at(connection: Connection, route: Route) -> float | None:
    """Return when a model's pace was last changed by a refusal or a failure; None if it has no pace."""
    return connection.execute(_CHANGED_AT, _named(route)).scalar()


_PUT = text("""
    INSERT INTO provider_paces (provider, model, key, cause, rate, ceiling, evidence, held_until, next_at, strikes,
                                successes, changed_at, ready_at, sent)
    VALUES (:provider, :model, :key, :cause, :rate, :ceiling, :evidence, to_timestamp(:held_until),
            to_timestamp(:next_at), :strikes, :successes, to_timestamp(:changed_at), to_timestamp(:ready_at), :sent)
    ON CONFLICT (provider, model, key) DO UPDATE
       SET cause = excluded.cause, rate = excluded.rate, ceiling = excluded.ceiling,
           evidence = excluded.evidence, held_until = excluded.held_until, next_at = excluded.next_at,
           strikes = excluded.strikes, successes = excluded.successes, changed_at = excluded.changed_at,
           ready_at = excluded.ready_at, sent = excluded.sent,
           since = CASE WHEN provider_paces.cause = excluded.cause THEN provider_paces.since ELSE rota_now() END
""")
_DELETE = text("DELETE FROM provider_paces WHERE provider = :provider AND model = :model AND key = :key")


def put_pace(connection: Connection, route: Route, pace: Pace | None) -> None:
    """Insert or update a model's pace; None deletes it."""
    if pace is None:
        connection.execute(_DELETE, _named(route))
    else:
        connection.execute(_PUT, _named(route) | asdict(pace))


def _named(route: Route) -> dict[str, Any]:
    return {"provider": route.provider, "model": route.model, "key": route.key}


# Part of the heartbeat's statement, which every worker process sends anyway.
KNOWN = Fragment(
    name="known",
    columns=("known",),
    parameters=(),
    sql="""
    SELECT jsonb_build_object(
        'paced', (SELECT coalesce(jsonb_agg(jsonb_build_array(provider, model, key)), '[]') FROM provider_paces),
        'alerts', (SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_array(provider, key)), '[]') FROM provider_alerts))
        AS known
""",
)

# If a model has several keys, the one that lets the next call begin first.
STANDINGS = Fragment(
    name="standings",
    columns=("provider", "model", "cause", "rate", "held_until", "since", "held_for", "ahead"),
    parameters=(),
    sql="""
    SELECT DISTINCT ON (provider, model) provider, model, cause, rate, held_until, since,
           greatest(0, extract(epoch FROM held_until - rota_now()))::float AS held_for,
           greatest(0, extract(epoch FROM greatest(held_until, next_at) - rota_now()))::float AS ahead
      FROM provider_paces ORDER BY provider, model, greatest(held_until, next_at)
""",
)


def standings(connection: Connection) -> list[Standing]:
    """Return the current paces of all models."""
    return fetch_all(connection.execute(text(STANDINGS.sql)), Standing)


_FORGET = text("""
    DELETE FROM provider_paces WHERE greatest(changed_at, held_until, next_at) < rota_now() - CAST(:age AS interval)
""")


def forget_paces(connection: Connection, age: timedelta) -> int:
    """Delete the paces of models without changes or calls for longer than `age`. Returns how many."""
    return connection.execute(_FORGET, {"age": age}).rowcount


_ALERT = text("""
    INSERT INTO provider_alerts (provider, key, kind, message) VALUES (:provider, :key, :kind, :message)
    ON CONFLICT (provider, key, kind) DO UPDATE SET message = excluded.message, last_at = rota_now()
     WHERE provider_alerts.last_at < rota_now() - interval '10 seconds'
""")


def put_alert(connection: Connection, account: Account, kind: AlertKind, message: str) -> None:
    """Record that an account needs a person."""
    values = {"provider": account.provider, "key": account.key, "kind": kind, "message": message}
    connection.execute(_ALERT, values)


def delete_alerts(connection: Connection, account: Account) -> None:
    """Delete the alerts of an account."""
    statement = text("DELETE FROM provider_alerts WHERE provider = :provider AND key = :key")
    connection.execute(statement, {"provider": account.provider, "key": account.key})


ALERTS = """
    SELECT provider, kind, message, since, last_at FROM provider_alerts
     WHERE last_at > rota_now() - interval '1 day' ORDER BY since
"""


def alerts(connection: Connection) -> list[Alert]:
    """Return the alerts of the last day, the oldest first."""
    return fetch_all(connection.execute(text(ALERTS)), Alert)


_UNTOLD = text("""
    UPDATE provider_alerts SET told_at = rota_now() WHERE told_at IS NULL
    RETURNING provider, kind, message, since, last_at
""")


def take_untold(connection: Connection) -> list[Alert]:
    """Mark the alerts that no one was notified of yet as notified, and return them."""
    return fetch_all(connection.execute(_UNTOLD), Alert)


_FORGET_ALERTS = text("DELETE FROM provider_alerts WHERE last_at < rota_now() - CAST(:age AS interval)")


def forget_alerts(connection: Connection, age: timedelta) -> int:
    """Delete alerts that have not recurred for longer than `age`. Returns how many."""
    return connection.execute(_FORGET_ALERTS, {"age": age}).rowcount
