"""All SQL about the gym's records."""

from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from business.crm.schemas import (
    Activity,
    Attendee,
    ClassCapacity,
    ClassSession,
    ClientBooking,
    ClientPayment,
    ClientProfile,
    FoundClient,
    FoundLead,
    GymClass,
    LeadProfile,
    Payment,
    PaymentTotal,
    Subscription,
    SubscriptionTotal,
)
from core.prepared import PreparedQuery
from core.rows import fetch_all, fetch_one

# ── clients ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_SEARCH_CLIENTS = PreparedQuery("""
    SELECT id AS client_id, name, email, phone, status, joined_on
      FROM client_contacts
     WHERE (CAST(:status AS text) IS NULL OR status = :status)
       AND NOT EXISTS (
            SELECT FROM unnest(CAST(:words AS text[])) AS word
             WHERE position(rota_fold(word) IN folded) = 0)
     ORDER BY name, id LIMIT :limit
""")


def clients_matching(connection: Connection, words: list[str], *, status: str | None, limit: int) -> list[FoundClient]:
    """Return clients whose name, e-mail or phone contains all of `words`, ignoring case and accents."""
    values = {"words": words, "status": status, "limit": limit}
    return [FoundClient(**row) for row in _SEARCH_CLIENTS.run(connection, values).all]


def client_names(connection: Connection, limit: int) -> list[str]:
    """Return names of clients, to find one that was misspelt."""
    statement = text("SELECT name FROM client_contacts ORDER BY (status = 'active') DESC, name LIMIT :limit")
    return list(connection.execute(statement, {"limit": limit}).scalars())


_CLIENT = PreparedQuery("""
    SELECT c.id AS client_id, c.name, c.email, c.phone, c.status, c.language, c.tags, c.notes, c.joined_on,
           (SELECT jsonb_build_object('plan', s.plan, 'amount', CAST(s.amount AS text), 'currency', s.currency,
                                      'period', s.period, 'status', s.status, 'started_on', s.started_on,
                                      'renews_on', s.renews_on)
              FROM subscriptions s WHERE s.client_id = c.id
             ORDER BY s.started_on DESC, s.id DESC LIMIT 1) AS subscription,
           (SELECT count(*) FROM bookings b WHERE b.client_id = c.id AND b.status = 'attended') AS visits,
           (SELECT coalesce(sum(p.amount), 0) FROM payments p
             WHERE p.client_id = c.id AND p.status = 'paid') AS total_paid
      FROM client_contacts c WHERE c.id = :client
""")


def client(connection: Connection, client_id: UUID) -> ClientProfile | None:
    """Return a client with the latest subscription, the number of visits and the total paid."""
    row = _CLIENT.run(connection, {"client": client_id}).first()
    return ClientProfile(**row) if row else None


_CLIENT_BOOKINGS = PreparedQuery("""
    SELECT b.id AS booking_id, b.status, s.id AS session_id, k.name AS class_name, s.starts_at, s.instructor, s.room
      FROM bookings b JOIN class_sessions s ON s.id = b.session_id JOIN classes k ON k.id = s.class_id
     WHERE b.client_id = :client AND (NOT CAST(:upcoming AS boolean) OR s.starts_at > rota_now())
     ORDER BY s.starts_at DESC LIMIT :limit
""")


def bookings_of_client(connection: Connection, client_id: UUID, *, upcoming: bool, limit: int) -> list[ClientBooking]:
    """Return a client's bookings, latest class first."""
    values = {"client": client_id, "upcoming": upcoming, "limit": limit}
    return [ClientBooking(**row) for row in _CLIENT_BOOKINGS.run(connection, values).all]


_CLIENT_PAYMENTS = text("""
    SELECT id AS payment_id, amount, currency, kind, method, status, paid_at
      FROM payments WHERE client_id = :client ORDER BY paid_at DESC LIMIT :limit
""")


def payments_of_client(connection: Connection, client_id: UUID, *, limit: int) -> list[ClientPayment]:
    """Return a client's payments, latest first."""
    return fetch_all(connection.execute(_CLIENT_PAYMENTS, {"client": client_id, "limit": limit}), ClientPayment)


