"""What people say to proposals, where it takes knowledge of the tools: edits are checked as proposals are."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from agents.levels import Ruling, rule_on
from agents.propose import KINDS, ensure_permitted, goes_to_contact, proposed_call
from agents.tools import ALL
from agents.tools.registry import Tool
from core.errors import Conflict, NotPermitted
from domain.approvals import service as approvals
from domain.approvals.schemas import Approval, Kind, No, Yes
from domain.tasks import service as tasks
from domain.tasks.schemas import Action, TaskInput, TaskSubmission, Terms


def approve(connection: Connection, org: UUID, approval_id: UUID, voter: UUID, said: Yes) -> Approval:
    """Say yes, perhaps to other arguments. A suggestion that is accepted becomes a task of its own.

    Raises:
        NotFound, NotPermitted, Conflict: as `approvals.vote` does.
        InvalidInput: the edited arguments do not fit the tool.
        NotPermitted: by the rules, they would have to be put before others.
    """
    found = approvals.get_locked(connection, approval_id)
    if said.arguments is not None and said.arguments != found.arguments and found.status == "open":
        found = _edited(connection, org, found, voter, said.arguments)
    try:
        decided = approvals.vote(connection, org, found, voter, "approve", said.words)
    except approvals.AlreadySo:
        if said.arguments is not None and said.arguments != found.arguments:
            raise Conflict("You approved this already, with other arguments.") from None
        return found
    if decided.kind == "suggestion" and decided.status == "approved":
        return _accepted(connection, decided)
    return decided


def reject(connection: Connection, org: UUID, approval_id: UUID, voter: UUID, said: No) -> Approval:
    """Say no. The agent hears the reason.

    Raises:
        NotFound, NotPermitted, Conflict: as `approvals.vote` does.
    """
    found = approvals.get_locked(connection, approval_id)
    try:
        return approvals.vote(connection, org, found, voter, "reject", said.reason)
    except approvals.AlreadySo:
        return found


def _edited(connection: Connection, org: UUID, found: Approval, voter: UUID, arguments: dict[str, Any]) -> Approval:
    """The approval with edited arguments: validated, permitted, and no more than what those who are asked may
    decide.
    """
    approvals.ensure_may_vote(connection, found, voter)
    tool = ALL.get(found.tool)
    if tool is None:
        raise Conflict(f"There is no tool called {found.tool!r} any more.")
    plain = {name: value for name, value in arguments.items() if not name.startswith("_")}
    parameters = tool.validate(plain)
    ensure_permitted(connection, found.user_id, found.location_id, tool)
    ruling = _rule_anew(connection, org, found, tool, parameters)
    kind = KINDS.get(ruling.effect, "suggestion")
    asks_others = ruling.rule != found.decision.rule and list(ruling.asks) != found.asks
    if _RANK[kind] > _RANK[found.kind] or (_RANK[kind] == _RANK[found.kind] and asks_others):
        raise NotPermitted(
            f"With these arguments it would need more: {'; '.join(ruling.because)}. Reject it; it can be proposed anew."
        )
    return approvals.edit(connection, found, plain)


_RANK: dict[Kind, int] = {"suggestion": 0, "advice": 1, "approval": 2}


def _rule_anew(connection: Connection, org: UUID, found: Approval, tool: Tool, parameters: Any) -> Ruling:
    """The ruling on the edited call, all else being as it was when it was proposed."""
    stake, before = tool.stake(parameters), found.decision.context
    call = proposed_call(
        tool,
        stake,
        agent=found.agent,
        mode=before["mode"],
        confidence=found.decision.confidence,
        read_untrusted=before["read_untrusted"],
        to_contact=goes_to_contact(connection, before["contact"], stake),
    )
    return rule_on(call, approvals.policy(connection, org))


def _accepted(connection: Connection, suggestion: Approval) -> Approval:
    """Submit the task that carries out a suggestion, for the user it was made for, and link the two."""
    origin = tasks.find_task(connection, suggestion.task_id)
    submission = TaskSubmission(
        agent=suggestion.agent,
        input=TaskInput(message=f"Carry out the accepted suggestion: {suggestion.tool}"),
        contact=origin.contact if origin else None,
    )
    terms = Terms(
        user_id=suggestion.user_id,
        location_id=suggestion.location_id,
        origin_id=suggestion.task_id,
        action=Action(tool=suggestion.tool, arguments=suggestion.arguments, approval_id=suggestion.id),
        scopes=tasks.scopes_of(connection, suggestion.task_id),
    )
    made = tasks.submit(connection, submission, terms)
    approvals.link(connection, suggestion.id, made.id)
    return approvals.get(connection, suggestion.id)
