"""All SQL about the gym's records."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import JSON, Connection, RowMapping, bindparam, text

from core.db import Hot

# ── clients ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_SEARCH_CLIENTS = Hot("""
    SELECT id AS client_id, name, email, phone, status, joined_on
      FROM clients
     WHERE (CAST(:status AS text) IS NULL OR status = :status)
       AND NOT EXISTS (
            SELECT FROM unnest(CAST(:words AS text[])) AS word
             WHERE position(rota_fold(word) IN folded) = 0)
     ORDER BY name, id LIMIT :limit
""")


def clients_matching(
    connection: Connection, words: list[str], *, status: str | None, limit: int
) -> list[dict[str, Any]]:
    """Clients in whose name, e-mail or phone every one of `words` occurs (case and accents aside)."""
    values = {"words": words, "status": status, "limit": limit}
    return _SEARCH_CLIENTS.run(connection, values).all


def client_names(connection: Connection, limit: int) -> list[str]:
    """Names of clients, to find one that was misspelt."""
    statement = text("SELECT name FROM clients ORDER BY (status = 'active') DESC, name LIMIT :limit")
    return list(connection.execute(statement, {"limit": limit}).scalars())


_CLIENT = Hot("""
    SELECT c.id AS client_id, c.name, c.email, c.phone, c.status, c.language, c.tags, c.notes, c.joined_on,
           (SELECT jsonb_build_object('plan', s.plan, 'amount', CAST(s.amount AS text), 'currency', s.currency,
                                      'period', s.period, 'status', s.status, 'started_on', s.started_on,
                                      'renews_on', s.renews_on)
              FROM subscriptions s WHERE s.client_id = c.id
             ORDER BY s.started_on DESC, s.id DESC LIMIT 1) AS subscription,
           (SELECT count(*) FROM bookings b WHERE b.client_id = c.id AND b.status = 'attended') AS visits,
           (SELECT coalesce(sum(p.amount), 0) FROM payments p
             WHERE p.client_id = c.id AND p.status = 'paid') AS total_paid
      FROM clients c WHERE c.id = :client
""")


def client(connection: Connection, client_id: UUID) -> dict[str, Any] | None:
    """A client with the latest subscription, visits and what was paid in all."""
    return _CLIENT.run(connection, {"client": client_id}).first()


_CLIENT_BOOKINGS = Hot("""
    SELECT b.id AS booking_id, b.status, s.id AS session_id, k.name AS class_name, s.starts_at, s.instructor, s.room
      FROM bookings b JOIN class_sessions s ON s.id = b.session_id JOIN classes k ON k.id = s.class_id
     WHERE b.client_id = :client AND (NOT CAST(:upcoming AS boolean) OR s.starts_at > rota_now())
     ORDER BY s.starts_at DESC LIMIT :limit
""")


def bookings_of_client(connection: Connection, client_id: UUID, *, upcoming: bool, limit: int) -> list[dict[str, Any]]:
    """A client's bookings, latest class first."""
    values = {"client": client_id, "upcoming": upcoming, "limit": limit}
    return _CLIENT_BOOKINGS.run(connection, values).all


_CLIENT_PAYMENTS = text("""
    SELECT id AS payment_id, amount, currency, kind, method, status, paid_at
      FROM payments WHERE client_id = :client ORDER BY paid_at DESC LIMIT :limit
""")


def payments_of_client(connection: Connection, client_id: UUID, *, limit: int) -> list[RowMapping]:
    """A client's payments, latest first."""
    return list(connection.execute(_CLIENT_PAYMENTS, {"client": client_id, "limit": limit}).mappings())


_SET_CLIENT_STATUS = text("""
    UPDATE clients c SET status = :status, updated_at = rota_now(),
           notes = concat_ws(E'\n', nullif(c.notes, ''),
                             to_char(rota_now() AT TIME ZONE o.time_zone, 'YYYY-MM-DD') || ': ' || :status
                             || coalesce(' (' || CAST(:reason AS text) || ')', ''))
      FROM (SELECT id, status FROM clients WHERE id = :client FOR UPDATE) AS before, organisations o
     WHERE c.id = before.id AND o.id = c.org_id
    RETURNING c.id AS client_id, c.name, before.status AS status_before, c.status
""")


