"""A conversation with the rehearsal model, independent of the wire format."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

_PIECES = re.compile(r"\w{1,6}|[^\w\s]")


@dataclass(frozen=True)
class ToolOffer:
    """A tool that the request offers."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A call that was made, and its result (None while there is none)."""

    name: str
    arguments: dict[str, Any]
    result: Any = None
    is_error: bool = False


@dataclass
class Talk:
    """The conversation so far."""

    system: str
    message: str
    tools: list[ToolOffer] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)


@dataclass(frozen=True)
class Turn:
    """The next turn of the model: text, or calls to make."""

    text: str
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


def count_tokens(value: Any) -> int:
    """Count the tokens in a text, or in the JSON of any other value: each piece of up to six letters of a word is one,
    and each punctuation character.
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return len(_PIECES.findall(text))


def read_result(content: str) -> tuple[Any, bool]:
    """Return a tool's result, parsed if it is JSON, and whether it is an error."""
    try:
        data = json.loads(content)
    except ValueError:
        return content, False
    if isinstance(data, dict) and set(data) == {"untrusted_data"}:
        data = data["untrusted_data"]
    return data, isinstance(data, dict) and set(data) == {"error"}
