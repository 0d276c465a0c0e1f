"""All SQL about organisations, their users, roles, locations and API keys."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.prepared import PreparedQuery, run_with_key
from core.rows import fetch_all, fetch_optional
from domain.tenants.permissions import Grant
from domain.tenants.schemas import KeyView, Location, Organisation, Role, RoleHolder, User


@dataclass(frozen=True, slots=True)
class UsableKey:
    """An API key that was neither revoked nor has expired, with what its successor takes over."""

    name: str
    user_id: UUID
    scopes: list[str]
    expires_at: datetime | None
    replaced_by: UUID | None


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """A usable API key with one grant of its user; `permissions` is None for a user without grants."""

    id: UUID
    org_id: UUID
    user_id: UUID
    scopes: list[str]
    permissions: list[str] | None
    location_id: UUID | None


_ORGANISATION = "id, slug, name, time_zone, markup, prepaid_since IS NOT NULL AS is_prepaid, is_demonstration"


def organisation_by_slug(connection: Connection, slug: str) -> Organisation | None:
    """Return the organisation called `slug`, or None."""
    statement = text(f"SELECT {_ORGANISATION} FROM organisations WHERE slug = :slug")  # noqa: S608
    return fetch_optional(connection.execute(statement, {"slug": slug}), Organisation)


def organisation(connection: Connection, org: UUID) -> Organisation | None:
    """Return the organisation with this id, or None."""
    statement = text(f"SELECT {_ORGANISATION} FROM organisations WHERE id = :org")  # noqa: S608
    return fetch_optional(connection.execute(statement, {"org": org}), Organisation)


def insert_organisation(connection: Connection, row: dict[str, Any]) -> bool:
    """Insert an organisation. Return False if its slug is taken."""
    statement = text(
        "INSERT INTO organisations (id, slug, name, time_zone) VALUES (:id, :slug, :name, :time_zone) "
        "ON CONFLICT (slug) DO NOTHING"
    )
    return connection.execute(statement, row).rowcount == 1


def set_prepaid(connection: Connection, org: UUID, *, is_prepaid: bool) -> None:
    """Turn prepaid billing of an organisation on or off. If it is on already, its start stays."""
    statement = text(
        "UPDATE organisations SET prepaid_since = CASE WHEN :prepaid THEN coalesce(prepaid_since, rota_now()) END "
        "WHERE id = :org"
    )
    connection.execute(statement, {"org": org, "prepaid": is_prepaid})


def mark_demonstration(connection: Connection, org: UUID) -> None:
    """Mark an organisation as a demonstration: its contacts are invented."""
    connection.execute(text("UPDATE organisations SET is_demonstration = true WHERE id = :org"), {"org": org})


# ── users, roles, grants, locations ──────────────────────────────────────────────────────────────────────────────────

_USERS = """
    SELECT u.id, u.email, u.name, u.is_operator, u.disabled_at, u.created_at,
           coalesce((SELECT jsonb_agg(jsonb_build_object('role', g.role, 'location', l.slug) ORDER BY g.role, l.slug)
                       FROM grants g LEFT JOIN locations l ON l.id = g.location_id WHERE g.user_id = u.id),
                    '[]') AS grants
      FROM users u
