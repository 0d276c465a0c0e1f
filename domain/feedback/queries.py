"""All SQL about feedback. The event that tells of it is written by a trigger (migration 0032)."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.rows import fetch_all, fetch_one
from domain.feedback.schemas import Feedback

_COLUMNS = ", ".join(Feedback.model_fields)
_GIVE = text(f"""
    INSERT INTO feedback (id, org_id, task_id, message_id, agent, location_id, conversation_id, user_id, rating,
                          comment)
    VALUES (:id, :org, :task, coalesce(:message, (SELECT t.message_id FROM tasks t WHERE t.id = :task)), :agent,
            :location, :conversation, :user, :rating, :comment)
    ON CONFLICT (task_id, user_id)
       DO UPDATE SET rating = excluded.rating, comment = excluded.comment, given_at = rota_now()
    RETURNING {_COLUMNS}
""")  # noqa: S608


def give(connection: Connection, row: dict[str, Any]) -> Feedback:
    """Write what a user thinks of an answer, in place of what they thought before."""
    return fetch_one(connection.execute(_GIVE, row), Feedback)


_WITHDRAW = text("DELETE FROM feedback WHERE task_id = :task AND user_id = :user")


def withdraw(connection: Connection, task: UUID, user: UUID) -> bool:
    """Delete a user's feedback. Return whether there was any."""
    return connection.execute(_WITHDRAW, {"task": task, "user": user}).rowcount == 1


_OF_TASK = text(f"SELECT {_COLUMNS} FROM feedback WHERE task_id = :task ORDER BY id")  # noqa: S608


def of_task(connection: Connection, task: UUID) -> list[Feedback]:
    """Return the feedback on a task's answer, in the order in which it was first given."""
    return fetch_all(connection.execute(_OF_TASK, {"task": task}), Feedback)


_PAGE = text(f"""
    SELECT {_COLUMNS} FROM feedback
     WHERE (CAST(:agent AS text) IS NULL OR agent = :agent) AND (CAST(:rating AS text) IS NULL OR rating = :rating)
       AND (CAST(:before AS uuid) IS NULL OR id < :before)
     ORDER BY id DESC LIMIT :limit
""")  # noqa: S608


def page(connection: Connection, wanted: dict[str, Any]) -> list[Feedback]:
    """Return the feedback that matches, latest first."""
    return fetch_all(connection.execute(_PAGE, wanted), Feedback)
