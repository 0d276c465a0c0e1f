"""What tokens cost, to the last place."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidInput
from domain.billing.pricing import cost_of, ensure_priced
from domain.billing.schemas import Price, Tokens

MARKUP = Decimal("0.20")


def own(**more: object) -> Price:
    values = {"model": "mine", "provider": "openai", "input_per_million": 2, "output_per_million": 8} | more
    return Price.model_validate(values | {"updated_at": datetime.now(UTC)})


def test_public_price_of_a_known_model_by_hand() -> None:
    # gpt-4o-mini: $0.15 per million in, $0.60 out. 1,000 in and 500 out: 0.00015 + 0.0003.
    cost = cost_of(Tokens(input=1000, output=500), provider="openai", model="gpt-4o-mini", own=None, markup=MARKUP)
    assert cost.base == Decimal("0.00045")
    assert cost.billed == Decimal("0.00054")


def test_cached_tokens_are_part_of_the_input_and_cheaper() -> None:
    # 1,000 in of which 400 cached: 600 at 0.15 and 400 at 0.075 per million.
    tokens = Tokens(input=1000, cached=400)
    cost = cost_of(tokens, provider="openai", model="gpt-4o-mini", own=None, markup=Decimal(0))
    assert cost.base == Decimal("0.00012")


def test_own_price_goes_before_the_public_one() -> None:
    tokens = Tokens(input=1_000_000, output=1_000_000)
    cost = cost_of(tokens, provider="openai", model="gpt-4o-mini", own=own(), markup=MARKUP)
    assert (cost.base, cost.billed) == (Decimal(10), Decimal(12))
    assert cost.price["source"] == "organisation"


def test_own_price_without_a_price_for_the_cache_charges_input() -> None:
    tokens = Tokens(input=100, cached=40, cache_write=10)
    assert cost_of(tokens, provider="openai", model="m", own=own(), markup=MARKUP).base == Decimal("0.0002")


def test_unknown_model_is_refused_with_the_cure() -> None:
    with pytest.raises(InvalidInput, match="PUT /v1/prices/no-such-model"):
        ensure_priced(provider="openai", model="no-such-model", own=None)
    ensure_priced(provider="openai", model="no-such-model", own=own())


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.decimals(0, 1000, places=6), st.decimals(0, 1000, places=6))
def test_billed_is_base_and_markup_exactly(given_in: int, out: int, price_in: Decimal, price_out: Decimal) -> None:
    price = own(input_per_million=price_in, output_per_million=price_out)
    cost = cost_of(Tokens(input=given_in, output=out), provider="openai", model="m", own=price, markup=MARKUP)
    assert cost.base >= 0
    assert abs(cost.billed - cost.base * Decimal("1.2")) <= Decimal("0.0000000001")
    assert -cost.base.as_tuple().exponent <= 10  # type: ignore[operator]
