"""Numbers, days and addresses in a text: which of them are amounts, and which send a reader somewhere."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.figures import (
    amounts,
    digits,
    is_same_way,
    plain_way,
    pointers,
    spaced,
    without_figures,
)
from core.text import fold

UUID_V7 = "0190a1b2-0000-7000-8000-000000001234"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("charge 20", ["20"]),
        ("charge 20.50", ["20.50"]),
        ("charge 20,5", ["20.5"]),
        ("0.05", ["0.05"]),
        ("1.234,56", ["1234.56"]),
        ("1,234.56", ["1234.56"]),
        ("1.000", ["1000"]),  # three digits after a mark are thousands
        ("1,000,000", ["1000000"]),
        ("12.345,9", ["12345.9"]),
        ("$5", ["5"]),
        ("€ 5", ["5"]),
        ("5€", ["5"]),
        ("eur 12", ["12"]),
        ("12 dolares", ["12"]),
        ("twenty", []),
        ("20 and 30", ["20", "30"]),
        ("20, 30.", ["20", "30"]),
        ("20 or 20.00", ["20"]),  # the same amount
        ("(20)", ["20"]),
    ],
)
def test_amounts_are_read_in_english_and_spanish_spelling(text: str, expected: list[str]) -> None:
    assert amounts(text) == {Decimal(number) for number in expected}


@pytest.mark.parametrize(
    "text",
    [
        "20%", "20 %", "#20", "room3", "3/4", "20-30", "1.2.3", "1,2345", "1.234,567", "12,34,56",
        "2026-11-29", "2026-11-29t18:00", "2026-11-29 18:00:30.5+01:00", "29/11/2026", "29.11.26", "29-11-2026",
        "18:30", "18.30h", "6 pm", "6am", "3rd", "29 nov", "29 de noviembre de 2026", "nov 29, 2026", "march 2027",
        "+34 600 111 222", "600-111-222", "es91 2100 0418 4502 0005 1332",
        UUID_V7, "room12@example.com", "https://example.com/20", "example.com/?n=20",
    ],
)  # fmt: skip
def test_percentages_ranges_days_hours_numbers_and_ids_are_no_amounts(text: str) -> None:
    assert amounts(text) == frozenset()


# From seven digits on it may be a telephone number.
@given(
    st.decimals(min_value=0, max_value="9999.99", places=2),
    st.sampled_from(["{}", "€{}", "{} euros", "usd {}", "({})"]),
)
def test_every_amount_written_plainly_is_read_back(amount: Decimal, around: str) -> None:
    assert amounts(around.format(f"{amount:.2f}")) == {amount}
    assert amounts(around.format(f"{amount:.2f}".replace(".", ","))) == {amount}
    grouped = f"{amount:,.2f}"  # 1,234.56
    assert amounts(around.format(grouped)) == {amount}
    assert amounts(around.format(grouped.translate(str.maketrans(",.", ".,")))) == {amount}


@given(st.text("abc 0123456789.,:/@-+€%#\n", max_size=60).map(fold))
def test_making_figures_unreadable_moves_no_letter_and_leaves_no_amount(text: str) -> None:
    hidden = without_figures(text)
    assert len(hidden) == len(text)
    assert all(now in {before, "~"} for before, now in zip(text, hidden, strict=True))
    assert amounts(hidden) == frozenset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see https://a.example/x?y=1.", {"https://a.example/x?y=1"}),
        ("(see a.example/x)", {"a.example/x"}),
        ("www.a.example!", {"www.a.example"}),
        ("follow @eve, please", {"@eve"}),
        ("call +34 600 111 222", {"34600111222"}),
        ("call 600.111.222 or 600 111 333", {"600111222", "600111333"}),
        ("call 112", set()),
        ("we meet on 2026-12-01", set()),
        ("we meet on 2026-12-01 18:00, or on 1/12/2026", set()),
        ("20.50 euros", set()),
        ("e.g. this", set()),
        ("nothing", set()),
    ],
)
def test_pointers_are_links_hosts_names_and_numbers_but_no_days(text: str, expected: set[str]) -> None:
    assert pointers(text) == expected


def test_an_email_address_is_a_pointer_as_a_whole() -> None:
    assert "eve.x+1@mail.gym.example" in pointers("write to eve.x+1@mail.gym.example.")


@pytest.mark.parametrize(
    "pointer",
    [
        "2026-12-01-gym.com", "gym-2026-12-01.com", "gym-01-12-2026.com", "01-12-26.com", "2026-12-01.gym.com",
        "eve@2026-12-01.com", "eve@01-12-26.com", "a.example/2026-12-01/pay", "https://gym-01-12-26.com/x",
    ],
)  # fmt: skip
def test_a_day_within_a_host_or_an_address_does_not_hide_it(pointer: str) -> None:
    assert pointer in pointers(f"pay at {pointer}, please")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("600111222", "+34 600 111 222", True),
        ("600-111-222", "(600) 111.222", True),
        ("+34600111222", "+34600111223", False),
        ("+34600111222", "+44600111222", True),  # the country may be left out, so it does not tell them apart
        ("12345678", "3412345678", False),  # too short to be a whole number
        ("12345678", "12345678", True),
        ("ana@example.com", "ana@example.com", True),
        ("ana@example.com", "eva@example.com", False),
        ("ana600111222@example.com", "eva600111222@example.com", False),
        ("https://a.example/600111222", "https://b.example/600111222", False),
        ("600111222", "https://a.example/600111222", False),
    ],
)
def test_telephone_numbers_are_the_same_however_spelled_and_nothing_else_is(
    one: str, other: str, *, expected: bool
) -> None:
    assert is_same_way(one, other) is expected
    assert is_same_way(other, one) is expected


numbers = st.builds(
    "{}{}{mark}111{mark}{}".format,
    st.sampled_from(["", "+34 ", "+44", "0034-"]),
    st.sampled_from([600, 601]),
    st.sampled_from(["222", "223"]),
    mark=st.sampled_from(["", " ", "-", "."]),
)


@given(numbers, numbers)
def test_two_numbers_are_counted_as_one_exactly_if_they_are_the_same(one: str, other: str) -> None:
    assert (plain_way(one) == plain_way(other)) == is_same_way(one, other)
    assert plain_way(plain_way(one)) == plain_way(one)


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("+34 600 111 222", "600111222"),
        ("600111222", "600111222"),
        ("112", "112"),
        ("ana600111222@example.com", "ana600111222@example.com"),
    ],
)
def test_an_address_is_counted_under_one_spelling(way: str, expected: str) -> None:
    assert plain_way(way) == expected


def test_words_are_spaced_so_that_part_of_a_word_is_not_found() -> None:
    assert spaced("  Ana-María,\nTORRES! ") == " ana maria torres "
    assert " ana torre " not in spaced("Ana Torres")
    assert digits("+34 (600) 1-2") == "3460012"
