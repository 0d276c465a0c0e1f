"""The audit log."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from domain.audit import service as audit
from domain.audit.schemas import AuditPage, Kind
from domain.tasks.schemas import Word
from web.auth import Needs, Principal
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["audit"])

Reads = Annotated[Principal, Depends(Needs("audit:read"))]


@router.get("/audit", responses=describes(401, 403, 422))
def read_audit_log(
    caller: Reads,
    before: UUID | None = None,
    subject: Word | None = None,
    verb: Word | None = None,
    task: UUID | None = None,
    record: Annotated[
        UUID | None, Query(description="only what read or changed this record; reads are then listed too")
    ] = None,
    kind: Annotated[Kind | None, Query(description="`change`, `read` or `any`; without it, reads are left out")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> AuditPage:
    """List audit events, newest first: actions of users through their keys, and of agents in their tasks. What agents
    read is listed on request, because it is much: with `kind`, with `verb=read`, or with the `record` that was read.
    """
    with caller.reading() as connection:
        return audit.read(
            connection, kind=kind, before=before, subject=subject, verb=verb, task=task, record=record, limit=limit
        )