"""
_USER_LIST = text(f"{_USERS} ORDER BY lower(u.email)")
_USER = text(f"{_USERS} WHERE u.id = :user")
_USER_BY_EMAIL = text(f"{_USERS} WHERE u.org_id = :org AND lower(u.email) = lower(:email)")


def users(connection: Connection) -> list[User]:
    """Return all users, ordered by e-mail."""
    return fetch_all(connection.execute(_USER_LIST), User)


def user(connection: Connection, user_id: UUID) -> User | None:
    """Return the user with this id, or None."""
    return fetch_optional(connection.execute(_USER, {"user": user_id}), User)


def user_by_email(connection: Connection, org: UUID, email: str) -> User | None:
    """Return the user of `org` with this e-mail address (case-insensitive), or None."""
    return fetch_optional(connection.execute(_USER_BY_EMAIL, {"org": org, "email": email}), User)


def insert_user(connection: Connection, row: dict[str, Any]) -> bool:
    """Insert a user. Return False if the address is taken."""
    statement = text(
        "INSERT INTO users (id, org_id, email, name) VALUES (:id, :org_id, :email, :name) "
        "ON CONFLICT (org_id, lower(email)) DO NOTHING"
    )
    return connection.execute(statement, row).rowcount == 1


def change_user(connection: Connection, user_id: UUID, *, name: str | None, is_disabled: bool | None) -> None:
    """Change a user's name, or disable or enable the user. None leaves a value as it is."""
    statement = text("""
        UPDATE users SET name = coalesce(:name, name),
               disabled_at = CASE WHEN CAST(:disabled AS boolean) IS NULL THEN disabled_at
                                  WHEN :disabled THEN coalesce(disabled_at, rota_now()) END
         WHERE id = :user
    """)
    connection.execute(statement, {"user": user_id, "name": name, "disabled": is_disabled})


def make_operator(connection: Connection, user_id: UUID) -> None:
    """Make a user an operator of the installation. Only the system's database role may."""
    connection.execute(text("UPDATE users SET is_operator = true WHERE id = :user"), {"user": user_id})


_OPERATORS = text("SELECT id, org_id FROM users WHERE is_operator AND disabled_at IS NULL ORDER BY org_id, id")


def operators(connection: Connection) -> dict[UUID, list[UUID]]:
    """Return the operators of the installation by organisation."""
    found: dict[UUID, list[UUID]] = {}
    for user_id, org in connection.execute(_OPERATORS):
        found.setdefault(org, []).append(user_id)
    return found


_GRANTS = """
    SELECT r.permissions, g.location_id FROM grants g
      JOIN users u ON u.id = g.user_id AND u.disabled_at IS NULL
      JOIN roles r ON r.org_id = g.org_id AND r.name = g.role
     WHERE g.user_id = {user}
    UNION ALL
    SELECT ARRAY['installation:govern'], NULL FROM users WHERE id = {user} AND is_operator AND disabled_at IS NULL
"""
_GRANTS_OF = PreparedQuery(_GRANTS.format(user=":user"))


def permissions_of(connection: Connection, user_id: UUID) -> list[Grant]:
    """Return a user's grants; an empty list for a disabled user."""
    found = _GRANTS_OF.run(connection, {"user": user_id}).all
    return [Grant(tuple(row["permissions"]), row["location_id"]) for row in found]


_HELD = text("""
    SELECT unnest(r.permissions) FROM grants g JOIN roles r ON r.org_id = g.org_id AND r.name = g.role
     WHERE g.user_id = :user
     UNION
    SELECT 'installation:govern' FROM users WHERE id = :user AND is_operator
""")


def permissions_held(connection: Connection, user_id: UUID) -> list[str]:
    """Return what a user's roles permit at any location, also for a disabled user."""
    return list(connection.execute(_HELD, {"user": user_id}).scalars())


def delete_grants(connection: Connection, user_id: UUID) -> None:
    """Delete all grants of a user."""
    connection.execute(text("DELETE FROM grants WHERE user_id = :user"), {"user": user_id})


def insert_grant(connection: Connection, row: dict[str, Any]) -> None:
    """Grant a role to a user. Idempotent."""
    statement = text(
        "INSERT INTO grants (id, org_id, user_id, role, location_id) VALUES (:id, :org_id, :user_id, :role, :location)"
        " ON CONFLICT DO NOTHING"
    )
    connection.execute(statement, row)


_OWNERS_LEFT = text("""
    SELECT count(DISTINCT u.id) FROM grants g JOIN users u ON u.id = g.user_id
     WHERE u.disabled_at IS NULL AND g.role = 'owner' AND g.location_id IS NULL
""")


def number_of_owners(connection: Connection) -> int:
    """Count the enabled users with the role owner everywhere."""
    found: int = connection.execute(_OWNERS_LEFT).scalar_one()
    return found


