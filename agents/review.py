"""What people say to proposals, where it takes knowledge of the tools: edits are checked as proposals are."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from agents.call import without_rationale
from agents.circumstances import contacts_of, goes_to_contact, proposed_call
from agents.levels import Ruling, rule_on, strictness
from agents.permission import ensure_permitted
from agents.screening import KINDS
from agents.tools import TOOLS
from agents.tools.registry import Tool
from core.errors import Conflict, NotPermitted
from domain.agents import service as agents
from domain.approvals import service as approvals
from domain.approvals.schemas import Approval, CountedStep, Kind, No, Yes
from domain.tasks import service as tasks
from domain.tasks.schemas import Action, SubmissionContext, TaskInput, TaskSubmission
from domain.tenants import service as tenants


def approve(connection: Connection, org: UUID, approval_id: UUID, voter: UUID, said: Yes) -> Approval:
    """Say yes, perhaps to other arguments. A suggestion that is accepted becomes a task of its own.

    Raises:
        NotFound, NotPermitted, Conflict: as `approvals.vote` does.
        PreconditionRequired, Conflict: as `approvals.ensure_seen` does.
        InvalidInput: the edited arguments do not fit the tool.
        NotPermitted: by the rules, they would have to be put before others.
    """
    found = approvals.get_locked(connection, approval_id)
    edited = without_rationale(said.arguments) if said.arguments is not None else None
    is_edit = edited is not None and approvals.digest(found.tool, edited).hex() != found.digest
    if found.status == "open":
        approvals.ensure_may_vote(connection, found, voter)
        if is_edit or not _is_own_edit(connection, found, voter, edited, said.digest):
            approvals.ensure_seen(found, said.digest)
        _refuse_tool_that_was_taken(connection, found)
        if is_edit and edited is not None:
            found = _edited(connection, org, found, voter, edited)
    try:
        decided = approvals.vote(connection, org, found, voter, "approve", said.words)
    except approvals.AlreadySo:
        if is_edit:
            raise Conflict("You approved this already, with other arguments.") from None
        return found
    if decided.kind == "suggestion" and decided.status == "approved":
        return _accepted(connection, decided)
    return decided


def reject(connection: Connection, org: UUID, approval_id: UUID, voter: UUID, said: No) -> Approval:
    """Say no. The agent hears the reason.

    Raises:
        NotFound, NotPermitted, Conflict: as `approvals.vote` does.
        PreconditionRequired, Conflict: as `approvals.ensure_seen` does.
    """
    found = approvals.get_locked(connection, approval_id)
    if found.status == "open":
        approvals.ensure_may_vote(connection, found, voter)
        approvals.ensure_seen(found, said.digest)
    try:
        return approvals.vote(connection, org, found, voter, "reject", said.reason)
    except approvals.AlreadySo:
        return found


def _is_own_edit(
    connection: Connection, found: Approval, voter: UUID, edited: dict[str, Any] | None, seen: str | None
) -> bool:
    """Whether a vote repeats the edit that its voter made last: what they saw is the version before it."""
    if edited is None or seen is None or not found.edits:
        return False
    last = found.edits[-1]
    return last.digest == seen and last.edited_by == tenants.get_user(connection, voter).email


def _refuse_tool_that_was_taken(connection: Connection, found: Approval) -> None:
    if found.tool not in agents.get_agent(connection, found.agent).tools:
        raise Conflict(
            f"The agent {found.agent} has no tool {found.tool} any more; it will hear that by itself. Reject it."
        )


def _edited(connection: Connection, org: UUID, found: Approval, voter: UUID, plain: dict[str, Any]) -> Approval:
    """The approval with edited arguments: validated, permitted, and no more than what those who are asked may
    decide.
    """
    tool = TOOLS.get(found.tool)
    if tool is None:
        raise Conflict(f"There is no tool called {found.tool!r} any more.")
    parameters = tool.validate(plain)
    ensure_permitted(connection, found.user_id, found.location_id, tool)
    ruling = _rule_anew(connection, org, found, tool, parameters)
    kind = KINDS.get(ruling.effect, "suggestion")
    asks_others = ruling.rule != found.decision.rule and list(ruling.asks) != found.asks
    if _RANK[kind] > _RANK[found.kind] or (_RANK[kind] == _RANK[found.kind] and asks_others):
        raise NotPermitted(
            f"With these arguments it would need more: {'; '.join(ruling.because)}. Reject it; it can be proposed anew."
        )
    return approvals.edit(connection, found, plain, voter)


_RANK: dict[Kind, int] = {"suggestion": 0, "advice": 1, "approval": 2}


def _rule_anew(connection: Connection, org: UUID, found: Approval, tool: Tool, parameters: Any) -> Ruling:
    """The ruling on the edited call, all else being as it was when it was proposed, after what was done since."""
    stake, before = tool.at_stake(parameters), found.decision.context
    contact = UUID(before["contact"]) if before["contact"] else None
    policy, to_contact = approvals.policy(connection, org), goes_to_contact(connection, contact, stake)
    calls = [
        proposed_call(
            tool,
            stake,
            agent=agent,
            mode=before["mode"],
            confidence=found.decision.confidence,
            read_untrusted=before["read_untrusted"],
            to_contact=to_contact,
        )
        for agent in before.get("agents", [found.agent])
    ]
    root = tasks.lineage_of(connection, found.task_id).root_id or found.task_id
    step = CountedStep(found.task_id, found.seq, root, contacts_of(connection, parameters, stake, contact))
    tally = approvals.tally(connection, org, step)
    return max((rule_on(call, policy, tally) for call in calls), key=strictness)


def _accepted(connection: Connection, suggestion: Approval) -> Approval:
    """Submit the task that carries out a suggestion, for the user it was made for, and link the two."""
    origin = tasks.find_task(connection, suggestion.task_id)
    lineage = tasks.lineage_of(connection, suggestion.task_id)
    submission = TaskSubmission(
        agent=suggestion.agent,
        input=TaskInput(message=f"Carry out the accepted suggestion: {suggestion.tool}"),
        contact=origin.contact if origin else None,
        priority=origin.priority if origin else "normal",
    )
    context = SubmissionContext(
        user_id=suggestion.user_id,
        location_id=suggestion.location_id,
        origin_id=suggestion.task_id,
        action=Action(tool=suggestion.tool, arguments=suggestion.arguments, approval_id=suggestion.id),
        scopes=tasks.scopes_of(connection, suggestion.task_id),
        root_id=lineage.root_id,
        depth=lineage.depth,
        bounds=lineage.bounds,
    )
    made = tasks.submit(connection, submission, context)
    approvals.link(connection, suggestion.id, made.id)
    return approvals.get(connection, suggestion.id)