def set_client_status(connection: Connection, client_id: UUID, *, status: str, reason: str | None) -> RowMapping | None:
    """Change a client's status, with a line in the notes; the row tells the status before."""
    values = {"client": client_id, "status": status, "reason": reason}
    return connection.execute(_SET_CLIENT_STATUS, values).mappings().one_or_none()


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


def activity_of_client(connection: Connection, client_id: UUID, zone: ZoneInfo) -> RowMapping:
    """What a client did in the last 30 and 90 days, and when they came last by the clock of `zone`."""
    return connection.execute(_ACTIVITY, {"client": client_id, "zone": str(zone)}).mappings().one()


# ── leads ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_SEARCH_LEADS = Hot("""
    SELECT id AS lead_id, name, email, phone, source, interest, status, created_at
      FROM leads
     WHERE (CAST(:status AS text) IS NULL OR status = :status)
       AND (CAST(:source AS text) IS NULL OR rota_fold(source) = rota_fold(:source))
       AND NOT EXISTS (
            SELECT FROM unnest(CAST(:words AS text[])) AS word
             WHERE position(rota_fold(word) IN folded) = 0)
     ORDER BY created_at DESC, id LIMIT :limit
""")


def leads_matching(
    connection: Connection, words: list[str], *, status: str | None, source: str | None, limit: int
) -> list[dict[str, Any]]:
    """Leads in whose name, e-mail, phone or interest every one of `words` occurs, newest first."""
    values = {"words": words, "status": status, "source": source, "limit": limit}
    return _SEARCH_LEADS.run(connection, values).all


_LEAD = Hot("""
    SELECT id AS lead_id, name, email, phone, source, interest, status, notes, created_at, updated_at
      FROM leads WHERE id = :lead
""")


def lead(connection: Connection, lead_id: UUID) -> dict[str, Any] | None:
    """A lead."""
    return _LEAD.run(connection, {"lead": lead_id}).first()


_SET_LEAD_STATUS = text("""
    UPDATE leads l SET status = :status, updated_at = rota_now(),
           notes = concat_ws(E'\n', nullif(l.notes, ''),
                             to_char(rota_now() AT TIME ZONE o.time_zone, 'YYYY-MM-DD') || ': ' || :status
                             || coalesce(' (' || CAST(:note AS text) || ')', ''))
      FROM (SELECT id, status FROM leads WHERE id = :lead FOR UPDATE) AS before, organisations o
     WHERE l.id = before.id AND o.id = l.org_id
    RETURNING l.id AS lead_id, l.name, before.status AS status_before, l.status
""")


def set_lead_status(connection: Connection, lead_id: UUID, *, status: str, note: str | None) -> RowMapping | None:
    """Move a lead in the pipeline, with a line in the notes; the row tells the status before."""
    values = {"lead": lead_id, "status": status, "note": note}
    return connection.execute(_SET_LEAD_STATUS, values).mappings().one_or_none()


# ── classes, sessions, bookings ──────────────────────────────────────────────────────────────────────────────────────

_SEARCH_CLASSES = Hot("""
    SELECT id AS class_id, name, category, description, level, duration_minutes, capacity
      FROM classes
     WHERE (CAST(:level AS text) IS NULL OR level IN (:level, 'all levels'))
       AND NOT EXISTS (
            SELECT FROM unnest(CAST(:words AS text[])) AS word
             WHERE position(rota_fold(word) IN folded) = 0)
     ORDER BY name LIMIT :limit
""")


def classes_matching(
    connection: Connection, words: list[str], *, level: str | None, limit: int
) -> list[dict[str, Any]]:
    """Classes in whose name, category or description every one of `words` occurs."""
    values = {"words": words, "level": level, "limit": limit}
    return _SEARCH_CLASSES.run(connection, values).all


_SESSION = """
    SELECT s.id AS session_id, k.name AS class_name, k.category, s.starts_at, s.instructor, s.room, s.status,
           s.capacity, s.capacity - rota_places_taken(s.id) AS places_left
      FROM class_sessions s JOIN classes k ON k.id = s.class_id