_NOTE_CLIENT_STATUS = text("""
    UPDATE clients c SET updated_at = rota_now(),
           notes = concat_ws(E'\n', nullif(c.notes, ''),
                             to_char(rota_now() AT TIME ZONE o.time_zone, 'YYYY-MM-DD') || ': ' || CAST(:status AS text)
                             || coalesce(' (' || CAST(:reason AS text) || ')', ''))
      FROM organisations o WHERE c.id = :client AND o.id = c.org_id
""")


def note_client_status(connection: Connection, client_id: UUID, *, status: str, reason: str | None) -> None:
    """Add a line about a new status to a client's notes."""
    connection.execute(_NOTE_CLIENT_STATUS, {"client": client_id, "status": status, "reason": reason})


_ACTIVITY = text("""
    SELECT count(*) FILTER (WHERE b.status = 'attended'
                              AND s.starts_at > rota_now() - interval '30 days') AS visits_30_days,
           count(*) FILTER (WHERE b.status = 'attended'
                              AND s.starts_at > rota_now() - interval '90 days') AS visits_90_days,
           count(*) FILTER (WHERE b.status = 'no_show'
                              AND s.starts_at > rota_now() - interval '90 days') AS no_shows_90_days,
           CAST(max(s.starts_at) FILTER (WHERE b.status = 'attended') AT TIME ZONE CAST(:zone AS text) AS date)
               AS last_visit,
           (SELECT count(*) FROM payments p WHERE p.client_id = :client AND p.status = 'failed'
               AND p.paid_at > rota_now() - interval '90 days') AS failed_payments_90_days,
           EXISTS (SELECT FROM subscriptions u WHERE u.client_id = :client AND u.status = 'active')
               AS has_active_subscription,
           EXISTS (SELECT FROM subscriptions u WHERE u.client_id = :client AND u.status = 'past_due') AS is_past_due
      FROM bookings b JOIN class_sessions s ON s.id = b.session_id
     WHERE b.client_id = :client
""")


def activity_of_client(connection: Connection, client_id: UUID, zone: ZoneInfo) -> Activity:
    """Return a client's activity in the last 30 and 90 days, and the day of the last visit in `zone`."""
    return fetch_one(connection.execute(_ACTIVITY, {"client": client_id, "zone": str(zone)}), Activity)


# ── leads ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_SEARCH_LEADS = PreparedQuery("""
    SELECT id AS lead_id, name, email, phone, source, interest, status, created_at
      FROM lead_contacts
     WHERE (CAST(:status AS text) IS NULL OR status = :status)
       AND (CAST(:source AS text) IS NULL OR rota_fold(source) = rota_fold(:source))
       AND NOT EXISTS (
            SELECT FROM unnest(CAST(:words AS text[])) AS word
             WHERE position(rota_fold(word) IN folded) = 0)
     ORDER BY created_at DESC, id LIMIT :limit
""")


def leads_matching(
    connection: Connection, words: list[str], *, status: str | None, source: str | None, limit: int
) -> list[FoundLead]:
    """Return leads whose name, e-mail, phone or interest contains all of `words`, newest first."""
    values = {"words": words, "status": status, "source": source, "limit": limit}
    return [FoundLead(**row) for row in _SEARCH_LEADS.run(connection, values).all]


_LEAD = PreparedQuery("""
    SELECT id AS lead_id, name, email, phone, source, interest, status, notes, created_at, updated_at
      FROM lead_contacts WHERE id = :lead
""")


def lead(connection: Connection, lead_id: UUID) -> LeadProfile | None:
    """Return a lead; None if there is none."""
    row = _LEAD.run(connection, {"lead": lead_id}).first()
    return LeadProfile(**row) if row else None


_NOTE_LEAD_STATUS = text("""
    UPDATE leads l SET updated_at = rota_now(),
           notes = concat_ws(E'\n', nullif(l.notes, ''),
                             to_char(rota_now() AT TIME ZONE o.time_zone, 'YYYY-MM-DD') || ': ' || CAST(:status AS text)
                             || coalesce(' (' || CAST(:note AS text) || ')', ''))
      FROM organisations o WHERE l.id = :lead AND o.id = l.org_id
""")


def note_lead_status(connection: Connection, lead_id: UUID, *, status: str, note: str | None) -> None:
    """Add a line about a new status to a lead's notes."""
    connection.execute(_NOTE_LEAD_STATUS, {"lead": lead_id, "status": status, "note": note})


# ── classes, sessions, bookings ──────────────────────────────────────────────────────────────────────────────────────

