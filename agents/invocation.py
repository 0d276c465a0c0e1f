"""Invocation: carry out one call, and record what came of it together with what it cost, in the audit log too."""

import contextlib
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from agents.call import Call, usable_tools
from agents.circumstances import has_read_untrusted
from agents.decision import Decision
from agents.journal import make_record
from agents.llm.base import ToolMessage
from agents.perceive import Perception
from agents.permission import reach_in_task
from agents.reads import read_event, records_in
from agents.tools.registry import REFUSALS, Acting, NotDone, OutwardContext, Start, Tool, ToolContext, ToolFailed
from agents.work import Work
from core.clock import Stopwatch
from core.db import limit_to, transaction, undone
from core.errors import Conflict
from core.failpoints import failpoint
from core.json_text import dump_json
from core.recordable import recordable
from core.refusals import refusal_of
from domain.approvals import service as approvals
from domain.audit import service as audit
from domain.audit.schemas import Actor, AuditEvent
from domain.channels.schemas import Notice
from domain.claims.schemas import StepRecord
from domain.tasks.schemas import Bounds, TreeLimits
from domain.wallet import service as wallet


class Invoker:
    """Carries out the calls of one decision; several at once, each in a thread of its own."""

    def __init__(self, work: Work, perception: Perception, decision: Decision) -> None:
        self._work = work
        self._decision = decision
        self._tools = usable_tools(work, perception)

    def carry_out(self, call: Call) -> None:
        """Carry out a call and record it. What the tool or the database refuses is recorded as the call's answer.

        Raises:
            Stopped: while the call waited for a thread.
            ToolFailed: the tool failed, and the task is tried again.
            InsufficientFunds: the task must wait until the call can be paid for.
        """
        self._work.check_stopped()
        stopwatch = Stopwatch()
        if call.tool is not None and call.tool.is_outward:
            self._reach_out(call, stopwatch)
        elif call.tool is not None and call.tool.only_reads:
            self._look_up(call, stopwatch)
        else:
            self._work.journal.record_with(lambda connection: self._change(call, connection, stopwatch))

    def rehearse(self, connection: Connection, call: Call) -> None:
        """Carry out a call as far as that can be undone, and undo it.

        Raises:
            REFUSALS: it would be refused.
            InsufficientFunds: the task must wait until it can be paid for.
        """
        tool = call.usable_tool()
        try:
            with self._work.funds.rehearsing(), undone(connection):
                if tool.is_outward and tool.price:
                    self._work.funds.ensure(lambda: connection, tool.price)
                elif not tool.is_outward:
                    self._run(call, connection)
        except DBAPIError as error:
            raise Conflict(_in_words(error)) from error

    # ── outside our own records ──────────────────────────────────────────────────────────────────────────────────────

    def _reach_out(self, call: Call, stopwatch: Stopwatch) -> None:
        """Run a tool that reaches outside. No transaction is open while it works. If it must not be repeated, its
        intent is recorded first: after a crash, the next worker finds the intent and asks a person what happened.
        """
        work = self._work
        try:
            tool, parameters = call.usable_tool(), call.parameters()
            self._prepare(call, tool)
        except REFUSALS as refusal:
            why = refusal.message
            work.journal.record_with(lambda connection: self._refused(call, connection, stopwatch, why))
            return
        if tool.must_not_repeat:
            self._record_intent(call, tool, stopwatch)
        failpoint("before-effect")
        context = OutwardContext(f"{work.task.id}:{call.seq}", work.zone, work.now.astimezone(work.zone).date())
        try:
            with work.doing(call.name):
                result, is_error = tool.run(context, parameters), False
        except REFUSALS as refusal:
            result, is_error = {"error": refusal.message}, True
        except NotDone as failure:
            if tool.must_not_repeat:
                self._record_not_done(call, stopwatch, failure)
            raise ToolFailed(tool.name, failure.message) from failure
        failpoint("after-effect")
        self._record_effect(call, tool, _record(call, stopwatch, result, is_error=is_error), is_error=is_error)

    def _prepare(self, call: Call, tool: Tool) -> None:
        """Check that the call may happen and can be paid for, and use its approval up before anything can happen twice.

        Raises:
            NotPermitted, Conflict: it may not.
            InsufficientFunds: the task must wait until it can be paid for.
        """
        with transaction(self._work.task.org_id) as connection:
            reach_in_task(connection, self._work, tool)
            if tool.price:
                self._work.funds.ensure(lambda: connection, tool.price)
            self._use_approval(call, connection)

    def _record_intent(self, call: Call, tool: Tool, stopwatch: Stopwatch) -> None:
        output = {"call_id": call.message.id}
        intent = make_record(call.seq, "act", call.name, stopwatch, given=call.message.arguments, output=output)
        self._work.journal.begin(intent, lambda connection: self._pay(tool, call, connection))

    def _record_not_done(self, call: Call, stopwatch: Stopwatch, failure: NotDone) -> None:
        output = {"error": {"kind": "not_done", "message": failure.message}}
        record = make_record(call.seq, "act", call.name, stopwatch, output=output, status="failed")
        self._work.journal.finish_begun(record, lambda connection: self._refund(call, connection))

    def _record_effect(self, call: Call, tool: Tool, record: StepRecord, *, is_error: bool) -> None:
        def pay_and_note(connection: Connection) -> None:
            self._note(call, connection, is_error=is_error)
            if is_error and tool.must_not_repeat:
                self._refund(call, connection)
            elif not is_error and not tool.must_not_repeat:
                self._pay(tool, call, connection)

        if tool.must_not_repeat:
            self._work.journal.finish_begun(record, pay_and_note)
        else:
            self._work.journal.record(record, pay_and_note)

    def _pay(self, tool: Tool, call: Call, connection: Connection) -> None:
        if tool.price:
            self._work.funds.pay(connection, call.seq, tool.price)

    def _refund(self, call: Call, connection: Connection) -> None:
        task = self._work.task
        wallet.refund(connection, task.org_id, task.id, call.seq, "the action did not happen")

    # ── on our own records ───────────────────────────────────────────────────────────────────────────────────────────

    def _change(self, call: Call, connection: Connection, stopwatch: Stopwatch) -> StepRecord:
        """Run a tool inside its step's transaction. A refusal, its own or the database's, undoes what the tool wrote
        and is recorded as its answer.
        """
        try:
            with self._work.doing(call.name), connection.begin_nested():
                result, is_limited = self._run(call, connection)
        except REFUSALS as refusal:
            return self._refused(call, connection, stopwatch, refusal.message)
        except DBAPIError as error:
            return self._refused(call, connection, stopwatch, _in_words(error))
        if is_limited:
            limit_to(connection, ())  # the records of what was done have no location
        self._note(call, connection, is_error=False)
        return _record(call, stopwatch, result, is_error=False)

    def _look_up(self, call: Call, stopwatch: Stopwatch) -> None:
        """Run a tool that only reads. A refusal of its own has nothing to undo. After a refusal of the database the
        transaction cannot go on, so the answer is recorded in another.
        """
        journal = self._work.journal
        try:
            journal.record_reading(lambda connection: self._read(call, connection, stopwatch))
        except DBAPIError as error:
            why = _in_words(error)
            journal.record_with(lambda connection: self._refused(call, connection, stopwatch, why))

    def _read(self, call: Call, connection: Connection, stopwatch: Stopwatch) -> StepRecord:
        try:
            with self._work.doing(call.name):
                result, is_limited = self._run(call, connection)
        except REFUSALS as refusal:
            limit_to(connection, ())
            return self._refused(call, connection, stopwatch, refusal.message)
        if is_limited:
            limit_to(connection, ())
        return _record(call, stopwatch, result, is_error=False)

    def _run(self, call: Call, connection: Connection) -> tuple[dict[str, Any], bool]:
        """Return the tool's result, and whether the transaction is now limited to some locations."""
        work, tool = self._work, call.usable_tool()
        parameters = call.parameters()
        reach = reach_in_task(connection, work, tool)
        if not reach.everywhere:
            limit_to(connection, reach.locations)
        if tool.price and not tool.charges_itself:
            work.funds.pay(connection, call.seq, tool.price)
        context = ToolContext(
            connection=connection,
            zone=work.zone,
            today=work.now.astimezone(work.zone).date(),
            acting=self._acting(call),
            charge=lambda item, note: work.funds.pay(connection, call.seq, item, note),
        )
        return tool.run(context, parameters), not reach.everywhere

    def _acting(self, call: Call) -> Acting:
        work = self._work
        return Acting(
            org_id=work.task.org_id,
            user_id=work.task.user_id,
            agent=work.task.agent,
            task_id=work.task.id,
            seq=call.seq,
            location_id=work.task.location_id,
            scopes=work.task.scopes,
            may_start=self._start(),
            read_untrusted=has_read_untrusted(work, before=self._decision.seq),  # whichever sibling call ends first
        )

    def _start(self) -> Start:
        """Return the limits under which the task may start others: it gives them no more than it has itself."""
        work, limits = self._work, self._work.agent.limits
        own_tree = TreeLimits(
            max_depth=limits.max_depth, max_descendants=limits.max_descendants, max_cost=limits.max_tree_cost
        )
        tree = work.task.bounds.tree if work.task.bounds else own_tree
        bounds = Bounds(agents=work.agents, tools=self._tools, mode=work.mode, tree=tree)
        return Start(work.root_id, work.task.depth + 1, bounds, limits.max_children)

    # ── the record ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _refused(self, call: Call, connection: Connection, stopwatch: Stopwatch, why: str) -> StepRecord:
        self._note(call, connection, is_error=True)
        return _record(call, stopwatch, {"error": why}, is_error=True)

    def _use_approval(self, call: Call, connection: Connection) -> None:
        if call.approval is not None:
            approvals.use(connection, call.approval.id, self._work.task.id, call.seq)

    def _note(self, call: Call, connection: Connection, *, is_error: bool) -> None:
        """Note that a call was carried out or refused: use its approval up, tell people, and audit it."""
        if is_error:
            with contextlib.suppress(Conflict):  # it may be what was refused: used already, for another step
                self._use_approval(call, connection)
        else:
            self._use_approval(call, connection)
            self._tell_coordinators(call, connection)
        if call.tool is None or call.tool.acts:
            self._audit(call, connection, "was refused" if is_error else "acted")

    def _audit(self, call: Call, connection: Connection, verb: str) -> None:
        task = self._work.task
        actor = Actor(org_id=task.org_id, user_id=task.user_id, agent=task.agent, task_id=task.id, seq=call.seq)
        details: dict[str, Any] = {"arguments": call.own_arguments}
        if call.approval is not None:
            details["approval"] = call.approval.id
        named, _ = records_in(call.own_arguments)
        audit.record(connection, actor, AuditEvent(verb, f"tool/{call.name}", details, named))

    def _tell_coordinators(self, call: Call, connection: Connection) -> None:
        """Tell coordinators of an action about which they would have been asked in another mode."""
        if call.ruling is None or call.ruling.effect != "run_and_tell":
            return
        task, agent = self._work.task, self._work.agent.slug
        notice = Notice(
            kind="action.taken",
            title=f"{agent} did: {call.name}",
            body=f"{'; '.join(call.ruling.because)}\n\n{dump_json(call.own_arguments)}",
            data={"task_id": str(task.id), "tool": call.name, "agent": agent},
            location_id=task.location_id,
        )
        approvals.tell_coordinators(connection, task.org_id, call.ruling.asks[0], task.location_id, notice, task.id)


