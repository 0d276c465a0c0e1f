"""Operations on organisations, users, roles and locations. API keys are in `keys.py`."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from core.errors import Conflict, InvalidInput, NotFound, NotPermitted
from core.ids import new_id
from core.zones import known_zone
from domain.tenants import permissions, queries
from domain.tenants.permissions import Grant, Reach
from domain.tenants.schemas import (
    Location,
    NewLocation,
    NewUser,
    Organisation,
    Role,
    RoleGrant,
    RoleHolder,
    User,
    UserChange,
)

# ── organisations ────────────────────────────────────────────────────────────────────────────────────────────────────


def ensure_organisation(connection: Connection, *, slug: str, name: str, time_zone: str) -> Organisation:
    """Return the organisation called `slug`; create it with the built-in roles if it does not exist.

    Raises:
        InvalidInput: `time_zone` is not the IANA name of a time zone.
    """
    try:
        known_zone(time_zone)
    except ValueError as error:
        raise InvalidInput(str(error)) from error
    row = {"id": new_id(), "slug": slug, "name": name, "time_zone": time_zone}
    is_new = queries.insert_organisation(connection, row)
    made = organisation_called(connection, slug)
    if is_new:
        for role, held in permissions.built_in_roles().items():
            queries.put_role(connection, {"org_id": made.id, "name": role, "permissions": held, "built_in": True})
    return made


def get_organisation(connection: Connection, org: UUID) -> Organisation:
    """Return the organisation with id `org`.

    Raises:
        NotFound: it does not exist.
    """
    found = queries.organisation(connection, org)
    if found is None:
        raise NotFound("There is no such organisation.")
    return found


def organisation_called(connection: Connection, slug: str) -> Organisation:
    """Return the organisation called `slug`.

    Raises:
        NotFound: there is no such organisation.
    """
    found = queries.organisation_by_slug(connection, slug)
    if found is None:
        raise NotFound(f"There is no organisation called {slug!r}.")
    return found


def set_prepaid(connection: Connection, org: UUID, *, is_prepaid: bool) -> None:
    """Set whether an organisation buys tokens that its tasks spend. If not, its wallet is not used and no monthly fee
    is charged.
    """
    queries.set_prepaid(connection, org, is_prepaid=is_prepaid)


def mark_demonstration(connection: Connection, org: UUID) -> None:
    """Mark an organisation as a demonstration with invented contacts. Do not use it for one with real contacts."""
    queries.mark_demonstration(connection, org)


# ── who may do what, where ───────────────────────────────────────────────────────────────────────────────────────────


def grants_of(connection: Connection, user_id: UUID) -> list[Grant]:
    """Return the current grants of a user; an empty list for a user who is disabled or does not exist."""
    return queries.permissions_of(connection, user_id)


def permissions_held(connection: Connection, user_id: UUID) -> list[str]:
    """Return what a user may do at any location, or could do when enabled again. A user with fewer permissions must not
    change or act for this user.
    """
    return queries.permissions_held(connection, user_id)


def reach_of(connection: Connection, user_id: UUID, permission: str, scopes: list[str] | None = None) -> Reach:
    """Return where a user has `permission` now; nowhere if the `scopes` of a key do not cover it."""
    if scopes is not None and not permissions.covers(scopes, permission):
        return Reach()
    return permissions.reach(grants_of(connection, user_id), permission)


def holders_of(connection: Connection, org: UUID, roles: list[str], location: UUID | None = None) -> list[RoleHolder]:
    """Return the enabled users of an organisation who have one of `roles`, everywhere or at `location`."""
    return queries.holders_of(connection, org, roles, location)


def operators(connection: Connection) -> dict[UUID, list[UUID]]:
    """Return the operators of the installation by organisation. Only the system's database role sees all of them."""
    return queries.operators(connection)


# ── users ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def list_users(connection: Connection) -> list[User]:
    """Return all users of the organisation."""
    return queries.users(connection)


def get_user(connection: Connection, user_id: UUID) -> User:
    """Return the user with this id.

    Raises:
        NotFound: there is no such user.
    """
    found = queries.user(connection, user_id)
    if found is None:
        raise NotFound(f"There is no user {user_id}.")
    return found


def user_with_email(connection: Connection, org: UUID, email: str) -> User:
    """Return the user with this e-mail address.

    Raises:
        NotFound: there is no such user.
    """
    found = queries.user_by_email(connection, org, email)
    if found is None:
        raise NotFound(f"There is no user with the address {email}.")
    return found


def find_user(connection: Connection, org: UUID, email: str) -> User | None:
    """Return the user with this e-mail address, or None."""
    return queries.user_by_email(connection, org, email)


def ensure_owner(connection: Connection, org: UUID, email: str, *, is_operator: bool = False) -> User:
    """Return the user with this e-mail address; if there is none, create one as an owner of the organisation. With
    `is_operator`, make the user an operator too.
    """
    user_id = new_id()
    if queries.insert_user(connection, {"id": user_id, "org_id": org, "email": email, "name": "Owner"}):
        queries.insert_grant(connection, _grant_row(org, user_id, "owner", None))
    if is_operator:
        queries.make_operator(connection, user_with_email(connection, org, email).id)
    return user_with_email(connection, org, email)


