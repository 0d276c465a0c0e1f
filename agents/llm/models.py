"""One client for each provider, kept as long as the process."""

import contextlib
import threading
from collections.abc import Iterator

import httpx2

from agents.llm.base import Provider, Reply, Request, TextDelta
from agents.llm.transport import make_client
from core.errors import Misconfigured
from core.settings import Settings
from domain.billing.routing import PROVIDERS, ProviderName

_REHEARSAL_KEY = "rehearsal"


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

    def warm_up(self) -> None:
        """Make the clients now, so that no task waits for it."""
        for name in PROVIDERS:
            with contextlib.suppress(Misconfigured):
                self._provider(name)

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
        # Imported here: the SDKs take a second, which only processes that call models should pay.
        key, base_url = self._access(name)
        client = make_client(self._config.provider_headers)
        self._clients.append(client)
        if name == "anthropic":
            from agents.llm.anthropic_provider import AnthropicProvider

            return AnthropicProvider(api_key=key, base_url=base_url, http_client=client)
        from agents.llm.openai_provider import OpenAIProvider

        return OpenAIProvider(api_key=key, base_url=base_url, http_client=client)

    def _access(self, name: ProviderName) -> tuple[str, str | None]:
        """The key and the address for a provider (None: its own)."""
        config = self._config
        if config.is_rehearsal:
            root = (config.rehearsal_url or "").rstrip("/")
            return _REHEARSAL_KEY, root if name == "anthropic" else f"{root}/v1"
        if name == "anthropic":
            key, base_url, cure = config.anthropic_api_key, config.anthropic_base_url, "set ANTHROPIC_API_KEY"
        else:
            cure = "set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own"
            key, base_url = config.openai_api_key, config.openai_base_url
        if not (key or base_url):
            raise Misconfigured(f"This agent's model is served by {name}: {cure}.")
        return (key.get_secret_value() if key else "none"), base_url
