"""Text before it is stored or compared: what is refused, what is replaced, and which spellings are equal."""

import json
import sys
import unicodedata
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from core.text import MAX_DEPTH, Storable, described, fold, storable, unstorable

any_text = st.text(st.characters(exclude_categories=()), max_size=20)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=15,
)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": {"b": [1, {"c": "x\x00"}]}}, "NUL"),
        ({"a": {"\udfff": 1}}, "surrogate"),
        (["fine", "fine", "\ud83d"], "surrogate"),
        ([float("-inf")], "NaN or infinity"),
        ({"a": float("inf")}, "NaN or infinity"),
        ("\U0001f600 is a whole character", None),
        ("tab\tline\nbell\x07", None),
        ({"": [], "b": {}}, None),
        (1e308, None),
    ],
)
def test_the_reason_is_found_wherever_it_lies(value: Any, reason: str | None) -> None:
    found = unstorable(value)
    assert found is None if reason is None else reason in (found or "")


def test_objects_count_for_the_depth_as_lists_do() -> None:
    value: Any = 1
    for number in range(MAX_DEPTH):
        value = {"inner": value} if number % 2 else [value]
    assert unstorable(value) is None
    assert "flatten it" in (unstorable({"outer": value}) or "")


@given(any_text)
def test_a_text_that_is_storable_can_be_written_as_utf_8_and_has_no_nul(value: str) -> None:
    kept = storable(value)
    assert b"\x00" not in kept.encode()
    assert len(kept) == len(value)  # one mark for each character that cannot be stored
    assert storable(kept) == kept
    if unstorable(value) is None:
        assert kept == value


@given(any_json)
def test_json_keeps_its_form_when_it_is_made_storable(value: Any) -> None:
    kept = storable(value)
    assert type(kept) is type(value)
    assert unstorable(kept) in {None, "contains a number that JSON does not have (NaN or infinity)"}
    json.dumps(kept).encode()


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("a\x00b\x00", "a\ufffdb\ufffd"),
        ("\ud83d\ude00", "\ufffd\ufffd"),  # two halves are two characters to Python
        ({"k\x00": ["v\udc80", 1, None]}, {"k\ufffd": ["v\ufffd", 1, None]}),
        ("\ufffe\uffff", "\ufffe\uffff"),  # noncharacters can be stored
    ],
)
def test_what_cannot_be_stored_is_replaced_and_the_rest_is_kept(value: Any, kept: Any) -> None:
    assert storable(value) == kept


def test_a_field_refuses_what_cannot_be_stored_and_says_why() -> None:
    field: TypeAdapter[dict[str, Any]] = TypeAdapter(Annotated[dict[str, Any], Storable])
    assert field.validate_python({"a": ["ñ"]}) == {"a": ["ñ"]}
    with pytest.raises(ValidationError, match="contains a NUL character"):
        field.validate_python({"a": ["\x00"]})


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("name"), "KeyError: 'name'"),
        (ValueError(), "ValueError: "),
        (SystemExit(3), "SystemExit: 3"),
        (ValueError("a\x00b"), "ValueError: a\ufffdb"),
    ],
)
def test_an_error_is_described_by_its_type_and_its_message(error: BaseException, text: str) -> None:
    assert described(error) == text


# ── folding ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("José", "jose"),
        ("JOSÉ", "jose\u0301"),
        ("ana@EXAMPLE.com", "ana@example.com"),
        ("İzmir", "izmir"),
        ("ana@example\u3002com", "ana@example.com"),
        ("ana@example\uff61com", "ana@example.com"),
        ("ana@example\uff0ecom", "ana@example.com"),
        ("ana@example\ufe12com", "ana@example.com"),  # the ideographic full stop of vertical text
        ("\uff21\uff2e\uff21", "ana"),  # full width
        ("\U0001d400\U0001d40d\U0001d400", "ana"),  # mathematical bold capitals
        ("\u210bello", "hello"),  # script capital H
        ("ﬁn", "fin"),  # a ligature
        ("x\u00b2", "x2"),
    ],
)
def test_spellings_of_one_text_are_folded_to_one(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("ana", "anna"), ("a.b", "ab"), ("1", "l"), ("ana ", "ana")])
def test_other_texts_stay_apart(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def test_folding_a_character_again_changes_nothing() -> None:
    letters = (chr(number) for number in range(sys.maxunicode + 1))
    changed = [letter for letter in letters if unicodedata.decomposition(letter) or letter.lower() != letter]
    assert len(changed) > 5_000
    assert [letter for letter in changed if fold(fold(letter)) != fold(letter)] == []


@given(st.text(max_size=30))
def test_a_folded_text_is_lower_case_without_accents(text: str) -> None:
    folded = fold(text)
    assert folded == folded.lower()
    assert fold(folded) == folded
    assert not any(map(unicodedata.combining, folded))
