"""A fragment declares what its SQL brings along, and gives out no other name."""

import dataclasses
import importlib
import pkgutil
import re

import pytest

import business
import domain
from core.fragments import Fragment
from core.wire import Statement
from domain.pacing.schemas import Standing
from domain.pacing.service import STANDINGS
from domain.providers.schemas import StoredEndpoint
from domain.providers.service import SERVING
from domain.wallet.schemas import Payment
from domain.wallet.service import HOLD, PAID, payment_values
from tests.support.fragments import fragments

DOUBLE = Fragment(name="twice", columns=("doubled",), parameters=("number",), sql="SELECT {of} * :number AS doubled")


def test_the_fragments_of_all_slices_are_found() -> None:
    assert {PAID, HOLD, SERVING, STANDINGS} <= set(fragments())


@pytest.mark.parametrize("fragment", fragments(), ids=lambda fragment: fragment.name)
def test_a_fragment_declares_the_parameters_of_its_sql(fragment: Fragment) -> None:
    assert sorted(fragment.parameters) == sorted(Statement(fragment.sql).names)


def test_the_values_of_payments_are_those_that_their_fragment_needs() -> None:
    assert {"task", *payment_values([Payment(1, "email", 1)])} == set(PAID.parameters)


def test_the_columns_of_a_fragment_are_the_fields_of_its_record() -> None:
    assert set(SERVING.columns) == {field.name for field in dataclasses.fields(StoredEndpoint)}
    assert set(STANDINGS.columns) == set(Standing.model_fields)


def test_a_statement_fills_in_each_place_and_no_other() -> None:
    assert DOUBLE.fill(of="t.price") == "SELECT t.price * :number AS doubled"
    with pytest.raises(ValueError, match=r"twice takes \['of'\], not \[\]"):
        DOUBLE.fill()
    with pytest.raises(ValueError, match="twice takes"):
        DOUBLE.fill(of="1", by="2")


def test_a_fragment_gives_out_the_names_that_it_declares_only() -> None:
    assert (DOUBLE.column("doubled"), DOUBLE.parameter("number")) == ("twice.doubled", ":number")
    with pytest.raises(ValueError, match="not 'number'"):
        DOUBLE.column("number")
    with pytest.raises(ValueError, match="not 'doubled'"):
        DOUBLE.parameter("doubled")


# Whole statements: their rows become a schema of the slice, and no other SQL names their columns.
WHOLE = {"domain.pacing.service.ALERTS"}


def test_sql_that_a_slice_gives_to_others_is_a_fragment() -> None:
    # In bare text, the names that the user of the text has to know are hidden.
    given = {
        f"{module.name}.{name}"
        for package in (domain, business)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if module.name.endswith((".service", ".schemas"))
        for name, value in vars(importlib.import_module(module.name)).items()
        if name.isupper() and isinstance(value, str) and re.search(r"\b(SELECT|FROM|UPDATE|INSERT)\b", value)
    }
    assert given == WHOLE