def lock_owners(connection: Connection) -> None:
    """Lock the role owner: no other transaction can change the owners until this one ends."""
    connection.execute(text("SELECT FROM roles WHERE name = 'owner' FOR UPDATE"))


_HOLDERS = text("""
    SELECT DISTINCT u.id, u.email, u.name FROM grants g JOIN users u ON u.id = g.user_id
     WHERE u.disabled_at IS NULL AND g.org_id = :org AND g.role = ANY(:roles)
       AND (g.location_id IS NULL OR g.location_id = CAST(:location AS uuid))
     ORDER BY u.email
""")


def holders_of(connection: Connection, org: UUID, roles: list[str], location: UUID | None) -> list[RoleHolder]:
    """Return the enabled users of `org` who have one of `roles`, everywhere or at `location`."""
    return fetch_all(connection.execute(_HOLDERS, {"org": org, "roles": roles, "location": location}), RoleHolder)


def roles(connection: Connection) -> list[Role]:
    """Return all roles, ordered by name."""
    return fetch_all(connection.execute(text("SELECT name, permissions, is_built_in FROM roles ORDER BY name")), Role)


def role(connection: Connection, name: str) -> Role | None:
    """Return the role called `name`, or None."""
    statement = text("SELECT name, permissions, is_built_in FROM roles WHERE name = :name")
    return fetch_optional(connection.execute(statement, {"name": name}), Role)


def put_role(connection: Connection, row: dict[str, Any]) -> None:
    """Insert a role, or update its permissions."""
    statement = text(
        "INSERT INTO roles (org_id, name, permissions, is_built_in) VALUES (:org_id, :name, :permissions, :built_in) "
        "ON CONFLICT (org_id, name) DO UPDATE SET permissions = excluded.permissions"
    )
    connection.execute(statement, row)


def delete_role(connection: Connection, name: str) -> bool:
    """Delete a role. Return False if a user has it, or it is built in."""
    statement = text(
        "DELETE FROM roles r WHERE name = :name AND NOT is_built_in AND NOT EXISTS "
        "(SELECT FROM grants g WHERE g.org_id = r.org_id AND g.role = r.name)"
    )
    return connection.execute(statement, {"name": name}).rowcount == 1


def locations(connection: Connection) -> list[Location]:
    """Return all locations, ordered by slug."""
    return fetch_all(connection.execute(text("SELECT id, slug, name FROM locations ORDER BY slug")), Location)


def location_by_slug(connection: Connection, slug: str) -> Location | None:
    """Return the location called `slug`, or None."""
    statement = text("SELECT id, slug, name FROM locations WHERE slug = :slug")
    return fetch_optional(connection.execute(statement, {"slug": slug}), Location)


def insert_location(connection: Connection, row: dict[str, Any]) -> bool:
    """Insert a location. Return False if its slug is taken."""
    statement = text(
        "INSERT INTO locations (id, org_id, slug, name) VALUES (:id, :org_id, :slug, :name) "
        "ON CONFLICT (org_id, slug) DO NOTHING"
    )
    return connection.execute(statement, row).rowcount == 1


# ── API keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def insert_api_key(connection: Connection, row: dict[str, Any]) -> None:
    """Insert an API key."""
    statement = text(
        "INSERT INTO api_keys (id, org_id, user_id, name, secret_digest, scopes, expires_at) "
        "VALUES (:id, :org_id, :user_id, :name, :secret_digest, :scopes, :expires_at)"
    )
    connection.execute(statement, row)


def has_passed(connection: Connection, moment: datetime) -> bool:
    """Whether a moment lies in the past, by the database's clock."""
    return bool(connection.execute(text("SELECT :moment <= rota_now()"), {"moment": moment}).scalar())


