"""Which provider serves a model, and one client for each, kept as long as the process."""

import threading
from collections.abc import Iterator
from typing import Literal

import httpx2

from agents.llm.anthropic_provider import AnthropicProvider
from agents.llm.base import Provider, Reply, Request, TextDelta
from agents.llm.openai_provider import OpenAIProvider
from agents.llm.transport import make_client
from core.errors import Misconfigured
from core.settings import Settings
from domain.billing.schemas import Price

ProviderName = Literal["anthropic", "openai"]
_REHEARSAL_KEY = "rehearsal"


def provider_of(model: str, own: Price | None = None) -> ProviderName:
    """Who serves `model`: whom the organisation's own price names, else Anthropic for Claude, else OpenAI."""
    if own is not None:
        return own.provider
    return "anthropic" if model.startswith("claude") else "openai"


class Models:
    """The models this process can call."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._making = threading.Lock()
        self._providers: dict[ProviderName, Provider] = {}
        self._clients: list[httpx2.Client] = []

    @property
    def is_rehearsal(self) -> bool:
        """Whether answers come from the rehearsal model."""
        return self._config.is_rehearsal

    def complete(self, provider: ProviderName, request: Request) -> Reply:
        """The whole answer of a model. Raises ModelError."""
        return self._provider(provider).complete(request)

    def stream(self, provider: ProviderName, request: Request) -> Iterator[TextDelta | Reply]:
        """The text as it is said, then the reply. Raises ModelError."""
        return self._provider(provider).stream(request)

    def close(self) -> None:
        """Close every connection to a provider."""
        for client in self._clients:
            client.close()

    def _provider(self, name: ProviderName) -> Provider:
        with self._making:
            if name not in self._providers:
                self._providers[name] = self._make(name)
            return self._providers[name]

    def _make(self, name: ProviderName) -> Provider:
        config = self._config
        client = make_client(config.provider_headers)
        self._clients.append(client)
        if config.is_rehearsal:
            root = (config.rehearsal_url or "").rstrip("/")
            if name == "anthropic":
                return AnthropicProvider(api_key=_REHEARSAL_KEY, base_url=root, http_client=client)
            return OpenAIProvider(api_key=_REHEARSAL_KEY, base_url=f"{root}/v1", http_client=client)
        if name == "anthropic":
            if not (config.anthropic_api_key or config.anthropic_base_url):
                raise Misconfigured("This agent's model is Anthropic's: set ANTHROPIC_API_KEY.")
            key = config.anthropic_api_key.get_secret_value() if config.anthropic_api_key else "none"
            return AnthropicProvider(api_key=key, base_url=config.anthropic_base_url, http_client=client)
        if not (config.openai_api_key or config.openai_base_url):
            raise Misconfigured("This agent's model is OpenAI's: set OPENAI_API_KEY, or OPENAI_BASE_URL for your own.")
        key = config.openai_api_key.get_secret_value() if config.openai_api_key else "none"
        return OpenAIProvider(api_key=key, base_url=config.openai_base_url, http_client=client)
