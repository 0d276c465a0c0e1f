"""Act: carry out what was decided, independent actions side by side, each with its own step in the journal."""

import contextvars
from typing import Any

from sqlalchemy import Connection

from agents.decide import Decision
from agents.llm.base import ToolCall, ToolMessage
from agents.perceive import Perception
from agents.tools import ALL
from agents.tools.registry import Tool, ToolContext
from agents.work import Work, make_record
from core.clock import Stopwatch
from core.db import dump_json
from core.errors import Conflict, InvalidInput, NotFound, NotPermitted
from domain.tasks.schemas import StepRecord

# What a tool may refuse with: the model hears it and can do something about it. Anything else is a fault of ours.
_REFUSALS = (InvalidInput, NotFound, Conflict, NotPermitted)


def act(work: Work, perception: Perception, decision: Decision) -> int:
    """Carry out the decision's actions that are not done yet. Returns the sequence number of the step after them.

    The calls' numbers follow the decision's own, in the order in which they were asked for.
    """
    calls = list(enumerate(decision.message.tool_calls, start=decision.seq + 1))
    missing = [(seq, call) for seq, call in calls if work.finished(seq) is None]
    if missing:
        work.check()
    if len(missing) == 1:
        _carry_out(work, perception, *missing[0])
    elif missing:
        _carry_out_together(work, perception, missing)
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
    stopwatch = Stopwatch()
    work.record_with(lambda connection: _invoke(work, perception, seq, call, connection, stopwatch))


def _invoke(
    work: Work, perception: Perception, seq: int, call: ToolCall, connection: Connection, stopwatch: Stopwatch
) -> StepRecord:
    """Run a tool inside its step's transaction. A refusal undoes what the tool wrote and is recorded as its answer."""
    try:
        with connection.begin_nested():
            result = _run(work, perception, call, connection)
        is_error = False
    except _REFUSALS as refusal:
        result, is_error = {"error": refusal.message}, True
    message = ToolMessage(call_id=call.id, content=dump_json(result), is_error=is_error)
    return make_record(
        seq,
        "act",
        call.name,
        stopwatch,
        given=call.arguments,
        output={"message": message.model_dump(), "ok": not is_error},
    )


def _run(work: Work, perception: Perception, call: ToolCall, connection: Connection) -> dict[str, Any]:
    tool = _permitted_tool(perception, call)
    context = ToolContext(connection=connection, zone=work.zone, today=work.now.astimezone(work.zone).date())
    return tool.run(context, tool.validate(call.arguments))


def _permitted_tool(perception: Perception, call: ToolCall) -> Tool:
    if call.problem:
        raise InvalidInput(f"This call could not be read: {call.problem}. Call the tool again.")
    tool = ALL.get(call.name) if call.name in perception.tools else None
    if tool is None:
        raise NotPermitted(
            f"You have no tool called {call.name!r}. Yours are: {', '.join(perception.tools) or 'none'}."
        )
    return tool
