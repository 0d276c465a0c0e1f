"""Users, roles, locations and API keys."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from core.settings import settings
from core.wakeup import wakeup
from domain.tasks import service as tasks
from domain.tenants import keys
from domain.tenants import service as tenants
from domain.tenants.schemas import (
    IssuedKey,
    KeyFields,
    KeyView,
    Location,
    NewLocation,
    NewUser,
    Organisation,
    Role,
    RolePermissions,
    User,
    UserChange,
)
from web.auth import AnyCaller, Needs, Principal, forget_keys
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["people"])

ReadsUsers = Annotated[Principal, Depends(Needs("users:read"))]
WritesUsers = Annotated[Principal, Depends(Needs("users:write"))]
ReadsKeys = Annotated[Principal, Depends(Needs("keys:read"))]
WritesKeys = Annotated[Principal, Depends(Needs("keys:write"))]
RoleName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Me(BaseModel):
    """The caller: organisation, user and key."""

    organisation: Organisation
    user: User
    key: KeyView


class Rotation(BaseModel):
    """The time for which a key and its successor are both valid."""

    model_config = ConfigDict(extra="forbid")

    overlap: timedelta = Field(
        default=timedelta(hours=1),
        ge=timedelta(0),
        le=timedelta(days=30),
        description="time for which the old key stays valid; seconds, or ISO 8601 such as PT1H",
    )


@router.get("/me", responses=describes(401))
def me(caller: AnyCaller) -> Me:
    """Return the key of the request, its user and its organisation."""
    with caller.reading() as connection:
        return Me(
            organisation=tenants.get_organisation(connection, caller.org_id),
            user=tenants.get_user(connection, caller.user_id),
            key=keys.get_key(connection, caller.owner.key_id),
        )


@router.get("/users", responses=describes(401, 403))
def list_users(caller: ReadsUsers) -> list[User]:
    """List the users of the organisation, with their roles."""
    with caller.reading() as connection:
        return tenants.list_users(connection)


@router.post("/users", status_code=201, responses=describes(401, 403, 409, 422))
def add_user(fields: NewUser, caller: WritesUsers) -> User:
    """Add a user. You can grant only roles that you have."""
    with caller.writing(email=fields.email) as connection:
        return tenants.add_user(connection, caller.org_id, fields, by=caller.own)


@router.get("/users/{user_id}", responses=describes(401, 403, 404, 422))
def get_user(user_id: UUID, caller: ReadsUsers) -> User:
    """Return one user."""
    with caller.reading() as connection:
        return tenants.get_user(connection, user_id)


@router.patch("/users/{user_id}", responses=describes(401, 403, 404, 409, 422))
def change_user(user_id: UUID, change: UserChange, caller: WritesUsers) -> User:
    """Change a user's name or roles, or disable the user. Takes effect within seconds, also for running tasks."""
    with caller.writing(**change.model_dump(mode="json", exclude_unset=True)) as connection:
        changed = tenants.change_user(connection, caller.org_id, user_id, change, by=caller.own)
        if change.is_disabled is not None:
            (tasks.block_tasks_of if change.is_disabled else tasks.unblock_tasks_of)(connection, user_id)
    forget_keys()
    wakeup.hint()
    return changed


@router.get("/roles", responses=describes(401, 403))
def list_roles(caller: ReadsUsers) -> list[Role]:
    """List the roles with their permissions."""
    with caller.reading() as connection:
        return tenants.list_roles(connection)


@router.put("/roles/{name}", responses=describes(401, 403, 409, 422))
def put_role(name: RoleName, wanted: RolePermissions, caller: WritesUsers) -> Role:
    """Add a role of your own, or change its permissions."""
    with caller.writing(permissions=wanted.permissions) as connection:
        role = tenants.put_role(connection, caller.org_id, name, wanted.permissions, by=caller.own)
    forget_keys()
    return role


@router.delete("/roles/{name}", status_code=204, responses=describes(401, 403, 404, 409, 422))
def remove_role(name: RoleName, caller: WritesUsers) -> None:
    """Remove a role of your own that no user has."""
    with caller.writing() as connection:
        tenants.remove_role(connection, name)


@router.get("/locations", responses=describes(401, 403))
def list_locations(caller: ReadsUsers) -> list[Location]:
    """List the organisation's locations."""
    with caller.reading() as connection:
        return tenants.list_locations(connection)


@router.post("/locations", status_code=201, responses=describes(401, 403, 409, 422))
def add_location(fields: NewLocation, caller: WritesUsers) -> Location:
    """Add a location."""
    with caller.writing(slug=fields.slug) as connection:
        return tenants.add_location(connection, caller.org_id, fields)


@router.get("/keys", responses=describes(401, 403))
def list_keys(caller: ReadsKeys) -> list[KeyView]:
    """List API keys, newest first, without their secrets."""
    with caller.reading() as connection:
        return keys.list_keys(connection)


@router.post("/keys", status_code=201, responses=describes(401, 403, 404, 422))
def issue_key(fields: KeyFields, caller: WritesKeys) -> IssuedKey:
    """Create an API key. Only this response contains its secret."""
    with caller.writing(name=fields.name, user=fields.user, scopes=fields.scopes) as connection:
        return keys.issue(connection, caller.owner, fields, settings().pepper)


@router.post("/keys/{key_id}/rotate", status_code=201, responses=describes(401, 403, 404, 409, 422))
def rotate_key(key_id: UUID, caller: WritesKeys, wanted: Rotation = Rotation()) -> IssuedKey:
    """Create a key's successor, which differs only in its secret. The old key stays valid for the overlap."""
    with caller.writing() as connection:
        issued = keys.rotate(connection, caller.owner, key_id, wanted.overlap, settings().pepper)
    forget_keys()
    return issued


@router.delete("/keys/{key_id}", responses=describes(401, 403, 404, 422))
def revoke_key(key_id: UUID, caller: WritesKeys) -> KeyView:
    """Revoke a key. Takes effect in every process of the API within five seconds."""
    with caller.writing() as connection:
        revoked = keys.revoke(connection, caller.owner, key_id)
    forget_keys()
    return revoked
