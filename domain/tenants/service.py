"""Verbs on organisations and API keys."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from core.crypto import ApiKey, is_same_digest, new_secret, parse_api_key, secret_digest
from core.db import key_transaction
from core.errors import NotAuthenticated, NotFound
from core.ids import new_id
from domain.tenants import queries
from domain.tenants.schemas import Organisation


def ensure_organisation(connection: Connection, *, slug: str, name: str, time_zone: str) -> Organisation:
    """The organisation called `slug`, made now if it is not there yet."""
    row = {"id": new_id(), "slug": slug, "name": name, "time_zone": time_zone}
    queries.insert_organisation(connection, row)
    return organisation_called(connection, slug)


def get_organisation(connection: Connection, org: UUID) -> Organisation:
    """The organisation with id `org`.

    Raises:
        NotFound: it does not exist.
    """
    found = queries.organisation(connection, org)
    if found is None:
        raise NotFound("There is no such organisation.")
    return Organisation(**found)


def organisation_called(connection: Connection, slug: str) -> Organisation:
    """The organisation called `slug`.

    Raises:
        NotFound: there is none.
    """
    found = queries.organisation_by_slug(connection, slug)
    if found is None:
        raise NotFound(f"There is no organisation called {slug!r}.")
    return Organisation(**found)


def create_api_key(
    connection: Connection, org: UUID, *, name: str, pepper: str, expires_at: datetime | None = None
) -> ApiKey:
    """Make an API key for `org`. The key returned is the only time its secret is seen."""
    key = ApiKey(new_id(), new_secret())
    queries.insert_api_key(
        connection,
        {
            "id": key.id,
            "org_id": org,
            "name": name,
            "secret_digest": secret_digest(key.secret, pepper),
            "expires_at": expires_at,
        },
    )
    return key


def is_known_api_key(connection: Connection, text: str, *, pepper: str) -> bool:
    """Whether the key that `text` spells is in use here."""
    key = parse_api_key(text)
    return key is not None and queries.api_key_exists(connection, key.id, secret_digest(key.secret, pepper))


def authenticate(text: str, *, pepper: str) -> UUID:
    """The organisation that the API key `text` speaks for.

    Raises:
        NotAuthenticated: the key is malformed, unknown, revoked or expired; which of these is not told.
    """
    key = parse_api_key(text)
    if key is not None:
        with key_transaction(key.id) as connection:
            row = queries.usable_api_key(connection, key.id)
        if row is not None and is_same_digest(bytes(row["secret_digest"]), secret_digest(key.secret, pepper)):
            org: UUID = row["org_id"]
            return org
    raise NotAuthenticated("This API key is not valid.")
