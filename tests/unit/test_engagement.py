"""The engagement score, on examples worked by hand."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from business.crm.engagement import engagement_score
from business.crm.schemas import Activity

TODAY = date(2026, 11, 20)


def activity(**more: object) -> Activity:
    values: dict[str, object] = {
        "visits_30_days": 8,
        "visits_90_days": 20,
        "no_shows_90_days": 0,
        "last_visit": TODAY,
        "failed_payments_90_days": 0,
        "has_active_subscription": True,
    }
    return Activity.model_validate(values | more)


@pytest.mark.parametrize(
    ("given_activity", "score", "band"),
    [
        (activity(), 100, "engaged"),
        # 35 - 35*9/45 = 28; 35*4/8 = 17.5 -> 18; 15*9/12 = 11.25 -> 11; 15-5 = 10
        (
            activity(
                last_visit=TODAY - timedelta(days=9), visits_30_days=4, visits_90_days=9, no_shows_90_days=3,
                failed_payments_90_days=1,
            ),
            67,
            "steady",
        ),
        # never seen: 0 + 0 + 7 for no bookings + 15
        (activity(last_visit=None, visits_30_days=0, visits_90_days=0), 22, "at risk"),
        (activity(last_visit=None, visits_30_days=0, visits_90_days=0, has_active_subscription=False), 7, "at risk"),
    ],
)  # fmt: skip
def test_scores_worked_by_hand(given_activity: Activity, score: int, band: str) -> None:
    found = engagement_score(given_activity, TODAY)
    assert (found.score, found.band) == (score, band)
    assert found.score == found.recency + found.frequency + found.reliability + found.payments


@given(
    st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.none() | st.integers(0, 400), st.integers(0, 9),
    st.booleans(),
)  # fmt: skip
def test_the_score_is_always_between_0_and_100(
    month: int, more: int, missed: int, days: int | None, failed: int, has_subscription: bool
) -> None:
    found = engagement_score(
        activity(
            visits_30_days=month,
            visits_90_days=month + more,
            no_shows_90_days=missed,
            last_visit=None if days is None else TODAY - timedelta(days=days),
            failed_payments_90_days=failed,
            has_active_subscription=has_subscription,
        ),
        TODAY,
    )
    assert 0 <= found.score <= 100