_SEARCH_CLASSES = PreparedQuery("""
    SELECT id AS class_id, name, category, description, level, duration_minutes, capacity
      FROM classes
     WHERE (CAST(:level AS text) IS NULL OR level IN (:level, 'all levels'))
       AND NOT EXISTS (
            SELECT FROM unnest(CAST(:words AS text[])) AS word
             WHERE position(rota_fold(word) IN folded) = 0)
     ORDER BY name LIMIT :limit
""")


def classes_matching(connection: Connection, words: list[str], *, level: str | None, limit: int) -> list[GymClass]:
    """Return classes whose name, category or description contains all of `words`."""
    values = {"words": words, "level": level, "limit": limit}
    return [GymClass(**row) for row in _SEARCH_CLASSES.run(connection, values).all]


_SESSION = """
    SELECT s.id AS session_id, k.name AS class_name, k.category, s.starts_at, s.instructor, s.room, s.status,
           s.capacity, s.capacity - rota_places_taken(s.id) AS places_left
      FROM class_sessions s JOIN classes k ON k.id = s.class_id
"""
_SCHEDULE = PreparedQuery(
    _SESSION
    + """
     WHERE s.starts_at >= greatest(CAST(:begin AS timestamptz), rota_now()) AND s.starts_at < :end
       AND s.status = 'scheduled'
       AND (CAST(:instructor AS text) IS NULL OR position(rota_fold(:instructor) IN rota_fold(s.instructor)) > 0)
       AND NOT EXISTS (
            SELECT FROM unnest(CAST(:words AS text[])) AS word
             WHERE position(rota_fold(word) IN rota_fold(k.name || ' ' || k.category)) = 0)
     ORDER BY s.starts_at, k.name LIMIT :limit
"""
)


def sessions_between(
    connection: Connection, words: list[str], *, begin: datetime, end: datetime, instructor: str | None, limit: int
) -> list[ClassSession]:
    """Return future sessions between two times, of classes whose name or category contains all of `words`."""
    values = {"words": words, "begin": begin, "end": end, "instructor": instructor, "limit": limit}
    return [ClassSession(**row) for row in _SCHEDULE.run(connection, values).all]


_ONE_SESSION = PreparedQuery(_SESSION + " WHERE s.id = :session")


def session(connection: Connection, session_id: UUID) -> ClassSession | None:
    """Return a session, with the places left."""
    row = _ONE_SESSION.run(connection, {"session": session_id}).first()
    return ClassSession(**row) if row else None


_ATTENDEES = text("""
    SELECT b.id AS booking_id, c.id AS client_id, c.name, b.status
      FROM bookings b JOIN client_contacts c ON c.id = b.client_id
     WHERE b.session_id = :session AND b.status <> 'cancelled' ORDER BY c.name
""")


def attendees(connection: Connection, session_id: UUID) -> list[Attendee]:
    """Return the clients booked into a session."""
    return fetch_all(connection.execute(_ATTENDEES, {"session": session_id}), Attendee)


def lock_session(connection: Connection, session_id: UUID) -> None:
    """Lock a session's row, if it exists, so that places are assigned one at a time."""
    connection.execute(text("SELECT true FROM class_sessions WHERE id = :session FOR UPDATE"), {"session": session_id})


def is_past(connection: Connection, moment: datetime) -> bool:
    """Whether `moment` has passed, by the database's clock."""
    return bool(connection.execute(text("SELECT :moment <= rota_now()"), {"moment": moment}).scalar())


_INSERT_BOOKING = text("""
    INSERT INTO bookings (id, org_id, client_id, session_id)
    SELECT :id, org_id, :client, id FROM class_sessions WHERE id = :session
    ON CONFLICT (session_id, client_id) WHERE status <> 'cancelled' DO NOTHING
    RETURNING id
""")


def insert_booking(connection: Connection, booking_id: UUID, client_id: UUID, session_id: UUID) -> bool:
    """Book a client into a session. Return False if that client is booked into it already."""
    values = {"id": booking_id, "client": client_id, "session": session_id}
    return connection.execute(_INSERT_BOOKING, values).scalar() is not None


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_PAYMENT_FILTER = """
      FROM payments p JOIN client_contacts c ON c.id = p.client_id
     WHERE (CAST(:status AS text) IS NULL OR p.status = :status) AND (CAST(:kind AS text) IS NULL OR p.kind = :kind)
       AND p.paid_at >= :begin AND p.paid_at < :end
       AND (CAST(:least AS numeric) IS NULL OR p.amount >= :least)
"""
_PAYMENTS = text(f"""
    SELECT p.id AS payment_id, c.id AS client_id, c.name AS client, p.amount, p.currency, p.kind, p.method, p.status,
           p.paid_at {_PAYMENT_FILTER} ORDER BY p.paid_at DESC LIMIT :limit
""")
_PAYMENT_TOTALS = text(f"""
    SELECT p.status, p.currency, count(*) AS payments, sum(p.amount) AS amount {_PAYMENT_FILTER}
     GROUP BY p.status, p.currency ORDER BY p.status
""")


