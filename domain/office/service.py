"""Verbs on the records that agents keep. What comes back is plain data, as an agent's tool passes it on.

What agents do to clients, places and payments is in `dealings.py`; records of any other kind are in `resources.py`. How
people look at records and move them on is in `records.py`, what comes to its end by the clock in `endings.py`.
"""

from collections import Counter
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from core.errors import Conflict, InvalidInput, NotFound
from core.ids import new_id
from domain.channels.schemas import Event
from domain.contacts import service as contacts
from domain.crm import service as crm
from domain.crm.reaching import why_not_win
from domain.office import content, queries, sheets
from domain.office.schemas import (
    POST_LENGTH,
    Audience,
    EventKind,
    ExportFormat,
    ExportWhat,
    Language,
    Maker,
    Platform,
    Subject,
    TicketPriority,
    Tone,
)
from domain.office.telling import tell_managers
from domain.office.times import in_zone, shown

Row = dict[str, Any]
_NAMES_SHOWN = 10
_SESSIONS_LOOKED_AT = 500
_WEEK = timedelta(days=6)


def _to_come(connection: Connection, moment: datetime, zone: ZoneInfo) -> datetime:
    """`moment`, by the gym's clock where it names no offset.

    Raises:
        InvalidInput: it has passed, or lies further ahead than anybody plans.
    """
    now = queries.now(connection).astimezone(zone)
    if abs(moment.year - now.year) > 5:  # noqa: PLR2004 - near either end of the calendar, reckoning overflows
        raise InvalidInput(f"{moment.year} is no year to plan for; it is {shown(now, zone)} now.")
    moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    if moment <= now:
        raise InvalidInput(f"{shown(moment, zone)} has passed; it is {shown(now, zone)} now. Give a time to come.")
    return moment


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
    """Open a support ticket, about a client where one is named.

    Raises:
        NotFound: there is no such client.
        Conflict: that client has a ticket open about the same.
    """
    who = crm.view_client(connection, client_id)["name"] if client_id else None
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
    """Give staff a task about a lead.

    Raises:
        NotFound: there is no such lead.
        InvalidInput: it would be due in the past.
        Conflict: the same task is open for this lead.
    """
    who = crm.view_lead(connection, lead_id)["name"]
    if due_on is not None and due_on < today:
        raise InvalidInput(f"{due_on} has passed; today is {today}. Give a day to come.")
    row = {"id": new_id(), "title": title, "details": details, "assignee": assignee, "due_on": due_on}
    if not queries.insert_staff_task(connection, maker, **row, lead_id=lead_id, status="open"):
        raise Conflict(f"The task {title!r} is open for {who} already. It needs no second one.")
    return {"staff_task_id": row.pop("id"), **row, "lead_id": lead_id, "lead": who, "status": "open"}


# ── campaigns and posts ───────────────────────────────────────────────────────────────────────────────────────────────


def create_campaign(
    connection: Connection, maker: Maker, *, name: str, kind: str, audience: Audience, message: str
) -> Row:
    """Draft a campaign for the clients who fit the audience now and may be written to. Nothing is sent until somebody
    launches it (`campaigns.py`); owners and managers hear of it.

    Raises:
        InvalidInput: the audience is everybody.
        Conflict: one of that name is drafted or active, or nobody fits.
    """
    campaign_id = new_id()
    criteria = audience.model_dump(mode="json", exclude_defaults=True)
    if not criteria:
        raise InvalidInput("Say whom it is for: give status, tags or inactive_days.")
    row = {"id": campaign_id, "name": name, "kind": kind, "message": message, "status": "draft"}
    if not queries.insert_campaign(connection, maker, **row, audience=criteria):
        raise Conflict(f"A campaign {name!r} is drafted or active already. Choose another name.")
    members, left_out = _reachable(connection, queries.clients_fitting(connection, audience))
    if not members:
        why = f"; {_listed(left_out)}" if left_out else ""
        raise Conflict(f"No client fits this audience{why}, so no campaign was made. Ask for less at once.")
    queries.add_members(connection, maker, campaign_id, members)
    tell_managers(
        connection,
        maker.org_id,
        Event(
            kind="campaign.drafted",
            title=f"{maker.agent} drafted the campaign {name}",
            body=f"It is for {len(members)} clients and sends nothing until it is launched: "
            f"rota campaigns launch {campaign_id}",
            data={"campaign_id": str(campaign_id), "members": len(members)},
        ),
    )
    return {
        "campaign_id": campaign_id,
        "name": name,
        "kind": kind,
        "status": "draft",
        "audience": criteria,
        "members": len(members),
        "left_out": left_out,
        "some_members": queries.member_names(connection, campaign_id, _NAMES_SHOWN),
    }


