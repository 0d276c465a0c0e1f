"""What the commands about retention and broadcasts say and take."""

from typing import Any

import pytest
import typer

from cli import governing


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (
            {"days": 90, "chosen": None, "least": 1, "most": None},
            "90 days (the installation's default; days: at least 1)",
        ),
        (
            {"days": None, "chosen": None, "least": 30, "most": None},
            "for ever (the installation's default; days: at least 30)",
        ),
        (
            {"days": 60, "chosen": 60, "least": 30, "most": 365},
            "60 days (chosen by this organisation; days: at least 30, at most 365)",
        ),
    ],
)
def test_retention_is_told_with_whose_choice_it_is_and_its_bounds(kept: dict[str, Any], said: str) -> None:
    assert governing._in_words(kept) == said


def test_days_are_a_number_or_the_default() -> None:
    assert governing._days("30") == 30
    assert governing._days("default") is None
    with pytest.raises(typer.Exit):
        governing._days("a month")


def test_a_broadcast_that_was_withdrawn_says_so() -> None:
    assert governing._until({"withdrawn_at": "2026-12-01T00:00:00+00:00", "until": None}) == "withdrawn"
    assert governing._until({"until": None}) == ""
