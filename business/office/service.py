"""What agents make from the gym's own records: campaigns for clients, posts about classes, the timetable, exports."""

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from business.crm import service as crm
from business.crm.schemas import ClassSession
from business.office import content, queries
from business.office.schemas import Audience, ExportWhat, Subject, Tone
from core.errors import InvalidInput, NotFound
from domain.office import service as office
from domain.office import sheets
from domain.office.schemas import EventKind, ExportFormat, Language, Maker, Platform
from domain.office.times import shown

Row = dict[str, Any]
_SESSIONS_LOOKED_AT = 500
_WEEK = timedelta(days=6)


def create_campaign(
    connection: Connection, maker: Maker, *, name: str, kind: str, audience: Audience, message: str
) -> Row:
    """Draft a campaign for the clients who match the audience now and may be contacted.

    Raises:
        InvalidInput: the audience has no criteria.
        Conflict: a campaign of that name is drafted or active, or no client matches.
    """
    criteria = audience.model_dump(mode="json", exclude_defaults=True)
    if not criteria:
        raise InvalidInput("Say whom it is for: give status, tags or inactive_days.")
    members = queries.clients_fitting(connection, audience)
    return office.draft_campaign(
        connection, maker, name=name, kind=kind, audience=criteria, message=message, members=members
    )


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
    """Return posts about the gym's classes and their next sessions, made from templates.

    Raises:
        NotFound: the gym has no such class.
    """
    coming: dict[str, str] = {}
    sessions = crm.view_schedule(
        connection, class_name, first=today, last=today + _WEEK, instructor=None, zone=zone, limit=_SESSIONS_LOOKED_AT
    )
    for session in sessions:
        coming.setdefault(session.class_name, content.in_words(session.starts_at.astimezone(zone), language))
    subjects = _subjects(connection, class_name, count, coming)
    if not subjects:
        raise NotFound(f"The gym has no class like {class_name!r}. Find classes with search_classes.")
    return content.posts(subjects, count, platform=platform, tone=tone, language=language)


def write_hashtags(
    connection: Connection, *, topic: str | None, class_name: str | None, language: Language, count: int
) -> list[str]:
    """Return hashtags about a topic and the gym's classes, made from their names."""
    return content.hashtags(_subjects(connection, class_name, count, {}), topic, language, count)


def _subjects(connection: Connection, class_name: str | None, count: int, coming: dict[str, str]) -> list[Subject]:
    return [
        Subject(found.name, found.category, found.description, coming.get(found.name))
        for found in crm.search_classes(connection, class_name, level=None, limit=count)
    ]


def view_calendar(
    connection: Connection, *, first: date, last: date, kind: EventKind | None, zone: ZoneInfo, limit: int
) -> list[Row]:
    """Return events from day `first` to day `last`, and future sessions of classes, in order of time."""
    if last < first:
        raise InvalidInput(f"The last day ({last}) is before the first ({first}). Swap them.")
    events: list[Row] = []
    if kind != "class":
        events += office.view_calendar(connection, first=first, last=last, kind=kind, zone=zone, limit=limit)
    if kind in {None, "class"}:
        sessions = crm.view_schedule(connection, None, first=first, last=last, instructor=None, zone=zone, limit=limit)
        events += [_as_event(session, zone) for session in sessions]
    return sorted(events, key=lambda event: datetime.fromisoformat(event["starts_at"]))[:limit]


def _as_event(session: ClassSession, zone: ZoneInfo) -> Row:
    return {
        "session_id": session.session_id,
        "kind": "class",
        "title": session.class_name,
        "starts_at": shown(session.starts_at, zone),
        "location": session.room,
        "instructor": session.instructor,
        "places_left": session.places_left,
    }


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
    """Store a file of the rows of a period, oldest first, up to the limits of a file."""
    if first and last and last < first:
        raise InvalidInput(f"The last day ({last}) is before the first ({first}). Swap them.")
    columns, rows = queries.exported(
        connection, what, first=first, last=last, zone=str(zone), limit=sheets.MOST_ROWS + 1
    )
    return office.keep_export(connection, maker, what=what, form=form, columns=columns, rows=rows, zone=zone)
