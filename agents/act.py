"""Act: carry out what was decided, independent actions side by side, each with its own step in the journal."""

import contextvars
from typing import Any

from sqlalchemy import Connection

from agents.decide import Decision
from agents.llm.base import ToolCall, ToolMessage
from agents.perceive import Perception
from agents.tools import ALL
from agents.tools.registry import Acting, NotDone, OutwardContext, Tool, ToolContext
from agents.work import OutcomeUnknown, Work, make_record
from core.clock import Stopwatch
from core.db import dump_json, limit_to, transaction
from core.errors import Conflict, InvalidInput, NotFound, NotPermitted
from core.failpoints import failpoint
from domain.tasks.schemas import StepRecord
from domain.tenants import service as tenants

# What a tool may refuse with: the model hears it and can do something about it. Anything else is a fault of ours.
_REFUSALS = (InvalidInput, NotFound, Conflict, NotPermitted)


def act(work: Work, perception: Perception, decision: Decision) -> int:
    """Carry out the decision's actions that are not done yet. Returns the sequence number of the step after them.

    The calls' numbers follow the decision's own, in the order in which they were asked for.
    """
    calls = list(enumerate(decision.message.tool_calls, start=decision.seq + 1))
    missing = [(seq, call) for seq, call in calls if work.finished(seq) is None and not work.is_in_doubt(seq)]
    if missing:
        work.check()
    if len(missing) == 1:
        _carry_out(work, perception, *missing[0])
    elif missing:
        _carry_out_together(work, perception, missing)
    if doubtful := [call.name for seq, call in calls if work.is_in_doubt(seq)]:
        raise OutcomeUnknown(f"Nobody can tell whether this happened: {', '.join(doubtful)}.")
    return decision.seq + 1 + len(calls)


def _carry_out_together(work: Work, perception: Perception, calls: list[tuple[int, ToolCall]]) -> None:
    futures = [
        work.workplace.helpers.submit(contextvars.copy_context().run, _carry_out, work, perception, seq, call)
        for seq, call in calls
    ]
    errors = [error for future in futures if (error := future.exception())]  # waits for all of them
    if errors:
        raise errors[0]


def _carry_out(work: Work, perception: Perception, seq: int, call: ToolCall) -> None:
    work.check_stopped()  # it may have waited for a thread
    stopwatch = Stopwatch()
    tool = ALL.get(call.name)
    if tool is not None and tool.is_outward:
        _reach_out(work, perception, seq, call, stopwatch)
    else:
        work.record_with(lambda connection: _invoke(work, perception, seq, call, connection, stopwatch))


def _reach_out(work: Work, perception: Perception, seq: int, call: ToolCall, stopwatch: Stopwatch) -> None:
    """Run a tool that reaches outside: no transaction while it works, and where it must not be repeated the intent
    first.

    A crash before the record leaves the intent. Who takes the task up next finds it and asks a person.
    """
    try:
        tool = _permitted_tool(perception, call)
        parameters = tool.validate(call.arguments)
        with transaction(work.task.org_id) as connection:
            _stand_where_permitted(work, tool, connection)
    except _REFUSALS as refusal:
        work.record(_record(seq, call, stopwatch, {"error": refusal.message}, is_error=True))
        return
    if tool.must_not_repeat:
        work.begin(make_record(seq, "act", call.name, stopwatch, given=call.arguments, output={"call_id": call.id}))
    failpoint("before-effect")
    context = OutwardContext(f"{work.task.id}:{seq}", work.zone, work.now.astimezone(work.zone).date())
    try:
        with work.doing(call.name):
            result, is_error = tool.run(context, parameters), False
    except _REFUSALS as refusal:
        result, is_error = {"error": refusal.message}, True
    except NotDone as failure:
        if tool.must_not_repeat:
            output = {"error": {"kind": "not_done", "message": failure.message}}
            work.finish_begun(make_record(seq, "act", call.name, stopwatch, output=output, status="failed"))
        raise
    failpoint("after-effect")
    record = _record(seq, call, stopwatch, result, is_error=is_error)
    if tool.must_not_repeat:
        work.finish_begun(record)
    else:
        work.record(record)


def _invoke(
    work: Work, perception: Perception, seq: int, call: ToolCall, connection: Connection, stopwatch: Stopwatch
) -> StepRecord:
    """Run a tool inside its step's transaction. A refusal undoes what the tool wrote and is recorded as its answer."""
    try:
        with work.doing(call.name), connection.begin_nested():
            result = _run(work, perception, seq, call, connection)
        is_error = False
    except _REFUSALS as refusal:
        result, is_error = {"error": refusal.message}, True
    return _record(seq, call, stopwatch, result, is_error=is_error)


def _record(seq: int, call: ToolCall, stopwatch: Stopwatch, result: dict[str, Any], *, is_error: bool) -> StepRecord:
    message = ToolMessage(call_id=call.id, content=dump_json(result), is_error=is_error)
    return make_record(
        seq,
        "act",
        call.name,
        stopwatch,
        given=call.arguments,
        output={"message": message.model_dump(), "ok": not is_error},
    )


def _run(work: Work, perception: Perception, seq: int, call: ToolCall, connection: Connection) -> dict[str, Any]:
    tool = _permitted_tool(perception, call)
    _stand_where_permitted(work, tool, connection)
    acting = Acting(
        org_id=work.task.org_id,
        user_id=work.task.user_id,
        agent=work.task.agent,
        task_id=work.task.id,
        seq=seq,
        location_id=work.task.location_id,
    )
    context = ToolContext(
        connection=connection, zone=work.zone, today=work.now.astimezone(work.zone).date(), acting=acting
    )
    return tool.run(context, tool.validate(call.arguments))


def _stand_where_permitted(work: Work, tool: Tool, connection: Connection) -> None:
    """See to it that the agent does what its task's user may do, where that user may, and no more.

    Read from the database at every action: neither the model nor the request has a say in it.
    """
    reach = tenants.reach_of(connection, work.task.user_id, tool.permission).at(work.task.location_id)
    if reach.is_nowhere:
        raise NotPermitted(f"The person you work for may not do this: it needs the permission {tool.permission}.")
    if not reach.everywhere:
        limit_to(connection, reach.locations)


def _permitted_tool(perception: Perception, call: ToolCall) -> Tool:
    if call.problem:
        raise InvalidInput(f"This call could not be read: {call.problem}. Call the tool again.")
    tool = ALL.get(call.name) if call.name in perception.tools else None
    if tool is None:
        raise NotPermitted(
            f"You have no tool called {call.name!r}. Yours are: {', '.join(perception.tools) or 'none'}."
        )
    return tool
