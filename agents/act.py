"""Act: carry out what was decided, independent actions side by side, each with its own step in the journal."""

import contextlib
import contextvars
import functools
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from agents.decision import Decision
from agents.journal import make_record
from agents.llm.base import ToolCall, ToolMessage
from agents.perceive import Perception
from agents.screening import (
    Invocation,
    ensure_not_rehearsed,
    ensure_permitted,
    has_read_untrusted,
    own_arguments,
    sort_out,
    tell_what_was_done,
)
from agents.tools import TOOLS
from agents.tools.registry import REFUSALS, Acting, NotDone, OutwardContext, Start, Tool, ToolContext, ToolFailed
from agents.work import OutcomeUnknown, Parked, Work
from core.clock import Stopwatch
from core.db import limit_to, transaction, undone
from core.errors import Conflict, InvalidInput, NotPermitted
from core.failpoints import failpoint
from core.json_text import dump_json
from core.recordable import recordable
from core.refusals import refusal_of
from domain.approvals import service as approvals
from domain.audit import service as audit
from domain.audit.schemas import Actor, AuditEvent
from domain.claims.schemas import StepRecord
from domain.tasks.schemas import Bounds, TreeLimits
from domain.wallet import service as wallet


def act(work: Work, perception: Perception, decision: Decision) -> int:
    """Carry out the decision's actions that are not done yet. Returns the sequence number of the step after them.

    The calls' numbers follow the decision's own, in the order in which they were asked for.

    Raises:
        Parked: some wait for a person's word; all others are done.
        OutcomeUnknown: of some nobody can tell whether they happened.
    """
    calls = list(enumerate(decision.message.tool_calls, start=decision.seq + 1))
    most = work.agent.limits.max_calls
    missing = [
        (seq, call)
        for seq, call in calls[:most]
        if work.journal.finished(seq) is None and not work.journal.is_in_doubt(seq)
    ]
    waiting = None
    if missing:
        work.check()

        def rehearse(connection: Connection, invocation: Invocation) -> None:
            _rehearse(work, perception, invocation, connection)

        found = sort_out(work, perception, decision, missing, rehearse)
        _carry_out_all(work, perception, found.to_do)
        waiting = found.waiting
    for seq, call in calls[most:]:
        if work.journal.finished(seq) is None:
            work.journal.defer(_beyond_limit(seq, call, most, len(calls)))
    if doubtful := [call.name for seq, call in calls if work.journal.is_in_doubt(seq)]:
        raise OutcomeUnknown(f"Nobody can tell whether this happened: {', '.join(doubtful)}.")
    if waiting:
        raise Parked(waiting)
    return decision.seq + 1 + len(calls)


def _beyond_limit(seq: int, call: ToolCall, most: int, asked: int) -> StepRecord:
    """The answer to a call that is one too many for its decision. Nothing is done, so it can wait to be written."""
    why = (
        f"Not carried out: you called {asked} tools at once, and only the first {most} were. "
        "Call this one again if it is still needed."
    )
    return _record(Invocation(seq, call, call.arguments), Stopwatch(), {"error": why}, is_error=True)


def _carry_out_all(work: Work, perception: Perception, to_do: list[Invocation]) -> None:
    if len(to_do) == 1:
        _carry_out(work, perception, to_do[0])
        return
    errors = work.workplace.threads.carry_out(
        functools.partial(contextvars.copy_context().run, _carry_out, work, perception, invocation)
        for invocation in to_do
    )
    if errors:
        raise errors[0]


def _carry_out(work: Work, perception: Perception, invocation: Invocation) -> None:
    work.check_stopped()  # it may have waited for a thread
    stopwatch = Stopwatch()
    tool = TOOLS.get(invocation.call.name)
    if tool is not None and tool.is_outward:
        _reach_out(work, perception, invocation, stopwatch)
    elif tool is not None and tool.only_reads:
        _look_up(work, perception, invocation, stopwatch)
    else:
        work.journal.record_with(lambda connection: _invoke(work, perception, invocation, connection, stopwatch))


# ── outside our own records ──────────────────────────────────────────────────────────────────────────────────────────


