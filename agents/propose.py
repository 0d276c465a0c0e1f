"""Propose: between a decision and its actions, find out which may be carried out, and put the others before people.

The model proposes; permission, level and, where needed, a person dispose. An approval stands for exactly one tool with
exactly these arguments, in exactly this step.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection

from agents.decide import Decision, ProposedAction
from agents.levels import ProposedCall, Ruling, rule_on
from agents.llm.base import ToolCall, ToolMessage
from agents.perceive import Perception
from agents.tools import ALL
from agents.tools.registry import Parameters, Stake, Tool
from agents.work import Work, make_record
from core.clock import Stopwatch
from core.db import dump_json, transaction
from core.errors import InvalidInput, NotPermitted, RotaError
from domain.approvals import service as approvals
from domain.approvals.schemas import Approval, Kind, Policy, Proposal, Rationale
from domain.channels.schemas import Event
from domain.crm import service as crm
from domain.tasks import service as tasks
from domain.tenants import service as tenants
from domain.tenants.permissions import Reach

_SAID = 500
KINDS: dict[str, Kind] = {"ask_approval": "approval", "ask_advice": "advice", "suggest": "suggestion"}


@dataclass(frozen=True)
class Go:
    """A call that may be carried out, with the arguments that stand, and the approval it is carried out on."""

    seq: int
    call: ToolCall
    arguments: dict[str, Any]
    approval: Approval | None = None
    ruling: Ruling | None = None


@dataclass(frozen=True)
class Sorted:
    """What becomes of a decision's calls: carried out now, or waiting for a person."""

    to_do: list[Go]
    waiting: Literal["approval", "advice"] | None


def sort_out(work: Work, perception: Perception, decision: Decision, calls: list[tuple[int, ToolCall]]) -> Sorted:
    """Which of `calls` go on. Those that people must see are put before them, and those that were refused answered.

    All of it is one transaction under the claim.
    """
    if not any(_concerns_people(call) for _, call in calls):
        return Sorted([Go(seq, call, call.arguments) for seq, call in calls], None)
    return _Sorter(work, perception, decision).sort(calls)


def _concerns_people(call: ToolCall) -> bool:
    tool = ALL.get(call.name)
    return tool is not None and tool.changes_world


class _Sorter:
    """Sorts the calls of one decision."""

    def __init__(self, work: Work, perception: Perception, decision: Decision) -> None:
        self._work = work
        self._perception = perception
        self._decision = decision
        self._policy: Policy | None = None
        self._answers: list[tuple[int, ToolCall, str, bool]] = []

    def sort(self, calls: list[tuple[int, ToolCall]]) -> Sorted:
        to_do: list[Go] = []
        waiting: list[Kind] = []
        found: Go | Approval
        with transaction(self._work.task.org_id) as connection:
            tasks.hold(connection, self._work.task)
            asked = self._asked(connection, calls)
            for seq, call in calls:
                before = asked.get(seq)
                found = self._put(connection, seq, call) if before is None or before.status == "withdrawn" else before
                if isinstance(found, Go):
                    to_do.append(found)
                elif found.status == "open" and found.kind != "suggestion":
                    waiting.append(found.kind)
                elif self._stands(found, seq):
                    to_do.append(_approved(seq, call, found))
                else:
                    self._answers.append((seq, call, *_answer(found)))
        for seq, call, text, is_error in self._answers:
            self._record_answer(seq, call, text, is_error=is_error)
        if not waiting:
            return Sorted(to_do, None)
        return Sorted(to_do, "approval" if "approval" in waiting else "advice")

    def _stands(self, found: Approval, seq: int) -> bool:
        """Whether an approval allows the call to be carried out now."""
        is_ours = found.kind != "suggestion" or self._work.task.action is not None
        is_unused = found.used_at is None or (found.used_by_task, found.used_by_seq) == (self._work.task.id, seq)
        return is_ours and found.status == "approved" and is_unused

    def _asked(self, connection: Connection, calls: list[tuple[int, ToolCall]]) -> dict[int, Approval]:
        """What was put before people, by step. An accepted suggestion is the approval of the task that it became."""
        if self._work.task.action is not None:
            return {calls[0][0]: approvals.get(connection, self._work.task.action.approval_id)}
        return approvals.of_task(connection, self._work.task.id)

    def _put(self, connection: Connection, seq: int, call: ToolCall) -> Go | Approval:
        """What a call that nobody was asked about yet is to be: done, or put before people."""
        go = Go(seq, call, call.arguments)
        tool = ALL.get(call.name) if call.name in self._perception.tools else None
        if tool is None or not tool.changes_world or call.problem:
            return go
        try:
            parameters = tool.validate(call.arguments)
            ensure_permitted(
                connection, self._work.task.user_id, self._work.task.location_id, tool, self._work.task.scopes
            )
        except (InvalidInput, NotPermitted):
            return go  # it is refused when it is carried out, and nobody need be bothered
        ruling = self._rule(connection, seq, tool, parameters)
        if ruling.effect in {"run", "run_and_tell"}:
            return Go(seq, call, call.arguments, ruling=ruling)
        proposal = self._proposal(connection, seq, call, ruling)
        made = approvals.propose(connection, self._work.task.org_id, proposal)
        if made is None:
            raise RotaError("This step was put before people by somebody else.")
        return approvals.get(connection, made)

    def _rule(self, connection: Connection, seq: int, tool: Tool, parameters: Parameters) -> Ruling:
        if self._policy is None:
            self._policy = approvals.policy(connection, self._work.task.org_id)
        stake: Stake = tool.stake(parameters)
        proposed = proposed_call(
            tool,
            stake,
            agent=self._work.agent.slug,
            mode=self._work.agent.mode,
            confidence=self._action(seq).confidence,
            read_untrusted=self._has_read_untrusted(),
            to_contact=goes_to_contact(connection, self._work.task.contact, stake),
        )
        return rule_on(proposed, self._policy)

    def _has_read_untrusted(self) -> bool:
        """Whether anything that strangers may have written was read on the way to this decision."""
        return has_read_untrusted(self._work)

    def _action(self, seq: int) -> ProposedAction:
        return self._decision.actions[seq - self._decision.seq - 1]

    def _proposal(self, connection: Connection, seq: int, call: ToolCall, ruling: Ruling) -> Proposal:
        work, action = self._work, self._action(seq)
        rationale = Rationale(
            level=ruling.level,
            rule=ruling.rule,
            because=list(ruling.because),
            intent=action.intent,
            why=action.why,
            reasoning=self._decision.reasoning,
            confidence=action.confidence,
            alternatives=action.alternatives,
            context={
                "message": str(work.task.input["message"])[:_SAID],
                "is_from_outside": bool(work.task.input.get("is_from_outside")),
                "read_untrusted": self._has_read_untrusted(),
                "mode": work.agent.mode,
                "contact": work.task.contact,
                "steps_before": [step.name for step in work.journal() if step.stage == "act"][-10:],
            },
            performance=approvals.performance(connection, work.task.org_id, work.agent.slug, call.name),
        )
        return Proposal(
            task_id=work.task.id,
            seq=seq,
            kind=KINDS[ruling.effect],
            agent=work.agent.slug,
            user_id=work.task.user_id,
            location_id=work.task.location_id,
            tool=call.name,
            arguments=own_arguments(call),
            decision=rationale,
            asks=list(ruling.asks),
        )

    def _record_answer(self, seq: int, call: ToolCall, text: str, *, is_error: bool) -> None:
        content = dump_json({"error": text} if is_error else {"suggested": True, "note": text})
        message = ToolMessage(call_id=call.id, content=content, is_error=is_error)
        output = {"message": message.model_dump(), "ok": not is_error}
        self._work.record(make_record(seq, "act", call.name, Stopwatch(), given=call.arguments, output=output))


