"""The formulas of the reports, on examples worked by hand."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from business.analytics import formulas
from business.analytics.schemas import MemberActivity, Span, month_end, month_start
from core.errors import InvalidInput
from core.ids import new_id

ZONE = ZoneInfo("Europe/Madrid")
TODAY = date(2026, 11, 20)


def euros(amount: str) -> Decimal:
    return Decimal(amount)


def member(**more: Any) -> MemberActivity:
    """One who joined long ago and comes twice a week."""
    values: dict[str, Any] = {
        "client_id": new_id(),
        "name": "Ana Torres",
        "joined_on": date(2025, 1, 1),
        "visits": 180,
        "visits_30_days": 8,
        "visits_90_days": 24,
        "no_shows_90_days": 0,
        "last_visit": TODAY - timedelta(days=2),
        "failed_payments_90_days": 0,
        "has_active_subscription": True,
    }
    return MemberActivity.model_validate(values | more)


# ── days ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("day", "back", "first", "last"),
    [
        (date(2026, 11, 20), 0, date(2026, 11, 1), date(2026, 11, 30)),
        (date(2026, 11, 20), 11, date(2025, 12, 1), date(2025, 12, 31)),
        (date(2026, 3, 31), 1, date(2026, 2, 1), date(2026, 2, 28)),
        (date(2024, 3, 31), 1, date(2024, 2, 1), date(2024, 2, 29)),  # a leap year
        (date(2100, 2, 1), 0, date(2100, 2, 1), date(2100, 2, 28)),  # none, though it divides by four
        (date(2026, 1, 1), 1, date(2025, 12, 1), date(2025, 12, 31)),
        (date(2026, 12, 31), 24, date(2024, 12, 1), date(2024, 12, 31)),
    ],
)
def test_months_begin_and_end(day: date, back: int, first: date, last: date) -> None:
    assert month_start(day, back) == first
    assert month_end(first) == last
    assert Span.month(day, ZONE, back) == Span(first, last, ZONE)


def test_days_before_are_as_many_and_end_the_day_before() -> None:
    february = Span.month(date(2024, 2, 10), ZONE)
    assert february.days == 29
    assert february.before == Span(date(2024, 1, 3), date(2024, 1, 31), ZONE)


def test_a_day_on_which_the_clock_changes_has_its_own_length() -> None:
    spring = Span(date(2026, 3, 29), date(2026, 3, 29), ZONE)
    assert spring.end.timestamp() - spring.begin.timestamp() == 23 * 3600


def test_days_that_run_backwards_or_are_still_to_come_are_refused_with_advice() -> None:
    with pytest.raises(InvalidInput, match="Swap"):
        Span(date(2026, 3, 2), date(2026, 3, 1), ZONE)
    with pytest.raises(InvalidInput, match="up to today"):
        Span(date(2026, 11, 21), date(2026, 11, 30), ZONE).until(TODAY)
    assert Span(date(2026, 11, 1), date(2026, 11, 30), ZONE).until(TODAY).last == TODAY


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("monthly", "yearly", "month", "year"),
    [
        ("0", "0", "0.00", "0.00"),
        ("59", "0", "59.00", "708.00"),
        ("0", "600", "50.00", "600.00"),
        ("118", "600", "168.00", "2016.00"),
        ("0", "100", "8.33", "100.00"),  # 8.3333… a month; twelve times 8.33 would be 99.96
        ("0", "0.06", "0.01", "0.06"),  # half a cent rounds up
    ],
)
def test_yearly_plans_count_a_twelfth(monthly: str, yearly: str, month: str, year: str) -> None:
    exact = formulas.mrr(euros(monthly), euros(yearly))
    assert formulas.cents(exact) == euros(month)
    assert formulas.cents(formulas.arr(exact)) == euros(year)


def test_arpu_and_growth_have_no_value_from_nothing() -> None:
    assert formulas.arpu(euros("168"), 3) == euros("56")
    assert formulas.arpu(euros("0"), 0) is None
    assert formulas.cents(formulas.arpu(euros("0"), 0)) is None
    assert formulas.growth(euros("80"), euros("100")) == 25.0
    assert formulas.growth(euros("100"), euros("80")) == -20.0
    assert formulas.growth(0, euros("80")) is None


# ── retention ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("at_start", "lost", "churn", "retention"),
    [(200, 9, 4.5, 95.5), (3, 1, 33.3, 66.7), (7, 0, 0.0, 100.0), (7, 7, 100.0, 0.0), (0, 0, None, None)],
)
def test_churn_and_retention(at_start: int, lost: int, churn: float | None, retention: float | None) -> None:
    assert formulas.churn_rate(at_start, lost) == churn
    assert formulas.retention_rate(at_start, lost) == retention


def test_lifetime_value_is_arpu_by_churn() -> None:
    # 20 lost in 400 member-months: 5 % a month, so 20 months of 50, of which 80 % remain.
    assert formulas.expected_lifetime(400, 20) == 20
    assert formulas.lifetime_value(euros("50"), 400, 20, Decimal(100)) == 1000
    assert formulas.lifetime_value(euros("50"), 400, 20, Decimal(80)) == 800


def test_lifetime_value_is_unknown_where_nobody_left_or_nobody_pays() -> None:
    assert formulas.expected_lifetime(400, 0) is None
    assert formulas.lifetime_value(euros("50"), 400, 0, Decimal(100)) is None
    assert formulas.lifetime_value(None, 400, 20, Decimal(100)) is None


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_occupancy_and_no_shows() -> None:
    assert formulas.occupancy(15, 20) == 75.0
    assert formulas.occupancy(0, 0) is None
    assert formulas.no_show_rate(1, 7) == 12.5
    assert formulas.no_show_rate(0, 0) is None


# ── risk ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def days_ago(days: int) -> date:
    return TODAY - timedelta(days=days)


@pytest.mark.parametrize(
    ("activity", "score", "level"),
    [
        ({}, 0, "low"),
        ({"last_visit": days_ago(9)}, 0, "low"),
        ({"last_visit": days_ago(10)}, 10, "low"),
        ({"last_visit": days_ago(21)}, 25, "medium"),
        ({"last_visit": days_ago(45)}, 40, "medium"),
        # (20 - 4) / 2 = 8 before; 4 is not under half of that, but at most three quarters
        ({"visits_30_days": 4, "visits_90_days": 20}, 10, "low"),
        ({"visits_30_days": 3, "visits_90_days": 19}, 25, "medium"),
        ({"visits_30_days": 0, "visits_90_days": 3}, 0, "low"),  # 1.5 a month was no habit
        ({"no_shows_90_days": 12}, 10, "low"),  # 12 of 36
        ({"no_shows_90_days": 11}, 0, "low"),
        ({"failed_payments_90_days": 1}, 10, "low"),
        ({"failed_payments_90_days": 5, "has_active_subscription": False}, 35, "medium"),
        ({"joined_on": days_ago(20), "visits": 3}, 10, "low"),
        ({"joined_on": days_ago(13), "visits": 0}, 0, "low"),  # too early to tell
        # never came: 25 for 30 days' absence, 10 for a slow start
        ({"joined_on": days_ago(30), "visits": 0, "last_visit": None, "visits_30_days": 0, "visits_90_days": 0}, 35,
         "medium"),
        # 40 + 25 + 20 + 15
        ({"last_visit": days_ago(50), "visits_30_days": 0, "visits_90_days": 8, "failed_payments_90_days": 2,
          "has_active_subscription": False}, 100, "high"),
    ],
)  # fmt: skip
def test_risks_worked_by_hand(activity: dict[str, Any], score: int, level: str) -> None:
    found = formulas.at_risk(member(**activity), TODAY)
    assert (found.score, found.level) == (score, level)
    assert bool(found.reasons) == bool(score)


def test_reasons_are_told_in_words_the_weightiest_first() -> None:
    leaving = member(
        last_visit=days_ago(50), visits_30_days=0, visits_90_days=8, no_shows_90_days=4, failed_payments_90_days=1,
        has_active_subscription=False,
    )  # fmt: skip
    assert formulas.at_risk(leaving, TODAY).reasons == [
        "No visit for 50 days",
        "Visits fell from 4 to 0 in 30 days",
        "No active subscription",
        "Missed 4 of 12 booked classes in 90 days",
        "Failed payments in 90 days: 1",
    ]
    newcomer = member(joined_on=days_ago(40), last_visit=None, visits=0, visits_30_days=0, visits_90_days=0)
    assert formulas.at_risk(newcomer, TODAY).reasons == [
        "Not one visit in 40 days since joining",
        "Visits in the first 40 days: only 0",
    ]


@given(
    st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.none() | st.integers(0, 400), st.integers(0, 9),
    st.booleans(), st.integers(0, 400),
)  # fmt: skip
def test_the_risk_is_between_0_and_100_and_never_less_for_a_failed_payment(
    month: int, more: int, missed: int, days: int | None, failed: int, has_subscription: bool, joined: int
) -> None:
    facts: dict[str, Any] = {
        "visits_30_days": month,
        "visits_90_days": month + more,
        "visits": month + more,
        "no_shows_90_days": missed,
        "last_visit": None if days is None else days_ago(days),
        "has_active_subscription": has_subscription,
        "joined_on": days_ago(joined),
    }
    before = formulas.at_risk(member(**facts, failed_payments_90_days=failed), TODAY)
    after = formulas.at_risk(member(**facts, failed_payments_90_days=failed + 1), TODAY)
    assert 0 <= before.score <= after.score <= 100


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_churn_and_retention_make_up_the_whole(lost: int, kept: int) -> None:
    churn, retention = formulas.churn_rate(lost + kept, lost), formulas.retention_rate(lost + kept, lost)
    if churn is None or retention is None:
        assert lost + kept == 0
    else:
        assert churn + retention == pytest.approx(100, abs=0.11)  # each is rounded to one decimal
