"""The tokens of a call: what servers report, what is estimated in its place, and what is never believed."""

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agents.llm.base import AssistantMessage, Request, ToolCall, ToolMessage, ToolSpec, UserMessage
from agents.llm.counting import Count, Report, counted, size_of, size_of_tools
from domain.billing.schemas import Tokens

ASKED = Request(model="m", system="12345", messages=[UserMessage(text="1234")])
"""a request of 9 characters, which are estimated at 3 tokens"""


def tokens(said: str = "", **reported: int | None) -> Tokens:
    """The tokens of a call whose reply was `said`."""
    values: dict[str, int | None] = {"sent": None, "answered": None, "cached": None, "cache_write": None}
    return counted(ASKED, said, **values | reported)


@pytest.mark.parametrize(
    ("said", "reported", "expected"),
    [
        ("hello", {"sent": 10, "answered": 2}, Tokens(input=10, output=2)),
        ("hello", {"sent": 10, "answered": 2, "cached": 4, "cache_write": 3},
         Tokens(input=10, cached=4, cache_write=3, output=2)),
        # Nothing is reported: four characters are a token, and a part of four counts as one.
        ("hello", {}, Tokens(input=3, output=2, is_estimated=True)),
        ("1234", {"sent": 10}, Tokens(input=10, output=1, is_estimated=True)),
        ("hello", {"answered": 7}, Tokens(input=3, output=7, is_estimated=True)),
        # A server that does not count reports 0: no prompt has 0 tokens, nor has a reply with text.
        ("hello", {"sent": 0, "answered": 0}, Tokens(input=3, output=2, is_estimated=True)),
        ("", {"sent": 10, "answered": 0}, Tokens(input=10)),
        ("", {"sent": 10}, Tokens(input=10, is_estimated=True)),
        # More is reported from the cache than was sent.
        ("x", {"sent": 10, "answered": 1, "cached": 15}, Tokens(input=10, cached=10, output=1)),
        ("x", {"sent": 10, "answered": 1, "cached": 8, "cache_write": 8},
         Tokens(input=10, cached=8, cache_write=2, output=1)),
        ("x", {"answered": 1, "cached": 8}, Tokens(input=3, cached=3, output=1, is_estimated=True)),
    ],
)  # fmt: skip
def test_reported_counts_are_used_and_missing_ones_are_estimated_and_marked(
    said: str, reported: dict[str, int], expected: Tokens
) -> None:
    assert tokens(said, **reported) == expected


_count = st.none() | st.integers(0, 2_000_000_000)


@given(st.text(max_size=9), _count, _count, _count, _count)
def test_cached_tokens_are_a_part_of_the_input_whatever_is_reported(
    said: str, sent: int | None, answered: int | None, cached: int | None, cache_write: int | None
) -> None:
    found = tokens(said, sent=sent, answered=answered, cached=cached, cache_write=cache_write)
    assert found.cached + found.cache_write <= found.input
    assert found.input > 0
    assert found.output > 0 or not said
    assert found.is_estimated or (found.input, found.output) == (sent, answered)


class Reported(BaseModel):
    """A number of tokens in a usage report."""

    number: Count = None


@pytest.mark.parametrize(
    ("reported", "read"),
    [
        (0, 0),
        (12, 12),
        ("12", 12),
        (12.0, 12),
        (2_000_000_000, 2_000_000_000),
        (2_000_000_001, None),  # would not fit into the database's column
        (10**40, None),
        (-1, None),
        (float("inf"), None),
        (float("nan"), None),
        ("many", None),
        ("", None),
        (None, None),
        ([1], None),
        ({"tokens": 1}, None),
    ],
)
def test_a_number_that_cannot_be_one_of_tokens_counts_as_missing(reported: Any, read: int | None) -> None:
    assert Reported.model_validate({"number": reported}).number == read


class Answer(BaseModel):
    """An answer with a usage report."""

    usage: Annotated[Reported, Report] = Reported()


@pytest.mark.parametrize("report", [None, 7, "none", [], [{"number": 1}]])
def test_a_usage_report_that_is_no_object_is_empty(report: Any) -> None:
    assert Answer.model_validate({"usage": report}).usage == Reported()
    assert Answer.model_validate({"usage": {"number": 1}}).usage == Reported(number=1)


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (UserMessage(text="año"), 3),
        (AssistantMessage(text="I look."), 7),
        (AssistantMessage(text="ab", tool_calls=[ToolCall(id="c1", name="look", arguments={}, text='{"a":1}')]), 13),
        (ToolMessage(call_id="c1", content="abc"), 3),
        (ToolMessage(call_id="c1", content='"abc"', is_untrusted=True), len('{"untrusted_data":"abc"}')),
    ],
)
def test_a_message_is_as_long_as_the_model_reads_it(message: Any, size: int) -> None:
    assert size_of(message) == size


def test_a_tool_is_as_long_as_its_name_description_and_schema() -> None:
    spec = ToolSpec(name="look", description="Look.", parameters={"type": "object"})
    assert size_of_tools([spec, spec]) == 2 * (len("look") + len("Look.") + len('{"type": "object"}'))
    assert size_of_tools([]) == 0


def test_an_estimate_counts_the_offered_tools_and_all_messages() -> None:
    spec = ToolSpec(name="look", description="Look.", parameters={"type": "object"})  # 27 characters
    messages = [UserMessage(text="1234"), AssistantMessage(text="1234"), ToolMessage(call_id="c", content="1234")]
    request = Request(model="m", system="1", messages=messages, tools=[spec])
    assert counted(request, "", sent=None, answered=1, cached=None, cache_write=None).input == 10  # 40 characters
