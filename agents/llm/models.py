"""One client for each provider and endpoint, cached in the process."""

import contextlib
import functools
import hashlib
import importlib
import threading
from collections.abc import Iterator
from dataclasses import replace

import httpx2

from agents.llm.base import REHEARSAL_HEADER, Adapter, Provider, Reply, Request, TextDelta
from agents.llm.errors import Remedies
from agents.llm.transport import make_client, make_guarded_client
from core.errors import Misconfigured
from core.model_providers import COMPATIBLE, PROVIDERS, ProviderName
from core.settings import Settings
from domain.providers.schemas import Endpoint

_REHEARSAL_KEY = "rehearsal"
_NO_KEY = "none"  # the SDKs require one
_MOST_KEPT = 256

Place = ProviderName | Endpoint
"""where a model is called: at a provider of the settings, or at an endpoint"""


class Models:
    """The models this process can call."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._making = threading.Lock()
        self._providers: dict[Place, tuple[Provider, httpx2.Client]] = {}
        self._account_keys: dict[Place, str] = {}
        self._rehearsed: set[Place] = set()
        """places where the rehearsal model replied"""

    @property
    def is_rehearsal(self) -> bool:
        """Whether replies come from the rehearsal model, except those of endpoints."""
        return self._config.is_rehearsal

    def is_rehearsed(self, place: Place) -> bool:
        """Whether the rehearsal model replies at `place`. Its responses say so, whatever the settings call it."""
        if isinstance(place, Endpoint):
            return replace(place, model="") in self._rehearsed
        return self.is_rehearsal or place in self._rehearsed

    def serves_itself(self, provider: ProviderName) -> bool:
        """Whether calls to a provider go to a server at a configured address."""
        return self._config.serves_itself(provider)

    def complete(self, place: Place, request: Request) -> Reply:
        """Return the whole reply of a model. Raises ModelError."""
        return self._marked(place, self._provider(place).complete(request))

    def stream(self, place: Place, request: Request) -> Iterator[TextDelta | Reply]:
        """Yield the text as it arrives, then the reply. Raises ModelError."""
        for part in self._provider(place).stream(request):
            yield part if isinstance(part, TextDelta) else self._marked(place, part)

    def _marked(self, place: Place, reply: Reply) -> Reply:
        return reply.model_copy(update={"is_rehearsal": True}) if self.is_rehearsed(place) else reply

    def is_usable(self, place: Place) -> bool:
        """Whether calls to `place` are possible: always to an endpoint; to a provider with a key or an address."""
        return isinstance(place, Endpoint) or place in self._config.usable_providers

    def account_key(self, place: Place) -> str:
        """Return a digest of the key and address of `place`, by which rates are counted. It does not reveal the key."""
        if isinstance(place, Endpoint):
            place = replace(place, model="")
        if place not in self._account_keys:
            if len(self._account_keys) >= _MOST_KEPT:
                self._account_keys.clear()
            self._account_keys[place] = hashlib.sha256(self._spelled_access(place).encode()).hexdigest()[:12]
        return self._account_keys[place]

    def _spelled_access(self, place: Place) -> str:
        if isinstance(place, Endpoint):
            return repr((place.key, place.url))
        try:
            return repr(self._access(place))
        except Misconfigured:
            return ""

    def warm_up(self) -> None:
        """Create the clients now, so that no task waits for it."""
        for name in PROVIDERS:
            with contextlib.suppress(Misconfigured):
                self._provider(name)

    def close(self) -> None:
        """Close every connection to a provider."""
        for _, client in self._providers.values():
            client.close()

    def _provider(self, place: Place) -> Provider:
        if isinstance(place, Endpoint):
            place = replace(place, model="")  # one client for all of its models
        with self._making:
            if place not in self._providers:
                if len(self._providers) >= _MOST_KEPT:
                    _, client = self._providers.pop(next(iter(self._providers)))
                    client.close()  # its idle connections only: a call in progress goes on
                self._providers[place] = self._make(place)
            return self._providers[place][0]

    def _make(self, place: Place) -> tuple[Provider, httpx2.Client]:
        # Imported here: the SDKs take a second to import, and only processes that call models need them.
        module, name_of_class = PROVIDERS[COMPATIBLE if isinstance(place, Endpoint) else place].adapter.split(":")
        adapter: Adapter = getattr(importlib.import_module(module), name_of_class)
        base_url: str | None
        if isinstance(place, Endpoint):
            name, key, base_url = place.name, place.key or _NO_KEY, place.url
            set_by = f"rota providers set {name}" if place.is_own else f"ROTA_PROVIDERS, {name}"
        else:
            key, base_url = self._access(place)
            name, set_by = place, PROVIDERS[place].variables[0]
        if isinstance(place, Endpoint) and place.is_own:
            client = make_guarded_client(self._config.private_networks)
        else:
            client = make_client(self._config.provider_headers)
        client.event_hooks["response"] = [
            *client.event_hooks["response"],
            functools.partial(self._note_rehearsal, place),
        ]
        made = adapter(name=name, api_key=key, base_url=base_url, http_client=client, remedies=Remedies(key=set_by))
        return made, client

    def _note_rehearsal(self, place: Place, response: httpx2.Response) -> None:
        if response.headers.get(REHEARSAL_HEADER):
            self._rehearsed.add(place)

    def _access(self, name: ProviderName) -> tuple[str, str | None]:
        """Return the key and the base URL for a provider (None: the provider's own)."""
        config = self._config
        if config.is_rehearsal:
            root = (config.rehearsal_url or "").rstrip("/")
            return _REHEARSAL_KEY, f"{root}{PROVIDERS[name].path}"
        key, base_url = config.key_of(name), config.address_of(name)
        if not (key or base_url):
            raise Misconfigured(f"This agent's model is served by {name}: {PROVIDERS[name].cure}.")
        return (key.get_secret_value() if key else _NO_KEY), base_url or PROVIDERS[name].base_url