def _reachable(connection: Connection, clients: list[UUID]) -> tuple[list[UUID], dict[str, int]]:
    """Those of these clients to whom a campaign may write, and how many may not be written to for which reason."""
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
    """Have a post stand for publication at a time to come.

    Raises:
        InvalidInput: the time has passed, or the platform takes no post of this length.
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


def write_posts(
    connection: Connection,
    *,
    platform: Platform,
    class_name: str | None,
    tone: Tone,
    language: Language,
    count: int,
    today: date,
    zone: ZoneInfo,
) -> list[str]:
    """Posts about the gym's classes and their next sessions, from templates.

    Raises:
        NotFound: the gym has no such class.
    """
    coming: dict[str, str] = {}
    rows = crm.view_schedule(
        connection, class_name, first=today, last=today + _WEEK, instructor=None, zone=zone, limit=_SESSIONS_LOOKED_AT
    )
    for row in rows:
        coming.setdefault(row["class_name"], content.in_words(datetime.fromisoformat(row["starts_at"]), language))
    subjects = _subjects(connection, class_name, count, coming)
    if not subjects:
        raise NotFound(f"The gym has no class like {class_name!r}. Find classes with search_classes.")
    return content.posts(subjects, count, platform=platform, tone=tone, language=language)


def write_hashtags(
    connection: Connection, *, topic: str | None, class_name: str | None, language: Language, count: int
) -> list[str]:
    """Hashtags about a topic and the gym's classes, from their names."""
    return content.hashtags(_subjects(connection, class_name, count, {}), topic, language, count)


def _subjects(connection: Connection, class_name: str | None, count: int, coming: dict[str, str]) -> list[Subject]:
    return [
        Subject(row["name"], row["category"], row["description"], coming.get(row["name"]))
        for row in crm.search_classes(connection, class_name, level=None, limit=count)
    ]


# ── calendar ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def view_calendar(
    connection: Connection, *, first: date, last: date, kind: EventKind | None, zone: ZoneInfo, limit: int
) -> list[Row]:
    """Events from the day `first` to the day `last`, and sessions of classes still to come, in order of time."""
    if last < first:
        raise InvalidInput(f"The last day ({last}) is before the first ({first}). Swap them.")
    events: list[Row] = []
    if kind != "class":
        begin, end = (datetime.combine(day, time.min, zone) for day in (first, last + timedelta(days=1)))
        found = queries.events_between(connection, begin=begin, end=end, kind=kind, limit=limit)
        events += [in_zone(row, zone) for row in found]
    if kind in {None, "class"}:
        sessions = crm.view_schedule(connection, None, first=first, last=last, instructor=None, zone=zone, limit=limit)
        events += [_as_event(row) for row in sessions]
    return sorted(events, key=lambda event: datetime.fromisoformat(event["starts_at"]))[:limit]


def _as_event(session: Row) -> Row:
    return {
        "session_id": session["session_id"],
        "kind": "class",
        "title": session["class_name"],
        "starts_at": session["starts_at"],
        "location": session["room"],
        "instructor": session["instructor"],
        "places_left": session["places_left"],
    }


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
) -> Row:
    """Agree a tour of the gym with a lead or a client. One tour at a time, whatever runs at once.

    Raises:
        InvalidInput: not exactly one visitor, or the time has passed.
        NotFound: there is no such lead or client.
        Conflict: another tour is at that time.
    """
    who = _visitor(connection, lead_id, client_id)
    begin = _to_come(connection, starts_at, zone)
    queries.lock_tours(connection, maker.org_id)
    if taken := queries.tour_between(connection, begin, begin + duration):
        raise Conflict(
            f"Another tour is at {shown(taken, zone)}. Choose another time; view_calendar_events shows them."
        )
    row = {"kind": "tour", "title": f"Tour: {who}", "location": location, "lead_id": lead_id, "client_id": client_id}
    times = {"starts_at": begin, "ends_at": begin + duration}
    event_id = new_id()
    queries.insert_event(connection, maker, id=event_id, **row, **times, status="scheduled")
    return {"event_id": event_id, **row, **in_zone(times, zone), "status": "scheduled"}


def _visitor(connection: Connection, lead_id: UUID | None, client_id: UUID | None) -> str:
    if lead_id and client_id:
        raise InvalidInput("A tour is for a lead or for a client: give lead_id or client_id, not both.")
    if lead_id:
        return str(crm.view_lead(connection, lead_id)["name"])
    if client_id:
        return str(crm.view_client(connection, client_id)["name"])
    raise InvalidInput("Say who comes: give lead_id (search_leads) or client_id (search_clients).")


# ── exports ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def export_data(
    connection: Connection,
    maker: Maker,
    *,
    what: ExportWhat,
    form: ExportFormat,
    first: date | None,
    last: date | None,
    zone: ZoneInfo,
) -> Row:
    """Keep a file of the rows of a period, oldest first, as far as a file goes."""
    if first and last and last < first:
        raise InvalidInput(f"The last day ({last}) is before the first ({first}). Swap them.")
    columns, rows = queries.exported(
        connection, what, first=first, last=last, zone=str(zone), limit=sheets.MOST_ROWS + 1
    )
    sheet = sheets.render(columns, (in_zone(row, zone) for row in rows), form)
    row = {"id": new_id(), "what": what, "format": form}
    size = {"row_count": sheet.row_count, "is_complete": sheet.is_complete}
    queries.insert_export(connection, maker, **row, **size, content=sheet.content)
    return {"export_id": row.pop("id"), **row, **size, "bytes": len(sheet.content.encode()), "columns": columns}


def view_export(connection: Connection, export_id: UUID) -> Row:
    """An export with its content.

    Raises:
        NotFound: there is no such export.
    """
    found = queries.export(connection, export_id)
    if found is None:
        raise NotFound(f"There is no export with id {export_id}.")
    return dict(found)
