"""Endpoints that serve models to an organisation: its own and the installation's."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from sqlalchemy import Connection

from agents.checks import has_price, models_at, unserved_models
from core.errors import InvalidInput
from core.model_providers import PROVIDERS
from core.model_providers import ProviderName as ModelProviderName
from core.settings import ProviderName, settings
from domain.providers import service as providers
from domain.providers.schemas import Provider, ProviderFields
from web.auth import Needs, Principal
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["providers"])

Reads = Annotated[Principal, Depends(Needs("providers:read"))]
Writes = Annotated[Principal, Depends(Needs("providers:write"))]
NamePath = Annotated[ProviderName, Path(examples=["house"])]


@router.get("/providers", responses=describes(401, 403))
def list_providers(caller: Reads) -> list[Provider]:
    """List the endpoints that your agents can use, without keys: your own, then the installation's. For a base URL in
    the settings, only the models that agents use are listed.
    """
    with caller.reading() as connection:
        return _list(connection)


@router.put("/providers/{name}", responses=describes(401, 403, 422))
def put_provider(name: NamePath, fields: ProviderFields, caller: Writes) -> Provider:
    """Add or change an endpoint of your own that serves OpenAI's wire format. Agents refer to its models by name, or as
    `endpoint/model` if several endpoints serve a model of that name; your own endpoints take precedence over the
    installation's. Calls of a model without a known price are billed at 0 and marked as unpriced.
    """
    has_key = fields.key is not None and not fields.forget_key
    with caller.writing(url=fields.url, models=fields.models, has_new_key=has_key) as connection:
        with _agents_stay_served(connection):
            providers.put_provider(connection, caller.org_id, name, fields)
        return next(one for one in _list(connection) if (one.name, one.source) == (name, "organisation"))


@router.delete("/providers/{name}", status_code=204, responses=describes(401, 403, 404, 422))
def remove_provider(name: NamePath, caller: Writes) -> None:
    """Remove an endpoint of your own. Refused while an agent uses a model that no other endpoint serves."""
    with caller.writing() as connection, _agents_stay_served(connection):
        providers.remove_provider(connection, name)


def _list(connection: Connection) -> list[Provider]:
    own_servers: dict[ModelProviderName, list[str]] = {
        name: models_at(connection, name) for name in PROVIDERS if settings().serves_itself(name)
    }
    return providers.list_providers(connection, own_servers, lambda model: has_price(connection, model))


@contextlib.contextmanager
def _agents_stay_served(connection: Connection) -> Iterator[None]:
    """Refuse and roll back a change that leaves an agent with a model that no endpoint or provider serves."""
    before = unserved_models(connection)
    yield
    if left := unserved_models(connection) - before:
        raise InvalidInput(
            f"Agents use {', '.join(sorted(left))}, and no other endpoint serves it. Give them another model first."
        )