def refuse_beyond_limit(work: Work, call: Call, most: int, asked: int) -> None:
    """Answer a call that is one too many for its decision. Nothing is done, so it can wait to be written."""
    why = (
        f"Not carried out: you called {asked} tools at once, and only the first {most} were. "
        "Call this one again if it is still needed."
    )
    work.journal.defer(_record(call, Stopwatch(), {"error": why}, is_error=True))


def record_answer(work: Work, call: Call, text: str, is_error: bool) -> None:
    """Record what the agent is told of a call that people refused or were only offered."""
    content = dump_json({"error": text} if is_error else {"suggested": True, "note": text})
    message = ToolMessage(call_id=call.message.id, content=content, is_error=is_error)
    # Nothing was done either way: a suggestion is no refusal, but no success.
    output = {"message": message.model_dump(), "ok": False, "suggested": not is_error}
    given = call.message.arguments
    work.journal.record(make_record(call.seq, "act", call.name, Stopwatch(), given=given, output=output))


def _record(call: Call, stopwatch: Stopwatch, result: Any, *, is_error: bool) -> StepRecord:
    advice = call.approval.reason if call.approval is not None else None
    kept = recordable(result)
    content = kept | {"advice_given": advice} if advice and not is_error else kept
    message = ToolMessage(
        call_id=call.message.id,
        content=dump_json(content),
        is_error=is_error,
        is_untrusted=call.tool is None or call.tool.returns_untrusted,
    )
    output: dict[str, Any] = {"message": message.model_dump(), "ok": not is_error}
    if call.ruling is not None:
        ruling = call.ruling
        output["ruling"] = {"level": ruling.level, "rule": ruling.rule, "because": list(ruling.because)}
    if call.approval is not None:
        output["approval"] = {"id": str(call.approval.id), "by": call.approval.decided_by}
        output["arguments"] = call.arguments
    read = None if is_error or call.tool is None or call.tool.acts else read_event(call.name, call.own_arguments, kept)
    return make_record(call.seq, "act", call.name, stopwatch, given=call.message.arguments, output=output, read=read)


def _in_words(error: DBAPIError) -> str:
    """Return what the database refused, for the model: without values, which may be private.

    Raises:
        DBAPIError: it is no refusal of what the tool wrote, but a fault, such as a lost connection or a deadlock.
    """
    refusal = refusal_of(error)
    if refusal is None:
        raise error
    return refusal
