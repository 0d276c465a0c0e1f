"""Reports on the gym's records. They are plain data, which an agent's tool passes on."""

from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, get_args
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from business.analytics import formulas, queries
from business.analytics.comparing import Known, compared
from business.analytics.formulas import cents, percent
from business.analytics.schemas import MemberActivity, RiskLevel, Span, Unit, month_start
from business.crm.engagement import engagement_score
from business.crm.schemas import EngagementScore
from core.errors import InvalidInput

Row = dict[str, Any]
Rows = list[Row]

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


def _by_part(rows: Rows) -> dict[str, Rows]:
    """Group rows by their `part`. Each row begins with its `value`, under the part's name."""
    parts: dict[str, Rows] = {}
    for row in rows:
        part, value = row.pop("part"), row.pop("value")
        parts.setdefault(part, []).append(row if part == "all" else {part: value} | row)
    return parts


def _only(row: Row, *names: str) -> Row:
    return {name: row[name] for name in names if name in row}


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def revenue_report(connection: Connection, span: Span, unit: Unit, today: date) -> Row:
    """Report what was paid in each week, month, quarter or year, with its growth, and in total, by currency."""
    found = queries.payments_by_period(connection, _in_view(span, unit), unit)
    known = Known(span.first, span.last, today, queries.first_payment(connection, span.zone))
    gaps = [known.gap(row["starts_on"], row["ends_on"]) for row in found]
    periods = [_revenue(row) | {"is_whole": gap is None} for row, gap in zip(found, gaps, strict=True)]
    totals = [_revenue(row) for row in _payment_totals(connection, span)]
    return _days(span) | {"by": unit, "totals": totals, "periods": _with_growth(periods, gaps)}


def _payment_totals(connection: Connection, span: Span) -> Rows:
    return _by_part(queries.payments_by_part(connection, span)).get("all", [])


def _revenue(row: Row) -> Row:
    kept = _only(row, "currency", "starts_on", "ends_on")
    return kept | {"revenue": row["paid"]} | _only(row, "paid_count", "refunded", "refunded_count")


def _with_growth(rows: Rows, gaps: list[str | None]) -> Rows:
    """Return each row with its growth over the previous one in the same currency, or why there is none."""
    grown: Rows = []
    for index, row in enumerate(rows):
        before = rows[index - 1] if index else None
        if before is None or before["currency"] != row["currency"]:
            grown.append(row | compared(Decimal(0), row["revenue"], "the period before was not asked for"))
        else:
            grown.append(row | compared(before["revenue"], row["revenue"], gaps[index] or gaps[index - 1]))
    return grown


def turnover_report(connection: Connection, month: Span, today: date) -> Row:
    """Report the turnover of one month in detail, and that of the month before, by currency.

    Raises:
        InvalidInput: the month is still to come.
    """
    so_far, is_over = month.until(today), month.last < today
    earlier = Span.month(month.first, month.zone, back=1)
    before = {row["currency"]: row["paid"] for row in _payment_totals(connection, earlier)}
    known = Known(earlier.first, month.last, today, queries.first_payment(connection, month.zone))
    gap = known.gap(month.first, month.last) or known.gap(earlier.first, earlier.last)
    currencies: dict[str, Rows] = {}
    for row in queries.payments_by_part(connection, so_far):
        currencies.setdefault(row["currency"], []).append(row)
    reports = [_turnover(rows, before.get(currency, Decimal(0)), gap) for currency, rows in currencies.items()]
    return _days(so_far) | {"is_over": is_over, "currencies": reports}


def _turnover(rows: Rows, before: Decimal, gap: str | None) -> Row:
    parts = _by_part(rows)
    [total] = parts["all"]
    report = {
        "currency": total["currency"],
        "turnover": total["paid"],
        "payments": total["paid_count"],
        "average_payment": cents(formulas.average(total["paid"], total["paid_count"])),
        "not_counted": _only(total, "refunded", "failed", "pending"),
        "month_before": before,
        **compared(before, total["paid"], gap),
    }
    for part in ("kind", "method", "week", "day"):
        report[f"by_{part}"] = [
            {part: row[part], "turnover": row["paid"], "payments": row["paid_count"]}
            | {"percent": percent(row["paid"], total["paid"])}
            for row in parts[part]
            if row["paid_count"]
        ]
    return report


