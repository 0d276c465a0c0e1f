"""Reports on the gym's records. They are plain data, which an agent's tool passes on."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Protocol, TypeVar, get_args
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from business.analytics import formulas, queries
from business.analytics.comparing import Known, compared
from business.analytics.formulas import cents, percent
from business.analytics.schemas import (
    AttendanceOfPart,
    BookedSession,
    Cohort,
    CohortPayments,
    Kept,
    MemberActivity,
    MonthMovement,
    Movement,
    PaymentsOfPart,
    PaymentsOfPeriod,
    PaymentSums,
    RecurringAmounts,
    RiskLevel,
    Span,
    Unit,
    month_start,
)
from business.crm.engagement import engagement_score
from business.crm.schemas import EngagementScore
from core.errors import InvalidInput
from domain.office.times import in_zone

Row = dict[str, Any]
Rows = list[Row]


class HasPart(Protocol):
    """A record of one group of a grouping."""

    @property
    def part(self) -> str:
        """The name of the grouping."""


Part = TypeVar("Part", bound=HasPart)

_DAYS_OF: dict[Unit, int] = {"week": 7, "month": 30, "quarter": 91, "year": 365}
_MOST_PERIODS = 60
_LEAST_MISSED = 2
_WEEK = timedelta(days=6)
_SCORED = ("score", "recency", "frequency", "reliability", "payments")
_COUNTED = (
    "subscriptions active or past due on the day, each told apart; yearly amounts count a twelfth a month; paused ones "
    "do not count. Past due and paused are as they stand today: earlier standings are not kept."
)


def _in_view(span: Span, unit: Unit) -> Span:
    """Return the days; refuse more weeks, months, quarters or years than a reader can take in."""
    if span.days > (_MOST_PERIODS + 1) * _DAYS_OF[unit]:
        raise InvalidInput(
            f"{span.first} to {span.last} is more than {_MOST_PERIODS} {unit}s. Ask for fewer days or longer steps."
        )
    return span


def _days(span: Span) -> Row:
    return {"from_date": span.first, "to_date": span.last}


def _by_part(found: Iterable[Part]) -> dict[str, list[Part]]:
    """Group records by their `part`."""
    parts: dict[str, list[Part]] = {}
    for one in found:
        parts.setdefault(one.part, []).append(one)
    return parts


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def revenue_report(connection: Connection, span: Span, unit: Unit, today: date) -> Row:
    """Report what was paid in each week, month, quarter or year, with its growth, and in total, by currency."""
    found = queries.payments_by_period(connection, _in_view(span, unit), unit)
    known = Known(span.first, span.last, today, queries.first_payment(connection, span.zone))
    gaps = [known.gap(period.starts_on, period.ends_on) for period in found]
    totals = [{"currency": total.currency, **_revenue(total)} for total in _payment_totals(connection, span)]
    periods = [
        {**_period(period), **_revenue(period), "is_whole": gap is None, **growth}
        for period, gap, growth in zip(found, gaps, _growth(found, gaps), strict=True)
    ]
    return _days(span) | {"by": unit, "totals": totals, "periods": periods}


def _payment_totals(connection: Connection, span: Span) -> list[PaymentsOfPart]:
    return _by_part(queries.payments_by_part(connection, span)).get("all", [])


def _period(period: PaymentsOfPeriod) -> Row:
    return {"currency": period.currency, "starts_on": period.starts_on, "ends_on": period.ends_on}


def _revenue(sums: PaymentSums) -> Row:
    return {
        "revenue": sums.paid,
        "paid_count": sums.paid_count,
        "refunded": sums.refunded,
        "refunded_count": sums.refunded_count,
    }


def _growth(periods: list[PaymentsOfPeriod], gaps: list[str | None]) -> Rows:
    """Return for each period its growth over the previous one in the same currency, or why there is none."""
    grown: Rows = []
    for index, period in enumerate(periods):
        before = periods[index - 1] if index else None
        if before is None or before.currency != period.currency:
            grown.append(compared(Decimal(0), period.paid, "the period before was not asked for"))
        else:
            grown.append(compared(before.paid, period.paid, gaps[index] or gaps[index - 1]))
    return grown


def turnover_report(connection: Connection, month: Span, today: date) -> Row:
    """Report the turnover of one month in detail, and that of the month before, by currency.

    Raises:
        InvalidInput: the month is still to come.
    """
    so_far, is_over = month.until(today), month.last < today
    earlier = Span.month(month.first, month.zone, back=1)
    before = {total.currency: total.paid for total in _payment_totals(connection, earlier)}
    known = Known(earlier.first, month.last, today, queries.first_payment(connection, month.zone))
    gap = known.gap(month.first, month.last) or known.gap(earlier.first, earlier.last)
    currencies: dict[str, list[PaymentsOfPart]] = {}
    for one in queries.payments_by_part(connection, so_far):
        currencies.setdefault(one.currency, []).append(one)
    reports = [_turnover(found, before.get(currency, Decimal(0)), gap) for currency, found in currencies.items()]
    return _days(so_far) | {"is_over": is_over, "currencies": reports}


def _turnover(found: list[PaymentsOfPart], before: Decimal, gap: str | None) -> Row:
    parts = _by_part(found)
    [total] = parts["all"]
    report = {
        "currency": total.currency,
        "turnover": total.paid,
        "payments": total.paid_count,
        "average_payment": _average_payment(total),
        "not_counted": {"refunded": total.refunded, "failed": total.failed, "pending": total.pending},
        "month_before": before,
        **compared(before, total.paid, gap),
    }
    for part in ("kind", "method", "week", "day"):
        report[f"by_{part}"] = [
            {part: one.value, "turnover": one.paid, "payments": one.paid_count}
            | {"percent": percent(one.paid, total.paid)}
            for one in parts[part]
            if one.paid_count
        ]
    return report


def payment_trends(connection: Connection, span: Span, unit: Unit, today: date) -> Row:
    """Report payments in each period and by method, and against as many days before, by currency."""
    periods = queries.payments_by_period(connection, _in_view(span, unit), unit)
    parts = _by_part(queries.payments_by_part(connection, span))
    earlier = {total.currency: total for total in _payment_totals(connection, span.before)}
    known = Known(span.before.first, span.last, today, queries.first_payment(connection, span.zone))
    gap = known.gap(span.first, span.last) or known.gap(span.before.first, span.before.last)
    return _days(span) | {
        "by": unit,
        "totals": [
            {"currency": total.currency, **_fares(total), **_against(total, earlier.get(total.currency), gap)}
            for total in parts.get("all", [])
        ],
        "by_method": [
            {"method": one.value, "currency": one.currency, **_fares(one)} for one in parts.get("method", [])
        ],
        "periods": [{**_period(period), **_fares(period)} for period in periods],
    }


def _fares(sums: PaymentSums) -> Row:
    return {
        "paid_count": sums.paid_count,
        "failed_count": sums.failed_count,
        "refunded_count": sums.refunded_count,
        "pending_count": sums.pending_count,
        "paid": sums.paid,
        "failed": sums.failed,
        "refunded": sums.refunded,
        "pending": sums.pending,
        "average_payment": _average_payment(sums),
        "failure_rate_percent": _failure_rate(sums),
        "refund_rate_percent": percent(sums.refunded_count, sums.paid_count + sums.refunded_count),
    }


def _average_payment(sums: PaymentSums) -> Decimal | None:
    return cents(formulas.average(sums.paid, sums.paid_count))


def _failure_rate(sums: PaymentSums) -> float | None:
    return percent(sums.failed_count, sums.failed_count + sums.paid_count + sums.refunded_count)


def _against(total: PaymentSums, before: PaymentSums | None, gap: str | None) -> Row:
    found = compared(before.paid if before else Decimal(0), total.paid, gap)
    return {
        "as_many_days_before": _earlier(before) if before else None,
        "paid_growth_percent": found["growth_percent"],
        "no_growth_because": found["no_growth_because"],
    }


def _earlier(sums: PaymentSums) -> Row:
    return {
        "paid": sums.paid,
        "paid_count": sums.paid_count,
        "failed_count": sums.failed_count,
        "average_payment": _average_payment(sums),
        "failure_rate_percent": _failure_rate(sums),
    }


def monthly_recurring_revenue(connection: Connection, day: date, today: date) -> Row:
    """Report MRR and ARPU on a day, by currency, standing and plan.

    Raises:
        InvalidInput: the day is still to come.
    """
    return _recurring(connection, day, today, _mrr)


def annual_recurring_revenue(connection: Connection, day: date, today: date) -> Row:
    """Report ARR on a day, by currency, standing and plan.

    Raises:
        InvalidInput: the day is still to come.
    """
    return _recurring(connection, day, today, _arr)


def _recurring(connection: Connection, day: date, today: date, amounts_of: Callable[[RecurringAmounts], Row]) -> Row:
    if day > today:
        raise InvalidInput(f"{day} is still to come. Leave the day out for today, {today}.")
    currencies: dict[str, Row] = {}
    for one in queries.recurring_amounts(connection, day, today):
        amounts = amounts_of(one) | {"subscriptions": one.subscriptions, "paying_members": one.members}
        if one.is_total:  # comes first in its currency
            currencies[one.currency] = {"currency": one.currency} | amounts | {"by_plan": []}
        elif one.standing is not None:
            currencies[one.currency][one.standing] = amounts
        else:
            currencies[one.currency]["by_plan"].append({"plan": one.plan} | amounts)
    return {"day": day, "counted": _COUNTED, "currencies": list(currencies.values())}


def _mrr(amounts: RecurringAmounts) -> Row:
    exact = formulas.mrr(amounts.monthly, amounts.yearly)
    return {"mrr": cents(exact), "arpu": cents(formulas.arpu(exact, amounts.members))}


def _arr(amounts: RecurringAmounts) -> Row:
    exact = formulas.mrr(amounts.monthly, amounts.yearly)
    return {"arr": cents(formulas.arr(exact)), "mrr": cents(exact)}


# ── retention ────────────────────────────────────────────────────────────────────────────────────────────────────────


def churn_report(connection: Connection, span: Span, today: date) -> Row:
    """Report members lost and kept in each month, over all the days, and by plan.

    Raises:
        InvalidInput: the first day is still to come.
    """
    span = _in_view(span.until(today), "month")
    months = queries.member_movement(connection, span)
    # A month that is not over may still lose members.
    whole = [month for month in months if month.is_whole and month.ends_on < today]
    return _days(span) | {
        **_lasting(whole),
        "whole_months": len(whole),
        "months": [
            {"starts_on": month.starts_on, "ends_on": month.ends_on, "is_whole": month in whole, **_moved(month)}
            for month in months
        ],
        "plans": [{"plan": one.plan, **_moved(one)} for one in queries.plan_movement(connection, span)],
        "clients_by_status_today": queries.clients_by_status(connection),
    }


def _lasting(months: list[MonthMovement]) -> Row:
    member_months, lost = sum(month.at_start for month in months), sum(month.lost for month in months)
    return {
        "monthly_churn_percent": formulas.churn_rate(member_months, lost),
        "expected_lifetime_months": formulas.expected_lifetime(member_months, lost),
    }


def _moved(members: Movement) -> Row:
    return {
        "at_start": members.at_start,
        "lost": members.lost,
        "gained": members.gained,
        "at_end": members.at_end,
        "churn_percent": formulas.churn_rate(members.at_start, members.lost),
        "retention_percent": formulas.retention_rate(members.at_start, members.lost),
    }


def ltv_report(connection: Connection, span: Span, unit: Unit, *, margin_percent: Decimal, today: date) -> Row:
    """Report what clients have paid, by when they joined, and a member's projected lifetime value, by currency."""
    found = queries.cohorts(connection, _in_view(span, unit), unit, today)
    paid: dict[date, list[CohortPayments]] = {cohort.starts_on: [] for cohort in found}
    for one in queries.paid_by_cohort(connection, span, unit):
        paid[one.starts_on].append(one)
    return _days(span) | {
        "by": unit,
        "cohorts": [_cohort(cohort, paid[cohort.starts_on]) for cohort in found],
        "projected": _projected(connection, margin_percent, today, span.zone),
    }


