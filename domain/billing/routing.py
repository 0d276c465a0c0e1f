"""Which provider serves a model, by the model's name."""

from typing import Literal

from domain.billing.schemas import Price

ProviderName = Literal["anthropic", "openai"]
PROVIDERS: tuple[ProviderName, ...] = ("anthropic", "openai")


def provider_of(model: str, own: Price | None = None) -> ProviderName:
    """Return the provider of `model`: that of the organisation's own price, else Anthropic for Claude, else OpenAI."""
    if own is not None:
        return own.provider
    return "anthropic" if model.startswith("claude") else "openai"
