"""Operations on broadcasts. All but `current` need a system transaction: they concern every organisation."""

from uuid import UUID

from sqlalchemy import Connection

from core.errors import InvalidInput, NotFound
from core.ids import new_id
from domain.broadcasts import queries
from domain.broadcasts.schemas import Announcement, Broadcast, BroadcastPage, NewBroadcast
from domain.events import service as events

_MOST_CURRENT = 100


def send(connection: Connection, wanted: NewBroadcast, by: UUID) -> Broadcast:
    """Send a message to every organisation: each hears of it, and it is listed until it is over.

    Raises:
        InvalidInput: its `until` has passed.
    """
    if wanted.until is not None and queries.has_passed(connection, wanted.until):
        raise InvalidInput("`until` has passed: nobody would see it. Give a later time, or leave it out.")
    made = queries.insert_broadcast(connection, wanted.model_dump() | {"id": new_id(), "created_by": by})
    told = Announcement(**made.model_dump(exclude={"created_by", "withdrawn_at"})).model_dump(
        mode="json", exclude={"id", "created_at"}
    )
    events.record_for_all(connection, "system.announced", {"announcement_id": str(made.id)} | told)
    return made


def list_broadcasts(connection: Connection, before: UUID | None, limit: int) -> BroadcastPage:
    """Return a page of broadcasts, newest first."""
    found = queries.broadcasts(connection, before, limit + 1)
    page = found[:limit]
    return BroadcastPage(broadcasts=page, next_before=page[-1].id if len(found) > limit else None)


def current(connection: Connection) -> list[Announcement]:
    """Return what every organisation is told now, newest first, at most 100."""
    return queries.current(connection, _MOST_CURRENT)


def withdraw(connection: Connection, broadcast_id: UUID) -> None:
    """Withdraw a broadcast: it is listed no longer, and organisations hear so. Idempotent.

    Raises:
        NotFound: there is none.
    """
    found = queries.lock_broadcast(connection, broadcast_id)
    if found is None:
        raise NotFound(f"There is no broadcast {broadcast_id}.")
    if found.withdrawn_at is None:
        queries.withdraw(connection, broadcast_id)
        events.record_for_all(connection, "system.withdrawn", {"announcement_id": str(broadcast_id)})