def _cohort(cohort: Cohort, paid: list[CohortPayments]) -> Row:
    return {
        **asdict(cohort),
        "retention_percent": percent(cohort.members_today, cohort.clients),
        "paid_so_far": [
            {"currency": one.currency, "paid": one.paid, "paid_per_client": cents(one.paid / cohort.clients)}
            for one in paid
        ],
    }


def _projected(connection: Connection, margin_percent: Decimal, today: date, zone: ZoneInfo) -> Row:
    """Project the lifetime value from today's ARPU and the churn of the last twelve whole months."""
    year = Span(month_start(today, 12), month_start(today) - timedelta(days=1), zone)
    months = queries.member_movement(connection, year)
    member_months, lost = sum(month.at_start for month in months), sum(month.lost for month in months)
    currencies = []
    for total in [one for one in queries.recurring_amounts(connection, today, today) if one.is_total]:
        arpu = formulas.arpu(formulas.mrr(total.monthly, total.yearly), total.members)
        value = formulas.lifetime_value(arpu, member_months, lost, margin_percent)
        currencies.append({"currency": total.currency, "arpu": cents(arpu), "lifetime_value": cents(value)})
    return _lasting(months) | {"margin_percent": margin_percent, "currencies": currencies}


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def class_attendance(connection: Connection, span: Span) -> Row:
    """Report occupancy and attendance of classes: in total, and by class, instructor, weekday and hour."""
    parts = _by_part(queries.attendance_by_part(connection, span))
    report = _days(span) | {"total": _attended(parts["all"][0])}
    for part in ("class", "instructor", "weekday", "hour"):
        report[f"by_{part}"] = [{part: one.value, **_attended(one)} for one in parts.get(part, [])]
    return report


