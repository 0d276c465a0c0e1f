"""All SQL about client tools."""

from uuid import UUID

from sqlalchemy import Connection, text

from core.rows import fetch_all
from domain.client_tools.schemas import Given, ToolResult

_INSERT = text("""
    INSERT INTO client_tool_results (org_id, task_id, seq, content, is_error, given_by)
    VALUES (:org, :task, :seq, :content, :is_error, :user) ON CONFLICT (task_id, seq) DO NOTHING
""")


def insert_result(connection: Connection, org: UUID, task: UUID, seq: int, result: ToolResult, user: UUID) -> None:
    """Write the result of a call, unless there is one."""
    values = {
        "org": org, "task": task, "seq": seq, "content": result.content, "is_error": result.is_error, "user": user,
    }  # fmt: skip
    connection.execute(_INSERT, values)


_RESULTS = text("SELECT seq, content, is_error FROM client_tool_results WHERE task_id = :task")


def results(connection: Connection, task: UUID) -> list[Given]:
    """Return the results that were given for a task's calls."""
    return fetch_all(connection.execute(_RESULTS, {"task": task}), Given)
