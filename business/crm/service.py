"""Operations on the gym's records. What an operation has done is plain data, which an agent's tool passes on."""

import difflib
from collections.abc import Callable
from dataclasses import asdict
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from business.crm import demo, queries
from business.crm.engagement import engagement_score
from business.crm.schemas import (
    ClassLevel,
    ClassSession,
    ClientBooking,
    ClientPayment,
    ClientProfile,
    ClientStatus,
    FoundClient,
    FoundLead,
    GymClass,
    LeadProfile,
    LeadStatus,
    PaymentKind,
    PaymentStatus,
    SubscriptionStatus,
)
from core.errors import Conflict, InvalidInput, NotFound
from core.ids import new_id
from domain.contacts import service as contacts
from domain.office.times import in_zone, shown

Record = TypeVar("Record")
_NAMES_COMPARED = 5_000


def _found(record: Record | None, what: str, record_id: UUID, how_to_find: str) -> Record:
    if record is None:
        raise NotFound(f"There is no {what} with id {record_id}. {how_to_find}")
    return record


# ── clients ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def search_clients(
    connection: Connection, query: str, *, status: ClientStatus | None, limit: int
) -> tuple[list[FoundClient], bool]:
    """Return clients whose name, e-mail or phone contains every word of `query`, and whether they match as written.

    If none match, return clients with a similar name: people misspell.
    """
    words = query.split()
    found = queries.clients_matching(connection, words, status=status, limit=limit)
    if found or not words:
        return found, True
    names = queries.client_names(connection, _NAMES_COMPARED)
    close = difflib.get_close_matches(query.lower(), {name.lower() for name in names}, n=3, cutoff=0.75)
    similar = {
        client.client_id: client
        for name in close
        for client in queries.clients_matching(connection, name.split(), status=status, limit=limit)
    }
    return list(similar.values())[:limit], False


def view_client(connection: Connection, client_id: UUID) -> ClientProfile:
    """Return a client with the latest subscription, the number of visits and the total paid.

    Raises:
        NotFound: there is no such client.
    """
    return _found(queries.client(connection, client_id), "client", client_id, "Find clients with search_clients.")


def view_client_bookings(connection: Connection, client_id: UUID, *, upcoming: bool, limit: int) -> list[ClientBooking]:
    """Return a client's bookings, latest class first."""
    view_client(connection, client_id)
    return queries.bookings_of_client(connection, client_id, upcoming=upcoming, limit=limit)


def view_client_payments(connection: Connection, client_id: UUID, *, limit: int) -> list[ClientPayment]:
    """Return a client's payments, latest first."""
    view_client(connection, client_id)
    return queries.payments_of_client(connection, client_id, limit=limit)


def update_client_status(
    connection: Connection, client_id: UUID, status: ClientStatus, reason: str | None
) -> dict[str, Any]:
    """Change a client's status and note it on the client's record."""
    before = contacts.change_status(connection, client_id, "client", status)
    if before is None:
        raise NotFound(f"There is no client with id {client_id}. Find clients with search_clients.")
    queries.note_client_status(connection, client_id, status=status, reason=reason)
    return {"client_id": client_id, "name": before.name, "status_before": before.status, "status": status}


def calculate_engagement(connection: Connection, client_id: UUID, today: date, zone: ZoneInfo) -> dict[str, Any]:
    """Return a client's engagement score, with the activity it was computed from."""
    who = view_client(connection, client_id)
    activity = queries.activity_of_client(connection, client_id, zone)
    score = engagement_score(activity, today)
    return {"client_id": client_id, "name": who.name, **score.model_dump(), "activity": activity.model_dump()}


def clients_behind(connection: Connection, ids: list[UUID]) -> list[UUID]:
    """Return the clients whose payments and bookings have these ids."""
    return queries.clients_behind(connection, ids)


# ── leads ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def search_leads(
    connection: Connection, query: str | None, *, status: LeadStatus | None, source: str | None, limit: int
) -> list[FoundLead]:
    """Return leads whose name, e-mail, phone or interest contains every word of `query`, newest first."""
    words = (query or "").split()
    return queries.leads_matching(connection, words, status=status, source=source, limit=limit)


def view_lead(connection: Connection, lead_id: UUID) -> LeadProfile:
    """Return a lead.

    Raises:
        NotFound: there is no such lead.
    """
    return _found(queries.lead(connection, lead_id), "lead", lead_id, "Find leads with search_leads.")


def update_lead_status(connection: Connection, lead_id: UUID, status: LeadStatus, note: str | None) -> dict[str, Any]:
    """Move a lead in the pipeline and note it on the lead's record."""
    before = contacts.change_status(connection, lead_id, "lead", status)
    if before is None:
        raise NotFound(f"There is no lead with id {lead_id}. Find leads with search_leads.")
    queries.note_lead_status(connection, lead_id, status=status, note=note)
    return {"lead_id": lead_id, "name": before.name, "status_before": before.status, "status": status}


# ── classes, sessions, bookings ──────────────────────────────────────────────────────────────────────────────────────


def search_classes(
    connection: Connection, query: str | None, *, level: ClassLevel | None, limit: int
) -> list[GymClass]:
    """Return classes whose name, category or description contains every word of `query`."""
    return queries.classes_matching(connection, (query or "").split(), level=level, limit=limit)


