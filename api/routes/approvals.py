"""What agents propose and people decide: the inbox, approving and rejecting, and the rules."""

from typing import Annotated, Literal, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Response

from agents.review import approve, reject
from core.errors import InvalidInput
from core.wakeup import wakeup
from domain.approvals import service as approvals
from domain.approvals.schemas import Approval, ApprovalPage, ApprovalStatus, Kind, No, Policy, Yes
from web.auth import Needs, Principal
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["approvals"])

Reads = Annotated[Principal, Depends(Needs("approvals:read", at_a_location=True))]
IfMatch = Annotated[str | None, Header(max_length=200, description="the approval's digest, in double quotes")]
# The key must have the scope. Whether the user may decide depends on the approval.
Decides = Annotated[Principal, Depends(Needs("approvals:decide", own=True))]
WritesRules = Annotated[Principal, Depends(Needs("rules:write"))]


@router.get("/approvals", responses=describes(401, 403, 422))
def list_approvals(
    caller: Reads,
    mine: Annotated[bool, Query(description="only approvals that you can decide now")] = False,
    status: ApprovalStatus | Literal["any"] = "open",
    kind: Kind | None = None,
    task: UUID | None = None,
    before: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ApprovalPage:
    """List approvals, newest first."""
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
def get_approval(approval_id: UUID, caller: Reads, response: Response) -> Approval:
    """Return one approval: the tool call, its reasons and the votes so far. The digest is its entity tag."""
    with caller.reading() as connection:
        found = approvals.get(connection, approval_id)
    response.headers["etag"] = f'"{found.digest}"'
    return found


@router.post("/approvals/{approval_id}/approve", responses=describes(401, 403, 404, 409, 422, 428))
def approve_action(approval_id: UUID, caller: Decides, said: Yes = Yes(), if_match: IfMatch = None) -> Approval:
    """Approve this action or, with `arguments`, an edited one; accept a suggestion; give advice in favour.

    Send the `digest` that you saw, in the body or as If-Match. Without it the response is 428. If the action has been
    edited since, the response is 409 and lists the changes.

    Only the approvers of the current stage may decide, with the permission `approvals:decide` at its location.
    """
    with caller.writing(edited=said.arguments is not None) as connection:
        decided = approve(connection, caller.org_id, approval_id, caller.voter, _with_digest(said, if_match))
    wakeup.hint()
    return decided


@router.post("/approvals/{approval_id}/reject", responses=describes(401, 403, 404, 409, 422, 428))
def reject_action(approval_id: UUID, said: No, caller: Decides, if_match: IfMatch = None) -> Approval:
    """Reject an action. The agent is told the reason and continues without it. Send the `digest` as for approving."""
    with caller.writing(reason=said.reason) as connection:
        decided = reject(connection, caller.org_id, approval_id, caller.voter, _with_digest(said, if_match))
    wakeup.hint()
    return decided


Said = TypeVar("Said", Yes, No)


def _with_digest(said: Said, if_match: str | None) -> Said:
    """Return the vote, with the digest from If-Match if the body has none.

    Raises:
        InvalidInput: the two digests differ.
    """
    if if_match is None:
        return said
    tag = if_match.strip().removeprefix("W/").strip('"')
    if said.digest not in {None, tag}:
        raise InvalidInput("The body's digest and If-Match differ. Send one of them.")
    return said.model_copy(update={"digest": tag})


@router.get("/rules", responses=describes(401, 403))
def get_rules(caller: Reads) -> Policy:
    """Return the rules that set the level of actions, and the approvers."""
    with caller.reading() as connection:
        return approvals.policy(connection, caller.org_id)


@router.put("/rules", responses=describes(401, 403, 422))
def set_rules(policy: Policy, caller: WritesRules) -> Policy:
    """Replace the rules. Open approvals do not change."""
    with caller.writing(policy=policy.model_dump(mode="json")) as connection:
        return approvals.set_policy(connection, caller.org_id, policy)
