"""Numbers that others send as text: digits of ASCII with a point, as JSON spells them, and nothing else.

Python reads `1_000`, digits of other scripts and `inf` as numbers; a person who approves an amount may read something
else.
"""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator

_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def is_plain(text: str) -> bool:
    """Whether a text spells a number as JSON does, white space around it aside."""
    return _PLAIN.fullmatch(text.strip(" \t\r\n")) is not None


def _refuse_odd(value: Any) -> Any:
    if isinstance(value, str) and not is_plain(value):
        raise ValueError("is not a plain number, such as 59.00")
    return value


PlainDecimal = Annotated[Decimal, BeforeValidator(_refuse_odd)]
"""A decimal number that may come as a number or as text, in plain digits only."""
