"""Which endpoint serves a model. Decides only."""

from collections.abc import Iterable, Sequence

from core.settings import ProviderSetting
from domain.providers.schemas import Endpoint


def name_at(model: str, name: str, models: Sequence[str]) -> str | None:
    """What the endpoint `name`, which serves `models`, calls `model`; None where it does not serve it.

    An agent may name a model alone, or as `endpoint/model` where several endpoints serve models of one name.
    """
    if model in models:
        return model
    prefix, _, rest = model.partition("/")
    return rest if prefix == name and rest in models else None


def of_installation(model: str, settings: Iterable[ProviderSetting]) -> Endpoint | None:
    """The installation's endpoint that serves `model`: the first of those in the settings that does."""
    for one in settings:
        found = name_at(model, one.name, one.models)
        if found is not None:
            key = one.key.get_secret_value() if one.key else None
            return Endpoint(name=one.name, url=one.url, key=key, model=found)
    return None
