"""Screening: between a decision and its actions, find out which may be carried out, and put the others before people.

The model proposes; permission, level and, where needed, a person dispose. An approval stands for exactly one tool with
exactly these arguments, in exactly this step.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection

from agents.decision import Decision, ProposedAction
from agents.figures import plain_way
from agents.journal import make_record
from agents.levels import ProposedCall, Ruling, may_be_counted, rule_on, strictness
from agents.llm.base import ToolCall, ToolMessage
from agents.perceive import Perception
from agents.provenance import LookUp, Person, Request, addresses_in, ids_in, is_requested
from agents.tools import TOOLS
from agents.tools.registry import REFUSALS, Parameters, Stake, Tool
from agents.work import Work
from core.clock import Stopwatch
from core.db import transaction
from core.errors import InvalidInput, NotPermitted, RotaError
from core.json_text import dump_json
from core.packs import installed
from core.text import fold
from domain.approvals import service as approvals
from domain.approvals.schemas import Approval, Kind, Policy, Proposal, Rationale, Step, Tally
from domain.channels import service as channels
from domain.channels.schemas import Event
from domain.claims import service as claims
from domain.contacts import service as contacts
from domain.tenants import service as tenants
from domain.tenants.permissions import Reach

_SAID = 500
KINDS: dict[str, Kind] = {"ask_approval": "approval", "ask_advice": "advice", "suggest": "suggestion"}


@dataclass(frozen=True)
class Invocation:
    """A call that may be carried out, with the arguments that stand, and the approval it is carried out on."""

    seq: int
    call: ToolCall
    arguments: dict[str, Any]
    approval: Approval | None = None
    ruling: Ruling | None = None


@dataclass(frozen=True)
class Screening:
    """What becomes of a decision's calls: carried out now, or waiting for a person."""

    to_do: list[Invocation]
    waiting: Literal["approval", "advice"] | None


Rehearse = Callable[[Connection, "Invocation"], None]
"""carries out a call as far as that can be undone, and undoes it; raises what stands in the way"""


def sort_out(
    work: Work, perception: Perception, decision: Decision, calls: list[tuple[int, ToolCall]], rehearse: Rehearse
) -> Screening:
    """Which of `calls` go on. Those that people must see are put before them, and those that were refused answered.
    People are not asked about what could not be done: `rehearse` tries that first.

    All of it is one transaction under the claim.
    """
    if not any(_concerns_people(call) for _, call in calls):
        return Screening([Invocation(seq, call, call.arguments) for seq, call in calls], None)
    return _Sorter(work, perception, decision, rehearse).sort(calls)


def _concerns_people(call: ToolCall) -> bool:
    tool = TOOLS.get(call.name)
    return tool is not None and tool.acts


# A tool whose use was refused so often in one task is not asked about again.
_MOST_REFUSALS = 3
_REFUSED = ("rejected", "denied", "expired")


