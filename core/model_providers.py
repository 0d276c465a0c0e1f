"""The providers of models, one entry each.

A new one needs an entry here, its key and its address in `core/settings.py` (`acme_api_key`, `acme_base_url`), its
adapter in `agents/llm/` unless it speaks the wire of another, and its wire in `embedded/rehearsal/wires.py`.
docs/contributing.md has the recipe.
"""

from dataclasses import dataclass
from typing import Literal

ProviderName = Literal["anthropic", "openai"]


@dataclass(frozen=True)
class ModelProvider:
    """A provider whose models Rota calls through its SDK."""

    name: ProviderName
    """also the name of its logger, if it has an SDK; in capitals the beginning of its environment variables; prices are
    looked up under it, so it is the provider's id in genai-prices"""
    adapter: str
    """`module:class` that speaks its wire"""
    models: str
    """how the names of its models begin; empty for the provider of all others"""
    path: str
    """what follows the host in the address of a server that speaks its wire"""
    cure: str
    """what to do when neither its key nor an address is set"""
    base_url: str | None = None
    """the address of its API; None if its adapter knows it. With the adapter of another provider it must be given, or
    its keys go there"""

    @property
    def variables(self) -> tuple[str, str]:
        """The environment variables of its key and its address."""
        return f"{self.name.upper()}_API_KEY", f"{self.name.upper()}_BASE_URL"


PROVIDERS: dict[ProviderName, ModelProvider] = {
    provider.name: provider
    for provider in (
        ModelProvider(
            name="anthropic",
            adapter="agents.llm.anthropic_provider:AnthropicProvider",
            models="claude",
            path="",
            cure="set ANTHROPIC_API_KEY",
        ),
        ModelProvider(
            name="openai",
            adapter="agents.llm.openai_provider:OpenAIProvider",
            models="",
            path="/v1",
            cure="set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own",
        ),
    )
}
COMPATIBLE: ProviderName = "openai"
"""whose wire other servers speak"""
KEY_VARIABLES = tuple(provider.variables[0] for provider in PROVIDERS.values())
ADDRESS_VARIABLES = tuple(provider.variables[1] for provider in PROVIDERS.values())


def provider_of(model: str) -> ProviderName:
    """Return the provider of a model by its name: the one with the longest fitting beginning."""
    fitting = [provider for provider in PROVIDERS.values() if model.startswith(provider.models)]
    return max(fitting, key=lambda provider: len(provider.models)).name
