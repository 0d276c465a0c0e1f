"""Templates without logic: `{{dotted.path}}` is replaced by what is found there, and nothing is ever evaluated."""

import re
from collections.abc import Mapping
from typing import Any

from core.errors import InvalidInput

_PLACE = re.compile(r"\{\{\s*([A-Za-z_][\w]*(?:\.[\w]+)*)\s*\}\}")


def fill(template: str, values: Mapping[str, Any]) -> str:
    """`template` with its places filled.

    Raises:
        InvalidInput: a place names something that is not in `values`.
    """
    missing = sorted({path for path in places(template) if not _has(values, path)})
    if missing:
        raise InvalidInput(f"Nothing is given for {', '.join(missing)}. Give it, or leave it out of the text.")
    return _PLACE.sub(lambda match: str(_find(values, match[1])), template)


def places(template: str) -> list[str]:
    """The paths that a template names."""
    return _PLACE.findall(template)


def _find(values: Mapping[str, Any], path: str) -> Any:
    found: Any = values
    for name in path.split("."):
        found = found[name]
    return found


def _has(values: Mapping[str, Any], path: str) -> bool:
    try:
        _find(values, path)
    except (KeyError, TypeError, IndexError):
        return False
    return True