class _Sorter:
    """Sorts the calls of one decision."""

    def __init__(self, work: Work, perception: Perception, decision: Decision, rehearse: Rehearse) -> None:
        self._work = work
        self._perception = perception
        self._decision = decision
        self._rehearse = rehearse
        self._policy: Policy | None = None
        self._asked: dict[int, Approval] = {}
        self._answers: list[tuple[int, ToolCall, str, bool]] = []
        self._requested: dict[int, bool] = {}
        """whether the trusted request itself asked for a call, by step"""

    def sort(self, calls: list[tuple[int, ToolCall]]) -> Screening:
        to_do: list[Invocation] = []
        waiting: list[Kind] = []
        found: Invocation | Approval
        with transaction(self._work.task.org_id) as connection:
            claims.lock_claim(connection, self._work.task)
            self._asked = self._before(connection, calls)
            for seq, call in calls:
                before = self._asked.get(seq)
                found = self._put(connection, seq, call) if before is None or before.status == "withdrawn" else before
                if isinstance(found, Invocation):
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
            return Screening(to_do, None)
        return Screening(to_do, "approval" if "approval" in waiting else "advice")

    def _stands(self, found: Approval, seq: int) -> bool:
        """Whether an approval allows the call to be carried out now."""
        is_ours = found.kind != "suggestion" or self._work.task.action is not None
        is_unused = found.used_at is None or (found.used_by_task, found.used_by_seq) == (self._work.task.id, seq)
        return is_ours and found.status == "approved" and is_unused

    def _before(self, connection: Connection, calls: list[tuple[int, ToolCall]]) -> dict[int, Approval]:
        """What was put before people, by step. An accepted suggestion is the approval of the task that it became."""
        task = self._work.task
        if task.action is not None:
            accepted = approvals.get(connection, task.action.approval_id)
            return {calls[0][0]: self._as_it_stands(connection, accepted)}
        found = approvals.of_task(connection, task.id)
        return {seq: self._as_it_stands(connection, approval) for seq, approval in found.items()}

    def _as_it_stands(self, connection: Connection, approval: Approval) -> Approval:
        """The approval, taken back where its task was cancelled since: whoever retries a task does not approve it."""
        since, given = self._work.task.approvals_from, approval.decided_at
        if since is None or given is None or given >= since or approval.status != "approved" or approval.used_at:
            return approval
        approvals.withdraw(connection, self._work.task.org_id, approval, "Its task was cancelled.")
        return approvals.get(connection, approval.id)

    def _put(self, connection: Connection, seq: int, call: ToolCall) -> Invocation | Approval:
        """What a call that nobody was asked about yet is to be: done, or put before people."""
        invocation = Invocation(seq, call, call.arguments)
        tool = TOOLS.get(call.name) if call.name in self._perception.tools and self._work.may_use(call.name) else None
        if tool is None or not tool.acts or call.problem:
            return invocation
        try:
            parameters = tool.validate(call.arguments)
            ensure_permitted(
                connection, self._work.task.user_id, self._work.task.location_id, tool, self._work.task.scopes
            )
            ensure_not_rehearsed(connection, self._work, tool)
        except (InvalidInput, NotPermitted):
            return invocation  # it is refused when it is carried out, and nobody need be bothered
        ruling = self._rule(connection, seq, tool, call, parameters)
        if ruling.runs:
            return Invocation(seq, call, call.arguments, ruling=ruling)
        if before := self._asked_before(call):
            return before
        try:
            self._rehearse(connection, invocation)
        except REFUSALS:
            return invocation  # likewise
        proposal = self._proposal(connection, seq, call, ruling)
        made = approvals.propose(connection, self._work.task.org_id, proposal)
        if made is None:
            raise RotaError("This step was put before people by somebody else.")
        self._asked[seq] = approvals.get(connection, made)
        return self._asked[seq]

    def _asked_before(self, call: ToolCall) -> Approval | None:
        """What was said of the same call in another step, or of the tool, so often that it is not asked about again."""
        about = [approval for approval in self._asked.values() if approval.tool == call.name]
        refused = [approval for approval in about if approval.status in _REFUSED]
        digest = approvals.digest(call.name, own_arguments(call))
        for approval in about:
            is_same = approvals.digest(approval.tool, approval.proposed) == digest
            if is_same and (approval in refused or (approval.kind == "suggestion" and approval.status == "open")):
                return approval
        return refused[-1] if len(refused) >= _MOST_REFUSALS else None

    def _rule(self, connection: Connection, seq: int, tool: Tool, call: ToolCall, parameters: Parameters) -> Ruling:
        """The ruling on a call: the strictest of those on the agents that led here."""
        work, org = self._work, self._work.task.org_id
        if self._policy is None:
            self._policy = approvals.policy(connection, org)
        policy, stake = self._policy, tool.at_stake(parameters)
        self._requested[seq] = is_requested = self._is_requested(connection, tool, call, stake)
        to_contact = goes_to_contact(connection, work.task.contact, stake)
        proposed = [
            proposed_call(
                tool,
                stake,
                agent=agent,
                mode=work.mode,
                confidence=self._action(seq).confidence,
                read_untrusted=self._has_read_untrusted(),
                is_requested=is_requested,
                to_contact=to_contact,
            )
            for agent in work.agents
        ]
        tally, step = Tally(), Step(work.task.id, seq, work.root_id)
        if any(may_be_counted(one, policy) for one in proposed):
            step = replace(step, contacts=contacts_of(connection, parameters, stake, work.task.contact))
            tally = approvals.tally(connection, org, step)
        ruling = max((rule_on(one, policy, tally) for one in proposed), key=strictness)
        if ruling.runs and ruling.is_counted:
            approvals.note_unattended(connection, org, step, ruling.rule, stake.amount)
        return ruling

    def _is_requested(self, connection: Connection, tool: Tool, call: ToolCall, stake: Stake) -> bool:
        """Whether the trusted request itself asked for a call, where that matters."""
        task, own = self._work.task, own_arguments(call)
        if not self._has_read_untrusted() or tool.wording is None or task.input.get("is_from_outside"):
            return False
        given = task.input
        facts = "" if given.get("has_outside_context") else dump_json(given.get("context") or "")
        request = Request(str(given["message"]), task.contact, facts)
        if not request.asks_for(tool.wording.effect):
            return False
        look_ups = self._look_ups()
        people = _people(connection, ids_in([own, *(one.result for one in look_ups)]), addresses_in(own))
        return is_requested(request, tool, own, stake, people, look_ups, self._done_with(tool))

    def _done_with(self, tool: Tool) -> list[dict[str, Any]]:
        """The arguments with which a tool was used in this task."""
        used = [step for step in self._work.journal.steps() if step.stage == "act" and step.name == tool.name]
        return [without_rationale(step.input) for step in used if step.output["ok"]]

    def _look_ups(self) -> list[LookUp]:
        """What the agent looked up in our own records before this decision."""
        found = []
        for step in self._work.journal.steps():
            tool = TOOLS.get(step.name) if step.stage == "act" and step.seq < self._decision.seq else None
            if tool is not None and tool.only_reads and step.output["ok"]:
                found.append(LookUp(tool, step.input, json.loads(step.output["message"]["content"])))
        return found

    def _has_read_untrusted(self) -> bool:
        """Whether anything that strangers may have written was read on the way to this decision. What the decision's
        own calls return came after it.
        """
        return has_read_untrusted(self._work, before=self._decision.seq)

    def _action(self, seq: int) -> ProposedAction:
        return self._decision.actions[seq - self._decision.seq - 1]

    def _proposal(
        self,
        connection: Connection,
        seq: int,
        call: ToolCall,
        ruling: Ruling,
    ) -> Proposal:
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
                "is_requested": self._requested[seq],
                "mode": work.mode,
                "agents": work.agents,
                "contact": work.task.contact,
                "steps_before": [step.name for step in work.journal.steps() if step.stage == "act"][-10:],
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
        # Nothing was done either way: a suggestion is no refusal, but no success.
        output = {"message": message.model_dump(), "ok": False, "suggested": not is_error}
        self._work.journal.record(make_record(seq, "act", call.name, Stopwatch(), given=call.arguments, output=output))


