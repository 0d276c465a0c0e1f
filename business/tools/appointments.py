"""Tools on the calendar: tours, trial classes, and bookings that change."""

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from agents.tools.registry import Day, Parameters, ToolContext, Wording, reading_tool, tool
from business.office import dealings
from business.office import service as gym
from business.office.tours import schedule_tour
from domain.office.schemas import EventKind

_WEEK = timedelta(days=6)
SessionId = Annotated[UUID, Field(description="The session's id, as view_class_schedule returns it")]


class ViewCalendarEvents(Parameters):
    """Which days, which events."""

    from_date: Annotated[Day | None, Field(description="First day, YYYY-MM-DD; today without it")] = None
    to_date: Annotated[Day | None, Field(description="Last day, YYYY-MM-DD; without it the first day, or a week")] = (
        None
    )
    kind: Annotated[EventKind | None, Field(description="Only this kind of event")] = None
    limit: Annotated[int, Field(ge=1, le=100, description="At most so many rows")] = 50


class ScheduleFacilityTour(Parameters):
    """Who comes, and when."""

    lead_id: Annotated[UUID | None, Field(description="The lead who comes, as search_leads returns the id")] = None
    client_id: Annotated[UUID | None, Field(description="Or the client, as search_clients returns the id")] = None
    starts_at: Annotated[
        datetime, Field(description="When, such as 2026-05-01T18:00; the gym's time unless an offset is given")
    ]
    duration_minutes: Annotated[int, Field(ge=10, le=180, description="How long it takes")] = 30
    location: Annotated[str | None, Field(max_length=200, description="Where they meet, such as reception")] = None


class BookTrialClass(Parameters):
    """Which lead tries what."""

    lead_id: Annotated[UUID, Field(description="The lead's id, as search_leads returns it")]
    session_id: SessionId


class OneBooking(Parameters):
    """Which booking."""

    booking_id: Annotated[UUID, Field(description="The booking's id, as view_client_bookings returns it")]


class RescheduleBooking(OneBooking):
    """Where it moves to."""

    session_id: SessionId


@reading_tool("view_calendar_events", category="automation", parameters=ViewCalendarEvents, permission="calendar:read")
def view_calendar_events(context: ToolContext, wanted: ViewCalendarEvents) -> dict[str, Any]:
    """View the calendar (agenda, diary) of some days: tours, events, reminders, milestones, and sessions of classes
    still to come, in order of time.
    """
    first = wanted.from_date or context.today
    last = wanted.to_date or (first if wanted.from_date else first + _WEEK)
    rows = gym.view_calendar(
        context.connection, first=first, last=last, kind=wanted.kind, zone=context.zone, limit=wanted.limit
    )
    return {"from_date": first, "to_date": last, "events": rows, "count": len(rows)}


@tool(
    "schedule_facility_tour",
    category="automation",
    parameters=ScheduleFacilityTour,
    permission="calendar:write",
    changes_world=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,  # two tours at the same time are refused
    wording=Wording(
        "schedule|book|arrange|plan|program~|reserv~|organiz~ tour|visit|visita, show around",
        prose="duration_minutes, location, starts_at",
    ),
)
def schedule_facility_tour(context: ToolContext, wanted: ScheduleFacilityTour) -> dict[str, Any]:
    """Schedule a facility tour (visit, showing round the gym) with a lead or a client at a time to come. Returns the
    event_id. Refuses a time at which there is another tour.
    """
    return schedule_tour(
        context.connection,
        context.acting,
        lead_id=wanted.lead_id,
        client_id=wanted.client_id,
        starts_at=wanted.starts_at,
        duration=timedelta(minutes=wanted.duration_minutes),
        location=wanted.location,
        zone=context.zone,
    )


@tool(
    "book_trial_class",
    category="automation",
    parameters=BookTrialClass,
    permission="bookings:write",
    changes_world=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,  # a second place for the same lead in the same session is refused
    wording=Wording("book|reserve|schedule|sign|put|reserv~|apunt~|inscrib~|program~ trial|prueba"),
)
def book_trial_class(context: ToolContext, wanted: BookTrialClass) -> dict[str, Any]:
    """Book a trial class (try-out, first free class) for one lead into a class session, and move the lead to
    trial_booked. Refuses when the session is full, over or cancelled. Members book with book_class instead.
    """
    return dealings.book_trial(context.connection, context.acting, wanted.lead_id, wanted.session_id, context.zone)


@tool(
    "cancel_booking",
    category="booking",
    parameters=OneBooking,
    permission="bookings:write",
    changes_world=True,
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,  # a cancelled booking is not cancelled again
    risk="moderate",
    wording=Wording("cancel|cancel~|anul~ booking*|reservation*|place*|spot*|class*|reserva*|plaza*|clase*"),
)
def cancel_booking(context: ToolContext, wanted: OneBooking) -> dict[str, Any]:
    """Cancel one booking of a client, so that its place is free again. Refuses when the class has begun, and when the
    booking was cancelled already.
    """
    return dealings.cancel_booking(context.connection, wanted.booking_id, context.zone)


@tool(
    "reschedule_booking",
    category="booking",
    parameters=RescheduleBooking,
    permission="bookings:write",
    changes_world=True,
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,  # a repeat is refused: it is in that session already
    risk="moderate",
    wording=Wording(
        "reschedule, move|change|muev~|mov~|cambi~|pas~ booking*|reservation*|reserva*|class*|clase*|place*|plaza*"
    ),
)
def reschedule_booking(context: ToolContext, wanted: RescheduleBooking) -> dict[str, Any]:
    """Reschedule one booking of a client to another class session (move, change the day or hour). If that session is
    full, over or cancelled, the booking stays as it is.
    """
    return dealings.reschedule_booking(context.connection, wanted.booking_id, wanted.session_id, context.zone)


APPOINTMENT_TOOLS = [
    view_calendar_events,
    schedule_facility_tour,
    book_trial_class,
    cancel_booking,
    reschedule_booking,
]
