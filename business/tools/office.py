"""Tools on tickets, staff tasks, tags, exports, charges and refunds."""

from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, WithJsonSchema

from agents.tools.registry import Day, Parameters, Stake, ToolContext, Wording, tool
from business.crm.schemas import PaymentKind
from business.office import dealings
from business.office import service as gym
from business.office.schemas import CollectedBy, ExportWhat
from business.tools.appointments import APPOINTMENT_TOOLS
from business.tools.promotion import PROMOTION_TOOLS
from domain.office import service as office
from domain.office.schemas import ExportFormat, TicketPriority

ClientId = Annotated[UUID, Field(description="The client's id, as search_clients returns it")]
Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=50)]], Field(max_length=20)]
Assignee = Annotated[str | None, Field(max_length=100, description="Who of the staff is to see to it")]
# Without this schema, a decimal would be offered as a number or a string.
Money = Annotated[
    Decimal,
    Field(gt=0, le=100_000, decimal_places=2),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 100_000}),
]


class CreateSupportTicket(Parameters):
    """What is the matter, and with whom."""

    subject: Annotated[str, Field(min_length=1, max_length=200, description="What it is about, in one line")]
    body: Annotated[str, Field(min_length=1, max_length=5_000, description="What happened and what is wanted")]
    priority: Annotated[TicketPriority, Field(description="How urgent it is")] = "normal"
    client_id: Annotated[UUID | None, Field(description="The client it is about, as search_clients returns it")] = None
    assignee: Assignee = None


class CreateLeadTask(Parameters):
    """What is to be done about which lead."""

    lead_id: Annotated[UUID, Field(description="The lead's id, as search_leads returns it")]
    title: Annotated[str, Field(min_length=1, max_length=200, description="What to do, in one line")]
    details: Annotated[str, Field(max_length=5_000, description="What staff should know to do it")] = ""
    assignee: Assignee = None
    due_on: Annotated[Day | None, Field(description="The day by which it is to be done, YYYY-MM-DD")] = None


class UpdateClientTags(Parameters):
    """Which tags come and go."""

    client_id: ClientId
    add: Annotated[Tags, Field(default_factory=list, description="Tags to add, such as vip")]
    remove: Annotated[Tags, Field(default_factory=list, description="Tags to remove")]


class ExportData(Parameters):
    """What, in which form, of which days."""

    what: Annotated[ExportWhat, Field(description="Which records")]
    format: Annotated[ExportFormat, Field(description="csv for a spreadsheet, json for a program")] = "csv"
    from_date: Annotated[
        Day | None,
        Field(description="First day, YYYY-MM-DD: of joining, asking, paying, the class or the start; all without it"),
    ] = None
    to_date: Annotated[Day | None, Field(description="Last day, YYYY-MM-DD; all without it")] = None


class ChargeClient(Parameters):
    """Whom, how much, what for."""

    client_id: ClientId
    amount: Annotated[Money, Field(description="How much, such as 59.00, in the currency of the client's subscription")]
    kind: Annotated[PaymentKind, Field(description="What it is for")]
    method: Annotated[CollectedBy, Field(description="How it is collected")] = "card"


class RefundPayment(Parameters):
    """Which payment, and how much that was."""

    payment_id: Annotated[UUID, Field(description="The payment's id, as view_client_payments returns it")]
    amount: Annotated[Money, Field(description="The payment's whole amount, as view_client_payments returns it")]


@tool(
    "create_support_ticket",
    category="messaging",
    parameters=CreateSupportTicket,
    permission="tickets:write",
    changes_world=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,  # a second ticket on the same subject is refused while the first is open
    wording=Wording(
        "open|create|raise|file|report|record|log|make|abr~|cre~|registr~|pon~ ticket|complaint|incidencia|queja|parte",
        values={"high": "urgent*, high, important*, alta", "low": "low, baja"},
        prose="body, subject",
    ),
)
def create_support_ticket(context: ToolContext, wanted: CreateSupportTicket) -> dict[str, Any]:
    """Create a support ticket (complaint, problem, request) for staff to look after, about a client where one is named.
    Returns the ticket_id. Refuses a second ticket on the same subject while the first is open.
    """
    return office.create_ticket(
        context.connection,
        context.acting,
        subject=wanted.subject,
        body=wanted.body,
        priority=wanted.priority,
        client_id=wanted.client_id,
        assignee=wanted.assignee,
    )


