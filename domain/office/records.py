"""How people look at what agents keep, and move it on: which status follows which, and what they note with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Connection, RowMapping, Table, TableClause
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

View = TypeVar("View", bound=BaseModel)
Follows = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Kind(Generic[View]):
    """A kind of record: its name for people, its table, how it is shown, and which status may follow which."""

    name: str
    table: TableClause
    view: type[View]
    follows: Follows


def follows(**after: str) -> Follows:
    """Which status may follow which: each status with those that may, separated by spaces."""
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
    """Records of a kind, the latest first, that have the `wanted` values; None stands for any."""
    rows = queries.page(connection, kind.table, wanted, before=before, limit=limit)
    return [kind.view.model_validate(dict(row)) for row in rows]


def get_record(connection: Connection, kind: Kind[View], row_id: UUID) -> View:
    """A record.

    Raises:
        NotFound: there is none.
    """
    return kind.view.model_validate(dict(_found(queries.record(connection, kind.table, row_id), kind, row_id)))


def add_record(connection: Connection, table: Table, maker: Maker, row: dict[str, Any]) -> bool:
    """Add a record of a table made with `record_table`. False where a unique index has the like of it."""
    return queries.add(connection, table, maker, row)


def find_record(connection: Connection, kind: Kind[View], row_id: UUID) -> RowMapping | None:
    """The row of a record, where there is one."""
    return queries.record(connection, kind.table, row_id)


def remove_record(connection: Connection, kind: Kind[View], row_id: UUID) -> None:
    """Delete a record.

    Raises:
        NotFound: there is none.
    """
    if not queries.delete_record(connection, kind.table, row_id):
        raise NotFound(_none(kind, row_id))


def change_ticket(connection: Connection, row_id: UUID, change: TicketChange) -> Ticket:
    """Change a ticket or move it on.

    Raises:
        NotFound: there is none.
        Conflict: its status does not follow, or another one about the same is open.
    """
    return _change(connection, TICKETS, row_id, change)


def change_staff_task(connection: Connection, row_id: UUID, change: StaffTaskChange) -> StaffTask:
    """Change a task for staff or move it on.

    Raises:
        NotFound: there is none.
        Conflict: its status does not follow, or the same is open.
    """
    return _change(connection, STAFF_TASKS, row_id, change)


def _change(connection: Connection, kind: Kind[View], row_id: UUID, change: BaseModel) -> View:
    clearable = {"assignee", "due_on"}
    sent = change.model_dump(exclude_unset=True)
    values = {name: value for name, value in sent.items() if value is not None or name in clearable}
    return move_record(connection, kind, row_id, values)


def settle_post(connection: Connection, row_id: UUID, said: PostOutcome) -> Post:
    """Say what became of a post.

    Raises:
        NotFound: there is none.
        Conflict: it ended already.
    """
    return move_record(connection, POSTS, row_id, {"status": said.outcome, "url": said.url, "note": said.note})


def settle_event(connection: Connection, row_id: UUID, said: EventOutcome) -> CalendarEvent:
    """Say how an event ended.

    Raises:
        NotFound: there is none.
        Conflict: it ended already.
    """
    return move_record(connection, EVENTS, row_id, {"status": said.outcome, "note": said.note})


def move_record(connection: Connection, kind: Kind[View], row_id: UUID, values: dict[str, Any]) -> View:
    """Change a record, if its status may become the one in `values`; the same status again changes the rest only."""
    row = _found(queries.record(connection, kind.table, row_id, locked=True), kind, row_id)
    wanted = values.get("status", row["status"])
    if wanted != row["status"] and wanted not in kind.follows.get(row["status"], ()):
        possible = ", ".join(sorted(kind.follows.get(row["status"], ()))) or "nothing: it has ended"
        raise Conflict(f"This {kind.name} is {row['status']}; what can follow is {possible}.")
    if wanted == row["status"] and not kind.follows.get(wanted):
        return kind.view.model_validate(dict(row))  # said twice
    try:
        queries.change_record(connection, kind.table, row_id, values)
    except IntegrityError as error:
        raise Conflict(f"Another {kind.name} about the same is open. Close that one first.") from error
    return get_record(connection, kind, row_id)


def _found(row: RowMapping | None, kind: Kind[View], row_id: UUID) -> RowMapping:
    if row is None:
        raise NotFound(_none(kind, row_id))
    return row


def _none(kind: Kind[View], row_id: UUID) -> str:
    return f"There is no {kind.name} {row_id}."
