"""Bills as CSV: a spreadsheet shows what the bill says, and runs no formula from a name."""

import csv
import io
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.billing.export import as_csv
from domain.billing.schemas import Bill, MonthTotal, UsageLine

COUNTS: dict[str, Any] = {
    "model_calls": 7, "rehearsal_calls": 1, "estimated_calls": 2, "unpriced_calls": 3, "input_tokens": 1_000,
    "cached_tokens": 400, "output_tokens": 50, "base_cost": Decimal("0.0000000001"), "billed_cost": Decimal("12.50"),
}  # fmt: skip
NONE = dict.fromkeys(COUNTS, 0)


def line(name: str, **counts: Any) -> UsageLine:
    return UsageLine(name=name, **NONE | counts)


def bill(**parts: list[UsageLine]) -> Bill:
    """The bill of February 2026."""
    month = date(2026, 2, 1)
    empty: dict[str, Any] = {"by_model": [], "by_agent": [], "by_conversation": [], "by_workflow": []}
    return Bill(month=month, closed_at=None, markup=Decimal("0.2"), total=MonthTotal(month=month, **COUNTS),
                **empty | parts)  # fmt: skip


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_every_number_of_the_total_is_in_its_column_to_the_last_place() -> None:
    head, total = as_csv(bill()).splitlines()
    assert head == (
        "month,part,name,model_calls,rehearsal_calls,input_tokens,cached_tokens,output_tokens,base_cost,billed_cost,"
        "estimated_calls,unpriced_calls,currency"
    )
    assert total == "2026-02,total,,7,1,1000,400,50,0.0000000001,12.50,2,3,USD"


def test_an_amount_of_nothing_is_written_in_digits() -> None:
    nothing = line("m", base_cost=Decimal("0E-10"), billed_cost=Decimal("0E-10"))
    assert rows(as_csv(bill(by_model=[nothing])))[1]["billed_cost"] == "0.0000000000"


def test_the_parts_follow_the_total_each_in_its_own_order() -> None:
    parts = {"by_workflow": [line("w")], "by_agent": [line("b"), line("a")], "by_conversation": [line("c")],
             "by_model": [line("m", model_calls=4)]}  # fmt: skip
    found = rows(as_csv(bill(**parts)))
    assert [(row["part"], row["name"]) for row in found] == [
        ("total", ""), ("model", "m"), ("agent", "b"), ("agent", "a"), ("conversation", "c"), ("workflow", "w"),
    ]  # fmt: skip
    assert [row["model_calls"] for row in found] == ["7", "4", "0", "0", "0", "0"]
    assert {(row["month"], row["currency"]) for row in found} == {("2026-02", "USD")}


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=cmd|"/C calc"!A0'])
def test_a_name_that_a_spreadsheet_would_run_is_marked_as_text(name: str) -> None:
    assert rows(as_csv(bill(by_agent=[line(name)])))[1]["name"] == f"'{name}"


@pytest.mark.parametrize("name", ["a,b", 'a "b"', "a\nb", "a=b", "1-2", "ñandú 🙂", "'quoted'"])
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    assert rows(as_csv(bill(by_agent=[line(name)])))[1]["name"] == name


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=9), max_size=4))
def test_whatever_the_names_a_bill_has_one_row_for_each_and_no_formula(names: list[str]) -> None:
    found = rows(as_csv(bill(by_conversation=[line(name) for name in names])))
    assert [row["name"].removeprefix("'") for row in found[1:]] == [name.removeprefix("'") for name in names]
    assert not any(row["name"].startswith(tuple("=+-@\t\r")) for row in found)
    assert {len(row) for row in found} == {13}
