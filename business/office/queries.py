"""All SQL about what agents do to clients, places and payments."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from business.crm.schemas import FoundLead, Payment
from business.office.schemas import (
    Audience,
    ExportedBooking,
    ExportedClient,
    ExportedSubscription,
    ExportWhat,
    LapsedCharge,
    LockedBooking,
    LockedPayment,
    OfferedSession,
    Trial,
)
from core.rows import fetch_all, fetch_optional

Exported = ExportedClient | FoundLead | Payment | ExportedBooking | ExportedSubscription

_NOTE_TRIAL = text("""
    UPDATE trial_bookings SET status = :status WHERE id = :id AND status IN ('booked', :status)
    RETURNING lead_id
""")


def note_trial(connection: Connection, trial_id: UUID, status: str) -> UUID | None:
    """Record how a trial ended. Return its lead; None unless it was booked or has this status already."""
    lead: UUID | None = connection.execute(_NOTE_TRIAL, {"id": trial_id, "status": status}).scalar_one_or_none()
    return lead


def trial(connection: Connection, trial_id: UUID) -> Trial | None:
    """Return a lead's place in a session; None if there is none."""
    statement = text("SELECT id, lead_id, session_id, status FROM trial_bookings WHERE id = :id")
    return fetch_optional(connection.execute(statement, {"id": trial_id}), Trial)


def lock_client_tags(connection: Connection, client_id: UUID) -> list[str]:
    """Return a client's tags, and lock the client until the transaction ends."""
    statement = text("SELECT tags FROM clients WHERE id = :client FOR UPDATE")
    return list(connection.execute(statement, {"client": client_id}).scalar_one())


def set_client_tags(connection: Connection, client_id: UUID, tags: list[str]) -> None:
    """Replace a client's tags."""
    statement = text("UPDATE clients SET tags = :tags, updated_at = rota_now() WHERE id = :client")
    connection.execute(statement, {"client": client_id, "tags": tags})


_FITTING = text("""
    SELECT c.id
      FROM client_contacts c JOIN organisations o ON o.id = c.org_id
     WHERE (CAST(:status AS text) IS NULL OR c.status = :status)
       AND NOT EXISTS (
            SELECT FROM unnest(CAST(:tags AS text[])) AS wanted
             WHERE rota_fold(wanted) <> ALL (SELECT rota_fold(tag) FROM unnest(c.tags) AS tag))
       AND (CAST(:days AS integer) IS NULL
            OR (c.joined_on < ((rota_now() - make_interval(days => :days)) AT TIME ZONE o.time_zone)::date
                AND NOT EXISTS (
                    SELECT FROM bookings b JOIN class_sessions s ON s.id = b.session_id
                     WHERE b.client_id = c.id AND b.status = 'attended'
                       AND s.starts_at > rota_now() - make_interval(days => :days))))
     ORDER BY c.id
""")


def clients_fitting(connection: Connection, audience: Audience) -> list[UUID]:
    """Return the clients who match an audience now."""
    values = {"status": audience.status, "tags": audience.tags, "days": audience.inactive_days}
    return list(connection.execute(_FITTING, values).scalars())


def lock_session(connection: Connection, session_id: UUID) -> None:
    """Lock a session's row, if it exists, so that places are assigned one at a time."""
    connection.execute(text("SELECT true FROM class_sessions WHERE id = :session FOR UPDATE"), {"session": session_id})


_SESSION = text("""
    SELECT s.id AS session_id, k.name AS class_name, s.starts_at, s.instructor, s.room, s.status,
           s.starts_at <= rota_now() AS is_over, s.capacity - rota_places_taken(s.id) AS places_left
      FROM class_sessions s JOIN classes k ON k.id = s.class_id WHERE s.id = :session
""")


def session(connection: Connection, session_id: UUID) -> OfferedSession | None:
    """Return a session, with the places that neither bookings nor trials have taken."""
    return fetch_optional(connection.execute(_SESSION, {"session": session_id}), OfferedSession)


_LOCK_BOOKING = text("""
    SELECT b.id AS booking_id, b.client_id, c.name AS client, c.status AS client_status, b.session_id, b.status,
           k.name AS class_name, s.starts_at, s.starts_at <= rota_now() AS is_over
      FROM bookings b JOIN client_contacts c ON c.id = b.client_id
      JOIN class_sessions s ON s.id = b.session_id JOIN classes k ON k.id = s.class_id
     WHERE b.id = :booking FOR UPDATE OF b
""")


def lock_booking(connection: Connection, booking_id: UUID) -> LockedBooking | None:
    """Return a booking with its client and session, and lock it until the transaction ends."""
    return fetch_optional(connection.execute(_LOCK_BOOKING, {"booking": booking_id}), LockedBooking)


def cancel_booking(connection: Connection, booking_id: UUID) -> None:
    """Cancel a booking, which frees its place."""
    connection.execute(text("UPDATE bookings SET status = 'cancelled' WHERE id = :id"), {"id": booking_id})


def is_booked(connection: Connection, client_id: UUID, session_id: UUID) -> bool:
    """Whether the client has a place in the session."""
    statement = text("""
        SELECT true FROM bookings WHERE session_id = :session AND client_id = :client AND status <> 'cancelled'
    """)
    return connection.execute(statement, {"client": client_id, "session": session_id}).scalar() is not None


def move_booking(connection: Connection, booking_id: UUID, session_id: UUID) -> None:
    """Move a booking to another session."""
    statement = text("UPDATE bookings SET session_id = :session WHERE id = :id")
    connection.execute(statement, {"id": booking_id, "session": session_id})


