"""A stream of events as packets of Socket.IO, one a line."""

from datetime import datetime
from typing import Any
from uuid import UUID

from api.sockets.messages import News, Vocabulary
from core.json_text import dump_json
from core.words import Typing
from domain.events.schemas import Cursor, Event, Reset
from domain.tasks.schemas import Task
from web.following import Encoding, Position, data_of_typing
from web.said import Piece, data_of

_EVENT = "2"  # the packet's type (Socket.IO protocol, version 5)


def packet(namespace: str, name: str, data: dict[str, Any]) -> str:
    """Return the packet of a message."""
    head = _EVENT if namespace == "/" else f"{_EVENT}{namespace},"
    return head + dump_json([name, data])


class Packets(Encoding):
    """A stream for a room, in its vocabulary."""

    def __init__(self, namespace: str, room: str, words: Vocabulary) -> None:
        self._namespace = namespace
        self._room = room
        self._words = words

    def ready(self, cursor: Cursor) -> bytes:
        """Return what tells that the stream begins."""
        return self._line("ready", cursor, {})

    def reset(self, reset: Reset, cursor: Cursor) -> bytes:
        """Return what tells that events are missing."""
        return self._line("reset", cursor, reset.model_dump(mode="json"))

    def event(self, event: Event, position: Position) -> bytes:
        """Return an event, or nothing if it has no name in the vocabulary."""
        return self._line(event.kind, position, event.told, event.at)

    def piece(self, task: UUID, piece: Piece, position: Position) -> bytes:
        """Return a piece of what a model says."""
        name = "message.superseded" if piece.text is None else "message.delta"
        return self._line(name, position, {"task_id": str(task)} | data_of(piece))

    def typing(self, typing: Typing, position: Position) -> bytes:
        """Return what tells that a user is typing."""
        return self._line("user.typing", position, data_of_typing(typing))

    def ended(self, task: Task, cursor: Cursor) -> bytes:
        """Return what tells that a task has ended whose events were deleted."""
        told = {"task_id": str(task.id), "agent": task.agent, "status": task.status}
        return self._line("task.ended", cursor, told, task.finished_at)

    def _line(self, kind: str, position: object, told: dict[str, Any], at: datetime | None = None) -> bytes:
        message = self._words(News(kind, str(position), told, at), self._room)
        return b"" if message is None else packet(self._namespace, *message).encode() + b"\n"
