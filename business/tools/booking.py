"""The tool that books clients into classes."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from agents.tools.registry import Parameters, ToolContext, Wording, tool
from business.crm import service as crm


class BookClass(Parameters):
    """Who goes where."""

    client_id: Annotated[UUID, Field(description="The client's id, as search_clients returns it")]
    session_id: Annotated[UUID, Field(description="The session's id, as view_class_schedule returns it")]


@tool(
    "book_class",
    category="booking",
    parameters=BookClass,
    permission="bookings:write",
    changes_world=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,  # a second booking of the same client into the same session is refused
    wording=Wording("book|reserve|enrol|enroll|reserv~|apunt~|inscrib~, sign up|in, put in|into|down|on"),
)
def book_class(context: ToolContext, wanted: BookClass) -> dict[str, Any]:
    """Book (reserve, sign up) a client into a class session. Refuses when the session is full, over or cancelled, and
    when the client is booked into it already. Returns the booking_id.
    """
    return crm.book_class(context.connection, wanted.client_id, wanted.session_id, context.zone)


BOOKING_TOOLS = [book_class]
