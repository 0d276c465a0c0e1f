"""Operations on feedback."""

from uuid import UUID

from sqlalchemy import Connection

from core.errors import NotFound
from core.ids import new_id
from domain.feedback import queries
from domain.feedback.schemas import Feedback, FeedbackPage, NewFeedback, Rating


def give(
    connection: Connection,
    org: UUID,
    user: UUID,
    wanted: NewFeedback,
    *,
    task: UUID,
    agent: str,
    location: UUID | None,
    conversation: UUID | None,
    message: UUID | None = None,
) -> Feedback:
    """Keep what a user thinks of the answer of a task, in place of what they thought before. `message`: the answer in
    its conversation, if the task may have been cleaned up.
    """
    return queries.give(connection, wanted.model_dump() | {
        "id": new_id(), "org": org, "user": user, "task": task, "agent": agent, "location": location,
        "conversation": conversation, "message": message,
    })  # fmt: skip


def withdraw(connection: Connection, task: UUID, user: UUID) -> None:
    """Take a user's feedback back.

    Raises:
        NotFound: the user gave none.
    """
    if not queries.withdraw(connection, task, user):
        raise NotFound("You gave no feedback on this answer.")


def of_task(connection: Connection, task: UUID) -> list[Feedback]:
    """Return the feedback on a task's answer."""
    return queries.of_task(connection, task)


def list_feedback(
    connection: Connection,
    *,
    agent: str | None = None,
    rating: Rating | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> FeedbackPage:
    """Return a page of feedback, latest first."""
    wanted = {"agent": agent, "rating": rating, "before": before, "limit": limit + 1}
    found = queries.page(connection, wanted)
    page = found[:limit]
    return FeedbackPage(feedback=page, next_before=page[-1].id if len(found) > limit else None)
