"""Decide which endpoint serves a model. Pure."""

from collections.abc import Iterable, Sequence

from core.settings import ProviderSetting
from domain.providers.schemas import Endpoint


def name_at(model: str, name: str, models: Sequence[str]) -> str | None:
    """Return the name of `model` at the endpoint `name`, which serves `models`; None if it does not serve it.

    An agent may name a model alone, or as `endpoint/model` when several endpoints serve models of the same name.
    """
    if model in models:
        return model
    prefix, _, rest = model.partition("/")
    return rest if prefix == name and rest in models else None


def of_installation(model: str, settings: Iterable[ProviderSetting]) -> Endpoint | None:
    """Return the first endpoint in the settings that serves `model`, if any."""
    for one in settings:
        found = name_at(model, one.name, one.models)
        if found is not None:
            key = one.key.get_secret_value() if one.key else None
            return Endpoint(name=one.name, url=one.url, key=key, model=found)
    return None
