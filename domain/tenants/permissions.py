"""Decide what a permission covers, and where. Pure: takes grants, returns a reach.

A permission reads `noun:verb`, such as `email:send`. A role holds patterns: `*` (all), `clients:*`, `*:read`, or a
permission by name. Permissions of the installation itself (`installation:…`) match only by their own name.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from uuid import UUID

from core.packs import installed

_RESERVED = "installation"
GOVERN = "installation:govern"

READING = ["*:read"]
BUILT_IN_ROLES: dict[str, list[str]] = {
    "owner": ["*"],
    "manager": [
        "*:read", "tasks:*", "agents:*", "campaigns:*", "social:*", "calendar:*", "tickets:*", "resources:*", "email:*",
        "sms:*", "whatsapp:*", "messages:*", "notifications:*", "workflows:*", "schedules:*", "events:*",
        "follow_ups:*", "contacts:*", "conversations:*", "inbox:*", "approvals:*", "data:export", "rules:*",
        "budgets:*", "queues:*", "reports:*",
    ],
    "coordinator": [
        "*:read", "tasks:*", "conversations:*", "approvals:decide", "tickets:*", "notifications:*",
    ],
    "staff": [
        "*:read", "tasks:*", "calendar:*", "tickets:*", "messages:send", "email:send", "sms:send", "notifications:*",
        "contacts:*", "conversations:*", "inbox:*",
    ],
    "viewer": ["*:read"],
}  # fmt: skip


def built_in_roles() -> dict[str, list[str]]:
    """Return the roles that every organisation has, with the permissions that the packs add to them."""
    return {
        role: [*held, *(permission for pack in installed() for permission in pack.roles.get(role, ()))]
        for role, held in BUILT_IN_ROLES.items()
    }


@dataclass(frozen=True)
class Grant:
    """Permissions of one role, everywhere or at one location."""

    permissions: tuple[str, ...]
    location_id: UUID | None


@dataclass(frozen=True)
class Reach:
    """Where a permission is held. `everywhere` is wider than any set of locations."""

    everywhere: bool = False
    locations: frozenset[UUID] = frozenset()

    @property
    def is_nowhere(self) -> bool:
        """Whether the permission is not held at all."""
        return not self.everywhere and not self.locations

    def at(self, location: UUID | None) -> "Reach":
        """Return the reach within `location`; unchanged if that is None."""
        if location is None:
            return self
        return Reach(locations=frozenset({location} if self.everywhere or location in self.locations else ()))


def covers(patterns: Iterable[str], permission: str) -> bool:
    """Whether one of `patterns` covers `permission`, which may itself be a pattern."""
    noun, _, verb = permission.partition(":")
    if noun == _RESERVED:
        return permission in patterns
    return any(_covers(pattern, noun, verb) for pattern in patterns)


def _covers(pattern: str, noun: str, verb: str) -> bool:
    if pattern == "*":
        return True
    its_noun, _, its_verb = pattern.partition(":")
    return its_noun in {"*", noun} and its_verb in {"*", verb}


def reach(grants: Iterable[Grant], permission: str) -> Reach:
    """Return where `grants` together allow `permission`."""
    covering = [grant for grant in grants if covers(grant.permissions, permission)]
    return Reach(
        everywhere=any(grant.location_id is None for grant in covering),
        locations=frozenset(grant.location_id for grant in covering if grant.location_id is not None),
    )


def narrowed(grants: Iterable[Grant], scopes: Collection[str]) -> list[Grant]:
    """Return `grants` restricted to the `scopes` of a key. If two patterns merely overlap, neither is kept: too few
    permissions are safer than too many.
    """
    return [
        Grant(
            tuple(
                [held for held in grant.permissions if covers(scopes, held)]
                + [scope for scope in scopes if covers(grant.permissions, scope)]
            ),
            grant.location_id,
        )
        for grant in grants
    ]


def beyond(own: Collection[Grant], wanted: Iterable[str]) -> list[str]:
    """Return the patterns in `wanted` that `own` does not hold everywhere: users cannot give what they do not have."""
    held = [pattern for grant in own if grant.location_id is None for pattern in grant.permissions]
    return [pattern for pattern in wanted if not covers(held, pattern)]
