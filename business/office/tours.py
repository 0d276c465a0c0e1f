"""Tours of the gym for leads and clients: events of the calendar that do not overlap."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from core.errors import InvalidInput
from domain.office import service as office
from domain.office.schemas import Maker, NewEvent


def schedule_tour(
    connection: Connection,
    maker: Maker,
    *,
    lead_id: UUID | None,
    client_id: UUID | None,
    starts_at: datetime,
    duration: timedelta,
    location: str | None,
    zone: ZoneInfo,
) -> dict[str, Any]:
    """Schedule a tour for a lead or a client.

    Raises:
        InvalidInput: there is not exactly one visitor, or the time has passed.
        NotFound: there is no such lead or client.
        Conflict: another tour is at that time.
    """
    title = f"Tour: {_visitor(connection, lead_id, client_id)}"
    tour = NewEvent(kind="tour", title=title, location=location, lead_id=lead_id, client_id=client_id)
    return office.add_event_alone(connection, maker, tour, starts_at=starts_at, duration=duration, zone=zone)


def _visitor(connection: Connection, lead_id: UUID | None, client_id: UUID | None) -> str:
    if lead_id and client_id:
        raise InvalidInput("A tour is for a lead or for a client: give lead_id or client_id, not both.")
    if lead_id:
        return office.name_of(connection, lead_id, "lead")
    if client_id:
        return office.name_of(connection, client_id, "client")
    raise InvalidInput("Say who comes: give lead_id (search_leads) or client_id (search_clients).")
