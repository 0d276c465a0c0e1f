"""Whatever a tool returns can be written down."""

import json
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
