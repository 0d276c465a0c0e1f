"""How long the organisation keeps lines of the audit log and conversations."""

from typing import Annotated

from fastapi import APIRouter, Depends

from domain.retention import service as retention
from domain.retention.schemas import Retention, RetentionChange
from web.auth import Needs, Principal
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["retention"])

Reads = Annotated[Principal, Depends(Needs("retention:read"))]
Writes = Annotated[Principal, Depends(Needs("retention:write"))]


@router.get("/retention", responses=describes(401, 403))
def get_retention(caller: Reads) -> Retention:
    """Return how long this organisation keeps what agents read, the rest of the audit log, and conversations."""
    with caller.reading() as connection:
        return retention.get(connection, caller.org_id)


@router.patch("/retention", responses=describes(401, 403, 422))
def change_retention(change: RetentionChange, caller: Writes) -> Retention:
    """Change how long this organisation keeps what. The next clean-up, within an hour, deletes what is older."""
    with caller.writing(**change.model_dump(exclude_unset=True)) as connection:
        return retention.change(connection, caller.org_id, change)
