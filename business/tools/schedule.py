"""CRM tools about classes and their sessions."""

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from agents.tools.registry import Day, Parameters, ToolContext, reading_tool
from business.crm import service as crm
from business.crm.schemas import ClassLevel
from domain.office.times import in_zone

_WEEK = timedelta(days=6)


class SearchClasses(Parameters):
    """Which classes."""

    query: Annotated[
        str | None, Field(max_length=200, description="The class's name or kind, such as yoga or cardio")
    ] = None
    level: Annotated[ClassLevel | None, Field(description="Only classes for this level")] = None
    limit: Annotated[int, Field(ge=1, le=50, description="At most so many rows")] = 20


class ViewClassSchedule(Parameters):
    """Which days, which classes."""

    class_name: Annotated[
        str | None, Field(max_length=100, description="The class's name or kind, such as spin or yoga; all without it")
    ] = None
    from_date: Annotated[Day | None, Field(description="First day, YYYY-MM-DD; today without it")] = None
    to_date: Annotated[Day | None, Field(description="Last day, YYYY-MM-DD; without it the first day, or a week")] = (
        None
    )
    instructor: Annotated[str | None, Field(max_length=100, description="Only sessions of this instructor")] = None
    limit: Annotated[int, Field(ge=1, le=100, description="At most so many rows")] = 30


class OneSession(Parameters):
    """Which session."""

    session_id: Annotated[UUID, Field(description="The session's id, as view_class_schedule returns it")]


@reading_tool(
    "search_classes", category="crm", parameters=SearchClasses, permission="classes:read", returns="catalogue"
)
def search_classes(context: ToolContext, wanted: SearchClasses) -> dict[str, Any]:
    """Search the classes (programmes) that the gym offers, by name, kind or level. Returns class_id, name, description,
    level, duration and capacity of each class; for dates and times see view_class_schedule.
    """
    found = crm.search_classes(context.connection, wanted.query, level=wanted.level, limit=wanted.limit)
    return {"classes": [asdict(one) for one in found], "count": len(found)}


@reading_tool(
    "view_class_schedule", category="crm", parameters=ViewClassSchedule, permission="classes:read", returns="catalogue"
)
def view_class_schedule(context: ToolContext, wanted: ViewClassSchedule) -> dict[str, Any]:
    """View the class schedule (timetable): upcoming sessions of classes on given days, with time, instructor, room and
    places left. Returns session_id of each session.
    """
    first = wanted.from_date or context.today
    last = wanted.to_date or (first if wanted.from_date else first + _WEEK)
    found = crm.view_schedule(
        context.connection,
        wanted.class_name,
        first=first,
        last=last,
        instructor=wanted.instructor,
        zone=context.zone,
        limit=wanted.limit,
    )
    rows = [in_zone(session, context.zone) for session in found]
    note = {} if rows else {"note": f"No such session from {first} to {last} that is still to come."}
    return {"from_date": first, "to_date": last, "sessions": rows, "count": len(rows)} | note


@reading_tool(
    "check_class_availability", category="crm", parameters=OneSession, permission="classes:read", returns="catalogue"
)
def check_class_availability(context: ToolContext, wanted: OneSession) -> dict[str, Any]:
    """Check the availability of one class session: capacity, places (spots) left, and whether it can be booked."""
    return crm.view_session(context.connection, wanted.session_id, context.zone)


@reading_tool("view_class_bookings", category="crm", parameters=OneSession, permission="bookings:read")
def view_class_bookings(context: ToolContext, wanted: OneSession) -> dict[str, Any]:
    """View who is booked into one class session: its attendees (participants list)."""
    return crm.view_attendees(context.connection, wanted.session_id, context.zone)


SCHEDULE_TOOLS = [search_classes, view_class_schedule, check_class_availability, view_class_bookings]