def _reach_out(work: Work, perception: Perception, invocation: Invocation, stopwatch: Stopwatch) -> None:
    """Run a tool that reaches outside: no transaction while it works, and where it must not be repeated the intent
    first.

    A crash before the record leaves the intent. Who takes the task up next finds it and asks a person.
    """
    try:
        tool = _known_tool(work, perception, invocation)
        parameters = tool.validate(invocation.arguments)
        with transaction(work.task.org_id) as connection:
            ensure_permitted(connection, work.task.user_id, work.task.location_id, tool, work.task.scopes)
            ensure_not_rehearsed(connection, work, tool)
            if tool.price:
                work.funds.ensure(lambda: connection, tool.price)
            _use_approval(work, invocation, connection)  # before anything happens that could happen twice
    except REFUSALS as refusal:
        why = refusal.message
        work.journal.record_with(lambda connection: _refused(work, invocation, connection, stopwatch, why))
        return
    if tool.must_not_repeat:
        intent = make_record(
            invocation.seq,
            "act",
            invocation.call.name,
            stopwatch,
            given=invocation.call.arguments,
            output={"call_id": invocation.call.id},
        )
        work.journal.begin(intent, lambda connection: _pay(work, tool, invocation.seq, connection))
    failpoint("before-effect")
    context = OutwardContext(f"{work.task.id}:{invocation.seq}", work.zone, work.now.astimezone(work.zone).date())
    try:
        with work.doing(invocation.call.name):
            result, is_error = tool.run(context, parameters), False
    except REFUSALS as refusal:
        result, is_error = {"error": refusal.message}, True
    except NotDone as failure:
        if tool.must_not_repeat:
            output = {"error": {"kind": "not_done", "message": failure.message}}
            record = make_record(invocation.seq, "act", invocation.call.name, stopwatch, output=output, status="failed")
            work.journal.finish_begun(record, lambda connection: _refund(work, invocation.seq, connection))
        raise ToolFailed(tool.name, failure.message) from failure
    failpoint("after-effect")
    _record_effect(work, tool, invocation, _record(invocation, stopwatch, result, is_error=is_error), is_error=is_error)


def _record_effect(work: Work, tool: Tool, invocation: Invocation, record: StepRecord, *, is_error: bool) -> None:
    def settle(connection: Connection) -> None:
        _note(work, invocation, connection, is_error=is_error)
        if is_error and tool.must_not_repeat:
            _refund(work, invocation.seq, connection)
        elif not is_error and not tool.must_not_repeat:
            _pay(work, tool, invocation.seq, connection)

    if tool.must_not_repeat:
        work.journal.finish_begun(record, settle)
    else:
        work.journal.record(record, settle)


def _pay(work: Work, tool: Tool, seq: int, connection: Connection) -> None:
    if tool.price:
        work.funds.pay(connection, seq, tool.price)


def _refund(work: Work, seq: int, connection: Connection) -> None:
    wallet.refund(connection, work.task.org_id, work.task.id, seq, "the action did not happen")


# ── on our own records ───────────────────────────────────────────────────────────────────────────────────────────────


def _invoke(
    work: Work, perception: Perception, invocation: Invocation, connection: Connection, stopwatch: Stopwatch
) -> StepRecord:
    """Run a tool inside its step's transaction. A refusal, its own or the database's, undoes what the tool wrote and is
    recorded as its answer.
    """
    try:
        with work.doing(invocation.call.name), connection.begin_nested():
            result, is_limited = _run(work, perception, invocation, connection)
    except REFUSALS as refusal:
        return _refused(work, invocation, connection, stopwatch, refusal.message)
    except DBAPIError as error:
        return _refused(work, invocation, connection, stopwatch, _in_words(error))
    if is_limited:
        limit_to(connection, ())  # the records of what was done lie at no location
    _note(work, invocation, connection, is_error=False)
    return _record(invocation, stopwatch, result, is_error=False)


def _look_up(work: Work, perception: Perception, invocation: Invocation, stopwatch: Stopwatch) -> None:
    """Run a tool that only reads: a refusal of its own has nothing to undo. After one of the database's the transaction
    is of no use, and the answer is recorded in another.
    """
    try:
        work.journal.record_reading(lambda connection: _read(work, perception, invocation, connection, stopwatch))
    except DBAPIError as error:
        why = _in_words(error)
        work.journal.record_with(lambda connection: _refused(work, invocation, connection, stopwatch, why))


def _read(
    work: Work, perception: Perception, invocation: Invocation, connection: Connection, stopwatch: Stopwatch
) -> StepRecord:
    try:
        with work.doing(invocation.call.name):
            result, is_limited = _run(work, perception, invocation, connection)
    except REFUSALS as refusal:
        limit_to(connection, ())
        return _refused(work, invocation, connection, stopwatch, refusal.message)
    if is_limited:
        limit_to(connection, ())
    return _record(invocation, stopwatch, result, is_error=False)


def _in_words(error: DBAPIError) -> str:
    """What the database refused, for the model: without values, which may be private.

    Raises:
        DBAPIError: it is no refusal of what the tool wrote, but a fault, such as a lost connection or a deadlock.
    """
    refusal = refusal_of(error)
    if refusal is None:
        raise error
    return refusal


def _rehearse(work: Work, perception: Perception, invocation: Invocation, connection: Connection) -> None:
    """Do an action as far as it can be undone, and undo it, so that people are not asked about what cannot be done.

    Raises:
        REFUSALS: it would be refused.
        InsufficientFunds: the task must wait until it can be paid for.
    """
    tool = _known_tool(work, perception, invocation)
    try:
        with work.funds.rehearsing(), undone(connection):
            if tool.is_outward and tool.price:
                work.funds.ensure(lambda: connection, tool.price)
            elif not tool.is_outward:
                _run(work, perception, invocation, connection)
    except DBAPIError as error:
        raise Conflict(_in_words(error)) from error


