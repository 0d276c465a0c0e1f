"""What a visitor is told of its conversation: text and status only. Pure.

Fields that are not listed here are not sent: costs, reasoning, tools, errors, models.
"""

from typing import Any
from uuid import UUID

from domain.events.schemas import Cursor, Event, Reset, sse_message
from domain.tasks.schemas import Task
from web.following import Encoding, Position
from web.said import Piece, data_of

_MESSAGE = ("conversation_id", "message_id", "parent_id", "position", "task_id", "status", "text")
_FIELDS: dict[str, tuple[str, ...]] = {
    "message.sent": _MESSAGE,
    "message.answered": _MESSAGE,
    "message.delta": ("task_id", "step", "offset", "text"),
    "message.superseded": ("task_id", "step"),
    "task.queued": ("task_id", "status"),
    "task.started": ("task_id", "status"),
    "task.waiting": ("task_id", "status"),
}
KINDS = tuple(_FIELDS)
"""the kinds of events that visitors hear"""
_STATUS = {"running": "answering"}  # of a task, as messages have it
_NOTICES = {
    "waiting": "This answer takes longer than usual. It will appear here.",
    "failed": "This answer could not be given. Try again later.",
}


def notice_of(status: str) -> str | None:
    """Return a sentence for a visitor about an answer that is not there; None if there is nothing to say."""
    return _NOTICES.get(status)


def told_to_visitor(kind: str, told: dict[str, Any]) -> dict[str, Any]:
    """Return what a visitor is told of an event; empty for a kind that visitors do not hear."""
    shown = {name: told[name] for name in _FIELDS.get(kind, ()) if told.get(name) is not None}
    if "status" in shown:
        shown["status"] = _STATUS.get(shown["status"], shown["status"])
        shown |= {"notice": notice} if (notice := notice_of(shown["status"])) else {}
    return shown


class VisitorEncoding(Encoding):
    """A stream of server-sent events for a visitor."""

    def reset(self, reset: Reset, cursor: Cursor) -> bytes:  # noqa: ARG002  its tasks are not told
        """Return what tells that events are missing: the messages have to be read again."""
        return sse_message("reset", {}, cursor)

    def event(self, event: Event, position: Position) -> bytes:
        """Return an event."""
        return sse_message(event.kind, told_to_visitor(event.kind, event.told) | {"at": event.at.isoformat()}, position)

    def piece(self, task: UUID, piece: Piece, position: Position) -> bytes:
        """Return a piece of what a model says."""
        name = "message.superseded" if piece.text is None else "message.delta"
        return sse_message(name, told_to_visitor(name, {"task_id": str(task)} | data_of(piece)), position)

    def ended(self, task: Task, cursor: Cursor) -> bytes:  # noqa: ARG002
        """Return nothing: the stream of a conversation does not end with a task."""
        return b""
