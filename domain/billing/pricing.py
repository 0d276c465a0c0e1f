"""What tokens cost: pure functions over the public price table (genai-prices) or an organisation's own price."""

import functools
from decimal import Decimal
from typing import Any

from genai_prices import Usage, calc_price

from core.errors import InvalidInput
from core.money import exact
from domain.billing.schemas import Cost, Price, Tokens

_MILLION = Decimal(1_000_000)


def cost_of(tokens: Tokens, *, provider: str, model: str, own: Price | None, markup: Decimal) -> Cost:
    """The cost of a call that used `tokens`; `own` is the organisation's price for the model, where it has one.

    Base is what the provider asks; billed is base times (1 + markup), each exact to ten places.

    Raises:
        InvalidInput: nobody knows a price for the model.
    """
    cached = min(tokens.cached, tokens.input)  # some servers report more cached than sent
    tokens = tokens.model_copy(update={"cached": cached, "cache_write": min(tokens.cache_write, tokens.input - cached)})
    base, price = _own_price(tokens, own) if own else _public_price(tokens, provider, model)
    base = exact(base)
    return Cost(base=base, markup=markup, billed=exact(base * (1 + markup)), price=price)


def ensure_priced(*, provider: str, model: str, own: Price | None) -> None:
    """Refuse a model that could not be billed.

    Raises:
        InvalidInput: nobody knows a price for the model.
    """
    if own is None:
        _public_price(Tokens(input=1), provider, model)


@functools.lru_cache(maxsize=512)
def context_window(provider: str, model: str) -> int | None:
    """Tokens that `model` can take in, where the public table says so."""
    try:
        return calc_price(Usage(input_tokens=1), model, provider_id=provider).model.context_window
    except LookupError:
        return None


def _own_price(tokens: Tokens, own: Price) -> tuple[Decimal, dict[str, Any]]:
    cached = own.input_per_million if own.cached_per_million is None else own.cached_per_million
    cache_write = own.input_per_million if own.cache_write_per_million is None else own.cache_write_per_million
    fresh = tokens.input - tokens.cached - tokens.cache_write
    amount = (
        fresh * own.input_per_million
        + tokens.cached * cached
        + tokens.cache_write * cache_write
        + tokens.output * own.output_per_million
    ) / _MILLION
    snapshot = {
        "source": "organisation",
        "input": str(own.input_per_million),
        "output": str(own.output_per_million),
        "cached": str(cached),
        "cache_write": str(cache_write),
    }
    return amount, snapshot


def _public_price(tokens: Tokens, provider: str, model: str) -> tuple[Decimal, dict[str, Any]]:
    used = Usage(
        input_tokens=tokens.input,
        cache_read_tokens=tokens.cached,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
    )
    try:
        found = calc_price(used, model, provider_id=provider)
    except LookupError as error:
        raise InvalidInput(
            f"No price is known for the model {model!r} of {provider}. Check its name, or set your own price: "
            f"PUT /v1/prices/{model}"
        ) from error
    return found.total_price, {"source": "genai-prices", "model": found.model.id, "rates": str(found.model_price)}