_MOST_PEOPLE = 500


def _people(connection: Connection, ids: set[str], addresses: set[str]) -> dict[str, Person]:
    """The contacts that ids and addresses mean, by these. Where there are too many to tell: none."""
    if len(ids) > _MOST_PEOPLE:
        return {}
    people: dict[str, Person] = {}
    for known in contacts.known_by(connection, [UUID(one) for one in ids], sorted(addresses)):
        ways = frozenset(fold(way) for way in (known.email, known.phone) if way)
        person = Person(str(known.id), known.name, ways, is_only_one=known.namesakes == 0)
        people |= dict.fromkeys({person.id, *ways}, person)
    return people


def has_read_untrusted(work: Work, *, before: int | None = None) -> bool:
    """Whether a task was asked by somebody outside, or has read what such people may have written, in any step or in
    those before one.
    """
    if work.task.input.get("is_from_outside") or work.task.input.get("has_outside_context"):
        return True
    acted = [step for step in work.journal.steps() if step.stage == "act" and (before is None or step.seq < before)]
    read = (TOOLS.get(step.name) for step in acted)
    return any(tool is None or tool.returns_untrusted for tool in read)


def tell_what_was_done(work: Work, invocation: Invocation, connection: Connection) -> None:
    """Tell coordinators of an action that they would have been asked about in another mode."""
    if invocation.ruling is None or invocation.ruling.effect != "run_and_tell":
        return
    event = Event(
        kind="action.taken",
        title=f"{work.agent.slug} did: {invocation.call.name}",
        body=f"{'; '.join(invocation.ruling.because)}\n\n{dump_json(own_arguments(invocation.call))}",
        data={"task_id": str(work.task.id), "tool": invocation.call.name, "agent": work.agent.slug},
    )
    approvals.tell_coordinators(
        connection, work.task.org_id, invocation.ruling.asks[0], work.task.location_id, event, work.task.id
    )


