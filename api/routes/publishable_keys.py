"""Publishable keys, which stand in web pages and admit visitors."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from core.settings import settings
from domain.visitors import service as visitors
from domain.visitors.schemas import NewPublishableKey, PublishableKey
from web.auth import Needs, Principal
from web.problems import describes
from web.visitors import forget_visitors

router = APIRouter(prefix="/v1", tags=["visitors"])

Reads = Annotated[Principal, Depends(Needs("keys:read"))]
Writes = Annotated[Principal, Depends(Needs("keys:write"))]


@router.get("/publishable-keys", responses=describes(401, 403))
def list_publishable_keys(caller: Reads) -> list[PublishableKey]:
    """List publishable keys, newest first."""
    with caller.reading() as connection:
        return visitors.list_keys(connection)


@router.post("/publishable-keys", status_code=201, responses=describes(401, 403, 404, 422))
def make_publishable_key(wanted: NewPublishableKey, caller: Writes) -> PublishableKey:
    """Make a publishable key. Agents act for its visitors as you, with the permissions that the key lists."""
    with caller.writing(**wanted.model_dump(mode="json", exclude={"limits", "lifetime"})) as connection:
        return visitors.make_key(connection, caller.owner, wanted, settings().pepper)


@router.get("/publishable-keys/{publishable_key_id}", responses=describes(401, 403, 404, 422))
def get_publishable_key(publishable_key_id: UUID, caller: Reads) -> PublishableKey:
    """Return a publishable key, with the messages of today."""
    with caller.reading() as connection:
        return visitors.get_key(connection, publishable_key_id)


@router.delete("/publishable-keys/{publishable_key_id}", responses=describes(401, 403, 404, 422))
def revoke_publishable_key(publishable_key_id: UUID, caller: Writes) -> PublishableKey:
    """Revoke a publishable key. Within seconds it admits no visitors, the tokens of its visitors are not valid, and
    their streams end.
    """
    with caller.writing() as connection:
        revoked = visitors.revoke_key(connection, publishable_key_id)
    forget_visitors()
    return revoked
