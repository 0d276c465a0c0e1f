"""Operations on endpoints that serve models."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Connection

from core.addresses import checked_address
from core.errors import InvalidInput, NotFound, Unavailable
from core.model_providers import ProviderName
from core.settings import settings
from core.vault import Vault, vault
from domain.providers import queries, routing
from domain.providers.schemas import Endpoint, Provider, ProviderFields, StoredEndpoint

SERVING = queries.SERVING
"""SQL that finds an organisation's endpoint for a model: the fields of `StoredEndpoint`"""

IsPriced = Callable[[str], bool]
_PORTS = {"http": 80, "https": 443}


def list_providers(
    connection: Connection, own_servers: Mapping[ProviderName, list[str]], is_priced: IsPriced
) -> list[Provider]:
    """Return the endpoints that an organisation's agents can use: its own, then the installation's, then the base URLs
    in the settings (`own_servers`, with the models requested there).
    """
    shared = [_shared(one.name, one.models, has_key=one.key is not None) for one in settings().providers]
    servers = [
        _shared(name, models, has_key=settings().key_of(name) is not None) for name, models in own_servers.items()
    ]
    return [
        one.model_copy(update={"unpriced": [model for model in one.models if not is_priced(model)]})
        for one in (*queries.providers(connection), *shared, *servers)
    ]


def _shared(name: str, models: list[str], *, has_key: bool) -> Provider:
    """Return the view of an endpoint of the installation, without its address."""
    return Provider(
        name=name, source="installation", url=None, models=models, has_key=has_key, unpriced=[], changed_at=None
    )


def put_provider(connection: Connection, org: UUID, name: str, fields: ProviderFields) -> None:
    """Add or change an organisation's own endpoint.

    Raises:
        InvalidInput: an organisation may not use this address, the key would be sent unencrypted, or the key must be
            given again because the URL has changed.
    """
    before = next((one for one in queries.providers(connection) if one.name == name), None)
    keeps = fields.key is None and not fields.forget_key and before is not None and before.has_key
    if keeps and before is not None and before.url != fields.url:
        raise InvalidInput("The key was given for another URL: give it again, or say forget_key.")
    _ensure_reachable(fields.url, sends_key=keeps or fields.key is not None)
    secret = vault().lock(fields.key.get_secret_value()) if fields.key else None
    row = {"org": org, "name": name, "url": fields.url, "models": fields.models, "secret": secret, "keep_secret": keeps}
    queries.put_provider(connection, row)


def _ensure_reachable(url: str, *, sends_key: bool) -> None:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    try:
        checked_address(host, port, settings().private_networks)
    except Unavailable as error:
        raise InvalidInput(f"{error.message} Check the URL.") from error
    if parts.scheme == "http" and sends_key and _is_public(host, port):
        raise InvalidInput("A key is not sent unencrypted to a public address: use https.")


def _is_public(host: str, port: int) -> bool:
    try:
        checked_address(host, port)
    except InvalidInput:
        return False
    return True


def remove_provider(connection: Connection, name: str) -> None:
    """Delete an endpoint.

    Raises:
        NotFound: the organisation has no endpoint of this name.
    """
    if not queries.delete_provider(connection, name):
        raise NotFound(f"This organisation has set up no provider {name!r}.")


def of_installation(model: str) -> Endpoint | None:
    """Return the installation's endpoint that serves `model`, if any."""
    return routing.of_installation(model, settings().providers)


def endpoint(connection: Connection, model: str) -> Endpoint | None:
    """Return the endpoint that serves `model` for an organisation; None when a provider of the settings does."""
    return endpoint_of(queries.serving(connection, model), model)


def endpoint_of(own: StoredEndpoint | None, model: str) -> Endpoint | None:
    """Return the endpoint that serves `model`: the organisation's `own`, as found by `SERVING`, else the
    installation's, else None.

    Raises:
        Misconfigured: the endpoint's key cannot be decrypted.
    """
    if own is None:
        return of_installation(model)
    key = vault().open(own.secret) if own.secret else None
    found = routing.name_at(model, own.name, own.models) or model
    return Endpoint(name=own.name, url=own.url, key=key, model=found, is_own=True)


def is_known(connection: Connection, label: str) -> bool:
    """Return whether limits can name `label`, an endpoint of the installation or `organisation/name`. Needs the
    system's database role.
    """
    organisation, _, name = label.partition("/")
    if not name:
        return any(one.name == label for one in settings().providers)
    return queries.is_known(connection, organisation, name)


def rotate_secrets(connection: Connection, keys: Vault) -> int:
    """Re-encrypt every stored key with the first of `keys`. Returns how many."""
    found = queries.secrets(connection)
    for one in found:
        queries.set_secret(connection, replace(one, secret=keys.relock(one.secret)))
    return len(found)
