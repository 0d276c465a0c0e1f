"""Operations on the records that agents keep. They return plain data, which an agent's tool passes on.

Free-form records are in `resources.py`, views and status changes by people in `records.py`, and periodic ends in
`endings.py`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from core.errors import Conflict, InvalidInput, NotFound
from core.ids import new_id
from domain.channels.schemas import Notice
from domain.contacts import service as contacts
from domain.contacts.reaching import why_not_win
from domain.office import queries, sheets
from domain.office.schemas import (
    POST_LENGTH,
    EventKind,
    ExportFormat,
    Maker,
    NewEvent,
    Platform,
    StoredExport,
    TicketPriority,
)
from domain.office.telling import tell_managers
from domain.office.times import in_zone, shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = dict[str, Any]
_NAMES_SHOWN = 10


def _to_come(connection: Connection, moment: datetime, zone: ZoneInfo) -> datetime:
    """Return `moment`, read in the organisation's zone if it has no offset.

    Raises:
        InvalidInput: it has passed, or lies more than five years ahead.
    """
    now = queries.now(connection).astimezone(zone)
    if abs(moment.year - now.year) > 5:  # noqa: PLR2004 - near either end of the calendar, arithmetic overflows
        raise InvalidInput(f"{moment.year} is no year to plan for; it is {shown(now, zone)} now.")
    moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    if moment <= now:
        raise InvalidInput(f"{shown(moment, zone)} has passed; it is {shown(now, zone)} now. Give a time to come.")
    return moment


def name_of(connection: Connection, contact: UUID, kind: str) -> str:
    """Return the name of a contact of this kind.

    Raises:
        NotFound: there is no such contact.
    """
    found = contacts.get_many(connection, [contact]).get(contact)
    if found is None or found.kind != kind:
        raise NotFound(f"There is no {kind} with id {contact}. Find {kind}s with search_{kind}s.")
    return found.name


# ── tickets, tasks ────────────────────────────────────────────────────────────────────────────────────────────────────


def create_ticket(
    connection: Connection,
    maker: Maker,
    *,
    subject: str,
    body: str,
    priority: TicketPriority,
    client_id: UUID | None,
    assignee: str | None,
) -> Row:
    """Open a support ticket, about a client if one is given.

    Raises:
        NotFound: there is no such client.
        Conflict: the same client has an open ticket with this subject.
    """
    who = name_of(connection, client_id, "client") if client_id else None
    row = {"id": new_id(), "subject": subject, "priority": priority, "client_id": client_id, "assignee": assignee}
    if not queries.insert_ticket(connection, maker, **row, body=body, status="open"):
        raise Conflict(f"A ticket {subject!r} is open already{f' for {who}' if who else ''}. It needs no second one.")
    return {"ticket_id": row.pop("id"), **row, "client": who, "status": "open"}


def create_lead_task(
    connection: Connection,
    maker: Maker,
    *,
    lead_id: UUID,
    title: str,
    details: str,
    assignee: str | None,
    due_on: date | None,
    today: date,
) -> Row:
    """Create a staff task about a lead.

    Raises:
        NotFound: there is no such lead.
        InvalidInput: it would be due in the past.
        Conflict: the same task is open for this lead.
    """
    who = name_of(connection, lead_id, "lead")
    if due_on is not None and due_on < today:
        raise InvalidInput(f"{due_on} has passed; today is {today}. Give a day to come.")
    row = {"id": new_id(), "title": title, "details": details, "assignee": assignee, "due_on": due_on}
    if not queries.insert_staff_task(connection, maker, **row, lead_id=lead_id, status="open"):
        raise Conflict(f"The task {title!r} is open for {who} already. It needs no second one.")
    return {"staff_task_id": row.pop("id"), **row, "lead_id": lead_id, "lead": who, "status": "open"}


# ── campaigns and posts ───────────────────────────────────────────────────────────────────────────────────────────────


def draft_campaign(
    connection: Connection,
    maker: Maker,
    *,
    name: str,
    kind: str,
    audience: Row,
    message: str,
    members: list[UUID],
) -> Row:
    """Draft a campaign for these contacts, and notify owners and managers. Nothing is sent until a user launches it
    (`campaigns.py`). Contacts who may not be written to are left out. `audience` says how the contacts were chosen.

    Raises:
        Conflict: a campaign of that name is drafted or active, or no contact may be written to.
    """
    campaign_id = new_id()
    row = {"id": campaign_id, "name": name, "kind": kind, "message": message, "status": "draft"}
    if not queries.insert_campaign(connection, maker, **row, audience=audience):
        raise Conflict(f"A campaign {name!r} is drafted or active already. Choose another name.")
    chosen, left_out = _reachable(connection, members)
    if not chosen:
        why = f"; {_listed(left_out)}" if left_out else ""
        raise Conflict(f"No client fits this audience{why}, so no campaign was made. Ask for less at once.")
    queries.add_members(connection, maker, campaign_id, chosen)
    tell_managers(
        connection,
        maker.org_id,
        Notice(
            kind="campaign.drafted",
            title=f"{maker.agent} drafted the campaign {name}",
            body=f"It is for {len(chosen)} clients and sends nothing until it is launched: "
            f"rota campaigns launch {campaign_id}",
            data={"campaign_id": str(campaign_id), "members": len(chosen)},
        ),
    )
    return {
        "campaign_id": campaign_id,
        "name": name,
        "kind": kind,
        "status": "draft",
        "audience": audience,
        "members": len(chosen),
        "left_out": left_out,
        "some_members": queries.member_names(connection, campaign_id, _NAMES_SHOWN),
    }


def _reachable(connection: Connection, clients: list[UUID]) -> tuple[list[UUID], dict[str, int]]:
    """Return the clients to whom a campaign may write, and the number of the others by reason."""
    reasons = {client: why_not_win(contact) for client, contact in contacts.get_many(connection, clients).items()}
    return (
        [client for client in clients if reasons[client] is None],
        dict(Counter(reason for reason in reasons.values() if reason is not None)),
    )


def _listed(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))


def schedule_post(
    connection: Connection,
    maker: Maker,
    *,
    platform: Platform,
    text: str,
    media_url: str | None,
    scheduled_at: datetime,
    zone: ZoneInfo,
) -> Row:
    """Schedule a post for publication at a future time.

    Raises:
        InvalidInput: the time has passed, or the post is too long for the platform.
        Conflict: the same post is scheduled for that time.
    """
    if len(text) > POST_LENGTH[platform]:
        raise InvalidInput(
            f"The text has {len(text)} characters; {platform} takes {POST_LENGTH[platform]}. Shorten it."
        )
    moment = _to_come(connection, scheduled_at, zone)
    row = {"id": new_id(), "platform": platform, "text": text, "media_url": media_url}
    if not queries.insert_post(connection, maker, **row, scheduled_at=moment, status="scheduled"):
        raise Conflict(f"This very post is scheduled on {platform} for that time already.")
    return {"post_id": row.pop("id"), **row, "scheduled_at": shown(moment, zone), "status": "scheduled"}


# ── calendar ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def view_calendar(
    connection: Connection, *, first: date, last: date, kind: EventKind | None, zone: ZoneInfo, limit: int
) -> list[Row]:
    """Return events from the day `first` to the day `last`, in order of time."""
    begin, end = (datetime.combine(day, time.min, zone) for day in (first, last + timedelta(days=1)))
    found = queries.events_between(connection, begin=begin, end=end, kind=kind, limit=limit)
    return [in_zone(event, zone) for event in found]


def add_event_alone(
    connection: Connection, maker: Maker, new: NewEvent, *, starts_at: datetime, duration: timedelta, zone: ZoneInfo
) -> Row:
    """Add an event at a time at which there is no other of its kind. A lock ensures that two do not overlap.

    Raises:
        InvalidInput: the time has passed.
        Conflict: another event of the kind is at that time.
    """
    begin = _to_come(connection, starts_at, zone)
    end = begin + duration
    queries.lock_events(connection, maker.org_id, new.kind)
    if taken := queries.event_between(connection, new.kind, begin, end):
        raise Conflict(
            f"Another {new.kind} is at {shown(taken, zone)}. Choose another time; view_calendar_events shows them."
        )
    row = asdict(new)
    event_id = new_id()
    queries.insert_event(connection, maker, id=event_id, **row, starts_at=begin, ends_at=end, status="scheduled")
    times = {"starts_at": shown(begin, zone), "ends_at": shown(end, zone)}
    return {"event_id": event_id, **row, **times, "status": "scheduled"}


# ── exports ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def keep_export(
    connection: Connection,
    maker: Maker,
    *,
    what: str,
    form: ExportFormat,
    columns: Sequence[str],
    rows: Iterable["DataclassInstance"],
    zone: ZoneInfo,
) -> Row:
    """Store a file of these rows, up to the size limit of a file. `what` names the rows."""
    sheet = sheets.render(columns, (in_zone(row, zone) for row in rows), form)
    row = {"id": new_id(), "what": what, "format": form}
    size = {"row_count": sheet.row_count, "is_complete": sheet.is_complete}
    queries.insert_export(connection, maker, **row, **size, content=sheet.content)
    return {"export_id": row.pop("id"), **row, **size, "bytes": len(sheet.content.encode()), "columns": columns}


def view_export(connection: Connection, export_id: UUID) -> StoredExport:
    """Return an export with its content.

    Raises:
        NotFound: there is no such export.
    """
    found = queries.export(connection, export_id)
    if found is None:
        raise NotFound(f"There is no export with id {export_id}.")
    return found