def _attended(part: AttendanceOfPart) -> Row:
    return {
        "sessions": part.sessions,
        "cancelled_sessions": part.cancelled_sessions,
        "places": part.places,
        "booked": part.booked,
        "attended": part.attended,
        "no_shows": part.no_shows,
        "occupancy_percent": formulas.occupancy(part.booked, part.places),
        "attendance_percent": percent(part.attended, part.attended + part.no_shows),
    }


def no_show_rates(connection: Connection, span: Span, *, limit: int) -> Row:
    """Report missed bookings: in total, by class, weekday, hour and notice, and the clients who miss most."""
    parts = _by_part(queries.attendance_by_part(connection, span))
    report = _days(span) | {"total": _missed(parts["all"][0])}
    for part in ("class", "weekday", "hour"):
        report[f"by_{part}"] = [{part: one.value, **_missed(one)} for one in parts.get(part, [])]
    by_notice = queries.attendance_by_notice(connection, span)
    clients = queries.clients_who_miss(connection, span, least=_LEAST_MISSED, limit=limit)
    return report | {
        "by_notice": [{"booked_ahead": one.booked_ahead, **_missed(one)} for one in by_notice],
        "clients": [{"client_id": one.client_id, "name": one.name, **_missed(one)} for one in clients],
    }