@tool(
    "create_lead_task",
    category="automation",
    parameters=CreateLeadTask,
    permission="leads:write",
    changes_world=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,  # a second task of the same title is refused while the first is open
    wording=Wording(
        "create|add|make|set|cre~|anad~|pon~ task|todo|reminder|tarea|recordatorio, remind|recuerd~|record~",
        prose="details, due_on, title",
    ),
)
def create_lead_task(context: ToolContext, wanted: CreateLeadTask) -> dict[str, Any]:
    """Create a task for staff about one lead (call back, send prices, follow up), with a due day and an assignee if
    wanted. Returns the staff_task_id. Refuses a second task of the same title while the first is open.
    """
    return office.create_lead_task(
        context.connection,
        context.acting,
        lead_id=wanted.lead_id,
        title=wanted.title,
        details=wanted.details,
        assignee=wanted.assignee,
        due_on=wanted.due_on,
        today=context.today,
    )


@tool(
    "update_client_tags",
    category="automation",
    parameters=UpdateClientTags,
    permission="clients:write",
    changes_world=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,
    wording=Wording("tag|label|untag|etiquet~, add|remove|set|change|anad~|quit~|pon~|cambi~ tag*|label*|etiqueta*"),
)
def update_client_tags(context: ToolContext, wanted: UpdateClientTags) -> dict[str, Any]:
    """Update one client's tags (labels, segments): add some, remove some, upper and lower case aside. Returns the tags
    before and after.
    """
    return dealings.update_tags(context.connection, wanted.client_id, add=wanted.add, remove=wanted.remove)


@tool(
    "export_data",
    category="automation",
    parameters=ExportData,
    permission="data:export",
    changes_world=True,
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,  # it only makes another file
    risk="moderate",
)
def export_data(context: ToolContext, wanted: ExportData) -> dict[str, Any]:
    """Export clients, leads, payments, bookings or subscriptions of a period as a CSV or JSON file (download, extract,
    spreadsheet). Returns the export_id and the number of rows; the file holds at most 10,000 rows or 5 MB.
    """
    made = gym.export_data(
        context.connection,
        context.acting,
        what=wanted.what,
        form=wanted.format,
        first=wanted.from_date,
        last=wanted.to_date,
        zone=context.zone,
    )
    return made | _told(made["row_count"], is_complete=made["is_complete"])


def _told(row_count: int, *, is_complete: bool) -> dict[str, str]:
    if not is_complete:
        return {"note": f"Only the oldest {row_count} rows found room. Export the rest with a later from_date."}
    return {} if row_count else {"note": "There are no such records in this period; the file has headings only."}


@tool(
    "charge_client",
    category="crm",
    parameters=ChargeClient,
    permission="payments:charge",
    changes_world=True,
    sends_outside=False,
    risk="critical",
    moves_money=True,
    stake=lambda wanted: Stake(amount=wanted.amount),
    wording=Wording("charge|bill|cobr~"),
)
def charge_client(context: ToolContext, wanted: ChargeClient) -> dict[str, Any]:
    """Charge one client an amount of money: a pending payment, of which the payment provider and the managers hear to
    collect it. Refuses the same charge again while the first is being collected, within a day. Returns the payment_id.
    """
    return dealings.charge_client(
        context.connection,
        context.acting,
        client_id=wanted.client_id,
        amount=wanted.amount,
        kind=wanted.kind,
        method=wanted.method,
    )


@tool(
    "refund_payment",
    category="crm",
    parameters=RefundPayment,
    permission="payments:refund",
    changes_world=True,
    sends_outside=False,
    repeat_is_harmless=True,  # a refunded payment is not refunded again
    risk="critical",
    moves_money=True,
    stake=lambda wanted: Stake(amount=wanted.amount),
    wording=Wording("refund|reimburse|reembols~|devuelv~|devolv~, give|pay money back"),
)
def refund_payment(context: ToolContext, wanted: RefundPayment) -> dict[str, Any]:
    """Refund one paid payment, the whole amount of it (give the money back, reimburse). Refuses payments that failed,
    are pending or were refunded already, and an amount that is not the payment's.
    """
    return dealings.refund_payment(context.connection, context.acting, wanted.payment_id, wanted.amount)


OFFICE_TOOLS = [
    create_support_ticket,
    create_lead_task,
    update_client_tags,
    export_data,
    charge_client,
    refund_payment,
    *PROMOTION_TOOLS,
    *APPOINTMENT_TOOLS,
]