def payments_between(
    connection: Connection, *, begin: datetime, end: datetime, limit: int, **wanted: Any
) -> tuple[list[Payment], list[PaymentTotal]]:
    """Return the latest payments from `begin` to before `end`, and the totals of all of them by status.

    `wanted`: status, kind, least (amount); None for any.
    """
    values = {"begin": begin, "end": end, "limit": limit, **wanted}
    payments = fetch_all(connection.execute(_PAYMENTS, values), Payment)
    return payments, fetch_all(connection.execute(_PAYMENT_TOTALS, values), PaymentTotal)


_SUBSCRIPTIONS = text("""
    SELECT u.id AS subscription_id, c.id AS client_id, c.name AS client, u.plan, u.amount, u.currency, u.period,
           u.status, u.started_on, u.renews_on
      FROM subscriptions u JOIN client_contacts c ON c.id = u.client_id
     WHERE (CAST(:status AS text) IS NULL OR u.status = :status)
       AND (CAST(:plan AS text) IS NULL OR position(rota_fold(:plan) IN rota_fold(u.plan)) > 0)
     ORDER BY u.started_on DESC, u.id LIMIT :limit
""")
_SUBSCRIPTION_TOTALS = text("""
    SELECT plan, status, currency, count(*) AS subscriptions,
           round(sum(CASE period WHEN 'year' THEN amount / 12 ELSE amount END), 2) AS monthly_amount
      FROM subscriptions
     WHERE (CAST(:status AS text) IS NULL OR status = :status)
       AND (CAST(:plan AS text) IS NULL OR position(rota_fold(:plan) IN rota_fold(plan)) > 0)
     GROUP BY plan, status, currency ORDER BY plan, status
""")


def subscriptions(
    connection: Connection, *, status: str | None, plan: str | None, limit: int
) -> tuple[list[Subscription], list[SubscriptionTotal]]:
    """Return the newest subscriptions, and counts and monthly amounts of all of them by plan and status."""
    values = {"status": status, "plan": plan, "limit": limit}
    newest = fetch_all(connection.execute(_SUBSCRIPTIONS, values), Subscription)
    return newest, fetch_all(connection.execute(_SUBSCRIPTION_TOTALS, values), SubscriptionTotal)


_SETTLE = text("""
    UPDATE bookings b SET status = 'attended' FROM class_sessions s
     WHERE s.id = b.session_id AND b.status = 'booked' AND s.starts_at < rota_now() - interval '3 hours'
""")


def mark_past_attended(connection: Connection) -> None:
    """Mark past bookings as attended: in the demonstration, no staff record attendance."""
    connection.execute(_SETTLE)


def last_session_starts(connection: Connection) -> datetime | None:
    """Return when the last session of the timetable starts."""
    found: datetime | None = connection.execute(text("SELECT max(starts_at) FROM class_sessions")).scalar_one()
    return found


def classes_by_name(connection: Connection) -> dict[str, ClassCapacity]:
    """Return each class with its capacity, by name."""
    found = fetch_all(connection.execute(text("SELECT id, name, capacity FROM classes")), ClassCapacity)
    return {one.name: one for one in found}


# ── set-up ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def has_clients(connection: Connection) -> bool:
    """Whether the organisation has any client."""
    return connection.execute(text("SELECT true FROM client_contacts LIMIT 1")).scalar() is not None


_CLIENTS_BEHIND = text("""
    SELECT client_id FROM payments WHERE id = ANY(:ids)
     UNION
    SELECT client_id FROM bookings WHERE id = ANY(:ids)
""")


def clients_behind(connection: Connection, ids: list[UUID]) -> list[UUID]:
    """Return the clients whose payments and bookings have these ids."""
    return list(connection.execute(_CLIENTS_BEHIND, {"ids": ids}).scalars())
