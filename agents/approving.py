"""What people say to proposals, where it takes knowledge of the tools: edits are checked as proposals are."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from agents.levels import rule_on
from agents.propose import ensure_permitted, goes_to_contact, proposed_call
from agents.tools import ALL
from agents.tools.registry import Tool
from core.errors import Conflict
from domain.agents import service as agents
from domain.approvals import service as approvals
from domain.approvals.schemas import Approval, No, Yes
from domain.tasks import service as tasks
from domain.tasks.schemas import Action, TaskInput, TaskSubmission, Terms


def approve(connection: Connection, org: UUID, approval_id: UUID, voter: UUID, said: Yes) -> Approval:
    """Say yes, perhaps to other arguments. A suggestion that is accepted becomes a task of its own.

    Raises:
        NotFound, NotPermitted, Conflict: as `approvals.vote` does.
        InvalidInput: the edited arguments do not fit the tool.
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
    """The approval with edited arguments: validated, permitted, and with as many approvers as they ask for."""
    approvals.ensure_may_vote(connection, found, voter)
    tool = ALL.get(found.tool)
    if tool is None:
        raise Conflict(f"There is no tool called {found.tool!r} any more.")
    plain = {name: value for name, value in arguments.items() if not name.startswith("_")}
    parameters = tool.validate(plain)
    ensure_permitted(connection, found.user_id, found.location_id, tool)
    needed = _needed(connection, org, found, tool, parameters)
    return approvals.edit(connection, found, plain, needed)


def _needed(connection: Connection, org: UUID, found: Approval, tool: Tool, parameters: Any) -> int:
    stake = tool.stake(parameters)
    task = tasks.get_task(connection, found.task_id)
    call = proposed_call(
        tool,
        stake,
        agent=found.agent,
        mode=agents.get_agent(connection, found.agent).mode,
        confidence=found.decision.confidence,
        read_untrusted=True,
        to_contact=goes_to_contact(connection, task.contact, stake),
    )
    ruling = rule_on(call, approvals.policy(connection, org))
    return ruling.asks[0].needed if ruling.level == "approval" else 1


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
    )
    made = tasks.submit(connection, submission, terms)
    approvals.link(connection, suggestion.id, made.id)
    return approvals.get(connection, suggestion.id)
