"""Who serves a model, by its name."""

from typing import Literal

from domain.billing.schemas import Price

ProviderName = Literal["anthropic", "openai"]
PROVIDERS: tuple[ProviderName, ...] = ("anthropic", "openai")


def provider_of(model: str, own: Price | None = None) -> ProviderName:
    """Who serves `model`: whom the organisation's own price names, else Anthropic for Claude, else OpenAI."""
    if own is not None:
        return own.provider
    return "anthropic" if model.startswith("claude") else "openai"
