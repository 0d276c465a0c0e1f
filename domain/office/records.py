"""Views of the records that agents keep, and status changes by people: the transitions and their notes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Connection, Table, TableClause
from sqlalchemy.exc import IntegrityError

from core.errors import Conflict, NotFound
from domain.office import models, queries
from domain.office.schemas import (
    CalendarEvent,
    EventOutcome,
    ExportFile,
    Maker,
    Post,
    PostOutcome,
    Resource,
    StaffTask,
    StaffTaskChange,
    Ticket,
    TicketChange,
)


class HasStatus(Protocol):
    """A view of a record that has a status."""

    @property
    def status(self) -> str:
        """The status."""


View = TypeVar("View")
Standing = TypeVar("Standing", bound=HasStatus)
Follows = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Kind(Generic[View]):
    """A kind of record: its name in messages, its table, its view, and the allowed status transitions."""

    name: str
    table: TableClause
    view: type[View]
    follows: Follows


def follows(**after: str) -> Follows:
    """Build the status transitions from keyword arguments: each status with its successors, separated by spaces."""
    return {status: frozenset(others.split()) for status, others in after.items()}


TICKETS = Kind(
    "ticket",
    models.support_tickets,
    Ticket,
    follows(
        open="in_progress resolved closed", in_progress="open resolved closed", resolved="open closed", closed="open"
    ),
)
STAFF_TASKS = Kind(
    "staff task", models.staff_tasks, StaffTask, follows(open="done cancelled", done="open", cancelled="open")
)
POSTS = Kind(
    "post",
    models.social_posts,
    Post,
    follows(
        draft="cancelled", scheduled="published cancelled", due="published cancelled", missed="published cancelled"
    ),
)
EVENTS = Kind("event", models.calendar_events, CalendarEvent, follows(scheduled="held no_show cancelled"))
EXPORTS = Kind("export", models.exports, ExportFile, {})
RESOURCES = Kind("resource", models.resources, Resource, {})


def list_records(
    connection: Connection, kind: Kind[View], /, *, before: UUID | None = None, limit: int = 50, **wanted: Any
) -> list[View]:
    """Return records of a kind with the `wanted` values, the latest first. None matches any value."""
    return queries.page(connection, kind.table, kind.view, wanted, before=before, limit=limit)


def get_record(connection: Connection, kind: Kind[View], row_id: UUID) -> View:
    """Return a record.

    Raises:
        NotFound: there is no such record.
    """
    return _found(find_record(connection, kind, row_id), kind, row_id)


def add_record(connection: Connection, table: Table, maker: Maker, row: dict[str, Any]) -> bool:
    """Insert a record into a table made with `record_table`. Return False if a unique index rejects it."""
    return queries.add(connection, table, maker, row)


def find_record(connection: Connection, kind: Kind[View], row_id: UUID) -> View | None:
    """Return a record, if there is one."""
    return queries.record(connection, kind.table, kind.view, row_id)


def remove_record(connection: Connection, kind: Kind[View], row_id: UUID) -> None:
    """Delete a record.

    Raises:
        NotFound: there is no such record.
    """
    if not queries.delete_record(connection, kind.table, row_id):
        raise NotFound(_none(kind, row_id))


def change_ticket(connection: Connection, row_id: UUID, change: TicketChange) -> Ticket:
    """Change a ticket or its status.

    Raises:
        NotFound: there is no such ticket.
        Conflict: the status transition is not allowed, or another ticket about the same is open.
    """
    return _change(connection, TICKETS, row_id, change)


def change_staff_task(connection: Connection, row_id: UUID, change: StaffTaskChange) -> StaffTask:
    """Change a staff task or its status.

    Raises:
        NotFound: there is no such staff task.
        Conflict: the status transition is not allowed, or the same staff task is open.
    """
    return _change(connection, STAFF_TASKS, row_id, change)


def _change(connection: Connection, kind: Kind[Standing], row_id: UUID, change: BaseModel) -> Standing:
    clearable = {"assignee", "due_on"}
    sent = change.model_dump(exclude_unset=True)
    values = {name: value for name, value in sent.items() if value is not None or name in clearable}
    return move_record(connection, kind, row_id, values)


def settle_post(connection: Connection, row_id: UUID, said: PostOutcome) -> Post:
    """Record the outcome of a post.

    Raises:
        NotFound: there is no such post.
        Conflict: it has ended already.
    """
    return move_record(connection, POSTS, row_id, {"status": said.outcome, "url": said.url, "note": said.note})


def settle_event(connection: Connection, row_id: UUID, said: EventOutcome) -> CalendarEvent:
    """Record how an event ended.

    Raises:
        NotFound: there is no such event.
        Conflict: it has ended already.
    """
    return move_record(connection, EVENTS, row_id, {"status": said.outcome, "note": said.note})


def move_record(connection: Connection, kind: Kind[Standing], row_id: UUID, values: dict[str, Any]) -> Standing:
    """Change a record if the transition to the status in `values` is allowed. With the same status, change the other
    values, or nothing if the record has ended.

    Raises:
        NotFound: there is no such record.
        Conflict: the transition is not allowed, or another record about the same is open.
    """
    before = _found(queries.record(connection, kind.table, kind.view, row_id, locked=True), kind, row_id)
    wanted = values.get("status", before.status)
    allowed = kind.follows.get(before.status, frozenset())
    if wanted != before.status and wanted not in allowed:
        possible = ", ".join(sorted(allowed)) or "nothing: it has ended"
        raise Conflict(f"This {kind.name} is {before.status}; what can follow is {possible}.")
    if wanted == before.status and not allowed:
        return before  # reported twice
    try:
        queries.change_record(connection, kind.table, row_id, values)
    except IntegrityError as error:
        raise Conflict(f"Another {kind.name} about the same is open. Close that one first.") from error
    return get_record(connection, kind, row_id)


def _found(record: View | None, kind: Kind[View], row_id: UUID) -> View:
    if record is None:
        raise NotFound(_none(kind, row_id))
    return record


def _none(kind: Kind[View], row_id: UUID) -> str:
    return f"There is no {kind.name} {row_id}."