"""
_SCHEDULE = Hot(
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
) -> list[dict[str, Any]]:
    """Sessions still to come between two times, of classes in whose name or category every one of `words` occurs."""
    values = {"words": words, "begin": begin, "end": end, "instructor": instructor, "limit": limit}
    return _SCHEDULE.run(connection, values).all


_ONE_SESSION = Hot(_SESSION + " WHERE s.id = :session")


def session(connection: Connection, session_id: UUID) -> dict[str, Any] | None:
    """A session, with the places left."""
    return _ONE_SESSION.run(connection, {"session": session_id}).first()


_ATTENDEES = text("""
    SELECT b.id AS booking_id, c.id AS client_id, c.name, b.status
      FROM bookings b JOIN clients c ON c.id = b.client_id
     WHERE b.session_id = :session AND b.status <> 'cancelled' ORDER BY c.name
""")


def attendees(connection: Connection, session_id: UUID) -> list[RowMapping]:
    """Who is booked into a session."""
    return list(connection.execute(_ATTENDEES, {"session": session_id}).mappings())


def lock_session(connection: Connection, session_id: UUID) -> None:
    """Hold a session's row, where it exists, so that places are given out one at a time."""
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
    """Book a client into a session. False when that client is booked into it already."""
    values = {"id": booking_id, "client": client_id, "session": session_id}
    return connection.execute(_INSERT_BOOKING, values).scalar() is not None


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_PAYMENT_FILTER = """
      FROM payments p JOIN clients c ON c.id = p.client_id
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
) -> tuple[list[RowMapping], list[RowMapping]]:
    """The latest payments from `begin` to before `end`, and the totals of all of them by status.

    `wanted`: status, kind, least (amount); None for any.
    """
    values = {"begin": begin, "end": end, "limit": limit, **wanted}
    rows = connection.execute(_PAYMENTS, values).mappings()
    totals = connection.execute(_PAYMENT_TOTALS, values).mappings()
    return list(rows), list(totals)


_SUBSCRIPTIONS = text("""
    SELECT u.id AS subscription_id, c.id AS client_id, c.name AS client, u.plan, u.amount, u.currency, u.period,
           u.status, u.started_on, u.renews_on
      FROM subscriptions u JOIN clients c ON c.id = u.client_id
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
) -> tuple[list[RowMapping], list[RowMapping]]:
    """The newest subscriptions, and counts and monthly amounts of all of them by plan and status."""
    values = {"status": status, "plan": plan, "limit": limit}
    rows = connection.execute(_SUBSCRIPTIONS, values).mappings()
    totals = connection.execute(_SUBSCRIPTION_TOTALS, values).mappings()
    return list(rows), list(totals)


_SETTLE = text("""
    UPDATE bookings b SET status = 'attended' FROM class_sessions s
     WHERE s.id = b.session_id AND b.status = 'booked' AND s.starts_at < rota_now() - interval '3 hours'
""")


def settle_past_bookings(connection: Connection) -> None:
    """Let those who were booked have come: for the demonstration, where nobody stands at the door."""
    connection.execute(_SETTLE)


def last_session_starts(connection: Connection) -> datetime | None:
    """When the last session of the timetable starts."""
    found: datetime | None = connection.execute(text("SELECT max(starts_at) FROM class_sessions")).scalar_one()
    return found


def classes_by_name(connection: Connection) -> dict[str, tuple[UUID, int]]:
    """Each class's id and capacity."""
    rows = connection.execute(text("SELECT name, id, capacity FROM classes"))
    return {row.name: (row.id, row.capacity) for row in rows}


