"""The analytics tools, on real tables, against numbers worked out by hand."""

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from business.analytics.schemas import month_start
from business.crm import service as crm
from business.tools.analytics import ANALYTICS_TOOLS
from core import db
from core.errors import InvalidInput
from core.ids import new_id
from core.json_text import dump_json
from tests.support.clock import movable_clock
from tests.support.factories import NOW, ZONE, make_organisation, make_row
from tests.support.tools import TODAY, use

YEAR_25 = {"from_date": "2025-01-01", "to_date": "2025-12-31"}
WINTER = {"from_date": "2025-01-01", "to_date": "2025-03-31"}


def at(month: int, day: int, hour: int = 12, minute: int = 0) -> datetime:
    """A moment of 2025 on the gym's clock."""
    return datetime(2025, month, day, hour, minute, tzinfo=ZONE)


def noon(days: int) -> datetime:
    """Noon, so many days from today."""
    return datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=ZONE) + timedelta(days=days)


def pay(org: UUID, client: UUID, amount: str, when: datetime, **more: Any) -> None:
    make_row(org, "payments", client_id=client, amount=Decimal(amount), paid_at=when, **more)


def subscribe(org: UUID, started: date, ended: date | None = None, **more: Any) -> UUID:
    """A client with a subscription."""
    client = make_row(org, "clients", joined_on=started)
    status = {"status": "cancelled"} if ended else {}
    make_row(org, "subscriptions", client_id=client, started_on=started, ended_on=ended, **(status | more))
    return client


def hold(org: UUID, class_id: UUID, starts_at: datetime, statuses: str = "", **more: Any) -> UUID:
    """A session with bookings, one a word of `statuses`, each by somebody else."""
    session = make_row(org, "class_sessions", class_id=class_id, starts_at=starts_at, **more)
    for status in statuses.split():
        book(org, make_row(org, "clients", name="Passer-by", status="lapsed"), session, status, starts_at)
    return session


def book(org: UUID, client: UUID, session: UUID, status: str, starts_at: datetime, hours_ahead: int = 5) -> None:
    created = starts_at - timedelta(hours=hours_ahead)
    make_row(org, "bookings", client_id=client, session_id=session, status=status, created_at=created)


