"""The providers of models, one entry each.

A new one needs an entry here, its key and its address in `core/settings.py` (`acme_api_key`, `acme_base_url`), its
adapter in `agents/llm/` unless it speaks the wire of another, and its wire in `embedded/rehearsal/wires.py`.
docs/contributing.md has the recipe.
"""

from dataclasses import dataclass
from typing import Literal

ProviderName = Literal["anthropic", "openai"]
Medium = Literal["image", "pdf"]


@dataclass(frozen=True)
class Media:
    """What a family of models reads beside text: the tokens that each counts as at most, None if it is not read."""

    image: int | None = None
    page: int | None = None
    """of a PDF, whose pages are read as text and as images"""

    def tokens(self, medium: Medium, pages: int = 1) -> int | None:
        """Return the tokens of an image, or of a PDF of so many pages, at most; None if the models do not read it."""
        if medium == "image":
            return self.image
        return None if self.page is None else self.page * pages


NO_MEDIA = Media()


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
    media: tuple[tuple[str, Media], ...] = ()
    """what its models read beside text, by how their names begin: the longest fitting beginning decides"""
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
            # An image counts width times height / 750 once it is scaled down; a page 3,000 of text and an image.
            media=(
                ("claude", Media(image=5_000, page=8_000)),
                ("claude-3-", Media(image=1_600)),
                ("claude-3-5", Media(image=1_600, page=4_600)),
                ("claude-3-7", Media(image=1_600, page=4_600)),
                ("claude-2", NO_MEDIA),
                ("claude-instant", NO_MEDIA),
            ),
        ),
        ModelProvider(
            name="openai",
            adapter="agents.llm.openai_provider:OpenAIProvider",
            models="",
            path="/v1",
            cure="set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own",
            # An image counts a base and eight tiles at most, which are dear for one model alone.
            media=(
                ("gpt-4o", Media(image=1_500, page=4_500)),
                ("gpt-4o-mini", Media(image=49_000, page=52_000)),
                ("gpt-4.1", Media(image=4_000, page=7_000)),
                ("gpt-4-turbo", Media(image=1_500)),
                ("gpt-5", Media(image=4_000, page=7_000)),
                ("o1", Media(image=4_000, page=7_000)),
                ("o1-mini", NO_MEDIA),
                ("o1-preview", NO_MEDIA),
                ("o3", Media(image=4_000, page=7_000)),
                ("o3-mini", NO_MEDIA),
                ("o4", Media(image=4_000, page=7_000)),
            ),
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


def media_of(model: str) -> Media:
    """Return what a model reads beside text, by its name; where it is served does not matter (`vendor/gpt-4o`)."""
    name = model.rpartition("/")[2]
    families = [family for provider in PROVIDERS.values() for family in provider.media if name.startswith(family[0])]
    return max(families, key=lambda family: len(family[0]))[1] if families else NO_MEDIA
