"""What models' calls are read as, and the text that goes back on the wire."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.llm.base import ToolCall
from agents.llm.calls import read_call, written_at


@pytest.mark.parametrize(
    "text",
    [
        '{"zz": 1, "a": 2}',
        '{ "n" : 1.0 }',
        '{"n": 1e16, "m": 2.50, "k": -0.0}',
        '{"n": 1, "n": 2}',
        '{"s": "caf\\u00e9"}',
        '{"deep": {"b": [1, {"z": 1, "a": 1}]}}',
        "{}",
    ],
)
def test_arguments_are_kept_as_they_came(text: str) -> None:
    as_text = read_call(id="c", name="t", arguments=text)
    as_object = read_call(id="c", name="t", arguments=json.loads(text), text=text)
    for call in (as_text, as_object):
        assert (call.text, call.arguments, call.problem) == (text, json.loads(text), None)
        # jsonb hands back another order and spelling; the text stays.
        stored = call.model_dump(mode="json") | {"arguments": dict(sorted(call.arguments.items()))}
        assert ToolCall.model_validate(stored).text == text


@pytest.mark.parametrize(
    ("arguments", "expected", "problem"),
    [
        ('{"a": ', {}, "JSON"),
        ("[1]", {}, "object"),
        ([1], {}, "object"),
        (7, {}, "object"),
        ('"x"', {}, "object"),
        ('{"a": NaN}', {}, "number"),
        ('{"a": 1e999}', {}, "number"),
        ("[" * 50_000, {}, "JSON"),
        ('{"a": ' * 40 + "1" + "}" * 40, {}, "nested"),
        ('{"a": ' * 500 + "1" + "}" * 500, {}, "nested"),
        ('{"a": "\\ud83d"}', {"a": "\ufffd"}, None),
        ('{"a": "\\u0000"}', {"a": "\ufffd"}, None),
        ("", {}, None),
        ("  ", {}, None),
        (None, {}, None),
        ({"query": "a"}, {"query": "a"}, None),
        ('{"n": 1}', {"n": 1}, None),
    ],
)
def test_arguments_of_all_kinds(arguments: Any, expected: dict[str, Any], problem: str | None) -> None:
    call = read_call(id="c", name="t", arguments=arguments)
    assert call.arguments == expected
    assert (problem is None) == (call.problem is None)
    assert problem is None or problem in (call.problem or "")
    assert isinstance(json.loads(call.text), dict)  # servers refuse anything else when it goes back
    call.text.encode()


@pytest.mark.parametrize("name", [None, "", 7])
def test_a_call_that_names_no_tool_is_not_left_out(name: Any) -> None:
    call = read_call(id=None, name=name, arguments="{}")
    assert (call.name, call.problem) == ("unnamed_tool", "it names no tool")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)  # the machine may be busy
@given(_json, st.sampled_from([None, 1]), st.booleans())
def test_the_part_at_a_path_is_cut_out_as_it_is_written(value: Any, indent: int | None, is_ascii: bool) -> None:
    document = json.dumps(
        {"x": [], "content": [{"a": {}}, {"b": "]}", "input": value}]}, indent=indent, ensure_ascii=is_ascii
    )
    assert json.loads(written_at(document, "content", 1, "input")) == value
    assert written_at(document, "content", 1, "input") in document


def test_of_equal_keys_the_last_counts() -> None:
    assert written_at('{"a": 1, "a": 2.0}', "a") == "2.0"


@pytest.mark.parametrize(("text", "path"), [("{}", ("a",)), ("[]", (0,)), ('{"a": []}', ("a", 1))])
def test_there_is_no_such_part(text: str, path: tuple[str | int, ...]) -> None:
    with pytest.raises((KeyError, IndexError)):
        written_at(text, *path)
