"""Screening: between a decision and its actions, find out which calls may be carried out, and put the others before
people.

The model proposes; permission, level and, where needed, a person decide. An approval stands for exactly one tool with
exactly these arguments, in exactly this step.
"""

from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection

from agents.call import Call
from agents.circumstances import contacts_of, goes_to_contact, has_read_untrusted, proposed_call, request_asks_for
from agents.decision import Decision
from agents.invocation import Invoker, record_answer
from agents.levels import Ruling, may_be_counted, rule_on, strictness
from agents.permission import reach_in_task
from agents.tools.registry import REFUSALS
from agents.work import Work
from core.db import transaction
from core.errors import InvalidInput, NotPermitted, RotaError
from domain.approvals import service as approvals
from domain.approvals.schemas import Approval, CountedStep, Kind, Policy, Proposal, Rationale, Tally
from domain.claims import service as claims

KINDS: dict[str, Kind] = {"ask_approval": "approval", "ask_advice": "advice", "suggest": "suggestion"}
_MESSAGE_SHOWN = 500  # characters of the task's message that an approver reads
# A tool whose use was refused so often in one task is not asked about again.
_MOST_REFUSALS = 3
_REFUSED = ("rejected", "denied", "expired")


@dataclass(frozen=True)
class Screening:
    """What becomes of a decision's calls: carried out now, or waiting for a person."""

    to_do: list[Call]
    waiting: Literal["approval", "advice"] | None


def screen(work: Work, decision: Decision, calls: list[Call], invoker: Invoker) -> Screening:
    """Return which of `calls` go on. Those that people must see are put before them, and those that were refused are
    answered. Before people are asked, the call is rehearsed, so that they are not asked about what cannot be done.

    All of it is one transaction under the claim.
    """
    if not any(call.acts for call in calls):
        return Screening(calls, None)
    return _Screener(work, decision, invoker).screen(calls)