def view_schedule(
    connection: Connection,
    query: str | None,
    *,
    first: date,
    last: date,
    instructor: str | None,
    zone: ZoneInfo,
    limit: int,
) -> list[ClassSession]:
    """Return future sessions from day `first` to day `last`, in the gym's time zone, with the places left."""
    if last < first:
        raise InvalidInput(f"The last day ({last}) is before the first ({first}). Swap them.")
    begin = datetime.combine(first, time.min, zone)
    end = datetime.combine(last + timedelta(days=1), time.min, zone)
    return queries.sessions_between(
        connection, (query or "").split(), begin=begin, end=end, instructor=instructor, limit=limit
    )


def _session(connection: Connection, session_id: UUID) -> ClassSession:
    found = queries.session(connection, session_id)
    return _found(found, "class session", session_id, "Find sessions with view_class_schedule.")


def _is_open(connection: Connection, session: ClassSession) -> bool:
    """Whether a session is still to come and was not cancelled. It may be full."""
    return session.status == "scheduled" and not queries.is_past(connection, session.starts_at)


def view_session(connection: Connection, session_id: UUID, zone: ZoneInfo) -> dict[str, Any]:
    """Return a session with the places left, and whether it can still be booked."""
    session = _session(connection, session_id)
    is_available = _is_open(connection, session) and session.places_left > 0
    return {**in_zone(session, zone), "is_available": is_available}


def view_attendees(connection: Connection, session_id: UUID, zone: ZoneInfo) -> dict[str, Any]:
    """Return a session and the clients booked into it."""
    session = view_session(connection, session_id, zone)
    return {**session, "bookings": [asdict(one) for one in queries.attendees(connection, session_id)]}


def book_class(connection: Connection, client_id: UUID, session_id: UUID, zone: ZoneInfo) -> dict[str, Any]:
    """Book a client into a session. Lock the session's row, so concurrent bookings cannot exceed its capacity.

    Raises:
        NotFound: the client or the session does not exist.
        Conflict: it is full, over, cancelled, or the client is booked already or may not book.
    """
    who = view_client(connection, client_id)
    if who.status != "active":
        raise Conflict(f"{who.name} is {who.status} and cannot book; only active clients can.")
    queries.lock_session(connection, session_id)
    wanted = _session(connection, session_id)
    if not _is_open(connection, wanted):
        raise Conflict("This session is over or was cancelled. Choose another with view_class_schedule.")
    booking_id = new_id()
    # A client who is booked already gets that message, even if the class is full.
    is_new = wanted.places_left > 0 and queries.insert_booking(connection, booking_id, client_id, session_id)
    if not is_new:
        booked = any(one.client_id == client_id for one in queries.attendees(connection, session_id))
        raise Conflict(
            f"{who.name} is booked into this session already."
            if booked
            else "This session is full. Offer another with view_class_schedule."
        )
    return {
        "booking_id": booking_id,
        "client_id": client_id,
        "client": who.name,
        "session_id": session_id,
        "class_name": wanted.class_name,
        "starts_at": shown(wanted.starts_at, zone),
        "instructor": wanted.instructor,
        "room": wanted.room,
        "places_left": wanted.places_left - 1,
    }


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def query_payments(
    connection: Connection,
    *,
    first: date,
    last: date,
    status: PaymentStatus | None,
    kind: PaymentKind | None,
    least: Decimal | None,
    zone: ZoneInfo,
    limit: int,
) -> dict[str, Any]:
    """Return payments from day `first` to day `last`: totals by status over all of them, and the latest `limit`."""
    if last < first:
        raise InvalidInput(f"The last day ({last}) is before the first ({first}). Swap them.")
    payments, totals = queries.payments_between(
        connection,
        begin=datetime.combine(first, time.min, zone),
        end=datetime.combine(last + timedelta(days=1), time.min, zone),
        status=status,
        kind=kind,
        least=least,
        limit=limit,
    )
    return {
        "from_date": first,
        "to_date": last,
        "totals": [asdict(total) for total in totals],
        "payments": [in_zone(payment, zone) for payment in payments],
    }


def query_subscriptions(
    connection: Connection, *, status: SubscriptionStatus | None, plan: str | None, limit: int
) -> dict[str, Any]:
    """Return counts and monthly amounts of subscriptions by plan and status, and the newest `limit`."""
    newest, totals = queries.subscriptions(connection, status=status, plan=plan, limit=limit)
    return {"totals": [asdict(total) for total in totals], "subscriptions": [asdict(one) for one in newest]}


# ── demonstration ────────────────────────────────────────────────────────────────────────────────────────────────────


def has_clients(connection: Connection) -> bool:
    """Whether there is any client."""
    return queries.has_clients(connection)


def seed_demonstration(
    connection: Connection, org: UUID, *, zone: ZoneInfo, today: date, progress: Callable[[str], None] = lambda _: None
) -> bool:
    """Fill an empty organisation with a demonstration gym and a year of history. If it has clients, only extend the
    timetable, so that there is something to book, and return False.
    """
    if queries.has_clients(connection):
        demo.carry_on(connection, org, zone=zone, today=today)
        return False
    progress("writing a year of a gym's history")
    gym = demo.make_gym(org, zone=zone, today=today)
    demo.store(connection, gym)
    return True
