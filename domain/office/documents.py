"""Checking and merging the data of resources. Pure."""

import math
import re
from typing import Any

from core.errors import InvalidInput
from core.json_text import dump_json

MOST_BYTES = 65_536
MOST_LEVELS = 20

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # PostgreSQL's UTF-8 cannot store NUL and lone surrogates


def merged(target: Any, patch: Any) -> Any:
    """Return `target` after the merge patch `patch` (RFC 7396): null removes a field, objects merge, others replace."""
    if not isinstance(patch, dict):
        return patch
    kept: dict[str, Any] = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            kept.pop(name, None)
        else:
            kept[name] = merged(kept.get(name), value)
    return kept


def check(data: dict[str, Any]) -> None:
    """Check that the database can store `data`.

    Raises:
        InvalidInput: it is too deep or too large, or contains values that JSON or PostgreSQL cannot represent.
    """
    if _is_deeper(data, MOST_LEVELS):
        raise InvalidInput(f"The data is nested more than {MOST_LEVELS} levels deep. Make it flatter.")
    text = dump_json(data)
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise InvalidInput(f"The data is over {MOST_BYTES // 1024} KB. Keep less in one resource.")
    if not _is_storable(data):
        raise InvalidInput("The data holds NaN, an infinite number, or a character that cannot be stored.")


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in parts)


def _is_storable(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_storable(name) and _is_storable(part) for name, part in value.items())
    if isinstance(value, list):
        return all(map(_is_storable, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, str) or not _UNSTORABLE.search(value)
