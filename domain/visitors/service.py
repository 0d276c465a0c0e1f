"""Operations on publishable keys and visitors."""

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection

from core.crypto import PUBLISHABLE_KEY, VISITOR_TOKEN, new_api_key, parse_api_key, secret_digest
from core.errors import NotFound, NotPermitted, TooManyRequests
from core.ids import new_id
from domain.agents import service as agents
from domain.tenants import keys
from domain.tenants import service as tenants
from domain.tenants.schemas import KeyOwner
from domain.visitors import queries
from domain.visitors.schemas import (
    Admission,
    DayCount,
    IssuedToken,
    NewPublishableKey,
    NewVisitor,
    PublishableKey,
    Visitor,
    VisitorLimits,
    VisitorView,
)

_BATCH = 100
_DAYS_KEPT = timedelta(days=2)

# ── publishable keys ─────────────────────────────────────────────────────────────────────────────────────────────────


def make_key(connection: Connection, owner: KeyOwner, wanted: NewPublishableKey, pepper: str) -> PublishableKey:
    """Make a publishable key. Agents act for its visitors as the user of `owner`, within the key's permissions.

    Raises:
        NotFound: there is no such agent.
        InvalidInput: there is no such location, or its expiry has passed.
        NotPermitted: `owner` has not all of its permissions, at its location.
    """
    for agent in wanted.agents:
        agents.get_agent(connection, agent)
    location = tenants.location_called(connection, wanted.location).id if wanted.location else None
    _refuse_beyond(connection, owner, wanted.permissions, location)
    made = new_api_key(new_id(), pepper, PUBLISHABLE_KEY)
    row = wanted.model_dump(exclude={"location"}) | {
        "id": made.id, "org": owner.org_id, "user": owner.user_id, "secret": made.secret, "location": location,
        "expires_at": keys.expiry_within(connection, owner, wanted.expires_at),
    }  # fmt: skip
    queries.insert_key(connection, row)
    return get_key(connection, made.id)


def _refuse_beyond(
    connection: Connection, owner: KeyOwner, permissions: Collection[str], location: UUID | None
) -> None:
    scopes = None if "*" in owner.scopes else owner.scopes
    held = {one: tenants.reach_of(connection, owner.user_id, one, scopes).at(location) for one in permissions}
    if beyond := [one for one, reach in held.items() if reach.is_nowhere]:
        raise NotPermitted(f"You may not do this yourself: {', '.join(sorted(beyond))}.")


def list_keys(connection: Connection) -> list[PublishableKey]:
    """Return all publishable keys, newest first."""
    return queries.publishable_keys(connection)


def get_key(connection: Connection, key_id: UUID) -> PublishableKey:
    """Return a publishable key.

    Raises:
        NotFound: there is no such key.
    """
    found = queries.publishable_key(connection, key_id)
    if found is None:
        raise NotFound(f"There is no publishable key {key_id}.")
    return found


def revoke_key(connection: Connection, key_id: UUID) -> PublishableKey:
    """Revoke a publishable key: the tokens of its visitors are no longer valid. Idempotent.

    Raises:
        NotFound: there is no such key.
    """
    queries.revoke_key(connection, key_id)
    return get_key(connection, key_id)


def find_admission(text: str) -> Admission | None:
    """Return the publishable key that `text` is; None if it is none, is revoked or has expired."""
    key = parse_api_key(text, PUBLISHABLE_KEY)
    return queries.admission(key.id, key.secret) if key else None


# ── visitors ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def admit(connection: Connection, by: Admission, wanted: NewVisitor, pepper: str) -> IssuedToken:
    """Add a visitor. The returned token is the only copy of its secret."""
    token = new_api_key(new_id(), pepper, VISITOR_TOKEN)
    row = wanted.model_dump() | {
        "id": token.id, "org": by.org_id, "key": by.id, "digest": secret_digest(token.secret, pepper),
        "lifetime": by.lifetime,
    }  # fmt: skip
    return IssuedToken(token.id, str(token), queries.insert_visitor(connection, row))


def authenticate(text: str, pepper: str) -> Visitor | None:
    """Return the visitor whose token is `text`, and renew the token; None if it is not valid any more."""
    token = parse_api_key(text, VISITOR_TOKEN)
    return queries.visitor_of_token(token.id, secret_digest(token.secret, pepper)) if token else None


def get_visitor(connection: Connection, visitor_id: UUID) -> VisitorView:
    """Return a visitor.

    Raises:
        NotFound: there is no such visitor, or it was deleted.
    """
    found = queries.visitor(connection, visitor_id)
    if found is None:
        raise NotFound(f"There is no visitor {visitor_id}.")
    return found


def count_message(connection: Connection, visitor: Visitor) -> None:
    """Count a message of a visitor, in the transaction that sends it. Call it last: it locks a row of the key.

    Raises:
        TooManyRequests: the visitor, or all visitors of its key, sent as many today as they may.
    """
    count = queries.count_message(connection, visitor.id)
    if refusal := exceeded(count, visitor.limits):
        raise TooManyRequests(refusal, retry_after=count.seconds_left)


def exceeded(count: DayCount, limits: VisitorLimits) -> str | None:
    """Return which limit of a day is exceeded, in words for the visitor; None if none is."""
    if count.of_visitor > limits.messages_per_day:
        return f"You can send {limits.messages_per_day} messages a day here. Go on tomorrow."
    if count.in_all > limits.messages_per_day_in_all:
        return "This chat takes no more messages today. Come back tomorrow."
    return None


def lock(connection: Connection, visitor_id: UUID) -> None:
    """Lock a visitor: it begins no conversation and sends no message until the transaction ends."""
    queries.lock(connection, visitor_id)


def delete(connection: Connection, visitors: list[UUID]) -> int:
    """Delete visitors; their tokens are no longer valid. Delete their conversations too. Return how many there were."""
    return queries.delete_visitors(connection, visitors)


def long_expired(connection: Connection, kept: timedelta) -> list[UUID]:
    """Lock and return visitors whose tokens expired longer ago than `kept`; at most 100."""
    return queries.long_expired(connection, kept, _BATCH)


def forget_days(connection: Connection) -> int:
    """Delete the counts of days that are over. Return how many."""
    return queries.delete_days(connection, _DAYS_KEPT)
