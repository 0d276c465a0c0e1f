"""Calls of client tools: the client carries them out, and the task takes up the results."""

from collections.abc import Sequence

from agents.call import Call
from agents.journal import make_record
from agents.llm.base import ToolMessage
from agents.work import Work
from core.clock import Stopwatch
from core.db import transaction
from core.json_text import dump_json
from domain.audit import service as audit
from domain.audit.schemas import Actor, AuditEvent
from domain.claims.schemas import StepRecord
from domain.client_tools import service as client_tools
from domain.client_tools.schemas import Given
from domain.tasks.client_calls import WAITING


def take_results(work: Work, calls: Sequence[Call]) -> str | None:
    """Record the results that the client has returned. Return what the task waits for if some are missing."""
    if not calls:
        return None
    with transaction(work.task.org_id) as connection:
        given = client_tools.results(connection, work.task.id)
    for call in calls:
        if call.seq in given:
            _take(work, call, given[call.seq])
    return WAITING if any(call.seq not in given for call in calls) else None


def _take(work: Work, call: Call, given: Given) -> None:
    task = work.task
    actor = Actor(org_id=task.org_id, user_id=task.user_id, agent=task.agent, task_id=task.id, seq=call.seq)
    event = AuditEvent("called", f"client tool/{call.name}", {"is_error": given.is_error})
    work.journal.record(_record(call, given), lambda connection: audit.record(connection, actor, event))


def _record(call: Call, given: Given) -> StepRecord:
    # What the client's tool returned may be anybody's words.
    content = dump_json({"error": given.content}) if given.is_error else given.content
    message = ToolMessage(call_id=call.message.id, content=content, is_error=given.is_error, is_untrusted=True)
    output = {"message": message.model_dump(), "ok": not given.is_error, "client": True}
    return make_record(call.seq, "act", call.name, Stopwatch(), given=call.message.arguments, output=output)