def add_user(connection: Connection, org: UUID, fields: NewUser, *, by: Iterable[Grant]) -> User:
    """Add a user with roles. `by` are the grants of the giver, who must hold what the roles permit.

    Raises:
        Conflict: the address is taken.
        InvalidInput: there is no such role or location.
        NotPermitted: a role permits more than the giver has.
    """
    user_id = new_id()
    row = {"id": user_id, "org_id": org, "email": fields.email, "name": fields.name}
    if not queries.insert_user(connection, row):
        raise Conflict(f"There is a user with the address {fields.email} already.")
    _give(connection, org, user_id, fields.grants, list(by))
    return get_user(connection, user_id)


def change_user(connection: Connection, org: UUID, user_id: UUID, change: UserChange, *, by: Iterable[Grant]) -> User:
    """Change a user's name or roles, or disable the user: the user's keys and agents then stop working.

    Raises:
        NotFound: there is no such user.
        NotPermitted: the user has, or would have, more permissions than the giver.
        Conflict: the organisation would be left without an owner.
    """
    giver = list(by)
    get_user(connection, user_id)
    queries.lock_owners(connection)
    if beyond := permissions.beyond(giver, permissions_held(connection, user_id)):
        raise NotPermitted(f"This user may do more than you: {', '.join(sorted(beyond))}.")
    queries.change_user(connection, user_id, name=change.name, is_disabled=change.is_disabled)
    if change.grants is not None:
        queries.delete_grants(connection, user_id)
        _give(connection, org, user_id, change.grants, giver)
    if queries.number_of_owners(connection) == 0:
        raise Conflict("Nobody would be left who owns this organisation. Give another user the role owner first.")
    return get_user(connection, user_id)


def _give(connection: Connection, org: UUID, user_id: UUID, wanted: list[RoleGrant], giver: list[Grant]) -> None:
    for grant in wanted:
        role = queries.role(connection, grant.role)
        if role is None:
            raise InvalidInput(f"There is no role called {grant.role!r}.")
        if beyond := permissions.beyond(giver, role.permissions):
            raise NotPermitted(f"The role {grant.role} permits what you may not do: {', '.join(sorted(beyond))}.")
        location = None if grant.location is None else location_called(connection, grant.location).id
        queries.insert_grant(connection, _grant_row(org, user_id, grant.role, location))


def _grant_row(org: UUID, user_id: UUID, role: str, location: UUID | None) -> dict[str, Any]:
    return {"id": new_id(), "org_id": org, "user_id": user_id, "role": role, "location": location}


# ── roles and locations ──────────────────────────────────────────────────────────────────────────────────────────────


def list_roles(connection: Connection) -> list[Role]:
    """Return all roles."""
    return queries.roles(connection)


def put_role(connection: Connection, org: UUID, name: str, wanted: list[str], *, by: Iterable[Grant]) -> Role:
    """Add a custom role of the organisation, or change its permissions.

    Raises:
        Conflict: the role is built in.
        NotPermitted: it permits, or permitted, what the giver may not do.
    """
    giver = list(by)
    before = queries.role(connection, name)
    if before is not None and before.is_built_in:
        raise Conflict(f"The role {name} is built in. Make one of your own, under another name.")
    if beyond := permissions.beyond(giver, [*wanted, *(before.permissions if before else [])]):
        raise NotPermitted(f"You may not do this yourself: {', '.join(sorted(beyond))}.")
    queries.put_role(connection, {"org_id": org, "name": name, "permissions": wanted, "built_in": False})
    return Role(name=name, permissions=wanted, is_built_in=False)


def remove_role(connection: Connection, name: str) -> None:
    """Delete a custom role of the organisation.

    Raises:
        NotFound: there is no such role.
        Conflict: it is built in, or a user has it.
    """
    if queries.role(connection, name) is None:
        raise NotFound(f"There is no role called {name!r}.")
    if not queries.delete_role(connection, name):
        raise Conflict(f"The role {name} is built in, or some user has it.")


def list_locations(connection: Connection) -> list[Location]:
    """Return all locations."""
    return queries.locations(connection)


def location_called(connection: Connection, slug: str) -> Location:
    """Return the location called `slug`.

    Raises:
        InvalidInput: there is no such location.
    """
    found = queries.location_by_slug(connection, slug)
    if found is None:
        raise InvalidInput(f"There is no location called {slug!r}.")
    return found


def add_location(connection: Connection, org: UUID, fields: NewLocation) -> Location:
    """Add a location.

    Raises:
        Conflict: the slug is taken.
    """
    if not queries.insert_location(connection, {"id": new_id(), "org_id": org, **fields.model_dump()}):
        raise Conflict(f"There is a location called {fields.slug!r} already.")
    return location_called(connection, fields.slug)
