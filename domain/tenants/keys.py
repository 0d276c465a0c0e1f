"""Create, rotate, revoke and authenticate API keys."""

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
    """Create an API key for a user of `org`. The returned key is the only copy of its secret."""
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
    """Create a key for the user of `owner`, or for another user with no more permissions.

    Raises:
        NotFound: there is no such user.
        NotPermitted: the new key would permit more than the key that creates it.
        Conflict: the user is disabled.
        InvalidInput: its expiry has passed.
    """
    user_id = owner.user_id
    if fields.user is not None:
        user_id = service.user_with_email(connection, owner.org_id, fields.user).id
    _refuse_beyond(connection, owner, user_id, fields.scopes)
    expires_at = expiry_within(connection, owner, fields.expires_at)
    if service.get_user(connection, user_id).disabled_at is not None:
        raise Conflict("That user is shut out; a key of theirs would open nothing.")
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


def expiry_within(connection: Connection, owner: KeyOwner, wanted: datetime | None) -> datetime | None:
    """Return when a new key expires: it must not outlive the key that creates it.

    Raises:
        InvalidInput: the wanted expiry has passed.
    """
    if wanted is not None and queries.has_passed(connection, wanted):
        raise InvalidInput("expires_at has passed: the key would open nothing. Give a later time, or leave it out.")
    mine = get_key(connection, owner.key_id).expires_at
    return min((moment for moment in (mine, wanted) if moment is not None), default=None)


def _refuse_beyond(connection: Connection, owner: KeyOwner, user_id: UUID, scopes: list[str]) -> None:
    """Refuse a key that would permit more than its creator has."""
    if user_id != owner.user_id:
        giver = permissions.narrowed(service.grants_of(connection, owner.user_id), owner.scopes)
        if beyond := permissions.beyond(giver, service.permissions_held(connection, user_id)):
            raise NotPermitted(f"That user may do more than you: {', '.join(sorted(beyond))}.")
    if beyond := [scope for scope in scopes if not permissions.covers(owner.scopes, scope)]:
        raise NotPermitted(f"Your own key has no such scope: {', '.join(beyond)}.")


def list_keys(connection: Connection) -> list[KeyView]:
    """Return all keys, newest first, without secrets."""
    return queries.api_keys(connection)


def get_key(connection: Connection, key_id: UUID) -> KeyView:
    """Return a key, without its secret.

    Raises:
        NotFound: there is no such key.
    """
    found = queries.api_key(connection, key_id)
    if found is None:
        raise NotFound(f"There is no API key {key_id}.")
    return found


def rotate(connection: Connection, owner: KeyOwner, key_id: UUID, overlap: timedelta, pepper: str) -> IssuedKey:
    """Create a successor of a key that differs only in its secret. The old key stays valid for `overlap`.

    Raises:
        NotFound: there is no such key.
        Conflict: it was revoked, has expired, or was rotated already.
        NotPermitted: it permits more than the key that makes this request.
    """
    get_key(connection, key_id)
    old = queries.lock_usable_key(connection, key_id)
    if old is None or old.replaced_by is not None:
        raise Conflict("This key was revoked, has expired, or was rotated already. Make a new one.")
    _refuse_beyond(connection, owner, old.user_id, old.scopes)
    key = create_api_key(
        connection,
        owner.org_id,
        user_id=old.user_id,
        name=old.name,
        pepper=pepper,
        scopes=old.scopes,
        expires_at=old.expires_at,
    )
    queries.replace_key(connection, key_id, key.id, overlap)
    return IssuedKey(**get_key(connection, key.id).model_dump(), key=str(key))


def revoke(connection: Connection, owner: KeyOwner, key_id: UUID) -> KeyView:
    """Revoke a key. Idempotent.

    Raises:
        NotFound: there is no such key.
        NotPermitted: its user has more permissions than `owner`.
    """
    get_key(connection, key_id)
    _refuse_beyond(connection, owner, queries.user_of_key(connection, key_id), [])
    queries.revoke_key(connection, key_id)
    return get_key(connection, key_id)


def is_known_api_key(connection: Connection, text: str, *, pepper: str) -> bool:
    """Whether `text` is an API key of this database that was not revoked."""
    key = parse_api_key(text)
    return key is not None and queries.api_key_exists(connection, key.id, secret_digest(key.secret, pepper))


def authenticate(text: str, *, pepper: str) -> tuple[KeyOwner, tuple[Grant, ...]]:
    """Return the owner and scopes of the API key `text`, and the grants of that user.

    Raises:
        NotAuthenticated: the key is malformed, unknown, revoked or expired; the error does not say which.
    """
    key = parse_api_key(text)
    found = queries.owner_of_key(key.id, secret_digest(key.secret, pepper)) if key else []
    if not found:
        raise NotAuthenticated("This API key is not valid.")
    first = found[0]
    owner = KeyOwner(key_id=first.id, org_id=first.org_id, user_id=first.user_id, scopes=first.scopes)
    return owner, tuple(Grant(tuple(one.permissions), one.location_id) for one in found if one.permissions is not None)
