"""Operations on events: record one, read pages of them, delete old ones."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from domain.events import queries
from domain.events.schemas import Cursor, Event, Horizon, Reset, Wanted

OF_STEPS, PORTION = queries.OF_STEPS, queries.PORTION

_BATCH = 5_000
_OPEN_TASKS = 200
TOO_OLD = (
    "Nothing can follow this cursor: events after it were deleted, or it is one of another database. Read the current "
    "state; what comes next begins with the oldest event that is kept."
)


def record(
    connection: Connection,
    org: UUID,
    kind: str,
    data: dict[str, Any],
    *,
    task: UUID | None = None,
    agent: str | None = None,
    location: UUID | None = None,
    once: str | None = None,
) -> None:
    """Write an event that no trigger writes, in the transaction of what it tells of. If an event with the same `once`
    was written before, this is a no-op.
    """
    row = {"org": org, "kind": kind, "task": task, "agent": agent, "location": location, "data": data, "once": once}
    queries.insert_event(connection, row)


def record_for_all(connection: Connection, kind: str, data: dict[str, Any]) -> None:
    """Write an event for every organisation, in the transaction of what it tells of. Needs a system transaction."""
    queries.insert_event_for_all(connection, kind, data)


def page(connection: Connection, wanted: Wanted, after: Cursor, limit: int) -> tuple[list[Event], Cursor]:
    """Return up to `limit` events after a cursor, in order, and the cursor from which to go on. Events of transactions
    that may still commit in another order come with a later page.
    """
    horizon = queries.horizon(connection, wanted.org)
    found = queries.page(connection, wanted, after, limit)
    if len(found) == limit:
        return found, found[-1].cursor
    # The horizon was read first, and it only moves on: the page reaches at least as far.
    return found, max(after, horizon.end, *(event.cursor for event in found))


def page_of_many(connection: Connection, orgs: Collection[UUID], after: Cursor) -> list[Event]:
    """Return up to `PORTION` events of these organisations after a cursor, in order. Needs a system transaction."""
    return queries.page_of_many(connection, orgs, after) if orgs else []


def horizon(connection: Connection, org: UUID | None) -> Horizon:
    """Return where reading must stop now, and where what is kept of an organisation begins."""
    return queries.horizon(connection, org)


def reset(connection: Connection, task: UUID | None = None) -> Reset:
    """Return what a reader whose cursor is too old must know: the tasks that have not ended, or the one `task`."""
    found = queries.open_tasks(connection, task, _OPEN_TASKS + 1)
    return Reset(
        reason=TOO_OLD,
        tasks=found[:_OPEN_TASKS],
        has_more_tasks=len(found) > _OPEN_TASKS,
    )


def last_ending(connection: Connection, org: UUID, task: UUID) -> Event | None:
    """Return the latest event that tells of the end of a task, or None if there is none any more."""
    return queries.last_ending(connection, org, task)


def last_decision(connection: Connection, task: UUID, until: Cursor) -> int:
    """Return the step of the last decision of a task that events up to a cursor tell of, -1 if there is none."""
    return queries.last_decision(connection, task, until)


def delete_old(connection: Connection, kept: timedelta) -> int:
    """Delete events that are older than `kept`; at most 5,000 per call. Return how many."""
    return queries.delete_events(connection, kept, _BATCH)
