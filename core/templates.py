"""Templates without logic: `{{dotted.path}}` is replaced by the value at that path, and nothing is ever evaluated."""

import re
from collections.abc import Mapping
from typing import Any

from core.errors import InvalidInput

_PLACE = re.compile(r"\{\{\s*([A-Za-z_][\w]*(?:\.[\w]+)*)\s*\}\}")


MOST = 100_000
"""the most characters that a filled template may have"""


def fill(template: str, values: Mapping[str, Any]) -> str:
    """Return `template` with its placeholders filled.

    Raises:
        InvalidInput: a placeholder names a path that is not in `values`, or the result would be too long or blank.
    """
    missing = sorted({path for path in places(template) if not _has(values, path)})
    if missing:
        raise InvalidInput(f"Nothing is given for {', '.join(missing)}. Give it, or leave it out of the text.")
    # Computed before filling: a few placeholders and a long value could exhaust the memory.
    length = len(template) + sum(len(str(_find(values, path))) for path in places(template))
    if length > MOST:
        raise InvalidInput(f"Filled in, this would have up to {length} characters; {MOST} are the most.")
    filled = _PLACE.sub(lambda match: str(_find(values, match[1])), template)
    if not filled.strip():
        raise InvalidInput("Filled in, this would be blank.")
    return filled


def places(template: str) -> list[str]:
    """Return the paths that a template names."""
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
