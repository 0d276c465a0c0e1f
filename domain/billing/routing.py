"""The provider that serves a model."""

from core import model_providers
from core.model_providers import ProviderName
from domain.billing.schemas import Price


def provider_of(model: str, own: Price | None = None) -> ProviderName:
    """Return the provider of `model`: that of the organisation's own price, else by the model's name."""
    return model_providers.provider_of(model) if own is None else own.provider
