"""How long something is kept, of what the installation sets and what an organisation chose."""

from datetime import timedelta

import pytest

from domain.retention.rules import kept_for, refusal, shown
from domain.retention.schemas import Term


def days(number: float | None) -> timedelta | None:
    return None if number is None else timedelta(days=number)


def term(default: float | None, least: float, most: float | None) -> Term:
    return Term(days(default), timedelta(days=least), days(most))


@pytest.mark.parametrize(
    ("default", "least", "most", "chosen", "kept"),
    [
        (90, 1, None, None, 90),
        (90, 1, None, 7, 7),
        (90, 1, None, 900, 900),
        (None, 30, None, None, None),  # for ever
        (None, 30, None, 60, 60),
        (None, 30, 365, None, 365),  # no installation with a bound keeps anything for ever
        (90, 1, 60, None, 60),
        (90, 30, None, 7, 30),  # chosen before the bound was raised
        (90, 1, 60, 80, 60),
        (90, 100, 60, None, 100),  # bounds that exclude each other: the least wins
    ],
)
def test_the_choice_counts_within_the_bounds_of_the_installation(
    default: float | None, least: float, most: float | None, chosen: float | None, kept: float | None
) -> None:
    assert kept_for(term(default, least, most), days(chosen)) == days(kept)


@pytest.mark.parametrize(("wanted", "why"), [(29, "at least 30"), (30, None), (365, None), (366, "at most 365")])
def test_what_the_installation_does_not_allow_is_refused_in_words(wanted: int, why: str | None) -> None:
    said = refusal("changes", term(None, 30, 365), wanted)
    assert said is None if why is None else why in str(said)


def test_a_part_of_a_day_is_shown_as_a_day() -> None:
    kept = shown(term(1.5, 1, None), None)
    assert (kept.days, kept.chosen, kept.least, kept.most) == (2, None, 1, None)