_KEYS = """
    SELECT k.id, k.name, u.email AS "user", k.scopes, k.created_at, k.expires_at, k.revoked_at, k.last_used_at,
           k.replaced_by
      FROM api_keys k JOIN users u ON u.id = k.user_id
"""
_KEY_LIST = text(f"{_KEYS} ORDER BY k.id DESC")
_KEY = text(f"{_KEYS} WHERE k.id = :key")


def api_keys(connection: Connection) -> list[KeyView]:
    """Return all keys, newest first, without secrets."""
    return fetch_all(connection.execute(_KEY_LIST), KeyView)


def api_key(connection: Connection, key_id: UUID) -> KeyView | None:
    """Return the key with this id, without its secret, or None."""
    return fetch_optional(connection.execute(_KEY, {"key": key_id}), KeyView)


def user_of_key(connection: Connection, key_id: UUID) -> UUID:
    """Return the user of a key."""
    found: UUID = connection.execute(text("SELECT user_id FROM api_keys WHERE id = :key"), {"key": key_id}).scalar_one()
    return found


_LOCK_KEY = text("""
    SELECT name, user_id, scopes, expires_at, replaced_by FROM api_keys
     WHERE id = :key AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > rota_now()) FOR UPDATE
""")


def lock_usable_key(connection: Connection, key_id: UUID) -> UsableKey | None:
    """Lock and return the key with this id; None if it was revoked or has expired."""
    return fetch_optional(connection.execute(_LOCK_KEY, {"key": key_id}), UsableKey)


def replace_key(connection: Connection, key_id: UUID, successor: UUID, overlap: timedelta) -> None:
    """Record the successor of a key, and let the key expire after `overlap` at the latest."""
    statement = text(
        "UPDATE api_keys SET replaced_by = :successor, "
        "expires_at = least(expires_at, rota_now() + CAST(:overlap AS interval)) WHERE id = :key"
    )
    connection.execute(statement, {"key": key_id, "successor": successor, "overlap": overlap})


def revoke_key(connection: Connection, key_id: UUID) -> None:
    """Revoke a key. Idempotent."""
    statement = text("UPDATE api_keys SET revoked_at = coalesce(revoked_at, rota_now()) WHERE id = :key")
    connection.execute(statement, {"key": key_id})


# The digest is keyed: an attacker cannot construct one that nearly matches, so the comparison time reveals nothing.
_USABLE = """
    id = :key AND secret_digest = :digest AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > rota_now())
"""
_BECOME_ITS_OWNER = PreparedQuery(
    f"SELECT set_config('app.org', CAST(org_id AS text), true) FROM api_keys WHERE {_USABLE}"  # noqa: S608
)
# `last_used_at` is exact to a minute, which avoids a write at every request.
_OWNER = PreparedQuery(f"""
    WITH noted AS (
        UPDATE api_keys SET last_used_at = rota_now()
         WHERE {_USABLE} AND (last_used_at IS NULL OR last_used_at < rota_now() - interval '1 minute')
    )
    SELECT k.id, k.org_id, k.user_id, k.scopes, grants.permissions, grants.location_id
      FROM (SELECT * FROM api_keys WHERE {_USABLE}) k
      LEFT JOIN LATERAL ({_GRANTS.format(user="k.user_id")}) AS grants ON true
""")  # noqa: S608


def owner_of_key(key_id: UUID, digest: bytes) -> list[KeyGrant]:
    """Return the owner and scopes of a usable API key: one row for each grant of the owner, or one row without a grant.
    Return an empty list if the key is revoked, has expired, or has another secret.
    """
    values = {"key": key_id, "digest": digest}
    found = run_with_key(key_id, (_BECOME_ITS_OWNER, values), (_OWNER, values)).all
    return [KeyGrant(**row) for row in found]


def api_key_exists(connection: Connection, key_id: UUID, digest: bytes) -> bool:
    """Whether this database has an unrevoked key with this id and secret."""
    statement = text("SELECT true FROM api_keys WHERE id = :id AND secret_digest = :digest AND revoked_at IS NULL")
    return connection.execute(statement, {"id": key_id, "digest": digest}).scalar() is not None