# ── set-up ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def store_rows(connection: Connection, table: str, rows: list[dict[str, Any]]) -> None:
    """Insert rows into a table of this slice, all in one statement. COPY would be quicker still, but is refused where
    row-level security holds.
    """
    columns = ", ".join(f'"{name}"' for name in rows[0])
    statement = f"""
        INSERT INTO "{table}" ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::"{table}", :rows)
    """  # noqa: S608  names from our own models
    connection.execute(text(statement).bindparams(bindparam("rows", type_=JSON)), {"rows": rows})


def has_clients(connection: Connection) -> bool:
    """Whether the organisation has any client."""
    return connection.execute(text("SELECT true FROM clients LIMIT 1")).scalar() is not None


_REACHED_BY = text("""
    SELECT lower(unnest(ARRAY[id::text, email, phone])) AS way FROM clients WHERE id = :contact
     UNION
    SELECT lower(unnest(ARRAY[id::text, email, phone])) FROM leads WHERE id = :contact
""")


def ways_to_reach(connection: Connection, contact: UUID) -> list[str]:
    """Id, e-mail and phone of a client or lead, in small letters."""
    return [way for way in connection.execute(_REACHED_BY, {"contact": contact}).scalars() if way]


_PEOPLE = text("""
    SELECT id, name, email, phone, status, 'client' AS kind, location_id FROM clients WHERE id = ANY(:ids)
     UNION ALL
    SELECT id, name, email, phone, status, 'lead', location_id FROM leads WHERE id = ANY(:ids) ORDER BY name, id
""")


def people(connection: Connection, ids: list[UUID]) -> list[RowMapping]:
    """Clients and leads with these ids."""
    return list(connection.execute(_PEOPLE, {"ids": ids}).mappings())


_LOCAL = 9  # digits of a telephone number without its country's code
_KNOWN_BY = text("""
    WITH known AS (
        SELECT id, name, email, phone, rota_fold(name) AS folded FROM clients
         WHERE id = ANY(:ids) OR lower(email) = ANY(:addresses)
            OR right(regexp_replace(phone, '[^0-9]', '', 'g'), :local) = ANY(:numbers)
         UNION ALL
        SELECT id, name, email, phone, rota_fold(name) FROM leads
         WHERE id = ANY(:ids) OR lower(email) = ANY(:addresses)
            OR right(regexp_replace(phone, '[^0-9]', '', 'g'), :local) = ANY(:numbers)
    )
    SELECT id, name, email, phone,
           (SELECT count(*) FROM clients c WHERE starts_with(c.folded, k.folded)
               AND starts_with(rota_fold(c.name) || ' ', k.folded || ' ') AND c.id <> k.id)
           + (SELECT count(*) FROM leads l WHERE starts_with(l.folded, k.folded)
                 AND starts_with(rota_fold(l.name) || ' ', k.folded || ' ')
                 AND l.id <> k.id AND lower(l.email) <> lower(k.email)) AS namesakes
      FROM known k
""")


def people_known_by(connection: Connection, ids: list[UUID], addresses: list[str]) -> list[RowMapping]:
    """Clients and leads with these ids, e-mail addresses or telephone numbers (spelled in any way, with a country's
    code or without), and how many others have their name, or one that begins with it; a lead with the same e-mail
    address is the same person.
    """
    numbers = ["".join(letter for letter in one if letter.isdigit())[-_LOCAL:] for one in addresses if "@" not in one]
    numbers = [number for number in numbers if len(number) == _LOCAL]
    bound = {"ids": ids, "addresses": addresses, "numbers": numbers, "local": _LOCAL}
    return list(connection.execute(_KNOWN_BY, bound).mappings())


_CLIENTS_BEHIND = text("""
    SELECT client_id FROM payments WHERE id = ANY(:ids)
     UNION
    SELECT client_id FROM bookings WHERE id = ANY(:ids)
""")


def clients_behind(connection: Connection, ids: list[UUID]) -> list[UUID]:
    """The clients whose payments and bookings have these ids."""
    return list(connection.execute(_CLIENTS_BEHIND, {"ids": ids}).scalars())


