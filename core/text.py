"""What text and JSON may contain before they are stored: PostgreSQL takes no NUL, UTF-8 no lone surrogate."""

import re
import unicodedata
from typing import Any

from pydantic import AfterValidator

MAX_DEPTH = 32
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LONGEST_ERROR = 500


def unstorable(value: Any, *, depth: int = 0) -> str | None:
    """Why `value` (JSON) cannot be stored, in words that say what to do; None where it can."""
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
    """`value` (JSON) with what cannot be stored replaced by U+FFFD: for words that are not ours to refuse."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value) if _unstorable_string(value) else value
    if isinstance(value, dict):
        return {storable(name): storable(item) for name, item in value.items()}
    return [storable(item) for item in value] if isinstance(value, list) else value


def described(error: BaseException) -> str:
    """An exception's type and message, as text that can be stored. Its `__str__` may be foreign code and fail too."""
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
"""For pydantic's `Annotated`: refuses what cannot be stored, with the reason."""


def fold(text: str) -> str:
    """Lower case without accents, with full stops of other scripts as points: what people may spell in either way."""
    decomposed = unicodedata.normalize("NFKD", text.lower().replace("\u3002", ".").replace("\uff61", "."))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