def _run(
    work: Work, perception: Perception, invocation: Invocation, connection: Connection
) -> tuple[dict[str, Any], bool]:
    """What the tool returns, and whether the transaction is limited to some locations now."""
    tool = _known_tool(work, perception, invocation)
    parameters = tool.validate(invocation.arguments)
    reach = ensure_permitted(connection, work.task.user_id, work.task.location_id, tool, work.task.scopes)
    ensure_not_rehearsed(connection, work, tool)
    if not reach.everywhere:
        limit_to(connection, reach.locations)
    if tool.price and not tool.charges_itself:
        work.funds.pay(connection, invocation.seq, tool.price)
    context = ToolContext(
        connection=connection,
        zone=work.zone,
        today=work.now.astimezone(work.zone).date(),
        acting=_acting(work, perception, invocation),
        charge=lambda item, note: work.funds.pay(connection, invocation.seq, item, note),
    )
    return tool.run(context, parameters), not reach.everywhere


def _acting(work: Work, perception: Perception, invocation: Invocation) -> Acting:
    return Acting(
        org_id=work.task.org_id,
        user_id=work.task.user_id,
        agent=work.task.agent,
        task_id=work.task.id,
        seq=invocation.seq,
        location_id=work.task.location_id,
        scopes=work.task.scopes,
        may_start=_start(work, perception),
        read_untrusted=has_read_untrusted(work),
    )


def _start(work: Work, perception: Perception) -> Start:
    """Under what the task may start others: with no more means than it has itself."""
    limits, above = work.agent.limits, work.task.bounds
    tree = (
        above.tree
        if above
        else TreeLimits(
            max_depth=limits.max_depth, max_descendants=limits.max_descendants, max_cost=limits.max_tree_cost
        )
    )
    tools = [name for name in perception.tools if work.may_use(name)]
    bounds = Bounds(agents=work.agents, tools=tools, mode=work.mode, tree=tree)
    return Start(work.root_id, work.task.depth + 1, bounds, limits.max_children)


def _known_tool(work: Work, perception: Perception, invocation: Invocation) -> Tool:
    """The tool, which the agent had when the task began and has now.

    Raises:
        InvalidInput: the call cannot be read.
        NotPermitted: there is none, or it was taken from the agent meanwhile.
    """
    if invocation.call.problem:
        raise InvalidInput(f"This call could not be read: {invocation.call.problem}. Call the tool again.")
    yours = [name for name in perception.tools if work.may_use(name)]
    tool = TOOLS.get(invocation.call.name) if invocation.call.name in yours else None
    if tool is None:
        raise NotPermitted(
            f"You have no tool called {invocation.call.name!r}. Yours are: {', '.join(yours) or 'none'}."
        )
    return tool


# ── the record ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _refused(work: Work, invocation: Invocation, connection: Connection, stopwatch: Stopwatch, why: str) -> StepRecord:
    _note(work, invocation, connection, is_error=True)
    return _record(invocation, stopwatch, {"error": why}, is_error=True)


def _use_approval(work: Work, invocation: Invocation, connection: Connection) -> None:
    if invocation.approval is not None:
        approvals.use(connection, invocation.approval.id, work.task.id, invocation.seq)


def _note(work: Work, invocation: Invocation, connection: Connection, *, is_error: bool) -> None:
    """Use the approval up, and write into the audit log what the agent did to the world, or was kept from doing."""
    if is_error:
        with contextlib.suppress(Conflict):  # it may be what was refused: used already, for another step
            _use_approval(work, invocation, connection)
    else:
        _use_approval(work, invocation, connection)
        tell_what_was_done(work, invocation, connection)
    tool = TOOLS.get(invocation.call.name)
    if tool is not None and not tool.acts:
        return
    actor = Actor(
        org_id=work.task.org_id,
        user_id=work.task.user_id,
        agent=work.task.agent,
        task_id=work.task.id,
        seq=invocation.seq,
    )
    details: dict[str, Any] = {
        "arguments": invocation.arguments if invocation.approval else own_arguments(invocation.call)
    }
    if invocation.approval is not None:
        details["approval"] = invocation.approval.id
    audit.record(
        connection, actor, AuditEvent("was refused" if is_error else "acted", f"tool/{invocation.call.name}", details)
    )


def _record(invocation: Invocation, stopwatch: Stopwatch, result: Any, *, is_error: bool) -> StepRecord:
    tool = TOOLS.get(invocation.call.name)
    advice = invocation.approval.reason if invocation.approval is not None else None
    kept = recordable(result)
    content = kept | {"advice_given": advice} if advice and not is_error else kept
    message = ToolMessage(
        call_id=invocation.call.id,
        content=dump_json(content),
        is_error=is_error,
        is_untrusted=tool is None or tool.returns_untrusted,
    )
    output: dict[str, Any] = {"message": message.model_dump(), "ok": not is_error}
    if invocation.ruling is not None:
        output["ruling"] = {
            "level": invocation.ruling.level,
            "rule": invocation.ruling.rule,
            "because": list(invocation.ruling.because),
        }
    if invocation.approval is not None:
        output["approval"] = {"id": str(invocation.approval.id), "by": invocation.approval.decided_by}
        output["arguments"] = invocation.arguments
    return make_record(
        invocation.seq, "act", invocation.call.name, stopwatch, given=invocation.call.arguments, output=output
    )