def _missed(bookings: Kept) -> Row:
    rate = formulas.no_show_rate(bookings.no_shows, bookings.attended)
    return {"no_shows": bookings.no_shows, "attended": bookings.attended, "no_show_percent": rate}


def operations_report(connection: Connection, today: date, zone: ZoneInfo) -> Row:
    """Report one day: its sessions and this week's (Monday to Sunday), clients, and what needs attention."""
    monday = today - timedelta(days=today.weekday())
    week = queries.sessions_of(connection, Span(monday, monday + _WEEK, zone))
    todays = [session for session in week if session.starts_at.astimezone(zone).date() == today]
    return {
        "day": today,
        "today": _filled(todays) | {"list": [in_zone(session, zone) for session in todays]},
        "this_week": _days(Span(monday, monday + _WEEK, zone)) | _filled(week),
        "clients_by_status": queries.clients_by_status(connection),
        **asdict(queries.counts_of_day(connection, Span(today, today, zone))),
    }


def _filled(sessions: Sequence[BookedSession]) -> Row:
    held = [session for session in sessions if session.status == "scheduled"]
    booked, places = sum(session.booked for session in held), sum(session.capacity for session in held)
    return {
        "sessions": len(held),
        "cancelled_sessions": len(sessions) - len(held),
        "booked": booked,
        "places": places,
        "occupancy_percent": formulas.occupancy(booked, places),
    }


# ── members ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def member_engagement(connection: Connection, today: date, zone: ZoneInfo) -> Row:
    """Report how active members spread over the bands of engagement, and the average parts of their scores."""
    scores = [engagement_score(member, today).model_dump() for member in queries.activity_of_members(connection, zone)]
    found = Counter(score["band"] for score in scores)
    bands = get_args(EngagementScore.model_fields["band"].annotation)
    averages = {part: sum(score[part] for score in scores) / len(scores) for part in _SCORED} if scores else {}
    return {
        "members": len(scores),
        "bands": [
            {"band": band, "members": found[band], "percent": percent(found[band], len(scores))} for band in bands
        ],
        "average": {part: round(value, 1) for part, value in averages.items()},
    }


def at_risk_members(connection: Connection, *, least: int, limit: int, today: date, zone: ZoneInfo) -> Row:
    """Report active members whose risk of leaving is at least `least`, highest first, with the reasons."""
    judged = [(member, formulas.at_risk(member, today)) for member in queries.activity_of_members(connection, zone)]
    levels = Counter(risk.level for _, risk in judged)
    named = sorted((one for one in judged if one[1].score >= least), key=lambda one: -one[1].score)
    return {
        "members_judged": len(judged),
        "by_level": {level: levels[level] for level in get_args(RiskLevel)},
        "count": len(named),
        "members": [_at_risk(member) | risk.model_dump() for member, risk in named[:limit]],
    }


def _at_risk(member: MemberActivity) -> Row:
    return member.model_dump(include={"client_id", "name", "joined_on", "last_visit"})