def columns(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def winter(org: UUID) -> UUID:
    """Payments of January and February 2025, in two currencies."""
    client = make_row(org, "clients")
    pay(org, client, "100", at(1, 15))
    pay(org, client, "30", at(2, 1, 0, 30))  # still January by UTC, February by the gym's clock
    pay(org, client, "45", at(2, 10), kind="personal_training", method="direct_debit")
    pay(org, client, "50", at(2, 11), status="refunded")
    pay(org, client, "70", at(2, 12), status="failed")
    pay(org, client, "5", at(2, 13), status="pending")
    pay(org, client, "15", at(2, 28, 23, 59), kind="shop", method="cash")
    pay(org, client, "10", at(1, 5), currency="USD")
    return org


def test_revenue_by_month_by_the_gyms_clock_in_each_currency(winter: UUID) -> None:
    report = use(winter, "generate_revenue_report", **WINTER)
    assert columns(report["periods"], "currency", "starts_on", "revenue", "refunded", "growth_percent") == [
        ("EUR", date(2025, 1, 1), 100, 0, None),
        ("EUR", date(2025, 2, 1), 90, 50, -10.0),  # 30 + 45 + 15
        ("EUR", date(2025, 3, 1), 0, 0, -100.0),
        ("USD", date(2025, 1, 1), 10, 0, None),
        ("USD", date(2025, 2, 1), 0, 0, -100.0),
        ("USD", date(2025, 3, 1), 0, 0, None),
    ]
    assert columns(report["totals"], "currency", "revenue", "paid_count") == [("EUR", 190, 4), ("USD", 10, 1)]
    assert all(row["is_whole"] for row in report["periods"])


def test_revenue_by_year_and_by_week(winter: UUID) -> None:
    years = use(winter, "generate_revenue_report", from_date="2024-06-01", to_date="2025-12-31", by="year")["periods"]
    assert columns(years, "currency", "starts_on", "revenue", "is_whole", "growth_percent") == [
        ("EUR", date(2024, 1, 1), 0, False, None),
        ("EUR", date(2025, 1, 1), 190, True, None),  # 2024 was asked for in part
        ("USD", date(2024, 1, 1), 0, False, None),
        ("USD", date(2025, 1, 1), 10, True, None),
    ]
    weeks = use(winter, "generate_revenue_report", from_date="2025-02-03", to_date="2025-02-16", by="week")["periods"]
    assert columns(weeks, "starts_on", "revenue") == [(date(2025, 2, 3), 0), (date(2025, 2, 10), 45)]


@pytest.mark.parametrize(("by", "periods"), [("week", 13), ("month", 12), ("quarter", 8), ("year", 3)])
def test_without_days_the_last_periods_are_reported(org: UUID, by: str, periods: int) -> None:
    pay(org, make_row(org, "clients"), "59", noon(0))
    rows = use(org, "generate_revenue_report", by=by)["periods"]
    assert len(rows) == periods
    assert rows[-1]["starts_on"] <= TODAY <= rows[-1]["ends_on"]
    assert sum(row["revenue"] for row in rows) == 59


def test_turnover_of_a_month_in_detail(winter: UUID) -> None:
    report = use(winter, "generate_monthly_turnover_report", month="2025-02")
    assert (report["from_date"], report["to_date"], report["is_over"]) == (date(2025, 2, 1), date(2025, 2, 28), True)
    [euros] = report["currencies"]
    assert (euros["turnover"], euros["payments"], euros["average_payment"]) == (90, 3, 30)
    assert euros["not_counted"] == {"refunded": 50, "failed": 70, "pending": 5}
    assert (euros["month_before"], euros["growth_percent"]) == (100, -10.0)
    assert columns(euros["by_kind"], "kind", "turnover", "percent") == [
        ("membership", 30, 33.3), ("personal_training", 45, 50.0), ("shop", 15, 16.7),
    ]  # fmt: skip
    assert columns(euros["by_method"], "method", "turnover") == [("card", 30), ("cash", 15), ("direct_debit", 45)]
    assert columns(euros["by_day"], "day", "turnover") == [("2025-02-01", 30), ("2025-02-10", 45), ("2025-02-28", 15)]
    assert columns(euros["by_week"], "week", "turnover") == [("2025-01-27", 30), ("2025-02-10", 45), ("2025-02-24", 15)]


def test_turnover_of_a_month_that_is_not_over_is_not_compared(org: UUID) -> None:
    client = make_row(org, "clients")
    pay(org, client, "59", NOW)
    pay(org, client, "118", NOW.replace(day=1) - timedelta(days=3))
    report = use(org, "generate_monthly_turnover_report")
    [euros] = report["currencies"]
    assert report["to_date"] == TODAY
    assert (euros["turnover"], euros["month_before"]) == (59, 118)
    assert (euros["growth_percent"], report["is_over"]) == (None, False)


def test_mrr_counts_a_twelfth_of_yearly_plans_and_tells_past_due_apart(org: UUID) -> None:
    long_ago = date(2024, 1, 1)
    client = subscribe(org, long_ago, plan="Unlimited", amount=59)
    make_row(org, "subscriptions", client_id=client, plan="Locker", amount=6, started_on=long_ago)
    subscribe(org, long_ago, plan="Unlimited", amount=59, status="past_due")
    subscribe(org, long_ago, plan="Yearly", amount=100, period="year")
    subscribe(org, long_ago, plan="Unlimited", amount=59, status="paused")
    subscribe(org, long_ago, date(2025, 6, 1), plan="Unlimited", amount=59)
    subscribe(org, TODAY + timedelta(days=1), plan="Unlimited", amount=59)
    subscribe(org, long_ago, plan="Dollars", amount=40, currency="USD")
    euros, dollars = use(org, "calculate_mrr")["currencies"]
    # 59 + 6 + 59 + 100/12 = 132.33, of three members: 44.11 each
    assert (euros["mrr"], euros["subscriptions"], euros["paying_members"]) == (Decimal("132.33"), 4, 3)
    assert euros["arpu"] == Decimal("44.11")
    assert (euros["active"]["mrr"], euros["past_due"]["mrr"]) == (Decimal("73.33"), 59)
    assert columns(euros["by_plan"], "plan", "mrr") == [
        ("Locker", 6), ("Unlimited", 118), ("Yearly", Decimal("8.33")),
    ]  # fmt: skip
    assert (dollars["currency"], dollars["mrr"]) == ("USD", 40)
    yearly = use(org, "calculate_arr")["currencies"]
    assert [row["arr"] for row in yearly] == [1588, 480]  # 12 * (59 + 6 + 59) + 100; 12 * 40


def test_mrr_of_an_earlier_day_counts_who_was_there_then(org: UUID) -> None:
    subscribe(org, date(2025, 1, 10), date(2025, 6, 1), amount=59)
    for day, mrr in (("2025-01-09", []), ("2025-01-10", [59]), ("2025-05-31", [59]), ("2025-06-01", [])):
        assert [row["mrr"] for row in use(org, "calculate_mrr", day=day)["currencies"]] == mrr, day


def test_payment_trends_with_failure_rates_by_method_and_before(winter: UUID) -> None:
    trends = use(winter, "analyze_payment_trends", from_date="2025-02-01", to_date="2025-02-28")
    [euros] = trends["totals"]
    # 3 paid, 1 refunded, 1 failed; the pending one is not settled
    assert (euros["failure_rate_percent"], euros["refund_rate_percent"], euros["pending_count"]) == (20.0, 25.0, 1)
    assert euros["average_payment"] == 30
    # the 28 days before are 4 to 31 January: the 100 of the 15th
    assert euros["as_many_days_before"]["paid"] == 100
    assert euros["paid_growth_percent"] == -10.0
    assert columns(trends["by_method"], "method", "paid", "failure_rate_percent") == [
        ("card", 30, 33.3), ("cash", 15, 0.0), ("direct_debit", 45, 0.0),
    ]  # fmt: skip
    assert columns(trends["periods"], "starts_on", "paid", "failed") == [(date(2025, 2, 1), 90, 70)]
    assert use(winter, "analyze_payment_trends", **WINTER)["totals"][0]["as_many_days_before"] is None


@pytest.fixture
def young(org: UUID) -> UUID:
    """A gym whose records begin four days before the last twelve months: 1 paid then, 59 in each month since."""
    client = make_row(org, "clients")
    for back in range(12):
        pay(org, client, "59", datetime.combine(month_start(TODAY, back), time(12), ZONE))
    pay(org, client, "1", datetime.combine(month_start(TODAY, 11) - timedelta(days=4), time(12), ZONE))
    return org


def test_growth_over_time_without_records_or_not_over_is_null_with_the_reason(young: UUID) -> None:
    first, yesterday = month_start(TODAY, 11), TODAY - timedelta(days=1)
    for last, said in ((TODAY, "is not over"), (yesterday, "the records begin")):
        trends = use(young, "analyze_payment_trends", from_date=str(first), to_date=str(last))
        [euros] = trends["totals"]
        assert euros["paid_growth_percent"] is None
        assert said in euros["no_growth_because"]
    years = use(young, "generate_revenue_report", by="year")["periods"]
    assert [row["growth_percent"] for row in years] == [None] * len(years)
    assert all(row["no_growth_because"] for row in years)
    before_last = month_start(TODAY, 11)
    month = use(young, "generate_monthly_turnover_report", month=f"{before_last:%Y-%m}")["currencies"][0]
    assert (month["growth_percent"], "records begin" in month["no_growth_because"]) == (None, True)
    whole = use(young, "generate_monthly_turnover_report", month=f"{month_start(TODAY, 2):%Y-%m}")["currencies"][0]
    assert (whole["growth_percent"], whole["no_growth_because"]) == (0.0, None)


# ── retention ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def members(org: UUID) -> UUID:
    """Members of 2025: four in January, of whom one leaves in February and one in March, when one comes."""
    for _ in range(2):
        subscribe(org, date(2024, 5, 1), amount=50)
    subscribe(org, date(2024, 5, 1), date(2025, 2, 10))
    subscribe(org, date(2025, 1, 20), date(2025, 3, 1), plan="Student")
    subscribe(org, date(2025, 3, 31), plan="Student", amount=50, status="paused")
    return org


def test_churn_and_retention_by_month_and_plan(members: UUID) -> None:
    report = use(members, "generate_churn_report", **WINTER)
    assert columns(report["months"], "starts_on", "at_start", "lost", "gained", "at_end", "churn_percent") == [
        (date(2025, 1, 1), 3, 0, 1, 4, 0.0),
        (date(2025, 2, 1), 4, 1, 0, 3, 25.0),
        (date(2025, 3, 1), 3, 1, 1, 3, 33.3),
    ]
    # 2 lost in 3 + 4 + 3 member-months: 20 % a month, so 5 months
    assert (report["monthly_churn_percent"], report["expected_lifetime_months"]) == (20.0, 5.0)
    assert columns(report["plans"], "plan", "at_start", "lost", "gained", "at_end", "retention_percent") == [
        ("Student", 0, 0, 1, 1, None),
        ("Unlimited", 3, 1, 0, 2, 66.7),
    ]
    assert report["clients_by_status_today"] == {"active": 5}


def test_who_changes_plans_is_not_lost(org: UUID) -> None:
    client = subscribe(org, date(2024, 5, 1), date(2025, 2, 10))
    make_row(org, "subscriptions", client_id=client, plan="Student", started_on=date(2025, 2, 10))
    report = use(org, "generate_churn_report", **WINTER)
    assert [row["lost"] for row in report["months"]] == [0, 0, 0]
    assert columns(report["plans"], "plan", "lost", "gained") == [("Student", 0, 1), ("Unlimited", 1, 0)]


def test_churn_is_reckoned_to_today_and_averaged_over_whole_months(members: UUID) -> None:
    soon = str(TODAY + timedelta(days=40))
    report = use(members, "generate_churn_report", from_date=str(TODAY.replace(day=1)), to_date=soon)
    assert report["to_date"] == TODAY
    assert columns(report["months"], "ends_on", "at_end", "is_whole") == [(TODAY, 3, False)]
    assert (report["whole_months"], report["monthly_churn_percent"]) == (0, None)
    assert use(members, "generate_churn_report")["whole_months"] == 11


def test_lifetime_value_by_cohort_of_joining(org: UUID) -> None:
    first = subscribe(org, date(2025, 1, 3), amount=50)
    second = subscribe(org, date(2025, 1, 30), date(2025, 4, 1))
    third = subscribe(org, date(2025, 2, 1), amount=120, period="year", currency="USD")
    for client, amount, more in (
        (first, "50", {}), (first, "25.01", {}), (second, "50", {}), (second, "99", {"status": "refunded"}),
        (third, "120", {"currency": "USD"}), (first, "7", {"currency": "USD"}),
    ):  # fmt: skip
        pay(org, client, amount, at(5, 1), **more)
    report = use(org, "generate_ltv_report", **YEAR_25)
    assert columns(report["cohorts"], "starts_on", "clients", "members_today", "retention_percent") == [
        (date(2025, 1, 1), 2, 1, 50.0),
        (date(2025, 2, 1), 1, 1, 100.0),
    ]
    january, february = (row["paid_so_far"] for row in report["cohorts"])
    # 125.01 by two clients is 62.505, halves up
    assert columns(january, "currency", "paid", "paid_per_client") == [
        ("EUR", Decimal("125.01"), Decimal("62.51")), ("USD", 7, Decimal("3.50")),
    ]  # fmt: skip
    assert columns(february, "currency", "paid_per_client") == [("USD", 120)]
    assert [row["clients"] for row in use(org, "generate_ltv_report", by="year", **YEAR_25)["cohorts"]] == [3]


def test_lifetime_value_is_projected_from_the_last_twelve_months(org: UUID) -> None:
    month = TODAY.replace(day=1)
    for _ in range(2):
        subscribe(org, month - timedelta(days=1000), amount=50)
    # One was a member when the last whole month began, and left in it: 12 months as one of three members.
    subscribe(org, month - timedelta(days=1000), month - timedelta(days=1))
    projected = use(org, "generate_ltv_report", margin_percent=80)["projected"]
    assert (projected["monthly_churn_percent"], projected["expected_lifetime_months"]) == (2.8, 36.0)  # 1 in 36
    assert columns(projected["currencies"], "currency", "arpu", "lifetime_value") == [("EUR", 50, 1440)]  # 50 * .8 * 36


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def march(org: UUID) -> UUID:
    """Three sessions in March 2025, one cancelled, and one to come."""
    spin, yoga = make_row(org, "classes"), make_row(org, "classes", name="Yoga", category="mind")
    hold(org, spin, at(3, 3, 18), "attended attended no_show cancelled", capacity=4)  # a Monday
    hold(org, spin, at(3, 10, 18, 30), "attended", capacity=4)  # a Monday
    hold(org, yoga, at(3, 4, 7), "attended booked", capacity=8, instructor="Lucía Prado")
    hold(org, yoga, at(3, 11, 7), "booked booked", capacity=8, instructor="Lucía Prado", status="cancelled")
    hold(org, yoga, noon(3), "booked", capacity=8)
    return org


def test_attendance_in_all_and_by_class_instructor_weekday_and_hour(march: UUID) -> None:
    report = use(march, "analyze_class_attendance", from_date="2025-03-01", to_date="2025-03-31")
    assert report["total"] == {
        "sessions": 3, "cancelled_sessions": 1, "places": 16, "booked": 6, "attended": 4, "no_shows": 1,
        "occupancy_percent": 37.5, "attendance_percent": 80.0,
    }  # fmt: skip
    assert columns(report["by_class"], "class", "sessions", "booked", "occupancy_percent") == [
        ("Spin", 2, 4, 50.0), ("Yoga", 1, 2, 25.0),
    ]  # fmt: skip
    assert columns(report["by_instructor"], "instructor", "sessions") == [("Lucía Prado", 1), ("Marta Gil", 2)]
    assert columns(report["by_weekday"], "weekday", "sessions") == [("Monday", 2), ("Tuesday", 1)]
    assert columns(report["by_hour"], "hour", "attended") == [("07:00", 1), ("18:00", 3)]


def test_sessions_to_come_have_no_attendance(march: UUID) -> None:
    report = use(march, "analyze_class_attendance", to_date=str(TODAY + timedelta(days=7)))
    assert (report["total"]["sessions"], report["total"]["occupancy_percent"]) == (0, None)


def test_no_shows_by_class_notice_and_client(march: UUID) -> None:
    boxing, ana, bob = make_row(march, "classes", name="Boxing"), make_row(march, "clients"), make_row(march, "clients")
    for day, hours, status in ((17, 100, "no_show"), (18, 80, "no_show"), (19, 30, "attended"), (20, 2, "cancelled")):
        book(march, ana, hold(march, boxing, at(3, day)), status, at(3, day), hours_ahead=hours)
    book(march, bob, hold(march, boxing, at(3, 21)), "no_show", at(3, 21))
    report = use(march, "analyze_no_show_rates", from_date="2025-03-01", to_date="2025-03-31")
    # missed: 1 of spin's 4, none of yoga's 1, 3 of boxing's 4
    assert columns(report["by_class"], "class", "no_shows", "attended", "no_show_percent") == [
        ("Boxing", 3, 1, 75.0), ("Spin", 1, 3, 25.0), ("Yoga", 0, 1, 0.0),
    ]  # fmt: skip
    assert report["total"] == {"no_shows": 4, "attended": 5, "no_show_percent": 44.4}
    assert columns(report["by_notice"], "booked_ahead", "no_shows", "attended") == [
        ("less than a day", 2, 4), ("1 to 3 days", 0, 1), ("3 days or more", 2, 0),
    ]  # fmt: skip
    assert columns(report["clients"], "client_id", "no_shows", "no_show_percent") == [(ana, 2, 66.7)]


def test_operations_of_today_and_this_week(org: UUID) -> None:
    spin, monday = make_row(org, "classes"), -TODAY.weekday()
    hold(org, spin, noon(0), "booked booked cancelled", capacity=4)
    hold(org, spin, noon(0) + timedelta(hours=1), "booked", capacity=10, status="cancelled")
    hold(org, spin, noon(monday or 6), "booked", capacity=6)  # this week, but not today
    hold(org, spin, noon(monday - 1), "booked")
    hold(org, spin, noon(monday + 7), "booked")
    late = make_row(org, "clients", joined_on=TODAY)
    make_row(org, "clients", status="frozen")
    for days in (0, 6, 7):
        pay(org, late, "59", noon(-days), status="failed")
        make_row(org, "leads", created_at=noon(-days), status="contacted" if days else "new")
    make_row(org, "subscriptions", client_id=late, status="past_due", renews_on=TODAY + timedelta(days=6))
    for days in (6, 7):
        make_row(org, "subscriptions", client_id=late, renews_on=TODAY + timedelta(days=days))
    make_row(org, "subscriptions", client_id=late, status="cancelled", ended_on=TODAY)
    report = use(org, "generate_operations_report")
    today, week = report["today"], report["this_week"]
    assert (today["sessions"], today["cancelled_sessions"]) == (1, 1)
    assert (today["booked"], today["places"], today["occupancy_percent"]) == (2, 4, 50.0)
    assert columns(today["list"], "class_name", "booked", "status") == [
        ("Spin", 2, "scheduled"),
        ("Spin", 1, "cancelled"),
    ]
    assert (week["sessions"], week["booked"], week["places"], week["occupancy_percent"]) == (2, 3, 10, 30.0)
    assert report["clients_by_status"] == {"active": 1, "frozen": 1, "lapsed": 7}
    assert (report["new_leads_7_days"], report["leads_not_contacted"], report["failed_payments_7_days"]) == (2, 1, 2)
    assert (report["subscriptions_past_due"], report["renewals_next_7_days"]) == (1, 1)  # each in one of the two
    assert (report["subscriptions_ended_this_month"], report["new_clients_this_month"]) == (1, 1)


# ── members ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def attend(org: UUID, client: UUID, *days: int, status: str = "attended") -> None:
    """Visits at noon, so many days ago."""
    spin = make_row(org, "classes")
    for day in days:
        book(org, client, hold(org, spin, noon(-day)), status, noon(-day))


def test_engagement_is_spread_over_the_bands_as_each_members_score_says(org: UUID) -> None:
    keen, gone = subscribe(org, date(2025, 1, 1)), make_row(org, "clients")
    slipping = subscribe(org, date(2025, 1, 1))
    attend(org, keen, *range(1, 9))
    attend(org, slipping, 30, 40)
    attend(org, slipping, 50, status="no_show")
    make_row(org, "clients", status="frozen")
    scores = [use(org, "calculate_engagement_score", client_id=str(client)) for client in (keen, gone, slipping)]
    assert [score["band"] for score in scores] == ["engaged", "at risk", "slipping"]
    report = use(org, "analyze_member_engagement")
    assert columns(report["bands"], "band", "members", "percent") == [
        ("engaged", 1, 33.3), ("steady", 0, 0.0), ("slipping", 1, 33.3), ("at risk", 1, 33.3),
    ]  # fmt: skip
    assert report["average"]["score"] == round(sum(score["score"] for score in scores) / 3, 1)


def test_members_at_risk_are_named_with_the_reasons_highest_risk_first(org: UUID) -> None:
    keen = subscribe(org, date(2025, 1, 1))
    attend(org, keen, *range(1, 60, 4))
    fading = subscribe(org, date(2025, 1, 1))
    attend(org, fading, 25, 40, 45, 50, 55, 60)
    lost = make_row(org, "clients", name="Bo Lund", joined_on=TODAY - timedelta(days=100))
    pay(org, lost, "59", noon(-10), status="failed")
    make_row(org, "clients", status="frozen", joined_on=TODAY - timedelta(days=100))
    report = use(org, "identify_at_risk_members")
    # Bo: 40 away, 10 failed, 15 no subscription; the fading: 25 away, 25 for 1 visit after (6 - 1) / 2 a month
    assert columns(report["members"], "client_id", "score", "level") == [(lost, 65, "high"), (fading, 50, "high")]
    assert report["members"][0]["reasons"] == [
        "Not one visit in 100 days since joining", "No active subscription", "Failed payments in 90 days: 1",
    ]  # fmt: skip
    assert report["members"][1]["reasons"] == ["No visit for 25 days", "Visits fell from 2.5 to 1 in 30 days"]
    assert (report["members_judged"], report["by_level"]) == (3, {"high": 2, "medium": 0, "low": 1})
    few = use(org, "identify_at_risk_members", min_score=60, limit=1)
    assert (few["count"], [row["name"] for row in few["members"]]) == (1, ["Bo Lund"])


def test_a_past_due_member_is_named_so_and_the_failed_payment_not_counted_again(org: UUID) -> None:
    late = subscribe(org, date(2025, 1, 1), status="past_due")
    attend(org, late, 15, 25, 31, 40, 45, 50)
    pay(org, late, "59", noon(-5), status="failed")
    [member] = use(org, "identify_at_risk_members", min_score=1)["members"]
    # 10 for 15 days away and 15 for what is due, instead of 10 for the failed payment and 15 for no subscription
    assert member["reasons"] == ["Subscription past due, failed payments in 90 days: 1", "No visit for 15 days"]
    assert member["score"] == 25
    score = use(org, "calculate_engagement_score", client_id=str(late))
    assert score["payments"] == 10
    assert score["activity"]["is_past_due"]


def test_every_time_is_by_the_gyms_clock(org: UUID) -> None:
    spin, client = make_row(org, "classes"), make_row(org, "clients")
    late = datetime(2026, 1, 10, 0, 30, tzinfo=ZONE)  # the 9th by UTC
    book(org, client, hold(org, spin, late), "attended", late)
    lead = make_row(org, "leads", created_at=late)
    activity = use(org, "calculate_engagement_score", client_id=str(client))["activity"]
    assert activity["last_visit"] == date(2026, 1, 10)
    [found] = use(org, "search_leads", query="Leo")["leads"]
    profile = use(org, "view_lead_profile", lead_id=str(lead))
    assert found["created_at"] == profile["created_at"] == "2026-01-10T00:30+01:00"
    with movable_clock() as clock:
        clock.move_to(datetime(2027, 1, 9, 23, 30, tzinfo=UTC))
        use(org, "update_client_status", client_id=str(client), status="frozen")
        use(org, "update_lead_status", lead_id=str(lead), status="contacted")
        notes = [
            use(org, "view_client_profile", client_id=str(client))["notes"],
            use(org, "view_lead_profile", lead_id=str(lead))["notes"],
        ]
    assert [note.split(":")[0] for note in notes] == ["2027-01-10", "2027-01-10"]


_SHARES = {"percent", "score", "band", "recency", "frequency", "reliability", "payments", "expected_lifetime_months"}


def floats_within(value: Any, name: str = "") -> list[str]:
    """Names under which there is a binary float that is no share, score or length of time."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in floats_within(item, key)]
    if isinstance(value, list):
        return [found for item in value for found in floats_within(item, name)]
    return [name] if isinstance(value, float) and name not in _SHARES and not name.endswith("_percent") else []


def test_money_is_written_as_decimal_text_never_as_a_float(winter: UUID) -> None:
    client = subscribe(winter, date(2025, 1, 1), amount=Decimal("59.90"))
    pay(winter, client, "59.90", at(3, 1))
    looks: dict[str, dict[str, Any]] = {tool.name: {} for tool in ANALYTICS_TOOLS} | {
        "view_client_profile": {"client_id": str(client)},
        "view_client_payments": {"client_id": str(client)},
        "query_payments": {"from_date": "2025-01-01", "min_amount": 59.9},
        "query_subscriptions": {},
    }
    for name, arguments in looks.items():
        written = json.loads(dump_json(use(winter, name, **arguments)))
        assert floats_within(written) == [], name
    profile = json.loads(dump_json(use(winter, "view_client_profile", client_id=str(client))))
    assert (profile["subscription"]["amount"], profile["total_paid"]) == ("59.90", "59.90")
    found = use(winter, "query_payments", from_date="2025-01-01", min_amount=59.9)["payments"]
    assert Decimal("59.90") in [row["amount"] for row in found]


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_money_needs_its_own_permission_and_names_of_people_are_not_trusted() -> None:
    assert {tool.name for tool in ANALYTICS_TOOLS if tool.permission == "payments:read"} == {
        "generate_revenue_report", "generate_ltv_report", "generate_monthly_turnover_report", "calculate_mrr",
        "calculate_arr", "analyze_payment_trends",
    }  # fmt: skip
    assert {tool.permission for tool in ANALYTICS_TOOLS} == {"payments:read", "analytics:read"}
    assert {tool.name for tool in ANALYTICS_TOOLS if tool.returns_untrusted} == {
        "analyze_no_show_rates", "identify_at_risk_members",
    }  # fmt: skip


# What each says where there is nothing: no division by nothing, no made-up currency.
EMPTY: dict[str, dict[str, Any]] = {
    "generate_revenue_report": {"totals": [], "periods": []},
    "generate_churn_report": {"monthly_churn_percent": None, "expected_lifetime_months": None, "plans": []},
    "generate_ltv_report": {"cohorts": []},
    "generate_monthly_turnover_report": {"currencies": []},
    "calculate_mrr": {"currencies": []},
    "calculate_arr": {"currencies": []},
    "analyze_payment_trends": {"totals": [], "by_method": [], "periods": []},
    "analyze_class_attendance": {"by_class": [], "by_weekday": []},
    "analyze_member_engagement": {"members": 0, "average": {}},
    "analyze_no_show_rates": {"by_class": [], "by_notice": [], "clients": []},
    "identify_at_risk_members": {"members_judged": 0, "count": 0, "members": []},
    "generate_operations_report": {"clients_by_status": {}, "new_leads_7_days": 0, "failed_payments_7_days": 0},
}


def test_an_empty_organisation_has_empty_reports_whatever_others_have(org: UUID) -> None:
    other = make_organisation(f"other-{new_id().hex[-8:]}")
    with db.transaction(other) as connection:
        crm.seed_demonstration(connection, other, zone=ZONE, today=TODAY)
    assert set(EMPTY) == {tool.name for tool in ANALYTICS_TOOLS}
    for name, empty in EMPTY.items():
        assert use(org, name).items() >= empty.items(), name
    # The other's reports are not empty: there was something to leak.
    for name, empty in EMPTY.items():
        assert not use(other, name).items() >= empty.items(), name


def test_reports_on_a_demonstration_gym_agree_with_each_other(org: UUID) -> None:
    with db.transaction(org) as connection:
        crm.seed_demonstration(connection, org, zone=ZONE, today=TODAY)
    [revenue] = use(org, "generate_revenue_report")["totals"]
    periods = use(org, "generate_revenue_report")["periods"]
    assert revenue["revenue"] == sum(row["revenue"] for row in periods)
    [turnover] = use(org, "generate_monthly_turnover_report", month=f"{periods[-2]['starts_on']:%Y-%m}")["currencies"]
    assert turnover["turnover"] == periods[-2]["revenue"]
    for part in ("kind", "method", "week", "day"):
        assert sum(row["turnover"] for row in turnover[f"by_{part}"]) == turnover["turnover"]
    churn = use(org, "generate_churn_report")["months"]
    for before, after in pairwise(churn):
        assert after["at_start"] == before["at_end"] == before["at_start"] - before["lost"] + before["gained"]
    judged = use(org, "identify_at_risk_members")
    assert judged["members_judged"] == use(org, "analyze_member_engagement")["members"] > 100


@pytest.mark.parametrize(
    "name",
    ["generate_revenue_report", "generate_churn_report", "generate_ltv_report", "analyze_payment_trends",
     "analyze_class_attendance", "analyze_no_show_rates"],
)  # fmt: skip
def test_days_that_run_backwards_are_refused_with_advice(org: UUID, name: str) -> None:
    with pytest.raises(InvalidInput, match="Swap them"):
        use(org, name, from_date="2025-03-02", to_date="2025-03-01")


@pytest.mark.parametrize(
    ("name", "arguments", "advice"),
    [
        ("generate_revenue_report", {"from_date": "2000-01-01"}, "fewer days or longer steps"),
        ("analyze_payment_trends", {"from_date": "2020-01-01", "by": "week"}, "fewer days or longer steps"),
        ("generate_churn_report", {"from_date": "2099-01-01", "to_date": "2099-02-01"}, "up to today"),
        ("generate_monthly_turnover_report", {"month": "2099-01"}, "up to today"),
        ("generate_monthly_turnover_report", {"month": "2025-13"}, "Call it again"),
        ("calculate_mrr", {"day": "2099-01-01"}, "Leave the day out"),
        ("calculate_arr", {"day": "2099-01-01"}, "Leave the day out"),
        ("generate_ltv_report", {"margin_percent": 0}, "Call it again"),
        ("identify_at_risk_members", {"limit": 1000}, "Call it again"),
    ],
)
def test_what_cannot_be_reported_is_refused_with_advice(
    org: UUID, name: str, arguments: dict[str, Any], advice: str
) -> None:
    with pytest.raises(InvalidInput, match=advice):
        use(org, name, **arguments)
