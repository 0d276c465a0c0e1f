"""Whatever a tool returns can be written down."""

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.canonical import canonical, digest
from core.json_text import dump_json
from core.recordable import MOST_CHARACTERS, recordable
from core.text import unstorable


class Mute:
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Closed(Mapping[str, int]):
    """A mapping that can no longer be read, as one of a connection that was closed."""

    def __getitem__(self, name: str) -> int:
        raise RuntimeError("closed")

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


class Interrupted(list[int]):
    """A list whose iteration fails after its first item."""

    def __iter__(self) -> Iterator[int]:
        yield 1
        raise OSError


class Half(str):
    """A text that cannot be cut."""

    __slots__ = ()

    def __getitem__(self, _: object) -> str:
        raise ValueError


class Level(IntEnum):
    HIGH = 3


def itself() -> dict[str, Any]:
    made: dict[str, Any] = {"a": 1}
    made["self"] = made
    return made


def deep(levels: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


@pytest.mark.parametrize(
    ("returned", "kept"),
    [
        ({"s": "caf\udce9"}, {"s": "caf\ufffd"}),
        ({"s": "a\x00b"}, {"s": "a\ufffdb"}),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        ({1: "a"}, {"1": "a"}),
        ({"n": float("nan")}, {"n": "nan"}),
        ({"n": float("-inf")}, {"n": "-inf"}),
        ({"b": b"\xff"}, {"b": "b'\\xff'"}),
        ({"t": (1, 2)}, {"t": [1, 2]}),
        ([1], {"result": [1]}),
        (None, {"result": None}),
        ("done", {"result": "done"}),
        ({"m": Mute()}, {"m": "[left out: a Mute that has no text]"}),
        ({"n": 10**5000}, {"n": "[left out: a number of 16610 bits]"}),
        ({"n": 2**1024 - 1, "m": -(2**1024)}, {"n": 2**1024 - 1, "m": "[left out: a number of 1025 bits]"}),
        ({"l": Level.HIGH, "t": True, "d": Decimal("1.50")}, {"l": 3, "t": True, "d": "1.50"}),
        ({"s": {7}, "f": frozenset(), "r": range(2)}, {"s": [7], "f": [], "r": "range(0, 2)"}),
        ({Mute(): 1}, {"[left out: a Mute that has no text]": 1}),
        ({"k" * 600: 1}, {"k" * 500: 1}),
        ({"a\x00": 1}, {"a\ufffd": 1}),
        (Closed(), {"result": "[left out: a Closed that cannot be read]"}),
        ({"a": 1, "c": Closed()}, {"a": 1, "c": "[left out: a Closed that cannot be read]"}),
        ([Interrupted([1, 2]), "kept"], {"result": ["[left out: a Interrupted that cannot be read]", "kept"]}),
        ({"h": Half("x")}, {"h": "[left out: a Half that cannot be read]"}),
        (itself(), {"a": 1, "self": "[left out: it contains itself]"}),
    ],
)
def test_what_is_kept(returned: Any, kept: dict[str, Any]) -> None:
    assert recordable(returned) == kept


def test_depth_and_size_are_bounded() -> None:
    assert "it lies too deep" in json.dumps(recordable(deep(10_000)))
    for large in ({"s": "x" * 20_000_000}, {"l": ["x" * 1_000] * 100_000}, {str(n): n for n in range(1_000_000)}):
        stored = dump_json(recordable(large))
        assert len(stored) < 2 * MOST_CHARACTERS
        assert "left out" in stored


def test_what_occurs_twice_without_containing_itself_is_kept_twice() -> None:
    one = {"a": [1]}
    assert recordable([one, one, {"again": one}]) == {"result": [one, one, {"again": one}]}


@pytest.mark.parametrize(("levels", "is_kept"), [(31, True), (32, False)])
def test_the_deepest_level_that_is_kept(levels: int, is_kept: bool) -> None:
    kept = json.dumps(recordable(deep(levels)))  # with the empty list in the middle, one more
    assert ("it lies too deep" not in kept) is is_kept


def test_a_text_that_is_too_long_keeps_its_beginning() -> None:
    kept = recordable({"s": "x" * MOST_CHARACTERS + "y"})
    assert kept == {"s": "x" * (MOST_CHARACTERS - 1) + " [left out: the result is larger than is kept]"}  # less its key


def test_a_list_that_is_too_long_ends_with_a_mark_and_the_names_after_it_too() -> None:
    kept = recordable({"l": list(range(30_000)), "after": 1})
    assert kept["l"][:3] == [0, 1, 2]
    assert kept["l"][-1] == kept["…"] == "[left out: the result is larger than is kept]"
    assert 19_000 < len(kept["l"]) <= 20_001


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.integers() | st.text(st.characters(exclude_categories=())), inner)
    ),
    max_leaves=20,
)


@given(anything)
def test_all_of_it_can_be_stored(returned: Any) -> None:
    kept = recordable(returned)
    assert unstorable(kept) is None
    assert json.loads(dump_json(kept)) == kept


@pytest.mark.parametrize(
    ("one", "other"),
    [(1e16, 10**16), (2.5e20, 250 * 10**18), (-0.0, 0.0), (1e308, 10**308), ({"a": 1, "b": 2}, {"b": 2, "a": 1})],
)
def test_equal_values_have_one_spelling(one: Any, other: Any) -> None:
    assert canonical(one) == canonical(other)
    assert digest(one) == digest(other)


@given(anything.filter(lambda value: json.dumps(value, default=str) is not None))
def test_a_spelling_is_json(value: Any) -> None:
    kept = recordable(value)
    assert canonical(json.loads(canonical(kept))) == canonical(kept)
