"""All SQL about the records that agents keep."""

from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Table, TableClause, func, select, text
from sqlalchemy.dialects.postgresql import insert

from core.rows import fetch_all, fetch_optional
from domain.office import models
from domain.office.schemas import (
    DeletedResource,
    DuePost,
    EventKind,
    ListedResource,
    Maker,
    Member,
    MemberStatus,
    MissedPost,
    ScheduledEvent,
    StoredExport,
    StoredResource,
)

View = TypeVar("View")


def now(connection: Connection) -> datetime:
    """Return the time by the database's clock."""
    found: datetime = connection.execute(text("SELECT rota_now()")).scalar_one()
    return found


# ── new records ──────────────────────────────────────────────────────────────────────────────────────────────────────


def add(connection: Connection, table: Table, maker: Maker, row: dict[str, Any]) -> bool:
    """Insert a record. Return False if a unique index rejects it."""
    who = {"org_id": maker.org_id, "task_id": maker.task_id, "created_by": maker.agent}
    statement = insert(table).values(**row, **who).on_conflict_do_nothing().returning(table.c.id)
    return connection.execute(statement).scalar() is not None


def insert_ticket(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Insert a ticket. Return False if the client has an open one with the same subject."""
    return add(connection, models.support_tickets, maker, row)


def insert_staff_task(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Insert a staff task. Return False if the same task is open for the same contact."""
    return add(connection, models.staff_tasks, maker, row)


def insert_campaign(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Insert a campaign. Return False if one of that name is drafted or active."""
    return add(connection, models.campaigns, maker, row)


def insert_post(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Insert a post. Return False if the same post is scheduled for the same time."""
    return add(connection, models.social_posts, maker, row)


def insert_event(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Insert a calendar event."""
    return add(connection, models.calendar_events, maker, row)


def insert_export(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Insert an export."""
    return add(connection, models.exports, maker, row)


def insert_resource(connection: Connection, maker: Maker, **row: Any) -> bool:
    """Insert a resource. Return False if one of that kind and name exists."""
    return add(connection, models.resources, maker, row)


# ── campaign members ─────────────────────────────────────────────────────────────────────────────────────────────────


def add_members(connection: Connection, maker: Maker, campaign_id: UUID, clients: list[UUID]) -> None:
    """Add clients to a campaign as members."""
    statement = text("""
        INSERT INTO campaign_members (campaign_id, client_id, org_id)
        SELECT :campaign, client, :org FROM unnest(CAST(:clients AS uuid[])) AS client
    """)
    connection.execute(statement, {"campaign": campaign_id, "org": maker.org_id, "clients": clients})


def member_names(connection: Connection, campaign_id: UUID, limit: int) -> list[str]:
    """Return the names of up to `limit` of the campaign's members."""
    statement = text("""
        SELECT c.name FROM campaign_members m JOIN contacts c ON c.id = m.client_id
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
_LOCK_EVENTS = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_OVERLAPPING = text("""
    SELECT starts_at FROM calendar_events
     WHERE kind = :kind AND status = 'scheduled' AND starts_at < :end AND ends_at > :begin LIMIT 1
""")


def events_between(
    connection: Connection, *, begin: datetime, end: datetime, kind: str | None, limit: int
) -> list[ScheduledEvent]:
    """Return scheduled events that start between two times."""
    values = {"begin": begin, "end": end, "kind": kind, "limit": limit}
    return fetch_all(connection.execute(_EVENTS, values), ScheduledEvent)


def lock_events(connection: Connection, org: UUID, kind: EventKind) -> None:
    """Take an advisory lock on the organisation's events of a kind, so that they are added one at a time. A free time
    has no row to lock.
    """
    connection.execute(_LOCK_EVENTS, {"name": f"{kind}s of {org}"})


def event_between(connection: Connection, kind: EventKind, begin: datetime, end: datetime) -> datetime | None:
    """Return the start of a scheduled event of this kind that overlaps these times, if any."""
    found: datetime | None = connection.execute(_OVERLAPPING, {"kind": kind, "begin": begin, "end": end}).scalar()
    return found


# ── exports ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def export(connection: Connection, export_id: UUID) -> StoredExport | None:
    """Return an export with its content."""
    statement = text("""
        SELECT id AS export_id, what, format, row_count, is_complete, created_at, content
          FROM exports WHERE id = :export
    """)
    return fetch_optional(connection.execute(statement, {"export": export_id}), StoredExport)


# ── resources ────────────────────────────────────────────────────────────────────────────────────────────────────────

_RESOURCE = """
    SELECT id AS resource_id, kind, name, data, version, created_at, updated_at
      FROM resources WHERE id = :resource AND deleted_at IS NULL
"""


def resource(connection: Connection, resource_id: UUID, *, locked: bool = False) -> StoredResource | None:
    """Return a resource; with `locked`, lock its row until the transaction ends."""
    statement = text(_RESOURCE + ("FOR UPDATE" if locked else ""))
    return fetch_optional(connection.execute(statement, {"resource": resource_id}), StoredResource)


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
) -> tuple[list[ListedResource], int]:
    """Return resources whose name contains all of `words`, by kind and name, and the total number of matches."""
    values = {"words": words, "kind": kind, "limit": limit, "skip": skip}
    total: int = connection.execute(_COUNT_RESOURCES, values).scalar_one()
    return fetch_all(connection.execute(_RESOURCES, values), ListedResource), total


def set_resource_data(connection: Connection, resource_id: UUID, data: dict[str, Any]) -> None:
    """Replace a resource's data and increment its version."""
    table = models.resources
    connection.execute(
        table.update()
        .where(table.c.id == resource_id)
        .values(data=data, version=table.c.version + 1, updated_at=text("rota_now()"))
    )


def mark_resource_deleted(connection: Connection, resource_id: UUID) -> DeletedResource | None:
    """Mark a resource as deleted; its row stays."""
    statement = text("""
        UPDATE resources SET deleted_at = rota_now() WHERE id = :resource AND deleted_at IS NULL
        RETURNING id AS resource_id, kind, name, version
    """)
    return fetch_optional(connection.execute(statement, {"resource": resource_id}), DeletedResource)


# ── reading and changing records ─────────────────────────────────────────────────────────────────────────────────────


def page(
    connection: Connection,
    table: TableClause,
    view: type[View],
    wanted: dict[str, Any],
    *,
    before: UUID | None,
    limit: int,
) -> list[View]:
    """Return views of rows with the `wanted` column values, the latest first. None matches any value."""
    conditions = [*_there(table), *(table.c[name] == value for name, value in wanted.items() if value is not None)]
    if before is not None:
        conditions.append(table.c.id < before)
    statement = select(*_shown(table)).where(*conditions).order_by(table.c.id.desc()).limit(limit)
    return fetch_all(connection.execute(statement), view)


def record(
    connection: Connection, table: TableClause, view: type[View], row_id: UUID, *, locked: bool = False
) -> View | None:
    """Return a view of one row; with `locked`, lock it until the transaction ends."""
    statement = select(*_shown(table)).where(table.c.id == row_id, *_there(table))
    return fetch_optional(connection.execute(statement.with_for_update() if locked else statement), view)


def _shown(table: TableClause) -> list[ColumnElement[Any]]:
    """Return every column except `content`, which may be megabytes long and has its own query."""
    return [column for column in table.c if column.name != "content"]


def _there(table: TableClause) -> list[ColumnElement[bool]]:
    """Return a condition that excludes rows marked as deleted."""
    return [table.c.deleted_at.is_(None)] if "deleted_at" in table.c else []


def change_record(connection: Connection, table: TableClause, row_id: UUID, values: dict[str, Any]) -> None:
    """Change columns of a row."""
    stamp = {"changed_at": func.rota_now()} if "changed_at" in table.c else {}
    connection.execute(table.update().where(table.c.id == row_id).values(**values, **stamp))


def delete_record(connection: Connection, table: TableClause, row_id: UUID) -> bool:
    """Delete a row. Return False if there was none."""
    return connection.execute(table.delete().where(table.c.id == row_id)).rowcount == 1


# ── endings ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_IN_NEED = text("""
    SELECT org_id FROM social_posts
     WHERE (status = 'scheduled' AND scheduled_at <= rota_now())
        OR (status = 'due' AND handed_over_at <= rota_now() - CAST(:post AS interval))
     UNION
    SELECT org_id FROM campaigns WHERE status = 'active'
     UNION
    SELECT org_id FROM exports WHERE created_at <= rota_now() - CAST(:export AS interval)
""")


def organisations_in_need(connection: Connection, *, post: timedelta, export: timedelta) -> list[UUID]:
    """Return the organisations in which something is due, overdue or under way."""
    values = {"post": post, "export": export}
    return list(connection.execute(_IN_NEED, values).scalars())


_HAND_OVER = text("""
    UPDATE social_posts SET status = 'due', handed_over_at = rota_now(), changed_at = rota_now()
     WHERE id IN (SELECT id FROM social_posts WHERE status = 'scheduled' AND scheduled_at <= rota_now()
                   ORDER BY scheduled_at LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING id, platform, text, media_url, scheduled_at, created_by, task_id
""")
_MISS = text("""
    UPDATE social_posts SET status = 'missed', changed_at = rota_now()
     WHERE id IN (SELECT id FROM social_posts
                   WHERE status = 'due' AND handed_over_at <= rota_now() - CAST(:patience AS interval)
                   LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING id, platform, text, task_id
""")
_FORGET_EXPORTS = text("DELETE FROM exports WHERE created_at <= rota_now() - CAST(:kept AS interval)")


def hand_over_posts(connection: Connection, limit: int) -> list[DuePost]:
    """Mark posts whose time has come as `due`, and return them."""
    return fetch_all(connection.execute(_HAND_OVER, {"limit": limit}), DuePost)


def miss_posts(connection: Connection, patience: timedelta, limit: int) -> list[MissedPost]:
    """Mark posts that were due for `patience` without being reported as published as `missed`, and return them."""
    return fetch_all(connection.execute(_MISS, {"patience": patience, "limit": limit}), MissedPost)


def forget_exports(connection: Connection, kept: timedelta) -> None:
    """Delete exports that are older than `kept`."""
    connection.execute(_FORGET_EXPORTS, {"kept": kept})


# ── campaigns ────────────────────────────────────────────────────────────────────────────────────────────────────────

_STANDING = "CASE m.status WHEN 'written' THEN coalesce(o.status, 'unknown') ELSE m.status END"
_MEMBERS = text(f"""
    SELECT m.client_id, c.name, {_STANDING} AS status, m.message_id, m.reason
      FROM campaign_members m JOIN contacts c ON c.id = m.client_id LEFT JOIN outbox o ON o.id = m.message_id
     WHERE m.campaign_id = :campaign AND (CAST(:after AS uuid) IS NULL OR m.client_id > :after)
     ORDER BY m.client_id LIMIT :limit
""")  # noqa: S608
_MEMBERS_BY_STANDING = text(f"""
    SELECT m.campaign_id, {_STANDING} AS status, count(*) AS members
      FROM campaign_members m LEFT JOIN outbox o ON o.id = m.message_id
     WHERE m.campaign_id = ANY(:campaigns) GROUP BY 1, 2
""")  # noqa: S608
_ACTIVE = text("SELECT id FROM campaigns WHERE status = 'active' ORDER BY id")
_TAKE_MEMBERS = text("""
    SELECT client_id FROM campaign_members WHERE campaign_id = :campaign AND status = 'chosen'
     ORDER BY client_id LIMIT :limit FOR UPDATE
""")
_NOTE_MEMBER = text("""
    UPDATE campaign_members SET status = :status, message_id = :message, reason = :reason
     WHERE campaign_id = :campaign AND client_id = :client
""")
_QUEUED = text("""
    SELECT m.message_id FROM campaign_members m JOIN outbox o ON o.id = m.message_id
     WHERE m.campaign_id = :campaign AND o.status IN ('queued', 'sending')
""")


def members(connection: Connection, campaign: UUID, *, after: UUID | None, limit: int) -> list[Member]:
    """Return the members of a campaign in order of client id, with the status of their message."""
    return fetch_all(connection.execute(_MEMBERS, {"campaign": campaign, "after": after, "limit": limit}), Member)


def members_by_standing(connection: Connection, campaigns: list[UUID]) -> dict[UUID, dict[MemberStatus, int]]:
    """Count the members of each campaign by status."""
    found: dict[UUID, dict[MemberStatus, int]] = {}
    for row in connection.execute(_MEMBERS_BY_STANDING, {"campaigns": campaigns}):
        found.setdefault(row.campaign_id, {})[row.status] = row.members
    return found


def active_campaigns(connection: Connection) -> list[UUID]:
    """Return the ids of the active campaigns."""
    return list(connection.execute(_ACTIVE).scalars())


def take_members(connection: Connection, campaign: UUID, limit: int) -> list[UUID]:
    """Lock and return up to `limit` members to whom nothing was written yet."""
    return list(connection.execute(_TAKE_MEMBERS, {"campaign": campaign, "limit": limit}).scalars())


def note_member(
    connection: Connection, campaign: UUID, client: UUID, status: str, *, message: UUID | None, reason: str | None
) -> None:
    """Record that a member was written to or left out."""
    values = {"campaign": campaign, "client": client, "status": status, "message": message, "reason": reason}
    connection.execute(_NOTE_MEMBER, values)


def messages_under_way(connection: Connection, campaign: UUID) -> list[UUID]:
    """Return the messages of a campaign that have not left yet."""
    return list(connection.execute(_QUEUED, {"campaign": campaign}).scalars())
