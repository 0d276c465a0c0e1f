"""CRM tools about clients, the gym's members."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from agents.tools.registry import Parameters, ToolContext, tool
from domain.crm import service as crm
from domain.crm.schemas import ClientStatus

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


@tool("search_clients", category="crm", parameters=SearchClients, permission="clients:read")
def search_clients(context: ToolContext, wanted: SearchClients) -> dict[str, Any]:
    """Search clients (members, customers) by name, e-mail or phone number. Returns client_id, name, contact details
    and membership status of each client found.
    """
    rows, is_exact = crm.search_clients(context.connection, wanted.query, status=wanted.status, limit=wanted.limit)
    note = (
        {} if is_exact else {"note": f"Nobody is called {wanted.query!r}; these names are similar. Ask which is meant."}
    )
    return {"clients": rows, "count": len(rows)} | (note if rows else {})


@tool("view_client_profile", category="crm", parameters=OneClient, permission="clients:read")
def view_client_profile(context: ToolContext, wanted: OneClient) -> dict[str, Any]:
    """View one client's profile (member details): contact data, membership plan and subscription, renewal date, tags,
    notes, total visits and total paid.
    """
    return crm.view_client(context.connection, wanted.client_id)


@tool("view_client_bookings", category="crm", parameters=ClientBookings, permission="bookings:read")
def view_client_bookings(context: ToolContext, wanted: ClientBookings) -> dict[str, Any]:
    """View one client's bookings: the booking and attendance history of classes, past and upcoming, with no-shows."""
    rows = crm.view_client_bookings(
        context.connection, wanted.client_id, upcoming=wanted.upcoming_only, limit=wanted.limit, zone=context.zone
    )
    return {"client_id": wanted.client_id, "bookings": rows, "count": len(rows)}


@tool("view_client_payments", category="crm", parameters=ClientPayments, permission="payments:read")
def view_client_payments(context: ToolContext, wanted: ClientPayments) -> dict[str, Any]:
    """View one client's payments: payment and billing history, charges, invoices, failed and refunded payments."""
    rows = crm.view_client_payments(context.connection, wanted.client_id, limit=wanted.limit, zone=context.zone)
    return {"client_id": wanted.client_id, "payments": rows, "count": len(rows)}


@tool(
    "update_client_status",
    category="crm",
    parameters=UpdateClientStatus,
    permission="clients:write",
    changes_world=True,
    risk="moderate",
)
def update_client_status(context: ToolContext, wanted: UpdateClientStatus) -> dict[str, Any]:
    """Update one client's membership status: active (reactivate, resume), frozen (freeze, pause a membership), lapsed,
    or cancelled (cancel a membership). The reason is noted on the client's record.
    """
    return crm.update_client_status(context.connection, wanted.client_id, wanted.status, wanted.reason)


@tool("calculate_engagement_score", category="crm", parameters=OneClient, permission="clients:read")
def calculate_engagement_score(context: ToolContext, wanted: OneClient) -> dict[str, Any]:
    """Calculate one client's engagement score from 0 to 100 (how engaged or at risk of leaving a member is), with the
    recency, frequency, reliability and payments that it is made of.
    """
    return crm.calculate_engagement(context.connection, wanted.client_id, context.today)


CLIENT_TOOLS = [
    search_clients,
    view_client_profile,
    view_client_bookings,
    view_client_payments,
    update_client_status,
    calculate_engagement_score,
]
