"""The canonical text of JSON: the same for equal values, another for every other value."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.canonical import canonical, digest

any_text = st.text(st.characters(exclude_categories=()), max_size=20)
# Whole doubles from 2^53 on are read back as integers with the same digits, not as the same double.
doubles = st.floats(-(2.0**53), 2.0**53)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | doubles | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=15,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (-(10**30), "-1000000000000000000000000000000"),
        (1.0, "1.0"),  # jsonb keeps the fraction that was written
        (0.1, "0.1"),
        (-0.0, "0.0"),
        (1e-7, "0.0000001"),
        (1e15, "1000000000000000.0"),
        (1e16, "10000000000000000"),
        (-2.5e-10, "-0.00000000025"),
        ("", '""'),
        ('a"b\\c\n', '"a\\"b\\\\c\\n"'),
        ("ñ\U0001f600", '"\\u00f1\\ud83d\\ude00"'),
        ("\ud800", '"\\ud800"'),
        ([], "[]"),
        ({}, "{}"),
        ((1, "a"), '[1,"a"]'),
        ({"b": 1, "a": [True, None], "": 0}, '{"":0,"a":[true,null],"b":1}'),
        ({"B": 1, "a": 2, "Z": 3}, '{"B":1,"Z":3,"a":2}'),
        ({"a": {"y": 1, "x": 2}}, '{"a":{"x":2,"y":1}}'),
    ],
)
def test_each_kind_of_value_has_one_text(value: Any, text: str) -> None:
    assert canonical(value) == text
    assert digest(value) == hashlib.sha256(text.encode()).digest()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True), (0, False), (1, "1"), (None, "null"), ([], {}), ([1, 2], [2, 1]), ([[1], 2], [1, [2]]),
        ({"a": None}, {}), ({"a": 1, "b": 2}, {"a": 2, "b": 1}), ({"a": "b,c"}, {"a": "b", "c": ""}),
        (["a,b"], ["a", "b"]), (['a","b'], ["a", "b"]), (0.1, 0.1000000000000001), ("A", "a"), ("é", "e\u0301"),
    ],
)  # fmt: skip
def test_values_that_differ_have_different_digests(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


@given(json_values)
def test_the_text_is_json_of_the_same_value(value: Any) -> None:
    assert json.loads(canonical(value)) == value


@given(st.dictionaries(any_text, json_values, min_size=2, max_size=6), st.randoms())
def test_the_order_of_names_does_not_matter(value: dict[str, Any], random: Any) -> None:
    names = list(value)
    random.shuffle(names)
    assert canonical({name: value[name] for name in names}) == canonical(value)


@given(json_values, json_values)
def test_equal_texts_are_equal_values(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) <= (one == other)
