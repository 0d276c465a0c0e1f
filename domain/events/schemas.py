"""Events, their cursors, and pages of them."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple, Self
from uuid import UUID

from pydantic import BaseModel, Field

from core.errors import InvalidInput
from core.json_text import dump_json
from domain.events.agent_status import agent_status

_LARGEST = 2**63 - 1
INVALID_CURSOR = "This cursor is not valid. Use the `id` of the last event that you have, as it stands."


def _is_position(text: str) -> bool:
    """Whether `text` is a number that fits the database's 64 bits."""
    return text.isascii() and text.isdigit() and len(text) <= len(str(_LARGEST)) and int(text) <= _LARGEST


class Cursor(NamedTuple):
    """A position in the order of events: every event after it is still to be read."""

    xid: int
    """id of the transaction that wrote the event; it never wraps round"""
    seq: int
    """number that orders the events of a transaction"""

    def __str__(self) -> str:
        return f"{self.xid}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor that `text` is.

        Raises:
            InvalidInput: it is no cursor.
        """
        xid, hyphen, seq = text.partition("-")
        if not (hyphen and _is_position(xid) and _is_position(seq)):
            raise InvalidInput(INVALID_CURSOR)
        return cls(int(xid), int(seq))


BEGINNING = Cursor(0, 0)
"""the cursor before the first event"""


@dataclass(frozen=True)
class Event:
    """Something that happened in an organisation. Not changed after it is read, and shared between its readers."""

    xid: int
    seq: int
    org_id: UUID
    kind: str
    at: datetime
    task_id: UUID | None
    agent: str | None
    location_id: UUID | None
    conversation_id: UUID | None
    data: dict[str, Any]
    session: str | None = None
    """of the conversation"""

    @property
    def cursor(self) -> Cursor:
        """The event's own position."""
        return Cursor(self.xid, self.seq)

    @cached_property
    def told(self) -> dict[str, Any]:
        """What readers get of the event beside its type, time and cursor."""
        ids = {"task_id": self.task_id, "conversation_id": self.conversation_id}
        named = {"agent": self.agent} | {name: str(value) for name, value in ids.items() if value is not None}
        status = {"agent_status": agent_status(self.kind, self.data)}
        return {name: value for name, value in (named | status).items() if value is not None} | self.data

    @cached_property
    def lines(self) -> bytes:
        """The event as a message of a stream of server-sent events."""
        return sse_message(self.kind, self.told | {"at": self.at.isoformat()}, self.cursor)

    def lines_at(self, position: object) -> bytes:
        """Return the event as a message of a stream in which this is the position after it."""
        if position == self.cursor:
            return self.lines
        return sse_message(self.kind, self.told | {"at": self.at.isoformat()}, position)


def sse_message(name: str, data: dict[str, Any], position: object) -> bytes:
    """Return a message of a stream of server-sent events (WHATWG HTML, section 9.2.5)."""
    return f"id: {position}\nevent: {name}\ndata: {_one_line(data)}\n\n".encode()


# Some readers take these for ends of lines, which would cut a message in two.
_LINE_ENDS = {"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def _one_line(data: dict[str, Any]) -> str:
    text = dump_json(data)
    for end, escaped in _LINE_ENDS.items():
        text = text.replace(end, escaped)
    return text


class ShownEvent(BaseModel):
    """An event, as a page shows it."""

    id: str = Field(description="its cursor: pass it as `after` to get the events after it", examples=["7512-90211"])
    type: str = Field(description="its kind, see docs/events.md", examples=["task.ended"])
    at: datetime
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> Self:
        """Return the event as a page shows it."""
        return cls(id=str(event.cursor), type=event.kind, at=event.at, data=event.told)


class EventPage(BaseModel):
    """Events in order, and the cursor of the next page."""

    events: list[ShownEvent]
    next_after: str = Field(
        description="pass it as `after` to get what comes next; there may be nothing yet", examples=["7512-90211"]
    )
    is_complete: bool = Field(description="whether this page reaches the latest event; otherwise get the next at once")
    reset: "Reset | None" = Field(
        default=None,
        description="the given cursor is too old: some events after it were deleted; this page begins with the oldest "
        "that is kept",
    )


class OpenTask(BaseModel):
    """A task that has not ended."""

    id: UUID
    agent: str
    status: str
    waiting_for: str | None


class Reset(BaseModel):
    """Events after the reader's cursor are no longer kept: what the reader knows is out of date."""

    reason: str = Field(examples=["This cursor is too old: events before 2026-11-28T09:00:00Z were deleted."])
    tasks: list[OpenTask] = Field(description="the tasks that have not ended, newest first, at most 200")
    has_more_tasks: bool = Field(description="whether there are more such tasks than are listed")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a query returns: those that meet every condition given."""

    org: UUID
    kinds: list[str] | None = None
    agent: str | None = None
    task: UUID | None = None
    conversation: UUID | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Horizon:
    """Where reading must stop, and where what is kept begins."""

    xid: int
    """the oldest transaction that is still open: events of it, and of later ones, may not all be visible"""
    latest: int
    """no transaction has this id, or a higher one, yet"""
    deleted_xid: int | None
    deleted_seq: int | None

    @property
    def end(self) -> Cursor:
        """The cursor of a reader that has read all that can be read now."""
        return Cursor(self.xid, 0)

    @property
    def deleted(self) -> Cursor:
        """The position of the last event that was deleted; one of a database that was restored here is of no use."""
        if self.deleted_xid is not None and self.deleted_xid > self.latest:
            return BEGINNING
        return (
            BEGINNING
            if self.deleted_xid is None or self.deleted_seq is None
            else Cursor(self.deleted_xid, self.deleted_seq)
        )

    def has_lost(self, cursor: Cursor) -> bool:
        """Whether events after `cursor` may be missing: they were deleted, or the cursor belongs to another database,
        such as the one that this one was restored from.
        """
        return cursor < self.deleted or cursor.xid > self.latest
