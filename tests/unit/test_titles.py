"""The titles of conversations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.conversations.titles import title_of


@pytest.mark.parametrize(
    ("message", "title"),
    [
        ("Is there yoga tomorrow?", "Is there yoga tomorrow?"),
        ("\n\n  ## Refund  **please**\nMore.", "Refund **please"),
        ("---\n> ¿Hay yoga mañana?\nGracias", "¿Hay yoga mañana?"),
        (
            "I would like to know whether the gym is open on the first of January",
            "I would like to know whether the gym is open on the first …",
        ),
        ("x" * 80, "x" * 59 + "…"),
        ("明日のヨガはありますか。" * 8, ("明日のヨガはありますか。" * 8)[:59] + "…"),
        ("???", "???"),
        ("👍", "👍"),
    ],
)
def test_a_title_is_how_the_message_begins(message: str, title: str) -> None:
    assert title_of(message) == title


@given(st.text(min_size=1))
def test_a_title_is_one_line_and_short(message: str) -> None:
    title = title_of(message)
    assert len(title) <= 60
    assert len(title.splitlines()) <= 1
