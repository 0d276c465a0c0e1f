"""What agents propose and people decide: the inbox, approving and rejecting, and the rules."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from agents.approving import approve, reject
from api.auth import AnyCaller, Needs, Principal
from api.problems import describes
from core.wakeup import wakeup
from domain.approvals import service as approvals
from domain.approvals.schemas import Approval, ApprovalPage, ApprovalStatus, Kind, No, Policy, Yes

router = APIRouter(prefix="/v1", tags=["approvals"])

Reads = Annotated[Principal, Depends(Needs("approvals:read", at_a_location=True))]
WritesRules = Annotated[Principal, Depends(Needs("rules:write"))]


@router.get("/approvals", responses=describes(401, 403, 422))
def list_approvals(
    caller: Reads,
    mine: Annotated[bool, Query(description="only what you are asked for now")] = False,
    status: ApprovalStatus | Literal["any"] = "open",
    kind: Kind | None = None,
    task: UUID | None = None,
    before: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ApprovalPage:
    """The inbox: what agents propose, newest first."""
    with caller.reading() as connection:
        return approvals.listed(
            connection,
            user=caller.user_id,
            mine=mine,
            status=None if status == "any" else status,
            kind=kind,
            task=task,
            before=before,
            limit=limit,
        )


@router.get("/approvals/{approval_id}", responses=describes(401, 403, 404, 422))
def get_approval(approval_id: UUID, caller: Reads) -> Approval:
    """One proposal: what exactly would be done, why, what spoke for and against it, and who has said what."""
    with caller.reading() as connection:
        return approvals.get(connection, approval_id)


@router.post("/approvals/{approval_id}/approve", responses=describes(401, 403, 404, 409, 422))
def approve_action(approval_id: UUID, caller: AnyCaller, said: Yes = Yes()) -> Approval:
    """Approve exactly this action, or, with `arguments`, an edited one; accept a suggestion; give advice to go ahead.

    Who may is decided by the approval itself: those who are asked, with the permission `approvals:decide` there.
    """
    with caller.writing(edited=said.arguments is not None) as connection:
        decided = approve(connection, caller.org_id, approval_id, caller.voter, said)
    wakeup.hint()
    return decided


@router.post("/approvals/{approval_id}/reject", responses=describes(401, 403, 404, 409, 422))
def reject_action(approval_id: UUID, said: No, caller: AnyCaller) -> Approval:
    """Reject an action. The agent hears the reason, and goes on without it."""
    with caller.writing(reason=said.reason) as connection:
        decided = reject(connection, caller.org_id, approval_id, caller.voter, said)
    wakeup.hint()
    return decided


@router.get("/rules", responses=describes(401, 403))
def get_rules(caller: Reads) -> Policy:
    """The rules that give an action its level, and who is asked."""
    with caller.reading() as connection:
        return approvals.policy(connection, caller.org_id)


@router.put("/rules", responses=describes(401, 403, 422))
def set_rules(policy: Policy, caller: WritesRules) -> Policy:
    """Replace the rules. What was put before people already stays as it was."""
    with caller.writing(policy=policy.model_dump(mode="json")) as connection:
        return approvals.set_policy(connection, caller.org_id, policy)