def lock_client(connection: Connection, client_id: UUID) -> None:
    """Lock a client's row, so that charges of one client are recorded one at a time."""
    connection.execute(text("SELECT true FROM clients WHERE id = :client FOR UPDATE"), {"client": client_id})


_PENDING = text("""
    SELECT true FROM payments
     WHERE client_id = :client AND status = 'pending' AND amount = :amount AND kind = :kind
       AND paid_at > rota_now() - interval '1 day' LIMIT 1
""")


def is_charged(connection: Connection, row: dict[str, Any]) -> bool:
    """Whether the client has a pending charge of the same amount and kind from the last day."""
    return connection.execute(_PENDING, row).scalar() is not None


_INSERT_PAYMENT = text("""
    INSERT INTO payments (id, org_id, client_id, amount, currency, kind, method, status, paid_at, task_id, created_by)
    VALUES (:id, :org, :client, :amount, :currency, :kind, :method, 'pending', rota_now(), :task, :agent)
""")


def insert_payment(connection: Connection, row: dict[str, Any]) -> None:
    """Record a payment that is still to be collected."""
    connection.execute(_INSERT_PAYMENT, row)


_LOCK_PAYMENT = text("""
    SELECT p.id AS payment_id, p.client_id, c.name AS client, p.amount, p.currency, p.kind, p.status
      FROM payments p JOIN client_contacts c ON c.id = p.client_id WHERE p.id = :payment FOR UPDATE OF p
""")


def lock_payment(connection: Connection, payment_id: UUID) -> LockedPayment | None:
    """Return a payment, and lock it until the transaction ends."""
    return fetch_optional(connection.execute(_LOCK_PAYMENT, {"payment": payment_id}), LockedPayment)


def mark_refunded(connection: Connection, payment_id: UUID) -> None:
    """Mark a payment as refunded."""
    connection.execute(text("UPDATE payments SET status = 'refunded' WHERE id = :id"), {"id": payment_id})


def _export(rows: str, day: str) -> TextClause:
    """Return the statement for `rows` whose `day` lies in the period, oldest first."""
    return text(f"""
        SELECT * FROM ({rows}) AS found
         WHERE (CAST(:first AS date) IS NULL OR {day} >= :first) AND (CAST(:last AS date) IS NULL OR {day} <= :last)
         ORDER BY {day}, 1 LIMIT :limit
    """)  # noqa: S608 - built from constants only, no values


_IN_ZONE = "({} AT TIME ZONE CAST(:zone AS text))::date"


_EXPORTS: dict[ExportWhat, TextClause] = {
    "clients": _export(
        "SELECT id AS client_id, name, email, phone, status, language, tags, joined_on FROM client_contacts",
        "joined_on",
    ),
    "leads": _export(
        "SELECT id AS lead_id, name, email, phone, source, interest, status, created_at FROM lead_contacts",
        _IN_ZONE.format("created_at"),
    ),
    "payments": _export(
        """
        SELECT p.id AS payment_id, c.id AS client_id, c.name AS client, p.amount, p.currency, p.kind, p.method,
               p.status, p.paid_at
          FROM payments p JOIN client_contacts c ON c.id = p.client_id
        """,
        _IN_ZONE.format("paid_at"),
    ),
    "bookings": _export(
        """
        SELECT b.id AS booking_id, c.id AS client_id, c.name AS client, k.name AS class_name, s.starts_at,
               s.instructor, s.room, b.status
          FROM bookings b JOIN client_contacts c ON c.id = b.client_id
          JOIN class_sessions s ON s.id = b.session_id JOIN classes k ON k.id = s.class_id
        """,
        _IN_ZONE.format("starts_at"),
    ),
    "subscriptions": _export(
        """
        SELECT u.id AS subscription_id, c.id AS client_id, c.name AS client, u.plan, u.amount, u.currency, u.period,
               u.status, u.started_on, u.renews_on, u.ended_on
          FROM subscriptions u JOIN client_contacts c ON c.id = u.client_id
        """,
        "started_on",
    ),
}
_EXPORTED: dict[ExportWhat, type[Exported]] = {
    "clients": ExportedClient,
    "leads": FoundLead,
    "payments": Payment,
    "bookings": ExportedBooking,
    "subscriptions": ExportedSubscription,
}


def exported(
    connection: Connection, what: ExportWhat, *, first: date | None, last: date | None, zone: str, limit: int
) -> tuple[list[str], list[Exported]]:
    """Return column names, and the records of the days from `first` to `last`, oldest first."""
    values = {"first": first, "last": last, "zone": zone, "limit": limit}
    found = connection.execute(_EXPORTS[what], values)
    return list(found.keys()), fetch_all(found, _EXPORTED[what])


_LAPSE = text("""
    UPDATE payments SET status = 'lapsed', settled_at = rota_now()
     WHERE id IN (SELECT id FROM payments
                   WHERE status = 'pending' AND paid_at <= rota_now() - CAST(:patience AS interval)
                   LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING id, client_id, amount, currency
""")


def lapse_charges(connection: Connection, patience: timedelta, limit: int) -> list[LapsedCharge]:
    """Mark payments that were not collected in time as `lapsed`, and return them."""
    return fetch_all(connection.execute(_LAPSE, {"patience": patience, "limit": limit}), LapsedCharge)


_CHARGES_DUE = text("""
    SELECT DISTINCT org_id FROM payments
     WHERE status = 'pending' AND paid_at <= rota_now() - CAST(:patience AS interval)
""")


def organisations_with_overdue_charges(connection: Connection, patience: timedelta) -> list[UUID]:
    """Return the organisations with a charge that was not collected in time."""
    return list(connection.execute(_CHARGES_DUE, {"patience": patience}).scalars())