def own_arguments(call: ToolCall) -> dict[str, Any]:
    """A call's arguments without the model's rationale."""
    return without_rationale(call.arguments)


def without_rationale(arguments: dict[str, Any]) -> dict[str, Any]:
    """A tool's own arguments."""
    return {name: value for name, value in arguments.items() if not name.startswith("_")}


def _approved(seq: int, call: ToolCall, approval: Approval) -> Invocation:
    """The call with the approved arguments, which must be what it was proposed with, or an approver's edit of that."""
    proposed = approval.arguments if approval.kind == "suggestion" else approval.proposed
    is_same = approvals.digest(approval.tool, proposed) == approvals.digest(call.name, own_arguments(call))
    if not is_same or approvals.digest(approval.tool, approval.arguments).hex() != approval.digest:
        raise NotPermitted("What was approved is not what is about to be done.")
    return Invocation(seq, call, approval.arguments, approval=approval)


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


def ensure_not_rehearsed(connection: Connection, work: Work, tool: Tool) -> None:
    """Refuse a tool whose effect reaches people outside, where the rehearsal model answered in this task and the
    organisation is not a demonstration. The outbox checks messages again.

    Raises:
        NotPermitted: saying what to do.
    """
    if tool.reaches_people:
        channels.refuse_rehearsed(connection, work.task.org_id, [work.task.id])


def proposed_call(tool: Tool, stake: Stake, **facts: Any) -> ProposedCall:
    """What the level of a call of `tool` depends on."""
    return ProposedCall(
        tool=tool.name,
        category=tool.category,
        risk=tool.risk,
        changes_world=tool.changes_world,
        amount=stake.amount,
        sends_outside=tool.sends_outside,
        moves_money=tool.moves_money,
        always_asks=tool.always_asks,
        **facts,
    )


def contacts_of(connection: Connection, parameters: Parameters, stake: Stake, contact: UUID | None) -> tuple[str, ...]:
    """Whom a call concerns, the task's own contact with them: their ids, and every address by which they are known,
    each spelled in one way, so that who is named by another one is still counted as the same.
    """
    given = parameters.model_dump(mode="json")
    ids = ids_in([given, list(stake.recipients), str(contact) if contact else None])
    records = [UUID(one) for one in ids]
    ids |= {str(one) for pack in installed() for one in pack.contacts_behind(connection, records)}
    ways = addresses_in([given, list(stake.recipients)])
    people = _people(connection, ids, ways)
    ways |= {way for person in people.values() for way in person.ways}
    return tuple(sorted(ids | {person.id for person in people.values()} | {plain_way(way) for way in ways}))


def goes_to_contact(connection: Connection, contact: UUID | None, stake: Stake) -> bool:
    """Whether words go to the contact that the task is about, and to nobody else."""
    if contact is None or not (stake.recipients or stake.to_contact):
        return False
    known = contacts.addresses(connection, contact)
    return all(recipient.lower() in known for recipient in stake.recipients)
