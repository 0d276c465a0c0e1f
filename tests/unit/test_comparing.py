"""When two periods can be compared: both asked for, over, and after the records begin."""

from datetime import date
from decimal import Decimal

import pytest

from business.analytics.comparing import Known, compared

TODAY = date(2026, 11, 28)


@pytest.mark.parametrize(
    ("first", "last", "since", "said"),
    [
        (date(2025, 1, 1), date(2025, 12, 31), date(2024, 5, 1), None),
        (date(2025, 1, 1), date(2025, 12, 31), date(2025, 2, 1), None),  # the first payment came within a month
        (date(2025, 1, 1), date(2025, 12, 31), date(2025, 2, 2), "records begin on 2025-02-02"),
        (date(2025, 1, 1), date(2025, 12, 31), date(2025, 12, 29), "records begin on 2025-12-29"),
        (date(2025, 1, 1), date(2025, 12, 31), None, "records begin on None"),
        (date(2026, 1, 1), date(2026, 12, 31), date(2024, 5, 1), "is not over"),
        (date(2026, 11, 1), date(2026, 11, 28), date(2024, 5, 1), "is not over"),  # today is not over either
        (date(2026, 11, 1), date(2026, 11, 27), date(2024, 5, 1), None),
        (date(2023, 1, 1), date(2023, 12, 31), date(2020, 1, 1), "a part of 2023-01-01"),
        (date(2026, 10, 1), date(2026, 10, 31), date(2026, 10, 16), None),
        (date(2026, 10, 1), date(2026, 10, 31), date(2026, 10, 17), "records begin"),
    ],
)
def test_what_is_not_known_whole_is_said(first: date, last: date, since: date | None, said: str | None) -> None:
    known = Known(date(2023, 6, 1), date(2026, 12, 31), TODAY, since)
    gap = known.gap(first, last)
    assert (gap is None) == (said is None)
    assert said is None or (gap is not None and said in gap)


def test_growth_is_null_with_a_reason_or_a_number_without() -> None:
    assert compared(Decimal(100), Decimal(90), None) == {"growth_percent": -10.0, "no_growth_because": None}
    assert compared(Decimal(1), Decimal(229), "it is not over") == {
        "growth_percent": None, "no_growth_because": "it is not over",
    }  # fmt: skip
    nothing = compared(Decimal(0), Decimal(90), None)
    assert (nothing["growth_percent"], nothing["no_growth_because"]) == (None, "nothing was paid in the period before")
