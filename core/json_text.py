"""JSON as it is stored and sent."""

import json
from typing import Any


def dump_json(value: Any) -> str:
    """Return JSON as it is stored: compact, not ASCII-escaped; ids, dates and decimals as strings."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