def payment_trends(connection: Connection, span: Span, unit: Unit, today: date) -> Row:
    """Report payments in each period and by method, and against as many days before, by currency."""
    periods = queries.payments_by_period(connection, _in_view(span, unit), unit)
    parts = _by_part(queries.payments_by_part(connection, span))
    earlier = {row["currency"]: _fares(row) for row in _payment_totals(connection, span.before)}
    known = Known(span.before.first, span.last, today, queries.first_payment(connection, span.zone))
    gap = known.gap(span.first, span.last) or known.gap(span.before.first, span.before.last)
    return _days(span) | {
        "by": unit,
        "totals": [_fares(row) | _against(row, earlier.get(row["currency"]), gap) for row in parts.get("all", [])],
        "by_method": [_fares(row) for row in parts.get("method", [])],
        "periods": [_fares(row) for row in periods],
    }


def _fares(row: Row) -> Row:
    charged = row["paid_count"] + row["refunded_count"]
    return row | {
        "average_payment": cents(formulas.average(row["paid"], row["paid_count"])),
        "failure_rate_percent": percent(row["failed_count"], row["failed_count"] + charged),
        "refund_rate_percent": percent(row["refunded_count"], charged),
    }


def _against(row: Row, before: Row | None, gap: str | None) -> Row:
    names = ("paid", "paid_count", "failed_count", "average_payment", "failure_rate_percent")
    found = compared(before["paid"] if before else Decimal(0), row["paid"], gap)
    return {
        "as_many_days_before": _only(before, *names) if before else None,
        "paid_growth_percent": found["growth_percent"],
        "no_growth_because": found["no_growth_because"],
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


def _recurring(connection: Connection, day: date, today: date, amounts_of: Callable[[Row], Row]) -> Row:
    if day > today:
        raise InvalidInput(f"{day} is still to come. Leave the day out for today, {today}.")
    currencies: dict[str, Row] = {}
    for row in queries.recurring_amounts(connection, day, today):
        amounts = amounts_of(row) | {"subscriptions": row["subscriptions"], "paying_members": row["members"]}
        if _is_total(row):  # is the first row of its currency
            currencies[row["currency"]] = {"currency": row["currency"]} | amounts | {"by_plan": []}
        elif row["plan"] is None:
            currencies[row["currency"]][row["standing"]] = amounts
        else:
            currencies[row["currency"]]["by_plan"].append({"plan": row["plan"]} | amounts)
    return {"day": day, "counted": _COUNTED, "currencies": list(currencies.values())}


def _is_total(row: Row) -> bool:
    return row["plan"] is None and row["standing"] is None


def _mrr(row: Row) -> Row:
    exact = formulas.mrr(row["monthly"], row["yearly"])
    return {"mrr": cents(exact), "arpu": cents(formulas.arpu(exact, row["members"]))}


def _arr(row: Row) -> Row:
    exact = formulas.mrr(row["monthly"], row["yearly"])
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
    whole = [row for row in months if row["is_whole"] and row["ends_on"] < today]
    return _days(span) | {
        **_lasting(whole),
        "whole_months": len(whole),
        "months": [_kept(row) | {"is_whole": row in whole} for row in months],
        "plans": [_kept(row) for row in queries.plan_movement(connection, span)],
        "clients_by_status_today": queries.clients_by_status(connection),
    }


def _lasting(months: Rows) -> Row:
    member_months, lost = sum(row["at_start"] for row in months), sum(row["lost"] for row in months)
    return {
        "monthly_churn_percent": formulas.churn_rate(member_months, lost),
        "expected_lifetime_months": formulas.expected_lifetime(member_months, lost),
    }


def _kept(row: Row) -> Row:
    return row | {
        "churn_percent": formulas.churn_rate(row["at_start"], row["lost"]),
        "retention_percent": formulas.retention_rate(row["at_start"], row["lost"]),
    }


def ltv_report(connection: Connection, span: Span, unit: Unit, *, margin_percent: Decimal, today: date) -> Row:
    """Report what clients have paid, by when they joined, and a member's projected lifetime value, by currency."""
    found = queries.cohorts(connection, _in_view(span, unit), unit, today)
    paid: dict[date, Rows] = {row["starts_on"]: [] for row in found}
    for row in queries.paid_by_cohort(connection, span, unit):
        paid[row["starts_on"]].append(_only(row, "currency", "paid"))
    return _days(span) | {
        "by": unit,
        "cohorts": [_cohort(row, paid[row["starts_on"]]) for row in found],
        "projected": _projected(connection, margin_percent, today, span.zone),
    }


def _cohort(row: Row, paid: Rows) -> Row:
    return row | {
        "retention_percent": percent(row["members_today"], row["clients"]),
        "paid_so_far": [one | {"paid_per_client": cents(one["paid"] / row["clients"])} for one in paid],
    }


def _projected(connection: Connection, margin_percent: Decimal, today: date, zone: ZoneInfo) -> Row:
    """Project the lifetime value from today's ARPU and the churn of the last twelve whole months."""
    year = Span(month_start(today, 12), month_start(today) - timedelta(days=1), zone)
    months = queries.member_movement(connection, year)
    member_months, lost = sum(row["at_start"] for row in months), sum(row["lost"] for row in months)
    currencies = []
    for row in filter(_is_total, queries.recurring_amounts(connection, today, today)):
        arpu = formulas.arpu(formulas.mrr(row["monthly"], row["yearly"]), row["members"])
        value = formulas.lifetime_value(arpu, member_months, lost, margin_percent)
        currencies.append({"currency": row["currency"], "arpu": cents(arpu), "lifetime_value": cents(value)})
    return _lasting(months) | {"margin_percent": margin_percent, "currencies": currencies}


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def class_attendance(connection: Connection, span: Span) -> Row:
    """Report occupancy and attendance of classes: in total, and by class, instructor, weekday and hour."""
    parts = _by_part(queries.attendance_by_part(connection, span))
    report = _days(span) | {"total": _attended(parts["all"][0])}
    for part in ("class", "instructor", "weekday", "hour"):
        report[f"by_{part}"] = [_attended(row) for row in parts.get(part, [])]
    return report


def _attended(row: Row) -> Row:
    return row | {
        "occupancy_percent": formulas.occupancy(row["booked"], row["places"]),
        "attendance_percent": percent(row["attended"], row["attended"] + row["no_shows"]),
    }


def no_show_rates(connection: Connection, span: Span, *, limit: int) -> Row:
    """Report missed bookings: in total, by class, weekday, hour and notice, and the clients who miss most."""
    parts = _by_part(queries.attendance_by_part(connection, span))
    report = _days(span) | {"total": _missed(parts["all"][0])}
    for part in ("class", "weekday", "hour"):
        report[f"by_{part}"] = [_missed(row) for row in parts.get(part, [])]
    missing = queries.clients_who_miss(connection, span, least=_LEAST_MISSED, limit=limit)
    return report | {
        "by_notice": [_missed(row) for row in queries.attendance_by_notice(connection, span)],
        "clients": [_missed(row) for row in missing],
    }


def _missed(row: Row) -> Row:
    whose = _only(row, "class", "weekday", "hour", "booked_ahead", "client_id", "name")
    rate = formulas.no_show_rate(row["no_shows"], row["attended"])
    return whose | {"no_shows": row["no_shows"], "attended": row["attended"], "no_show_percent": rate}


def operations_report(connection: Connection, today: date, zone: ZoneInfo) -> Row:
    """Report one day: its sessions and this week's (Monday to Sunday), clients, and what needs attention."""
    monday = today - timedelta(days=today.weekday())
    week = queries.sessions_of(connection, Span(monday, monday + _WEEK, zone))
    todays = [row for row in week if row["starts_at"].astimezone(zone).date() == today]
    return {
        "day": today,
        "today": _filled(todays) | {"list": [_listed(row, zone) for row in todays]},
        "this_week": _days(Span(monday, monday + _WEEK, zone)) | _filled(week),
        "clients_by_status": queries.clients_by_status(connection),
        **queries.duties_of_day(connection, Span(today, today, zone)),
    }


def _filled(rows: Rows) -> Row:
    held = [row for row in rows if row["status"] == "scheduled"]
    booked, places = sum(row["booked"] for row in held), sum(row["capacity"] for row in held)
    return {
        "sessions": len(held),
        "cancelled_sessions": len(rows) - len(held),
        "booked": booked,
        "places": places,
        "occupancy_percent": formulas.occupancy(booked, places),
    }


def _listed(row: Row, zone: ZoneInfo) -> Row:
    return row | {"starts_at": row["starts_at"].astimezone(zone).isoformat(timespec="minutes")}


# ── members ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _active_members(connection: Connection, zone: ZoneInfo) -> list[MemberActivity]:
    return [MemberActivity.model_validate(row) for row in queries.activity_of_members(connection, zone)]


def member_engagement(connection: Connection, today: date, zone: ZoneInfo) -> Row:
    """Report how active members spread over the bands of engagement, and the average parts of their scores."""
    scores = [engagement_score(member, today).model_dump() for member in _active_members(connection, zone)]
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
    judged = [(member, formulas.at_risk(member, today)) for member in _active_members(connection, zone)]
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