def has_read_untrusted(work: Work) -> bool:
    """Whether a task was asked by somebody outside, or has read what such people may have written."""
    if work.task.input.get("is_from_outside") or work.task.input.get("has_outside_context"):
        return True
    read = (ALL.get(step.name) for step in work.journal() if step.stage == "act")
    return any(tool is None or tool.returns_untrusted for tool in read)


def tell_what_was_done(work: Work, go: Go, connection: Connection) -> None:
    """Tell coordinators of an action that they would have been asked about in another mode."""
    if go.ruling is None or go.ruling.effect != "run_and_tell":
        return
    event = Event(
        kind="action.taken",
        title=f"{work.agent.slug} did: {go.call.name}",
        body=f"{'; '.join(go.ruling.because)}\n\n{dump_json(own_arguments(go.call))}",
        data={"task_id": str(work.task.id), "tool": go.call.name, "agent": work.agent.slug},
    )
    approvals.tell_coordinators(connection, work.task.org_id, go.ruling.asks[0], work.task.location_id, event)


def own_arguments(call: ToolCall) -> dict[str, Any]:
    """A call's arguments without the model's rationale."""
    return {name: value for name, value in call.arguments.items() if not name.startswith("_")}


def _approved(seq: int, call: ToolCall, approval: Approval) -> Go:
    """The call with the approved arguments, which must be what it was proposed with, or an approver's edit of that."""
    proposed = approval.arguments if approval.kind == "suggestion" else approval.proposed
    is_same = approval.tool == call.name and proposed == own_arguments(call)
    if not is_same or approvals.digest(approval.tool, approval.arguments).hex() != approval.digest:
        raise NotPermitted("What was approved is not what is about to be done.")
    return Go(seq, call, approval.arguments, approval=approval)


def _answer(decided: Approval) -> tuple[str, bool]:
    """What the agent hears of an action that is not carried out, and whether as an error."""
    by = f" by {decided.decided_by}" if decided.decided_by else ""
    reason = f" {decided.reason}" if decided.reason else ""
    if decided.used_at is not None:
        return "Not allowed: this approval was used already.", True
    if decided.kind == "suggestion":
        return "Offered to the person you work for, who may accept it later. It is not done. Go on without it.", False
    return f"Not allowed: {decided.status}{by}.{reason} Do not try it again.", True


def ensure_permitted(
    connection: Connection, user: UUID, location: UUID | None, tool: Tool, scopes: list[str] | None = None
) -> Reach:
    """Where the user whom a task is for may use `tool`: read from the database, whatever model or request say. A task
    submitted with a key of few `scopes` does no more than these allow.

    Raises:
        NotPermitted: nowhere.
    """
    reach = tenants.reach_of(connection, user, tool.permission, scopes).at(location)
    if reach.is_nowhere:
        raise NotPermitted(f"The person you work for may not do this: it needs the permission {tool.permission}.")
    return reach


def proposed_call(tool: Tool, stake: Stake, **facts: Any) -> ProposedCall:
    """What the level of a call of `tool` depends on."""
    return ProposedCall(
        tool=tool.name,
        category=tool.category,
        risk=tool.risk,
        changes_world=tool.changes_world,
        amount=Decimal(stake.amount),
        sends_outside=tool.sends_outside,
        moves_money=tool.moves_money,
        **facts,
    )


def goes_to_contact(connection: Connection, contact: UUID | None, stake: Stake) -> bool:
    """Whether words go to the contact that the task is about, and to nobody else."""
    if contact is None or not (stake.recipients or stake.to_contact):
        return False
    known = crm.ways_to_reach(connection, contact)
    return all(recipient.lower() in known for recipient in stake.recipients)
