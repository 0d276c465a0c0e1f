"""Numbers that arrive as text: those that every reader reads alike, and no others."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from core.numbers import PlainDecimal, is_plain

amount: TypeAdapter[Decimal] = TypeAdapter(PlainDecimal)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("59.00", "59.00"), ("0", "0"), ("-1", "-1"), ("+1.5", "1.5"), ("1.", "1"), (".5", "0.5"), ("1e3", "1000"),
        ("1.5E-2", "0.015"), ("007", "7"), (" 12 ", "12"), ("\t12\r\n", "12"), ("1e+2", "100"),
    ],
)  # fmt: skip
def test_plain_digits_are_read(text: str, value: str) -> None:
    assert is_plain(text)
    assert amount.validate_python(text) == Decimal(value)
    assert amount.validate_json(f'"{text.strip()}"') == Decimal(value)


@pytest.mark.parametrize(
    "text",
    [
        "1_000", "1,000", "1.000,50", "1 000", "\u0663", "\uff11\uff12", "\u00b2", "1e", "e5", ".", "", " ", "+", "--1",
        "+-1", "1.2.3", "0x10", "inf", "-Infinity", "nan", "sNaN", "1\x00", "\u00a01", "1\u2009", "\u22125", "1e5.5",
        "1 e5", "$5", "5€", "\v1", "1\n2",
    ],
)  # fmt: skip
def test_what_people_may_read_differently_is_refused(text: str) -> None:
    assert not is_plain(text)
    with pytest.raises(ValidationError, match=r"not a plain number, such as 59\.00"):
        amount.validate_python(text)


@pytest.mark.parametrize("value", [5, 2.5, Decimal("0.1")])
def test_numbers_that_are_no_text_need_no_check(value: Decimal | float) -> None:
    assert amount.validate_python(value) == Decimal(str(value))


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_every_amount_survives_being_written(value: Decimal) -> None:
    assert is_plain(str(value))
    assert amount.validate_python(str(value)) == value


@given(st.text())
def test_a_plain_text_is_always_a_finite_number(text: str) -> None:
    if is_plain(text):
        assert Decimal(text.strip()).is_finite()
