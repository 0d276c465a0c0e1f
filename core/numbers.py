"""Numbers that arrive as text: only ASCII digits with a decimal point, sign and exponent, much as in JSON.

Python also reads `1_000`, digits of other scripts and `inf` as numbers; a person who approves such an amount may read
it differently.
"""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator

_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def is_plain(text: str) -> bool:
    """Whether a text is a plain ASCII number, ignoring surrounding white space."""
    return _PLAIN.fullmatch(text.strip(" \t\r\n")) is not None


def _refuse_odd(value: Any) -> Any:
    if isinstance(value, str) and not is_plain(value):
        raise ValueError("is not a plain number, such as 59.00")
    return value


PlainDecimal = Annotated[Decimal, BeforeValidator(_refuse_odd)]
"""a decimal number, sent as a number or as text in plain digits"""
