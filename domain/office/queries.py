"""All SQL about the records that agents keep, and about what they do to clients, places and payments."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, Table, TextClause, text
from sqlalchemy.dialects.postgresql import insert

from domain.office import models
from domain.office.schemas import Audience, ExportWhat, Maker


def now(connection: Connection) -> datetime:
    """The time by the database's clock."""
    found: datetime = connection.execute(text("SELECT rota_now()")).scalar_one()
    return found


# ── new records ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _add(connection: Connection, table: Table, maker: Maker, row: dict[str, Any]) -> bool:
    who = {"org_id": maker.org_id, "task_id": maker.task_id, "created_by": maker.agent}
    statement = insert(table).values(**row, **who).on_conflict_do_nothing().returning(table.c.id)
    return connection.execute(statement).scalar() is not None


def insert_ticket(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Open a ticket. False when the same client has one open about the same."""
    return _add(connection, models.support_tickets, maker, row)


def insert_staff_task(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Add a task for staff. False when the same is open about the same person."""
    return _add(connection, models.staff_tasks, maker, row)


def insert_campaign(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Draft a campaign. False when one of that name is drafted or active."""
    return _add(connection, models.campaigns, maker, row)


def insert_post(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Schedule a post. False when the same is scheduled for the same time."""
    return _add(connection, models.social_posts, maker, row)


def insert_event(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Put an event into the calendar."""
    return _add(connection, models.calendar_events, maker, row)


def insert_export(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Keep an export."""
    return _add(connection, models.exports, maker, row)


def insert_resource(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Add a resource. False when there is one of that kind and name."""
    return _add(connection, models.resources, maker, row)


def insert_trial(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Give a lead a place in a session. False when that lead has one in it."""
    return _add(connection, models.trial_bookings, maker, row)


_NOTE_TRIAL = text("""
    UPDATE trial_bookings SET status = :status WHERE id = :id AND status IN ('booked', :status)
    RETURNING lead_id
""")


def note_trial(connection: Connection, trial_id: UUID, status: str) -> UUID | None:
    """Note how a trial ended. Returns whose it was; None where there is none that is booked."""
    lead: UUID | None = connection.execute(_NOTE_TRIAL, {"id": trial_id, "status": status}).scalar_one_or_none()
    return lead


def trial(connection: Connection, trial_id: UUID) -> RowMapping | None:
    """A lead's place in a session."""
    statement = text("SELECT id, lead_id, session_id, status FROM trial_bookings WHERE id = :id")
    return connection.execute(statement, {"id": trial_id}).mappings().one_or_none()


# ── clients ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def lock_client_tags(connection: Connection, client_id: UUID) -> list[str]:
    """A client's tags, held until the transaction ends."""
    statement = text("SELECT tags FROM clients WHERE id = :client FOR UPDATE")
    return list(connection.execute(statement, {"client": client_id}).scalar_one())


def set_client_tags(connection: Connection, client_id: UUID, tags: list[str]) -> None:
    """Replace a client's tags."""
    statement = text("UPDATE clients SET tags = :tags, updated_at = rota_now() WHERE id = :client")
    connection.execute(statement, {"client": client_id, "tags": tags})


_ADD_MEMBERS = text("""
    INSERT INTO campaign_members (campaign_id, client_id, org_id)
    SELECT :campaign, c.id, :org
      FROM clients c
     WHERE (CAST(:status AS text) IS NULL OR c.status = :status)
       AND NOT EXISTS (
            SELECT FROM unnest(CAST(:tags AS text[])) AS wanted
             WHERE rota_fold(wanted) <> ALL (SELECT rota_fold(tag) FROM unnest(c.tags) AS tag))
       AND (CAST(:days AS integer) IS NULL
            OR (c.joined_on < (rota_now() - make_interval(days => :days))::date
                AND NOT EXISTS (
                    SELECT FROM bookings b JOIN class_sessions s ON s.id = b.session_id
                     WHERE b.client_id = c.id AND b.status = 'attended'
                       AND s.starts_at > rota_now() - make_interval(days => :days))))
""")


def add_members(connection: Connection, maker: Maker, campaign_id: UUID, audience: Audience) -> int:
    """Make the clients who fit the audience now the campaign's members, and count them."""
    values = {
        "campaign": campaign_id,
        "org": maker.org_id,
        "status": audience.status,
        "tags": audience.tags,
        "days": audience.inactive_days,
    }
    return connection.execute(_ADD_MEMBERS, values).rowcount


def member_names(connection: Connection, campaign_id: UUID, limit: int) -> list[str]:
    """Names of some of the campaign's members."""
    statement = text("""
        SELECT c.name FROM campaign_members m JOIN clients c ON c.id = m.client_id
         WHERE m.campaign_id = :campaign ORDER BY c.name LIMIT :limit
    """)
    return list(connection.execute(statement, {"campaign": campaign_id, "limit": limit}).scalars())


# ── calendar ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_EVENTS = text("""
    SELECT id AS event_id, kind, title, starts_at, ends_at, location, lead_id, client_id
      FROM calendar_events
     WHERE status = 'scheduled' AND starts_at >= :begin AND starts_at < :end
       AND (CAST(:kind AS text) IS NULL OR kind = :kind)
     ORDER BY starts_at, id LIMIT :limit
""")


def events_between(
    connection: Connection, *, begin: datetime, end: datetime, kind: str | None, limit: int
) -> list[RowMapping]:
    """Events that start between two times."""
    values = {"begin": begin, "end": end, "kind": kind, "limit": limit}
    return list(connection.execute(_EVENTS, values).mappings())


def lock_tours(connection: Connection, org: UUID) -> None:
    """Hold the organisation's tours, so that they are agreed one at a time: no row stands for a time still free."""
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"tours of {org}"})


def tour_between(connection: Connection, begin: datetime, end: datetime) -> datetime | None:
    """When a tour starts that overlaps these times."""
    statement = text("""
        SELECT starts_at FROM calendar_events
         WHERE kind = 'tour' AND status = 'scheduled' AND starts_at < :end AND ends_at > :begin LIMIT 1
    """)
    found: datetime | None = connection.execute(statement, {"begin": begin, "end": end}).scalar()
    return found


# ── places in sessions ───────────────────────────────────────────────────────────────────────────────────────────────


def lock_session(connection: Connection, session_id: UUID) -> None:
    """Hold a session's row, where it exists, so that places are given out one at a time."""
    connection.execute(text("SELECT true FROM class_sessions WHERE id = :session FOR UPDATE"), {"session": session_id})


_SESSION = text("""
    SELECT s.id AS session_id, k.name AS class_name, s.starts_at, s.instructor, s.room, s.status,
           s.starts_at <= rota_now() AS is_over, s.capacity - rota_places_taken(s.id) AS places_left
      FROM class_sessions s JOIN classes k ON k.id = s.class_id WHERE s.id = :session
""")


def session(connection: Connection, session_id: UUID) -> RowMapping | None:
    """A session, with the places that neither bookings nor trials have taken."""
    return connection.execute(_SESSION, {"session": session_id}).mappings().one_or_none()


_LOCK_BOOKING = text("""
    SELECT b.id AS booking_id, b.client_id, c.name AS client, c.status AS client_status, b.session_id, b.status,
           k.name AS class_name, s.starts_at, s.starts_at <= rota_now() AS is_over
      FROM bookings b JOIN clients c ON c.id = b.client_id
      JOIN class_sessions s ON s.id = b.session_id JOIN classes k ON k.id = s.class_id
     WHERE b.id = :booking FOR UPDATE OF b
""")


def lock_booking(connection: Connection, booking_id: UUID) -> RowMapping | None:
    """A booking with its client and session, held until the transaction ends."""
    return connection.execute(_LOCK_BOOKING, {"booking": booking_id}).mappings().one_or_none()


def cancel_booking(connection: Connection, booking_id: UUID) -> None:
    """Give a booking's place back."""
    connection.execute(text("UPDATE bookings SET status = 'cancelled' WHERE id = :id"), {"id": booking_id})


def is_booked(connection: Connection, client_id: UUID, session_id: UUID) -> bool:
    """Whether the client has a place in the session."""
    statement = text("""
        SELECT true FROM bookings WHERE session_id = :session AND client_id = :client AND status <> 'cancelled'
    """)
    return connection.execute(statement, {"client": client_id, "session": session_id}).scalar() is not None


def move_booking(connection: Connection, booking_id: UUID, session_id: UUID) -> None:
    """Have a booking be for another session."""
    statement = text("UPDATE bookings SET session_id = :session WHERE id = :id")
    connection.execute(statement, {"id": booking_id, "session": session_id})


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def lock_client(connection: Connection, client_id: UUID) -> None:
    """Hold a client's row, so that charges of one client are recorded one at a time."""
    connection.execute(text("SELECT true FROM clients WHERE id = :client FOR UPDATE"), {"client": client_id})


_PENDING = text("""
    SELECT true FROM payments
     WHERE client_id = :client AND status = 'pending' AND amount = :amount AND kind = :kind
       AND paid_at > rota_now() - interval '1 day' LIMIT 1
""")


def is_charged(connection: Connection, row: dict[str, Any]) -> bool:
    """Whether the client was charged the same, for the same, within a day, and it is still to be collected."""
    return connection.execute(_PENDING, row).scalar() is not None


_INSERT_PAYMENT = text("""
    INSERT INTO payments (id, org_id, client_id, amount, currency, kind, method, status, paid_at)
    VALUES (:id, :org, :client, :amount, :currency, :kind, :method, 'pending', rota_now())
""")


def insert_payment(connection: Connection, row: dict[str, Any]) -> None:
    """Record a payment that is still to be collected."""
    connection.execute(_INSERT_PAYMENT, row)


_LOCK_PAYMENT = text("""
    SELECT p.id AS payment_id, p.client_id, c.name AS client, p.amount, p.currency, p.kind, p.status
      FROM payments p JOIN clients c ON c.id = p.client_id WHERE p.id = :payment FOR UPDATE OF p
""")


def lock_payment(connection: Connection, payment_id: UUID) -> RowMapping | None:
    """A payment, held until the transaction ends."""
    return connection.execute(_LOCK_PAYMENT, {"payment": payment_id}).mappings().one_or_none()


def mark_refunded(connection: Connection, payment_id: UUID) -> None:
    """Let a payment be refunded."""
    connection.execute(text("UPDATE payments SET status = 'refunded' WHERE id = :id"), {"id": payment_id})


# ── exports ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _export(rows: str, day: str) -> TextClause:
    """The statement for `rows` whose `day` lies in the period, oldest first."""
    return text(f"""
        SELECT * FROM ({rows}) AS found
         WHERE (CAST(:first AS date) IS NULL OR {day} >= :first) AND (CAST(:last AS date) IS NULL OR {day} <= :last)
         ORDER BY {day}, 1 LIMIT :limit
    """)  # noqa: S608 - its parts are our own words, and no values


_IN_ZONE = "({} AT TIME ZONE CAST(:zone AS text))::date"
_EXPORTS: dict[ExportWhat, TextClause] = {
    "clients": _export(
        "SELECT id AS client_id, name, email, phone, status, language, tags, joined_on FROM clients", "joined_on"
    ),
    "leads": _export(
        "SELECT id AS lead_id, name, email, phone, source, interest, status, created_at FROM leads",
        _IN_ZONE.format("created_at"),
    ),
    "payments": _export(
        """
        SELECT p.id AS payment_id, c.id AS client_id, c.name AS client, p.amount, p.currency, p.kind, p.method,
               p.status, p.paid_at
          FROM payments p JOIN clients c ON c.id = p.client_id
        """,
        _IN_ZONE.format("paid_at"),
    ),
    "bookings": _export(
        """
        SELECT b.id AS booking_id, c.id AS client_id, c.name AS client, k.name AS class_name, s.starts_at,
               s.instructor, s.room, b.status
          FROM bookings b JOIN clients c ON c.id = b.client_id
          JOIN class_sessions s ON s.id = b.session_id JOIN classes k ON k.id = s.class_id
        """,
        _IN_ZONE.format("starts_at"),
    ),
    "subscriptions": _export(
        """
        SELECT u.id AS subscription_id, c.id AS client_id, c.name AS client, u.plan, u.amount, u.currency, u.period,
               u.status, u.started_on, u.renews_on, u.ended_on
          FROM subscriptions u JOIN clients c ON c.id = u.client_id
        """,
        "started_on",
    ),
}


def exported(
    connection: Connection, what: ExportWhat, *, first: date | None, last: date | None, zone: str, limit: int
) -> tuple[list[str], list[RowMapping]]:
    """Column names, and rows of the days from `first` to `last`, oldest first."""
    values = {"first": first, "last": last, "zone": zone, "limit": limit}
    found = connection.execute(_EXPORTS[what], values)
    return list(found.keys()), list(found.mappings())


def export(connection: Connection, export_id: UUID) -> RowMapping | None:
    """An export with its content."""
    statement = text("""
        SELECT id AS export_id, what, format, row_count, is_complete, created_at, content
          FROM exports WHERE id = :export
    """)
    return connection.execute(statement, {"export": export_id}).mappings().one_or_none()


# ── resources ────────────────────────────────────────────────────────────────────────────────────────────────────────

_RESOURCE = """
    SELECT id AS resource_id, kind, name, data, version, created_at, updated_at
      FROM resources WHERE id = :resource AND deleted_at IS NULL
"""


def resource(connection: Connection, resource_id: UUID, *, locked: bool = False) -> RowMapping | None:
    """A resource; held until the transaction ends where it is `locked`."""
    statement = text(_RESOURCE + ("FOR UPDATE" if locked else ""))
    return connection.execute(statement, {"resource": resource_id}).mappings().one_or_none()


_LIST = """
      FROM resources
     WHERE deleted_at IS NULL AND (CAST(:kind AS text) IS NULL OR kind = :kind)
       AND NOT EXISTS (SELECT FROM unnest(CAST(:words AS text[])) AS word
                        WHERE position(rota_fold(word) IN rota_fold(name)) = 0)
"""
_RESOURCES = text(f"""
    SELECT id AS resource_id, kind, name, version, created_at, updated_at {_LIST}
     ORDER BY kind, name LIMIT :limit OFFSET :skip
""")
_COUNT_RESOURCES = text(f"SELECT count(*) {_LIST}")


def resources(
    connection: Connection, words: list[str], *, kind: str | None, limit: int, skip: int
) -> tuple[list[RowMapping], int]:
    """Resources in whose name every one of `words` occurs, by kind and name, and how many there are in all."""
    values = {"words": words, "kind": kind, "limit": limit, "skip": skip}
    total: int = connection.execute(_COUNT_RESOURCES, values).scalar_one()
    return list(connection.execute(_RESOURCES, values).mappings()), total


def set_resource_data(connection: Connection, resource_id: UUID, data: dict[str, Any]) -> None:
    """Replace a resource's data, which makes its next version."""
    table = models.resources
    connection.execute(
        table.update()
        .where(table.c.id == resource_id)
        .values(data=data, version=table.c.version + 1, updated_at=text("rota_now()"))
    )


def mark_resource_deleted(connection: Connection, resource_id: UUID) -> RowMapping | None:
    """Take a resource away; its row stays."""
    statement = text("""
        UPDATE resources SET deleted_at = rota_now() WHERE id = :resource AND deleted_at IS NULL
        RETURNING id AS resource_id, kind, name, version
    """)
    return connection.execute(statement, {"resource": resource_id}).mappings().one_or_none()
