"""What tokens cost, to the last place."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidInput
from domain.billing.pricing import applied_price, context_window, cost_of, ensure_priced, is_priced
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


# ── the rest of the table ────────────────────────────────────────────────────────────────────────────────────────────


def test_each_kind_of_token_has_its_own_price() -> None:
    price = own(cached_per_million=1, cache_write_per_million=4)
    tokens = Tokens(input=1_000_000, cached=300_000, cache_write=200_000, output=100_000)
    cost = cost_of(tokens, provider="openai", model="mine", own=price, markup=Decimal("0.5"))
    assert cost.base == Decimal("0.5") * 2 + Decimal("0.3") * 1 + Decimal("0.2") * 4 + Decimal("0.1") * 8
    assert (cost.billed, cost.markup) == (cost.base * Decimal("1.5"), Decimal("0.5"))
    assert cost.price == {"source": "organisation", "input": "2", "output": "8", "cached": "1", "cache_write": "4"}


def test_a_price_of_nothing_for_the_cache_is_a_price() -> None:
    tokens = Tokens(input=100, cached=60, cache_write=40)
    price = own(cached_per_million=0, cache_write_per_million=0)
    assert cost_of(tokens, provider="openai", model="m", own=price, markup=MARKUP).base == 0


@pytest.mark.parametrize(("cached", "cache_write", "fresh"), [(150, 0, 0), (60, 60, 0), (60, 30, 10), (0, 0, 100)])
def test_no_more_is_cached_than_was_sent(cached: int, cache_write: int, fresh: int) -> None:
    tokens = Tokens(input=100, cached=cached, cache_write=cache_write)
    price = own(input_per_million=1_000_000, cached_per_million=0, cache_write_per_million=0)
    assert cost_of(tokens, provider="openai", model="m", own=price, markup=Decimal(0)).base == fresh


def test_a_public_cost_says_where_its_price_is_from() -> None:
    cost = cost_of(Tokens(input=1), provider="openai", model="gpt-4o-mini", own=None, markup=MARKUP)
    assert (cost.price["source"], cost.price["model"]) == ("genai-prices", "gpt-4o-mini")
    assert "0.15" in cost.price["rates"]


def test_a_model_without_a_price_costs_nothing_on_a_server_of_ones_own_alone() -> None:
    tokens = Tokens(input=10, output=10)
    given_: dict[str, Any] = {"provider": "openai", "model": "llama", "own": None}
    cost = cost_of(tokens, **given_, markup=MARKUP, may_be_unpriced=True)
    assert (cost.base, cost.billed, cost.price) == (Decimal(0), Decimal(0), {"source": "unpriced"})
    with pytest.raises(InvalidInput, match=r"'llama' of openai"):
        cost_of(tokens, **given_, markup=MARKUP)
    with pytest.raises(InvalidInput):
        ensure_priced(**given_)
    ensure_priced(**given_, may_be_unpriced=True)


def test_whether_a_price_is_known() -> None:
    assert is_priced(provider="openai", model="gpt-4o-mini", own=None)
    assert is_priced(provider="openai", model="llama", own=own())
    assert not is_priced(provider="openai", model="llama", own=None)
    assert not is_priced(provider="anthropic", model="gpt-4o-mini", own=None)


def test_the_window_of_a_model() -> None:
    assert context_window("openai", "gpt-4o-mini") == 128_000
    assert context_window("openai", "no-such-model") is None


def test_what_is_billed_by_the_public_price() -> None:
    price = applied_price(provider="openai", model="gpt-4o-mini", own=None, markup=MARKUP)
    base = {"input": "0.15", "output": "0.6", "cached": "0.075", "cache_write": "0.15"}
    for name, dollars in base.items():
        assert getattr(price.base, f"{name}_per_million") == Decimal(dollars)
        assert getattr(price, f"{name}_per_million") == Decimal(dollars) * Decimal("1.2")
    assert (price.source, price.provider, price.model, price.markup) == ("public", "openai", "gpt-4o-mini", MARKUP)
    assert (price.context_window, price.updated_at, price.long_prompts) == (128_000, None, [])


def test_long_prompts_cost_more_where_the_public_price_says_so() -> None:
    price = applied_price(provider="anthropic", model="claude-sonnet-4-5", own=None, markup=Decimal("0.5"))
    assert (price.base.input_per_million, price.base.output_per_million) == (Decimal(3), Decimal(15))
    (long,) = price.long_prompts
    assert long.above_input_tokens == 200_000
    assert (long.input_per_million, long.output_per_million) == (Decimal(9), Decimal("33.75"))
    assert (long.cached_per_million, long.cache_write_per_million) == (Decimal("0.9"), Decimal("11.25"))


def test_what_is_billed_by_an_organisations_own_price() -> None:
    mine = own(cached_per_million=1, context_window=5_000)
    price = applied_price(provider="openai", model="mine", own=mine, markup=MARKUP)
    assert (price.source, price.context_window, price.updated_at) == ("organisation", 5_000, mine.updated_at)
    assert (price.input_per_million, price.output_per_million) == (Decimal("2.4"), Decimal("9.6"))
    assert (price.cached_per_million, price.cache_write_per_million) == (Decimal("1.2"), Decimal("2.4"))
    assert price.long_prompts == []
    assert applied_price(provider="openai", model="gpt-4o-mini", own=own(), markup=MARKUP).context_window is None


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-mini"),  # without a price for writing to the cache
        ("openai", "gpt-4"),  # without any for the cache
        ("openai", "text-embedding-3-small"),  # without one for the output: it has none
        ("anthropic", "claude-sonnet-4-5"),
    ],
)
def test_the_public_price_that_is_shown_is_the_one_that_is_billed(provider: Any, model: str) -> None:
    price = applied_price(provider=provider, model=model, own=None, markup=MARKUP)

    def billed(**tokens: int) -> Decimal:
        return 10 * cost_of(Tokens(**tokens), provider=provider, model=model, own=None, markup=MARKUP).billed

    assert price.input_per_million == billed(input=100_000)
    assert price.output_per_million == billed(output=100_000)
    assert price.cached_per_million == billed(input=100_000, cached=100_000)
    assert price.cache_write_per_million == billed(input=100_000, cache_write=100_000)


@pytest.mark.parametrize("model", ["no-such-model", "claude-sonnet-4-5"])
def test_no_price_is_applied_to_an_unknown_model_or_that_of_another_provider(model: str) -> None:
    with pytest.raises(InvalidInput, match="rota providers set"):
        applied_price(provider="openai", model=model, own=None, markup=MARKUP)
