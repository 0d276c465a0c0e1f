"""Verbs on endpoints that serve models."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Connection

from core.addresses import checked_address
from core.errors import InvalidInput, NotFound, Unavailable
from core.settings import settings
from core.vault import Vault, vault
from domain.providers import queries, routing
from domain.providers.schemas import Endpoint, Provider, ProviderFields

SERVING = queries.SERVING
"""SQL that finds an organisation's endpoint for a model, for statements that read it along with others"""

IsPriced = Callable[[str], bool]
_PORTS = {"http": 80, "https": 443}


def list_providers(connection: Connection, own_servers: Mapping[str, list[str]], is_priced: IsPriced) -> list[Provider]:
    """The endpoints that an organisation's agents can use: its own, then the installation's, then the base URLs of the
    settings (`own_servers`, with the models that are asked for there).
    """
    own = [Provider(**row, source="organisation", unpriced=[]) for row in queries.providers(connection)]
    shared = [_shared(one.name, one.models, has_key=one.key is not None) for one in settings().providers]
    keys = {"openai": settings().openai_api_key, "anthropic": settings().anthropic_api_key}
    servers = [_shared(name, models, has_key=keys[name] is not None) for name, models in own_servers.items()]
    return [
        one.model_copy(update={"unpriced": [model for model in one.models if not is_priced(model)]})
        for one in (*own, *shared, *servers)
    ]


def _shared(name: str, models: list[str], *, has_key: bool) -> Provider:
    """An endpoint of the installation, whose address is not shown."""
    return Provider(
        name=name, source="installation", url=None, models=models, has_key=has_key, unpriced=[], changed_at=None
    )


def put_provider(connection: Connection, org: UUID, name: str, fields: ProviderFields) -> None:
    """Add or change an endpoint of the organisation's own.

    Raises:
        InvalidInput: its address is not one that an organisation may use, its key would be sent unencrypted, or must be
            given again because the URL is another.
    """
    before = next((row for row in queries.providers(connection) if row["name"] == name), None)
    keeps = fields.key is None and not fields.forget_key and before is not None and before["has_key"]
    if keeps and before is not None and before["url"] != fields.url:
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
    """Take an endpoint away.

    Raises:
        NotFound: the organisation has none of this name.
    """
    if not queries.delete_provider(connection, name):
        raise NotFound(f"This organisation has set up no provider {name!r}.")


def of_installation(model: str) -> Endpoint | None:
    """The installation's endpoint that serves `model`."""
    return routing.of_installation(model, settings().providers)


def endpoint(connection: Connection, model: str) -> Endpoint | None:
    """The endpoint that serves `model` for an organisation; None where the providers of the settings do."""
    return endpoint_of(queries.serving(connection, model), model)


def endpoint_of(row: Mapping[Any, Any] | None, model: str) -> Endpoint | None:
    """The same, from what `SERVING` found: the organisation's own endpoint goes first.

    Raises:
        Misconfigured: its key does not open.
    """
    if row is None or row["name"] is None:
        return of_installation(model)
    key = vault().open(row["secret"]) if row["secret"] else None
    found = routing.name_at(model, row["name"], row["models"]) or model
    return Endpoint(name=row["name"], url=row["url"], key=key, model=found, is_own=True)


def is_known(connection: Connection, label: str) -> bool:
    """Whether limits can name `label`: an endpoint of the installation, or `organisation/name`. As the system."""
    organisation, _, name = label.partition("/")
    if not name:
        return any(one.name == label for one in settings().providers)
    return queries.is_known(connection, organisation, name)


def rotate_secrets(connection: Connection, keys: Vault) -> int:
    """Encrypt every key anew with the first of `keys`. Returns how many."""
    found = queries.secrets(connection)
    for row in found:
        queries.set_secret(connection, dict(row) | {"secret": keys.relock(row["secret"])})
    return len(found)
