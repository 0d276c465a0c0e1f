"""Operations on client tools: take the results of their calls."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection

from core.errors import Conflict, NotFound
from domain.client_tools import queries
from domain.client_tools.schemas import Given, ToolResult
from domain.tasks import service as tasks
from domain.tasks.client_calls import WAITING, client_calls


def give(connection: Connection, org: UUID, task_id: UUID, results: Sequence[ToolResult], user: UUID) -> None:
    """Take results of a task's calls; the task goes on once there is one for each. Idempotent.

    Raises:
        NotFound: there is no such task or call.
        Conflict: the task has ended without these results, or a call was given another result.
    """
    tasks.lock(connection, task_id)
    task = tasks.get_task_detail(connection, task_id)
    calls = {call.id: call for call in client_calls(task_id, task.input, task.steps)}
    given = {one.seq: one for one in queries.results(connection, task_id)}
    for result in results:
        if result.call_id not in calls:
            raise NotFound(f"The task {task_id} has no call {result.call_id}.")
        seq = calls[result.call_id].seq
        before = given.get(seq)
        if before is None:
            if task.has_ended:
                raise Conflict(f"The task has {task.status}; it takes no results any more.")
            queries.insert_result(connection, org, task_id, seq, result, user)
            given[seq] = Given(seq, result.content, result.is_error)
        elif (before.content, before.is_error) != (result.content, result.is_error):
            raise Conflict(f"The call {result.call_id} was given another result.")
    if all(call.is_done or call.seq in given for call in calls.values()):
        tasks.wake(connection, task_id, WAITING)


def results(connection: Connection, task_id: UUID) -> dict[int, Given]:
    """Return the results that were given for a task's calls, by step."""
    return {one.seq: one for one in queries.results(connection, task_id)}
