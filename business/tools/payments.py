"""CRM tools about members' payments and subscriptions."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from agents.tools.registry import Day, Parameters, ToolContext, reading_tool
from business.crm import service as crm
from business.crm.schemas import PaymentKind, PaymentStatus, SubscriptionStatus

_MONTH = timedelta(days=29)
Limit = Annotated[int, Field(ge=1, le=100, description="At most so many rows are listed; totals count all")]


class QueryPayments(Parameters):
    """Which payments."""

    from_date: Annotated[Day | None, Field(description="First day, YYYY-MM-DD; 30 days back without it")] = None
    to_date: Annotated[Day | None, Field(description="Last day, YYYY-MM-DD; today without it")] = None
    status: Annotated[PaymentStatus | None, Field(description="Only payments with this status")] = None
    kind: Annotated[PaymentKind | None, Field(description="Only payments for this")] = None
    min_amount: Annotated[
        Decimal | None,
        Field(ge=0, le=1_000_000, description="Only payments of at least this amount"),
        WithJsonSchema(
            {"type": "number", "minimum": 0, "maximum": 1_000_000,
             "description": "Only payments of at least this amount"}
        ),
    ] = None  # fmt: skip
    limit: Limit = 10


class QuerySubscriptions(Parameters):
    """Which subscriptions."""

    status: Annotated[SubscriptionStatus | None, Field(description="Only subscriptions with this status")] = None
    plan: Annotated[str | None, Field(max_length=100, description="Only this membership plan, such as Student")] = None
    limit: Limit = 10


@reading_tool("query_payments", category="crm", parameters=QueryPayments, permission="payments:read")
def query_payments(context: ToolContext, wanted: QueryPayments) -> dict[str, Any]:
    """Query the payments of all clients in a period: revenue, income and takings, failed, refunded or pending payments,
    with totals by status and the latest payments.
    """
    last = wanted.to_date or context.today
    return crm.query_payments(
        context.connection,
        first=wanted.from_date or last - _MONTH,
        last=last,
        status=wanted.status,
        kind=wanted.kind,
        least=wanted.min_amount,
        zone=context.zone,
        limit=wanted.limit,
    )


@reading_tool("query_subscriptions", category="crm", parameters=QuerySubscriptions, permission="payments:read")
def query_subscriptions(context: ToolContext, wanted: QuerySubscriptions) -> dict[str, Any]:
    """Query the subscriptions (memberships, plans) of all clients: how many there are by plan and status, with monthly
    amounts, and the newest subscriptions.
    """
    return crm.query_subscriptions(context.connection, status=wanted.status, plan=wanted.plan, limit=wanted.limit)


PAYMENT_TOOLS = [query_payments, query_subscriptions]
