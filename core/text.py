"""Checks of text and JSON before they are stored: PostgreSQL cannot store NUL, and UTF-8 has no lone surrogates."""

import re
import unicodedata
from typing import Any

from pydantic import AfterValidator

MAX_DEPTH = 32
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LONGEST_ERROR = 500


def unstorable(value: Any, *, depth: int = 0) -> str | None:
    """Return why `value` (JSON) cannot be stored and what to do about it; None if it can be stored."""
    if depth > MAX_DEPTH:
        return f"is nested more than {MAX_DEPTH} levels deep; flatten it"
    if isinstance(value, str):
        return _unstorable_string(value)
    if isinstance(value, dict):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list):
        parts = value
    elif isinstance(value, float) and (value != value or value in {float("inf"), float("-inf")}):  # noqa: PLR0124
        return "contains a number that JSON does not have (NaN or infinity)"
    else:
        return None
    return next((reason for part in parts if (reason := unstorable(part, depth=depth + 1))), None)


def _unstorable_string(value: str) -> str | None:
    if "\x00" in value:
        return "contains a NUL character (U+0000); remove it"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "contains half of a surrogate pair, which is not a character; send valid UTF-8"
    return None


def storable(value: Any) -> Any:
    """Replace the characters in `value` (JSON) that cannot be stored by U+FFFD: for text that must not be refused."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value) if _unstorable_string(value) else value
    if isinstance(value, dict):
        return {storable(name): storable(item) for name, item in value.items()}
    return [storable(item) for item in value] if isinstance(value, list) else value


def described(error: BaseException) -> str:
    """Return an exception's type and message as text that can be stored, even if its `__str__`, which may be foreign
    code, fails.
    """
    try:
        message = str(error)
    except BaseException as failure:  # noqa: BLE001  foreign code may raise anything
        message = f"(its message cannot be read: {type(failure).__name__})"
    described: str = storable(f"{type(error).__name__}: {message}"[:_LONGEST_ERROR])
    return described


def _refuse_unstorable(value: Any) -> Any:
    if reason := unstorable(value):
        raise ValueError(reason)
    return value


Storable = AfterValidator(_refuse_unstorable)
"""a validator for pydantic's `Annotated` that refuses what cannot be stored, and gives the reason"""


def fold(text: str) -> str:
    """Fold a text for comparison: lower case, without accents, with full stops of other scripts as points."""
    # Lower case comes last: decomposing turns letters without a lower case, such as mathematical ones, into capitals.
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return plain.lower().replace("\u3002", ".")
