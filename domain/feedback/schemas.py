"""What people think of an answer."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from core.text import Storable

Rating = Literal["up", "down"]
Comment = Annotated[str, StringConstraints(max_length=2_000, strip_whitespace=True), Storable]


class NewFeedback(BaseModel):
    """What to think of an answer."""

    model_config = ConfigDict(extra="forbid")

    rating: Rating = Field(description="whether the answer was good (up) or not (down)", examples=["down"])
    comment: Comment = Field(default="", description="why, in a word or more", examples=["The hour is wrong."])


class Feedback(BaseModel):
    """What one person thinks of the answer of one task."""

    id: UUID
    task_id: UUID
    agent: str = Field(description="slug", examples=["support-assistant"])
    user_id: UUID = Field(description="the user who gave it")
    conversation_id: UUID | None = Field(description="the conversation of the answer, if it was given in one")
    rating: Rating = Field(description="whether the answer was good (up) or not (down)", examples=["down"])
    comment: str = Field(description="why; empty if nothing was said", examples=["The hour is wrong."])
    given_at: datetime = Field(description="time at which it was given, or changed last")


class FeedbackPage(BaseModel):
    """Feedback, latest first."""

    feedback: list[Feedback] = Field(description="feedback of this page")
    next_before: UUID | None = Field(description="pass it as `before` for the next page; null on the last")
