"""Analytics tools: reports on the gym's records. They only read."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

from agents.tools.registry import Day, Parameters, ToolContext, reading_tool
from business.analytics import service as analytics
from business.analytics.schemas import Span, Unit, month_start

_MONTH, _QUARTER = timedelta(days=29), timedelta(days=89)
LastDay = Annotated[Day | None, Field(description="Last day, YYYY-MM-DD; today without it")]
Step = Annotated[Unit, Field(description="The length of the periods that are compared")]


class LookBack(Parameters):
    """Which days, in which steps."""

    from_date: Annotated[
        Day | None,
        Field(
            description="First day, YYYY-MM-DD; without it 12 weeks or months back, or 2 years by quarter or by year"
        ),
    ] = None
    to_date: LastDay = None
    by: Step = "month"


class ChurnReport(Parameters):
    """Which days."""

    from_date: Annotated[Day | None, Field(description="First day, YYYY-MM-DD; 12 months back without it")] = None
    to_date: LastDay = None


class LifetimeValueReport(Parameters):
    """Which clients, and what is left of their money."""

    from_date: Annotated[
        Day | None, Field(description="Clients who joined from this day on, YYYY-MM-DD; 24 months back without it")
    ] = None
    to_date: Annotated[Day | None, Field(description="Clients who joined up to this day; today without it")] = None
    by: Annotated[Unit, Field(description="Clients who joined in the same period are one cohort")] = "month"
    margin_percent: Annotated[
        int, Field(ge=1, le=100, description="Share of revenue left after direct costs, for the projected value")
    ] = 100


class MonthlyTurnover(Parameters):
    """Which month."""

    month: Annotated[
        str | None,
        Field(pattern=r"^20\d\d-(0[1-9]|1[0-2])$", description="The month, YYYY-MM; the current one without it"),
    ] = None


class OneDay(Parameters):
    """Which day."""

    day: Annotated[Day | None, Field(description="The day, YYYY-MM-DD, today or earlier; today without it")] = None


class Attendance(Parameters):
    """Which days."""

    from_date: Annotated[Day | None, Field(description="First day, YYYY-MM-DD; 30 days back without it")] = None
    to_date: LastDay = None


class NoShows(Parameters):
    """Which days, and how many clients are named."""

    from_date: Annotated[Day | None, Field(description="First day, YYYY-MM-DD; 90 days back without it")] = None
    to_date: LastDay = None
    limit: Annotated[int, Field(ge=1, le=100, description="At most so many clients who miss classes are named")] = 10


class AtRisk(Parameters):
    """How much risk, and how many members are named."""

    min_score: Annotated[int, Field(ge=1, le=100, description="Only members with at least this risk, 1 to 100")] = 25
    limit: Annotated[int, Field(ge=1, le=100, description="At most so many members are named; counts are of all")] = 20


class Nothing(Parameters):
    """Nothing to choose: always of today."""


def _span(context: ToolContext, first: date | None, last: date | None, back: timedelta) -> Span:
    last = last or context.today
    return Span(first or last - back, last, context.zone)


def _months(context: ToolContext, first: date | None, last: date | None, months: int) -> Span:
    """Return the days from `first` to `last`. Without `first`, `months` months, the last of which may not be over."""
    last = last or context.today
    return Span(first or month_start(last, months - 1), last, context.zone)


def _periods(context: ToolContext, wanted: LookBack) -> Span:
    last = wanted.to_date or context.today
    return Span(wanted.from_date or _some_back(last, wanted.by), last, context.zone)


def _some_back(last: date, unit: Unit) -> date:
    """Return the first day of a period some way back: a whole period, so that the next can be compared with it."""
    if unit == "week":
        return last - timedelta(days=last.weekday() + 7 * 12)
    months = {"month": 11, "quarter": 21 + (last.month - 1) % 3, "year": 23 + last.month}
    return month_start(last, months[unit])


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@reading_tool(
    "generate_revenue_report",
    category="analytics",
    parameters=LookBack,
    permission="payments:read",
    returns_untrusted=False,
)
def generate_revenue_report(context: ToolContext, wanted: LookBack) -> dict[str, Any]:
    """Generate a revenue report: what was paid (income, takings, sales) in each month, year, quarter or week, with
    growth from one to the next and totals, by currency. Refunds are told apart and not counted.
    """
    return analytics.revenue_report(context.connection, _periods(context, wanted), wanted.by, context.today)


@reading_tool(
    "generate_monthly_turnover_report",
    category="analytics",
    parameters=MonthlyTurnover,
    permission="payments:read",
    returns_untrusted=False,
)
def generate_monthly_turnover_report(context: ToolContext, wanted: MonthlyTurnover) -> dict[str, Any]:
    """Generate a detailed turnover report of one month: what was paid by kind (membership, personal training, shop, day
    pass), by method, by week and by day, beside the month before; refunded, failed and pending amounts told apart.
    """
    day = date.fromisoformat(f"{wanted.month}-01") if wanted.month else context.today
    return analytics.turnover_report(context.connection, Span.month(day, context.zone), context.today)


@reading_tool(
    "calculate_mrr", category="analytics", parameters=OneDay, permission="payments:read", returns_untrusted=False
)
def calculate_mrr(context: ToolContext, wanted: OneDay) -> dict[str, Any]:
    """Calculate MRR, monthly recurring revenue, on a day: subscriptions active or past due (each told apart), yearly
    plans at a twelfth, with ARPU and the amounts of each plan, by currency.
    """
    return analytics.monthly_recurring_revenue(context.connection, wanted.day or context.today, context.today)


@reading_tool(
    "calculate_arr", category="analytics", parameters=OneDay, permission="payments:read", returns_untrusted=False
)
def calculate_arr(context: ToolContext, wanted: OneDay) -> dict[str, Any]:
    """Calculate ARR, annual recurring revenue, on a day: twelve times MRR, of subscriptions active or past due (each
    told apart), with the amounts of each plan, by currency.
    """
    return analytics.annual_recurring_revenue(context.connection, wanted.day or context.today, context.today)


@reading_tool(
    "analyze_payment_trends",
    category="analytics",
    parameters=LookBack,
    permission="payments:read",
    returns_untrusted=False,
)
def analyze_payment_trends(context: ToolContext, wanted: LookBack) -> dict[str, Any]:
    """Analyze payment trends: amounts, average payment, failure rate and refund rate in each month, week, quarter or
    year and by method (card, direct debit, cash), and against as many days before, by currency.
    """
    return analytics.payment_trends(context.connection, _periods(context, wanted), wanted.by, context.today)


@reading_tool(
    "generate_ltv_report",
    category="analytics",
    parameters=LifetimeValueReport,
    permission="payments:read",
    returns_untrusted=False,
)
def generate_ltv_report(context: ToolContext, wanted: LifetimeValueReport) -> dict[str, Any]:
    """Generate a lifetime value (LTV, CLV) report: for each cohort of clients who joined in the same period, how many
    stayed and what they have paid so far; and the value projected from ARPU and churn, by currency.
    """
    return analytics.ltv_report(
        context.connection,
        _months(context, wanted.from_date, wanted.to_date, 24),
        wanted.by,
        margin_percent=Decimal(wanted.margin_percent),
        today=context.today,
    )


# ── members ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@reading_tool(
    "generate_churn_report",
    category="analytics",
    parameters=ChurnReport,
    permission="analytics:read",
    returns_untrusted=False,
)
def generate_churn_report(context: ToolContext, wanted: ChurnReport) -> dict[str, Any]:
    """Generate a churn report (retention analysis): members at the start, lost, gained and at the end of each month,
    churn and retention rates, the same by plan, the average monthly churn and how long members stay.
    """
    span = _months(context, wanted.from_date, wanted.to_date, 12)
    return analytics.churn_report(context.connection, span, context.today)


@reading_tool(
    "analyze_member_engagement",
    category="analytics",
    parameters=Nothing,
    permission="analytics:read",
    returns_untrusted=False,
)
def analyze_member_engagement(context: ToolContext, _: Nothing) -> dict[str, Any]:
    """Analyze member engagement: how many active members are engaged, steady, slipping or at risk, by engagement score
    (0 to 100), and the average of what the scores are made of. For one member see calculate_engagement_score.
    """
    return analytics.member_engagement(context.connection, context.today, context.zone)


@reading_tool("identify_at_risk_members", category="analytics", parameters=AtRisk, permission="analytics:read")
def identify_at_risk_members(context: ToolContext, wanted: AtRisk) -> dict[str, Any]:
    """Identify active members at risk of leaving (churn prediction), highest risk first: a score from 0 to 100 with the
    reasons, such as no visit for weeks, fewer visits than before, missed classes or failed payments.
    """
    return analytics.at_risk_members(
        context.connection, least=wanted.min_score, limit=wanted.limit, today=context.today, zone=context.zone
    )


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@reading_tool(
    "analyze_class_attendance",
    category="analytics",
    parameters=Attendance,
    permission="analytics:read",
    returns_untrusted=False,
)
def analyze_class_attendance(context: ToolContext, wanted: Attendance) -> dict[str, Any]:
    """Analyze class attendance in a period: sessions held, occupancy (how full), bookings and visits, in all and by
    class, instructor, weekday and hour, to see which classes are popular and which stay empty.
    """
    return analytics.class_attendance(context.connection, _span(context, wanted.from_date, wanted.to_date, _MONTH))


@reading_tool("analyze_no_show_rates", category="analytics", parameters=NoShows, permission="analytics:read")
def analyze_no_show_rates(context: ToolContext, wanted: NoShows) -> dict[str, Any]:
    """Analyze no-show rates in a period: how many booked classes were missed, in all and by class, weekday, hour and
    how far ahead they were booked, and the clients who missed most (two or more).
    """
    span = _span(context, wanted.from_date, wanted.to_date, _QUARTER)
    return analytics.no_show_rates(context.connection, span, limit=wanted.limit)


@reading_tool(
    "generate_operations_report",
    category="analytics",
    parameters=Nothing,
    permission="analytics:read",
    returns_untrusted=False,
)
def generate_operations_report(context: ToolContext, _: Nothing) -> dict[str, Any]:
    """Generate today's operations report (dashboard, daily briefing): today's and this week's sessions and occupancy,
    new leads, failed and pending payments, subscriptions past due or up for renewal, and active, frozen, lapsed and
    cancelled members.
    """
    return analytics.operations_report(context.connection, context.today, context.zone)


ANALYTICS_TOOLS = [
    generate_revenue_report,
    generate_churn_report,
    generate_ltv_report,
    generate_monthly_turnover_report,
    calculate_mrr,
    calculate_arr,
    analyze_payment_trends,
    analyze_class_attendance,
    analyze_member_engagement,
    analyze_no_show_rates,
    identify_at_risk_members,
    generate_operations_report,
]
