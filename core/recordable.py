"""Conversion of any value that foreign code returns to JSON that can be stored: recording an action that has happened
must not fail.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from core.text import storable

MOST_CHARACTERS = 1_000_000
_DEEPEST, _MOST_PARTS, _LONGEST_KEY = 32, 20_000, 500
_WIDEST_NUMBER = 1_024  # bits; Python refuses to convert much larger integers to text
_LEFT_OUT = "[left out: the result is larger than is kept]"
_NO_PAIR = ("…", _LEFT_OUT)


def recordable(result: Any) -> dict[str, Any]:
    """Return `result` as a JSON object of bounded size and depth, in which markers replace what cannot be kept.

    Lone surrogates and NUL become U+FFFD; keys become text; a value that is not JSON becomes its `str()`; a value that
    contains itself, is nested too deep or exceeds the size is replaced by a few words in brackets. Raises nothing.
    """
    kept = _Recorder().keep(result, ())
    return kept if isinstance(kept, dict) else {"result": kept}


class _Recorder:
    """Copies one value, and counts down the characters and parts that may still be kept."""

    def __init__(self) -> None:
        self._characters = MOST_CHARACTERS
        self._parts = _MOST_PARTS

    def keep(self, value: Any, within: tuple[int, ...]) -> Any:
        """Return a copy of `value`. `within` are the ids of the objects that contain it."""
        try:
            return self._copy(value, within)
        except Exception:  # noqa: BLE001  a collection of foreign code may fail while it is read
            return f"[left out: a {type(value).__name__} that cannot be read]"

    def _copy(self, value: Any, within: tuple[int, ...]) -> Any:
        self._parts -= 1
        if self._parts < 0 or self._characters <= 0:
            return _LEFT_OUT
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._container(value, within)
        if isinstance(value, int | float):
            return self._number(value)
        return self._text(value if isinstance(value, str) else _spelled(value))

    def _container(self, value: Any, within: tuple[int, ...]) -> Any:
        if id(value) in within:
            return "[left out: it contains itself]"
        if len(within) >= _DEEPEST:
            return "[left out: it lies too deep]"
        inner = (*within, id(value))
        if not isinstance(value, Mapping):
            return self._some(value, lambda item: self.keep(item, inner), _LEFT_OUT)
        return dict(self._some(value.items(), lambda pair: (self._key(pair[0]), self.keep(pair[1], inner)), _NO_PAIR))

    def _some(self, items: Any, copy: Callable[[Any], Any], instead: Any) -> list[Any]:
        """Copy as many items as fit; `instead` replaces the rest."""
        kept = []
        for item in items:
            if self._parts <= 0 or self._characters <= 0:
                kept.append(instead)
                break
            kept.append(copy(item))
        return kept

    def _key(self, key: Any) -> str:
        text = key if isinstance(key, str) else _spelled(key)
        self._characters -= min(len(text), _LONGEST_KEY)
        return str(storable(text[:_LONGEST_KEY]))

    def _text(self, text: str) -> str:
        room = self._characters
        self._characters -= min(len(text), room)
        whole = str(storable(text[:room]))
        return whole if len(text) <= room else f"{whole} {_LEFT_OUT}"

    def _number(self, value: int | float) -> Any:  # noqa: PYI041  the function distinguishes them
        if isinstance(value, int):
            bits = value.bit_length()
            return int(value) if bits <= _WIDEST_NUMBER else f"[left out: a number of {bits} bits]"
        return float(value) if math.isfinite(value) else _spelled(value)


def _spelled(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  `__str__` is foreign code too
        return f"[left out: a {type(value).__name__} that has no text]"
