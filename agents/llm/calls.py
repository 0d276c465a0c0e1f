"""Parsing of tool calls: their arguments as values, and as the text that is sent back to the provider."""

import json
import re
from collections.abc import Iterator
from typing import Any

from agents.llm.base import ToolCall
from core.text import unstorable

UNNAMED = "unnamed_tool"
"""the name given to a tool call that names no tool"""

_decode = json.JSONDecoder().raw_decode
_SPACE = re.compile(r"[ \t\n\r]*")


def read_call(*, id: Any, name: Any, arguments: Any, text: str | None = None) -> ToolCall:  # noqa: A002
    """Return the tool call that a provider's response describes, with a `problem` if it cannot be carried out.

    `arguments` is JSON text (OpenAI's API) or a JSON object (Anthropic's API, and servers that confuse the two); for an
    object, `text` is the JSON that it was parsed from.
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
    """Return the part of a JSON document at `path`, verbatim.

    Of duplicate keys the last counts, as for `json.loads`.

    Raises:
        ValueError, KeyError, IndexError: there is no such part.
    """
    begin, end = _skip(text, 0), len(text)
    for step in path:
        parts = dict(_members(text, begin) if isinstance(step, str) else enumerate(_items(text, begin)))
        begin, end = parts[step]
    return text[begin:end]


def _members(text: str, begin: int) -> Iterator[tuple[str | int, tuple[int, int]]]:
    """Yield each key of the object that begins at `begin`, with the begin and end of its value."""
    at = _skip(text, begin + 1)
    while text[at] == '"':
        key, at = _decode(text, at)
        at = _skip(text, _skip(text, at) + 1)  # past the colon
        end = _decode(text, at)[1]
        yield key, (at, end)
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


def _items(text: str, begin: int) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of each item of the array that begins at `begin`."""
    at = _skip(text, begin + 1)
    while text[at] != "]":
        end = _decode(text, at)[1]
        yield at, end
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
