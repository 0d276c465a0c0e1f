"""Canonical JSON: equal values have the same text, so their digest survives a round trip through the database."""

import hashlib
import json
from decimal import Decimal
from typing import Any


def canonical(value: Any) -> str:
    """Return `value` (JSON) as compact text with sorted keys, and numbers without an exponent or a negative zero.

    PostgreSQL's jsonb stores 1e16 as 10000000000000000 and -0.0 as 0.0; both forms give the same text here.
    """
    if isinstance(value, dict):
        inner = ",".join(f"{_string(str(name))}:{canonical(value[name])}" for name in sorted(value))
        return f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(canonical, value))}]"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, bool | int | None):
        return json.dumps(value)
    return _string(str(value))


def _number(value: float) -> str:
    # `repr` writes whole doubles from 1e16 on with an exponent; PostgreSQL stores them without a fraction.
    return format(Decimal(repr(value)), "f") if value else "0.0"


def _string(value: str) -> str:
    return json.dumps(value, ensure_ascii=True)


def digest(value: Any) -> bytes:
    """Return the SHA-256 of the canonical text."""
    return hashlib.sha256(canonical(value).encode()).digest()
