"""Verbs on API keys: make, rotate, revoke, and find out whom one speaks for."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from core.crypto import ApiKey, new_api_key, parse_api_key, secret_digest
from core.errors import Conflict, InvalidInput, NotAuthenticated, NotFound, NotPermitted
from core.ids import new_id
from domain.tenants import permissions, queries, service
from domain.tenants.permissions import Grant
from domain.tenants.schemas import IssuedKey, KeyFields, KeyOwner, KeyView


def create_api_key(
    connection: Connection,
    org: UUID,
    *,
    user_id: UUID,
    name: str,
    pepper: str,
    scopes: list[str] | None = None,
    expires_at: datetime | None = None,
) -> ApiKey:
    """Make an API key that speaks for a user of `org`. The key returned is the only time its secret is seen."""
    key = new_api_key(new_id(), pepper)
    row = {
        "id": key.id,
        "org_id": org,
        "user_id": user_id,
        "name": name,
        "secret_digest": secret_digest(key.secret, pepper),
        "scopes": scopes or ["*"],
        "expires_at": expires_at,
    }
    queries.insert_api_key(connection, row)
    return key


def issue(connection: Connection, owner: KeyOwner, fields: KeyFields, pepper: str) -> IssuedKey:
    """Make a key for the user that `owner` speaks for, or for another one who may not do more.

    Raises:
        NotFound: there is no such user.
        NotPermitted: the key would go beyond the one it is made with.
        Conflict: the user is shut out.
        InvalidInput: its expiry has passed.
    """
    user_id = owner.user_id
    if fields.user is not None:
        user_id = service.user_with_email(connection, owner.org_id, fields.user).id
    _refuse_beyond(connection, owner, user_id, fields.scopes)
    if fields.expires_at is not None and queries.has_passed(connection, fields.expires_at):
        raise InvalidInput("expires_at has passed: the key would open nothing. Give a later time, or leave it out.")
    if service.get_user(connection, user_id).disabled_at is not None:
        raise Conflict("That user is shut out; a key of theirs would open nothing.")
    # A key must not outlive the one it is made with.
    mine = get_key(connection, owner.key_id).expires_at
    expires_at = min((moment for moment in (mine, fields.expires_at) if moment is not None), default=None)
    key = create_api_key(
        connection,
        owner.org_id,
        user_id=user_id,
        name=fields.name,
        pepper=pepper,
        scopes=fields.scopes,
        expires_at=expires_at,
    )
    return IssuedKey(**get_key(connection, key.id).model_dump(), key=str(key))


def _refuse_beyond(connection: Connection, owner: KeyOwner, user_id: UUID, scopes: list[str]) -> None:
    """A key must not be a way to more than its maker may do."""
    if user_id != owner.user_id:
        giver = permissions.narrowed(service.grants_of(connection, owner.user_id), owner.scopes)
        if beyond := permissions.beyond(giver, service.permissions_held(connection, user_id)):
            raise NotPermitted(f"That user may do more than you: {', '.join(sorted(beyond))}.")
    if beyond := [scope for scope in scopes if not permissions.covers(owner.scopes, scope)]:
        raise NotPermitted(f"Your own key has no such scope: {', '.join(beyond)}.")


def list_keys(connection: Connection) -> list[KeyView]:
    """Every key, the newest first, without secrets."""
    return [KeyView(**row) for row in queries.api_keys(connection)]


def get_key(connection: Connection, key_id: UUID) -> KeyView:
    """A key, without its secret.

    Raises:
        NotFound: there is none.
    """
    row = queries.api_key(connection, key_id)
    if row is None:
        raise NotFound(f"There is no API key {key_id}.")
    return KeyView(**row)


def rotate(connection: Connection, owner: KeyOwner, key_id: UUID, overlap: timedelta, pepper: str) -> IssuedKey:
    """Make a successor of a key, the same but for its secret. The old one goes on for `overlap`.

    Raises:
        NotFound: there is no such key.
        Conflict: it was revoked, has expired, or was rotated already.
        NotPermitted: it goes beyond the key that this is asked with.
    """
    get_key(connection, key_id)
    old = queries.lock_usable_key(connection, key_id)
    if old is None or old["replaced_by"] is not None:
        raise Conflict("This key was revoked, has expired, or was rotated already. Make a new one.")
    _refuse_beyond(connection, owner, old["user_id"], list(old["scopes"]))
    key = create_api_key(
        connection,
        owner.org_id,
        user_id=old["user_id"],
        name=old["name"],
        pepper=pepper,
        scopes=list(old["scopes"]),
        expires_at=old["expires_at"],
    )
    queries.replace_key(connection, key_id, key.id, overlap)
    return IssuedKey(**get_key(connection, key.id).model_dump(), key=str(key))


def revoke(connection: Connection, owner: KeyOwner, key_id: UUID) -> KeyView:
    """End a key. Twice is fine.

    Raises:
        NotFound: there is none.
        NotPermitted: it speaks for a user who may do more.
    """
    get_key(connection, key_id)
    _refuse_beyond(connection, owner, queries.user_of_key(connection, key_id), [])
    queries.revoke_key(connection, key_id)
    return get_key(connection, key_id)


def is_known_api_key(connection: Connection, text: str, *, pepper: str) -> bool:
    """Whether the key that `text` spells is in use here."""
    key = parse_api_key(text)
    return key is not None and queries.api_key_exists(connection, key.id, secret_digest(key.secret, pepper))


def authenticate(text: str, *, pepper: str) -> tuple[KeyOwner, tuple[Grant, ...]]:
    """Whom the API key `text` speaks for and with which scopes, and what that user may do.

    Raises:
        NotAuthenticated: the key is malformed, unknown, revoked or expired; which of these is not told.
    """
    key = parse_api_key(text)
    rows = queries.owner_of_key(key.id, secret_digest(key.secret, pepper)) if key else []
    if not rows:
        raise NotAuthenticated("This API key is not valid.")
    first = rows[0]
    owner = KeyOwner(key_id=first["id"], org_id=first["org_id"], user_id=first["user_id"], scopes=list(first["scopes"]))
    held = [row for row in rows if row["permissions"] is not None]
    return owner, tuple(Grant(tuple(row["permissions"]), row["location_id"]) for row in held)
