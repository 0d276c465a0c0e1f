"""The cost of tokens: pure functions over the public price table (genai-prices) or an organisation's own price."""

import functools
from decimal import Decimal
from typing import Any

from genai_prices import Usage, calc_price
from genai_prices.types import ModelPrice, PriceCalculation, TieredPrices

from core.errors import InvalidInput
from core.money import exact
from domain.billing.schemas import AppliedPrice, Cost, LongPromptRates, Price, Provider, Rates, Tokens

_MILLION = Decimal(1_000_000)


def cost_of(
    tokens: Tokens, *, provider: str, model: str, own: Price | None, markup: Decimal, may_be_unpriced: bool = False
) -> Cost:
    """Return the cost of a call that used `tokens`. `own` is the organisation's own price for the model, if any.

    Base is what the provider charges; billed is base times (1 + markup), each exact to ten places. A model on the
    organisation's own server (`may_be_unpriced`) costs 0 if no price is known for it.

    Raises:
        InvalidInput: no price is known for the model.
    """
    cached = min(tokens.cached, tokens.input)  # some servers report more cached than sent
    tokens = tokens.model_copy(update={"cached": cached, "cache_write": min(tokens.cache_write, tokens.input - cached)})
    try:
        base, price = _own_price(tokens, own) if own else _public_price(tokens, provider, model)
    except InvalidInput:
        if not may_be_unpriced:
            raise
        base, price = Decimal(0), {"source": "unpriced"}
    base = exact(base)
    return Cost(base=base, markup=markup, billed=exact(base * (1 + markup)), price=price)


def ensure_priced(*, provider: str, model: str, own: Price | None, may_be_unpriced: bool = False) -> None:
    """Refuse a model that could not be billed.

    Raises:
        InvalidInput: no price is known for the model.
    """
    if own is None and not may_be_unpriced:
        _look_up(Usage(), provider, model)


def is_priced(*, provider: str, model: str, own: Price | None) -> bool:
    """Whether a price is known for the model: the organisation's own or a public one."""
    try:
        ensure_priced(provider=provider, model=model, own=own)
    except InvalidInput:
        return False
    return True


@functools.lru_cache(maxsize=512)
def context_window(provider: str, model: str) -> int | None:
    """Return the context window of `model` in tokens, or None if the public table does not give it."""
    try:
        return calc_price(Usage(), model, provider_id=provider).model.context_window
    except LookupError:
        return None


def applied_price(*, provider: Provider, model: str, own: Price | None, markup: Decimal) -> AppliedPrice:
    """Return what an organisation is billed for a model, in dollars per million tokens.

    Raises:
        InvalidInput: no price is known for the model.
    """
    base, long = (_own_rates(own), []) if own else _public_rates(provider, model)
    return AppliedPrice(
        **_marked_up(base, markup),
        model=model,
        provider=provider,
        source="organisation" if own else "public",
        markup=markup,
        base=base,
        long_prompts=[LongPromptRates(**_marked_up(rates, markup), above_input_tokens=above) for above, rates in long],
        context_window=own.context_window if own else context_window(provider, model),
        updated_at=own.updated_at if own else None,
    )


def _marked_up(rates: Rates, markup: Decimal) -> dict[str, Decimal]:
    return {name: exact(rate * (1 + markup)) for name, rate in rates}


def _own_rates(own: Price) -> Rates:
    default = own.input_per_million
    return Rates(
        input_per_million=own.input_per_million,
        output_per_million=own.output_per_million,
        cached_per_million=default if own.cached_per_million is None else own.cached_per_million,
        cache_write_per_million=default if own.cache_write_per_million is None else own.cache_write_per_million,
    )


def _public_rates(provider: str, model: str) -> tuple[Rates, list[tuple[int, Rates]]]:
    """Return the public rates: the base rates, and those of long prompts, each with the prompt length in tokens above
    which they apply, shortest first.

    Raises:
        InvalidInput: no price is known for the model.
    """
    public = _look_up(Usage(), provider, model).model_price
    starts = {tier.start for rate in vars(public).values() for tier in getattr(rate, "tiers", ())}
    return _rates_above(public, 0), [(start, _rates_above(public, start)) for start in sorted(starts)]


def _rates_above(public: ModelPrice, start: int) -> Rates:
    def rate(value: Decimal | TieredPrices | None, default: Decimal | None = None) -> Decimal:
        if isinstance(value, TieredPrices):
            return next((tier.price for tier in reversed(value.tiers) if tier.start <= start), value.base)
        return value if value is not None else default or Decimal(0)

    asked = rate(public.input_mtok)
    return Rates(
        input_per_million=asked,
        output_per_million=rate(public.output_mtok),
        cached_per_million=rate(public.cache_read_mtok, asked),
        cache_write_per_million=rate(public.cache_write_mtok, asked),
    )


def _own_price(tokens: Tokens, own: Price) -> tuple[Decimal, dict[str, Any]]:
    rates = _own_rates(own)
    fresh = tokens.input - tokens.cached - tokens.cache_write
    amount = (
        fresh * rates.input_per_million
        + tokens.cached * rates.cached_per_million
        + tokens.cache_write * rates.cache_write_per_million
        + tokens.output * rates.output_per_million
    ) / _MILLION
    snapshot = {
        "source": "organisation",
        "input": str(rates.input_per_million),
        "output": str(rates.output_per_million),
        "cached": str(rates.cached_per_million),
        "cache_write": str(rates.cache_write_per_million),
    }
    return amount, snapshot


def _public_price(tokens: Tokens, provider: str, model: str) -> tuple[Decimal, dict[str, Any]]:
    used = Usage(
        input_tokens=tokens.input,
        cache_read_tokens=tokens.cached,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
    )
    found = _look_up(used, provider, model)
    return found.total_price, {"source": "genai-prices", "model": found.model.id, "rates": str(found.model_price)}


def _look_up(used: Usage, provider: str, model: str) -> PriceCalculation:
    try:
        return calc_price(used, model, provider_id=provider)
    except LookupError as error:
        raise InvalidInput(
            f"No price is known for the model {model!r} of {provider}. Check its name, set your own price (PUT "
            f"/v1/prices/{model}), or say which server of yours serves it (rota providers set)."
        ) from error
