"""Packs: what an installation adds to the platform for one kind of business. `ROTA_PACKS` names them.

A pack is an importable package with an attribute `PACK`. What it may contain is declared, with types, in
`web/packs.py::Pack`; lower layers read packs through this module, because they may not import the layers above them.
"""

import functools
import importlib
from typing import Any

from core.errors import Misconfigured
from core.settings import settings


def installed() -> tuple[Any, ...]:
    """Return the packs of this installation, in the order of `ROTA_PACKS`.

    Raises:
        Misconfigured: one of them cannot be imported, or has no `PACK`.
    """
    return load(tuple(settings().packs))


@functools.cache
def load(names: tuple[str, ...]) -> tuple[Any, ...]:
    """Import the packs with these names."""
    return tuple(_one(name) for name in names)


def _one(name: str) -> Any:
    try:
        found = importlib.import_module(name)
    except Exception as error:
        raise Misconfigured(
            f"ROTA_PACKS names {name}, which cannot be imported: {error}. Install it, or leave it out."
        ) from error
    if not hasattr(found, "PACK"):
        raise Misconfigured(f"ROTA_PACKS names {name}, which has no PACK: it is no pack.")
    return found.PACK
