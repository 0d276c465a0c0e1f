"""Reading the calls that a model makes: their arguments as values, and as the text that goes back on the wire."""

import json
import re
from collections.abc import Iterator
from typing import Any

from agents.llm.base import ToolCall
from core.text import unstorable

UNNAMED = "unnamed_tool"
"""what a call is called that names no tool"""

_decode = json.JSONDecoder().raw_decode
_SPACE = re.compile(r"[ \t\n\r]*")


def read_call(*, id: Any, name: Any, arguments: Any, text: str | None = None) -> ToolCall:  # noqa: A002
    """The call that a provider's answer describes, with a `problem` where it cannot be carried out.

    `arguments` is JSON text (OpenAI's wire) or a JSON object (Anthropic's wire, and servers that confuse the two); for
    an object, `text` is the JSON it was read from.
    """
    known = {"id": id if isinstance(id, str) else "", "name": name if isinstance(name, str) and name else UNNAMED}
    if known["name"] == UNNAMED:
        return ToolCall(**known, problem="it names no tool")
    try:
        if isinstance(arguments, str):
            text = arguments.strip()
            arguments = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        return ToolCall(**known, problem=f"the arguments are not valid JSON: {error}")
    if arguments is None:
        arguments, text = {}, None
    if not isinstance(arguments, dict):
        return ToolCall(**known, problem="the arguments must be a JSON object")
    # Providers refuse text with half a surrogate pair or NaN when it is sent back.
    is_fit = bool(text) and unstorable(arguments) is None
    return ToolCall(**known, arguments=arguments, text=text if is_fit and text else "")


def written_at(text: str, *path: str | int) -> str:
    """The part of a JSON document at `path`, character for character as it is written there.

    Of keys that occur twice the last counts, as for `json.loads`.

    Raises:
        ValueError, KeyError, IndexError: there is no such part.
    """
    begin, end = _skip(text, 0), len(text)
    for step in path:
        parts = dict(_members(text, begin) if isinstance(step, str) else enumerate(_items(text, begin)))
        begin, end = parts[step]
    return text[begin:end]


def _members(text: str, begin: int) -> Iterator[tuple[str | int, tuple[int, int]]]:
    """The keys of the object that begins at `begin`, with where their values begin and end."""
    at = _skip(text, begin + 1)
    while text[at] == '"':
        key, at = _decode(text, at)
        at = _skip(text, _skip(text, at) + 1)  # past the colon
        end = _decode(text, at)[1]
        yield key, (at, end)
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


def _items(text: str, begin: int) -> Iterator[tuple[int, int]]:
    """Where the items of the array that begins at `begin` begin and end."""
    at = _skip(text, begin + 1)
    while text[at] != "]":
        end = _decode(text, at)[1]
        yield at, end
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