_CONTACTS = text("""
    SELECT p.*, f.time_zone, coalesce(f.has_consented, false) AS has_consented, f.opted_out_at
      FROM (SELECT id, org_id, 'client' AS kind, name, email, phone, status, language, location_id FROM clients
             WHERE id = ANY(:ids)
             UNION ALL
            SELECT id, org_id, 'lead', name, email, phone, status, NULL, location_id FROM leads WHERE id = ANY(:ids)) p
      LEFT JOIN contact_preferences f ON f.org_id = p.org_id AND f.contact = p.id
""")
_SEARCH = text("""
    SELECT id FROM (SELECT id, 'client' AS kind, name, email, phone FROM clients
                     UNION ALL
                    SELECT id, 'lead', name, email, phone FROM leads) p
     WHERE kind = ANY(:kinds)
       AND (:words = '' OR name ILIKE :part OR email ILIKE :part OR phone ILIKE :part OR id::text ILIKE :beginning)
     ORDER BY name, id LIMIT :limit
""")
_FIND = text("""
    SELECT id FROM clients
     WHERE lower(email) = ANY(:spelled) OR regexp_replace(phone, '[^0-9+]', '', 'g') = ANY(:spelled)
     UNION ALL
    SELECT id FROM leads
     WHERE lower(email) = ANY(:spelled) OR regexp_replace(phone, '[^0-9+]', '', 'g') = ANY(:spelled)
     LIMIT 20
""")
_PUT_PREFERENCES = text("""
    INSERT INTO contact_preferences AS p (org_id, contact, time_zone, has_consented, opted_out_at)
    VALUES (:org, :contact, :time_zone, :has_consented, CASE WHEN :has_opted_out THEN rota_now() END)
    ON CONFLICT (org_id, contact) DO UPDATE
       SET time_zone = excluded.time_zone, has_consented = excluded.has_consented, changed_at = rota_now(),
           opted_out_at = CASE WHEN :has_opted_out THEN coalesce(p.opted_out_at, rota_now()) END
""")
_PREFERENCES = text("""
    SELECT contact, time_zone, has_consented, opted_out_at IS NOT NULL AS has_opted_out, opted_out_at, changed_at
      FROM contact_preferences WHERE contact = :contact
""")
_OPT_OUT = text("""
    INSERT INTO contact_preferences AS p (org_id, contact, opted_out_at) VALUES (:org, :contact, rota_now())
    ON CONFLICT (org_id, contact) DO UPDATE
       SET opted_out_at = coalesce(p.opted_out_at, rota_now()), has_consented = false, changed_at = rota_now()
""")


def contacts(connection: Connection, ids: list[UUID]) -> list[RowMapping]:
    """Clients and leads with these ids, with what they allow."""
    return list(connection.execute(_CONTACTS, {"ids": ids}).mappings())


def search_contacts(connection: Connection, words: str, kinds: list[str], limit: int) -> list[UUID]:
    """Clients and leads, by name, in whose name, e-mail address or telephone number these words are, or whose id begins
    so; all where there are no words.
    """
    literal = words.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    values = {"words": words, "part": f"%{literal}%", "beginning": f"{literal}%", "kinds": kinds, "limit": limit}
    return list(connection.execute(_SEARCH, values).scalars())


def contacts_at(connection: Connection, spelled: Iterable[str]) -> list[UUID]:
    """Who has this e-mail address or telephone number, in one of its spellings: clients first."""
    return list(connection.execute(_FIND, {"spelled": list(spelled)}).scalars())


def preferences(connection: Connection, contact: UUID) -> RowMapping | None:
    """What a client or lead allows, where it was ever set."""
    return connection.execute(_PREFERENCES, {"contact": contact}).mappings().one_or_none()


def put_preferences(connection: Connection, row: dict[str, Any]) -> None:
    """Set what a client or lead allows. Since when they want no follow-up stays."""
    connection.execute(_PUT_PREFERENCES, row)


def opt_out(connection: Connection, org: UUID, contact: UUID) -> None:
    """Note that a client or lead wants no follow-up any more."""
    connection.execute(_OPT_OUT, {"org": org, "contact": contact})
