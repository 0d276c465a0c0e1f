"""Feedback on answers: give it, take it back, list it."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from domain.conversations import service as conversations
from domain.feedback import service as feedback
from domain.feedback.schemas import Feedback, FeedbackPage, NewFeedback, Rating
from domain.tasks import service as tasks
from domain.tasks.schemas import Word
from web.auth import Needs, Principal
from web.listing import Before, Limit
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["feedback"])

Reads = Annotated[Principal, Depends(Needs("tasks:read", at_a_location=True))]
Writes = Annotated[Principal, Depends(Needs("tasks:write", at_a_location=True))]
Converses = Annotated[Principal, Depends(Needs("conversations:write", at_a_location=True))]


@router.get("/feedback", responses=describes(401, 403, 422))
def list_feedback(
    caller: Reads,
    agent: Word | None = None,
    rating: Annotated[Rating | None, Query(description="only of this rating")] = None,
    before: Before = None,
    limit: Limit = 50,
) -> FeedbackPage:
    """List what people thought of answers, latest first."""
    with caller.reading() as connection:
        return feedback.list_feedback(connection, agent=agent, rating=rating, before=before, limit=limit)


@router.put("/tasks/{task_id}/feedback", responses=describes(401, 403, 404, 409, 422))
def rate_task(task_id: UUID, wanted: NewFeedback, caller: Writes) -> Feedback:
    """Say what you think of the answer of a task, in place of what you said before."""
    with caller.writing(rating=wanted.rating) as connection:
        return tasks.rate(connection, caller.org_id, task_id, caller.user_id, wanted)


@router.delete("/tasks/{task_id}/feedback", status_code=204, responses=describes(401, 403, 404, 422))
def withdraw_task_rating(task_id: UUID, caller: Writes) -> None:
    """Take back what you said of the answer of a task."""
    with caller.writing() as connection:
        tasks.get_task(connection, task_id)
        feedback.withdraw(connection, task_id, caller.user_id)


@router.put(
    "/conversations/{conversation_id}/messages/{answer_id}/feedback", responses=describes(401, 403, 404, 409, 422)
)
def rate_answer(conversation_id: UUID, answer_id: UUID, wanted: NewFeedback, caller: Converses) -> Feedback:
    """Say what you think of an answer in a conversation, in place of what you said before."""
    with caller.writing(answer=str(answer_id), rating=wanted.rating) as connection:
        return conversations.rate(connection, caller.org_id, conversation_id, answer_id, caller.user_id, wanted)


@router.delete(
    "/conversations/{conversation_id}/messages/{answer_id}/feedback",
    status_code=204,
    responses=describes(401, 403, 404, 409, 422),
)
def withdraw_answer_rating(conversation_id: UUID, answer_id: UUID, caller: Converses) -> None:
    """Take back what you said of an answer in a conversation."""
    with caller.writing(answer=str(answer_id)) as connection:
        feedback.withdraw(connection, conversations.task_of(connection, conversation_id, answer_id), caller.user_id)