class _Screener:
    """Screens the calls of one decision."""

    def __init__(self, work: Work, decision: Decision, invoker: Invoker) -> None:
        self._work = work
        self._decision = decision
        self._invoker = invoker
        self._read_untrusted = has_read_untrusted(work, before=decision.seq)  # what its own calls return comes after it
        self._policy: Policy | None = None
        self._asked: dict[int, Approval] = {}
        self._requested: list[Call] = []
        """calls of this decision that the request asked for: what it asked for once is done once"""

    def screen(self, calls: list[Call]) -> Screening:
        to_do: list[Call] = []
        waiting: list[Kind] = []
        refused: list[tuple[Call, Approval]] = []
        with transaction(self._work.task.org_id) as connection:
            claims.lock_shared(connection, self._work.task)
            self._asked = self._asked_before(connection, calls)
            for call in calls:
                found = self._find(connection, call)
                if isinstance(found, Call):
                    to_do.append(found)
                elif found.status == "open" and found.kind != "suggestion":
                    waiting.append(found.kind)
                elif self._allows(found, call):
                    to_do.append(call.approved(found))
                else:
                    refused.append((call, found))
        for call, approval in refused:
            text, is_error = _answer(approval)
            record_answer(self._work, call, text, is_error=is_error)
        if not waiting:
            return Screening(to_do, None)
        return Screening(to_do, "approval" if "approval" in waiting else "advice")

    def _find(self, connection: Connection, call: Call) -> Call | Approval:
        """Return what people were asked about a call, or, if they were not, what becomes of it now."""
        before = self._asked.get(call.seq)
        return self._put(connection, call) if before is None or before.status == "withdrawn" else before

    def _allows(self, found: Approval, call: Call) -> bool:
        """Whether an approval allows the call to be carried out now."""
        is_ours = found.kind != "suggestion" or self._work.task.action is not None
        is_unused = found.used_at is None or (found.used_by_task, found.used_by_seq) == (self._work.task.id, call.seq)
        return is_ours and found.status == "approved" and is_unused

    def _asked_before(self, connection: Connection, calls: list[Call]) -> dict[int, Approval]:
        """Return what people were asked, by step. An accepted suggestion is the approval of the task that it became."""
        task = self._work.task
        if task.action is not None:
            accepted = self._as_it_stands(connection, approvals.get(connection, task.action.approval_id))
            if accepted.status != "withdrawn":  # otherwise people were asked anew, or will be
                return {calls[0].seq: accepted}
        found = approvals.of_task(connection, task.id)
        return {seq: self._as_it_stands(connection, approval) for seq, approval in found.items()}

    def _as_it_stands(self, connection: Connection, approval: Approval) -> Approval:
        """Return the approval, withdrawn if its task was cancelled since: retrying a task does not approve it again."""
        since, given = self._work.task.approvals_from, approval.decided_at
        if since is None or given is None or given >= since or approval.status != "approved" or approval.used_at:
            return approval
        approvals.withdraw(connection, self._work.task.org_id, approval, "Its task was cancelled.")
        return approvals.get(connection, approval.id)

    def _put(self, connection: Connection, call: Call) -> Call | Approval:
        """Return a call that may be carried out, or the approval for which it is now put before people. A call that
        will be refused when it is carried out is not: people need not decide about it.
        """
        if call.refusal is not None or not call.acts:
            return call
        try:
            call.parameters()
            reach_in_task(connection, self._work, call.usable_tool())
        except (InvalidInput, NotPermitted):
            return call
        ruled, ruling = self._rule(connection, call)
        if ruling.runs:
            return replace(ruled, ruling=ruling)
        if before := self._said_before(call):
            return before
        try:
            self._invoker.rehearse(connection, call)
        except REFUSALS:
            return call
        return self._propose(connection, ruled, ruling)

    def _said_before(self, call: Call) -> Approval | None:
        """Return what people said of the same call in another step, or of its tool so often that they are not asked
        again.
        """
        about = [approval for approval in self._asked.values() if approval.tool == call.name]
        refused = [approval for approval in about if approval.status in _REFUSED]
        digest = approvals.digest(call.name, call.own_arguments)
        for approval in about:
            is_same = approvals.digest(approval.tool, approval.proposed) == digest
            if is_same and (approval in refused or (approval.kind == "suggestion" and approval.status == "open")):
                return approval
        return refused[-1] if len(refused) >= _MOST_REFUSALS else None

    def _rule(self, connection: Connection, call: Call) -> tuple[Call, Ruling]:
        """Return the call with whether the request asked for it, and the ruling on it: the strictest of those on the
        agents that led here.
        """
        work, org = self._work, self._work.task.org_id
        if self._policy is None:
            self._policy = approvals.policy(connection, org)
        policy, tool, parameters = self._policy, call.usable_tool(), call.parameters()
        stake = tool.at_stake(parameters)
        is_requested = request_asks_for(connection, work, self._decision, call, stake, self._requested)
        call = replace(call, is_requested=is_requested)
        self._requested += [call] if is_requested else []
        to_contact = goes_to_contact(connection, work.task.contact, stake)
        proposed = [
            proposed_call(
                tool,
                stake,
                agent=agent,
                mode=work.mode,
                confidence=call.action.confidence,
                read_untrusted=self._read_untrusted,
                is_requested=call.is_requested,
                to_contact=to_contact,
            )
            for agent in work.agents
        ]
        tally, step = Tally(), CountedStep(work.task.id, call.seq, work.root_id)
        if any(may_be_counted(one, policy) for one in proposed):
            step = replace(step, contacts=contacts_of(connection, parameters, stake, work.task.contact))
            tally = approvals.tally(connection, org, step)
        ruling = max((rule_on(one, policy, tally) for one in proposed), key=strictness)
        if ruling.runs and ruling.is_counted:
            approvals.note_unattended(connection, org, step, ruling.rule, stake.amount)
        return call, ruling

    def _propose(self, connection: Connection, call: Call, ruling: Ruling) -> Approval:
        work = self._work
        proposal = Proposal(
            task_id=work.task.id,
            seq=call.seq,
            kind=KINDS[ruling.effect],
            agent=work.agent.slug,
            user_id=work.task.user_id,
            location_id=work.task.location_id,
            tool=call.name,
            arguments=call.own_arguments,
            decision=self._rationale(connection, call, ruling),
            asks=list(ruling.asks),
        )
        made = approvals.propose(connection, work.task.org_id, proposal)
        if made is None:
            raise RotaError("Another worker already put this step before people.")
        self._asked[call.seq] = approvals.get(connection, made)
        return self._asked[call.seq]

    def _rationale(self, connection: Connection, call: Call, ruling: Ruling) -> Rationale:
        work = self._work
        return Rationale(
            level=ruling.level,
            rule=ruling.rule,
            because=list(ruling.because),
            intent=call.action.intent,
            why=call.action.why,
            reasoning=self._decision.reasoning,
            confidence=call.action.confidence,
            alternatives=call.action.alternatives,
            context={
                "message": str(work.task.input["message"])[:_MESSAGE_SHOWN],
                "is_from_outside": bool(work.task.input.get("is_from_outside")),
                "read_untrusted": self._read_untrusted,
                "is_requested": call.is_requested,
                "mode": work.mode,
                "agents": work.agents,
                "contact": work.task.contact,
                "steps_before": [step.name for step in work.journal.steps() if step.stage == "act"][-10:],
            },
            performance=approvals.performance(connection, work.task.org_id, work.agent.slug, call.name),
        )


def _answer(decided: Approval) -> tuple[str, bool]:
    """Return what the agent is told of an action that is not carried out, and whether as an error."""
    by = f" by {decided.decided_by}" if decided.decided_by else ""
    reason = f" {decided.reason}" if decided.reason else ""
    if decided.used_at is not None:
        return "Not allowed: this approval was used already.", True
    if decided.kind == "suggestion" and decided.status == "open":
        return "Offered to the person you work for, who may accept it later. It is not done. Go on without it.", False
    if decided.kind == "suggestion" and decided.status == "approved":
        return f"Accepted{by}: it is done in a task of its own. Go on without it.", False
    return f"Not allowed: {decided.status}{by}.{reason} Do not try it again.", True
