"""CRM tools about clients, the gym's members."""

from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from agents.tools.registry import Parameters, ToolContext, Wording, reading_tool, tool
from business.crm import service as crm
from business.crm.schemas import ClientStatus
from domain.office.times import in_zone

ClientId = Annotated[UUID, Field(description="The client's id, as search_clients returns it")]
Limit = Annotated[int, Field(ge=1, le=100, description="At most so many rows")]


class SearchClients(Parameters):
    """Whom to look for."""

    query: Annotated[
        str, Field(min_length=1, max_length=200, description="The client's name, e-mail or phone, or part")
    ]
    status: Annotated[ClientStatus | None, Field(description="Only clients with this membership status")] = None
    limit: Limit = 10


class OneClient(Parameters):
    """Which client."""

    client_id: ClientId


class ClientBookings(OneClient):
    """Which client's bookings."""

    upcoming_only: Annotated[bool, Field(description="Only classes still to come")] = False
    limit: Limit = 20


class ClientPayments(OneClient):
    """Which client's payments."""

    limit: Limit = 20


class UpdateClientStatus(OneClient):
    """The new status."""

    status: Annotated[ClientStatus, Field(description="The new membership status")]
    reason: Annotated[str | None, Field(max_length=500, description="Why, for the client's record")] = None


@reading_tool("search_clients", category="crm", parameters=SearchClients, permission="clients:read")
def search_clients(context: ToolContext, wanted: SearchClients) -> dict[str, Any]:
    """Search clients (members, customers) by name, e-mail or phone number. Returns client_id, name, contact details
    and membership status of each client found.
    """
    found, is_exact = crm.search_clients(context.connection, wanted.query, status=wanted.status, limit=wanted.limit)
    note = (
        {} if is_exact else {"note": f"Nobody is called {wanted.query!r}; these names are similar. Ask which is meant."}
    )
    return {"clients": [asdict(one) for one in found], "count": len(found)} | (note if found else {})


@reading_tool("view_client_profile", category="crm", parameters=OneClient, permission="clients:read")
def view_client_profile(context: ToolContext, wanted: OneClient) -> dict[str, Any]:
    """View one client's profile (member details): contact data, membership plan and subscription, renewal date, tags,
    notes, total visits and total paid.
    """
    return asdict(crm.view_client(context.connection, wanted.client_id))


@reading_tool("view_client_bookings", category="crm", parameters=ClientBookings, permission="bookings:read")
def view_client_bookings(context: ToolContext, wanted: ClientBookings) -> dict[str, Any]:
    """View one client's bookings: the booking and attendance history of classes, past and upcoming, with no-shows."""
    found = crm.view_client_bookings(
        context.connection, wanted.client_id, upcoming=wanted.upcoming_only, limit=wanted.limit
    )
    rows = [in_zone(booking, context.zone) for booking in found]
    return {"client_id": wanted.client_id, "bookings": rows, "count": len(rows)}


@reading_tool("view_client_payments", category="crm", parameters=ClientPayments, permission="payments:read")
def view_client_payments(context: ToolContext, wanted: ClientPayments) -> dict[str, Any]:
    """View one client's payments: payment and billing history, charges, invoices, failed and refunded payments."""
    found = crm.view_client_payments(context.connection, wanted.client_id, limit=wanted.limit)
    rows = [in_zone(payment, context.zone) for payment in found]
    return {"client_id": wanted.client_id, "payments": rows, "count": len(rows)}


@tool(
    "update_client_status",
    category="crm",
    parameters=UpdateClientStatus,
    permission="clients:write",
    changes_world=True,
    sends_outside=False,
    moves_money=False,
    risk="moderate",
    wording=Wording(
        "freeze|pause|suspend|unfreeze|reactivate|congel~|paus~|suspend~|reactiv~, "
        "cancel|resume|activate|cancel~|anul~|activa|activar membership*|subscription*|plan|cuota*|suscripcion*, "
        "da|dar|dale|darle|de|dad|darlo|darla|dalo|dala baja, "
        "change|set|update|mark|actualiz~|cambi~|marc~|pon~ status|estado|frozen|cancelled|lapsed|active|congelad*",
        values={
            "frozen": "freeze, frozen, pause, paus~, suspend, suspend~, congel*",
            "cancelled": "cancel*, baja, anul~",
            "active": "activate, active, reactivate, reactiv~, resume, unfreeze, activa, activar",
            "lapsed": "lapsed, caducad*",
        },
        prose="reason",
    ),
)
def update_client_status(context: ToolContext, wanted: UpdateClientStatus) -> dict[str, Any]:
    """Update one client's membership status: active (reactivate, resume), frozen (freeze, pause a membership), lapsed,
    or cancelled (cancel a membership). The reason is noted on the client's record.
    """
    return crm.update_client_status(context.connection, wanted.client_id, wanted.status, wanted.reason)


@reading_tool("calculate_engagement_score", category="crm", parameters=OneClient, permission="clients:read")
def calculate_engagement_score(context: ToolContext, wanted: OneClient) -> dict[str, Any]:
    """Calculate one client's engagement score from 0 to 100 (how engaged or at risk of leaving a member is), with the
    recency, frequency, reliability and payments that it is made of.
    """
    return crm.calculate_engagement(context.connection, wanted.client_id, context.today, context.zone)


CLIENT_TOOLS = [
    search_clients,
    view_client_profile,
    view_client_bookings,
    view_client_payments,
    update_client_status,
    calculate_engagement_score,
]
