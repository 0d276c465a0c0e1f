"""What a tool says of itself, and how its parameters are offered and read."""

import json
import re
from dataclasses import fields
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from agents.tools import TOOLS
from agents.tools.registry import (
    Facts,
    OutwardContext,
    Parameters,
    Registry,
    Stake,
    Tool,
    outward_tool,
    parameter_schema,
    tool,
)
from core.errors import InvalidInput, Misconfigured
from core.settings import ROOT


class JournalLine(Parameters):
    """A line of an order."""

    article: str
    count: int


class Address(BaseModel):
    """Where to."""

    street: str
    next_door: "Address | None" = None


class Order(Parameters):
    """What is ordered."""

    lines: list[JournalLine]
    to: Address
    amount: Decimal = Decimal(0)
    share: float = 0
    counts: Annotated[list[int], Field(default_factory=list)]


def order(**facts: Any) -> Tool:
    @outward_tool("order", category="automation", parameters=Order, permission="orders:write", **facts)
    def made(_: OutwardContext, wanted: Order) -> dict[str, Any]:
        """Order something."""
        return {"lines": len(wanted.lines)}

    return made


PLAIN = {"lines": [{"article": "a", "count": 1}], "to": {"street": "s"}}


def test_nested_models_come_with_their_definitions() -> None:
    schema = order().spec.parameters
    referred = {part.split('"')[0] for part in json.dumps(schema).split("#/$defs/")[1:]}
    assert referred == {"JournalLine", "Address"}
    assert referred <= set(schema["$defs"])
    assert "title" not in schema["$defs"]["JournalLine"]["properties"]["article"]
    assert order().validate(PLAIN)


def test_no_tool_of_ours_refers_to_what_is_not_there() -> None:
    for one in TOOLS:
        text = json.dumps(one.spec.parameters)
        for part in text.split("#/$defs/")[1:]:
            assert part.split('"')[0] in one.spec.parameters["$defs"], one.name


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ñandú", "x" * 65, "book/class", "a\n"])
def test_names_that_providers_refuse_are_refused_here(name: str) -> None:
    with pytest.raises(Misconfigured, match="No provider accepts"):
        Tool(name, "automation", "d", Parameters, lambda _c, _p: {}, "a:b")


class Hidden(Parameters):
    """A parameter whose name would be taken for the model's rationale."""

    why: str = Field(alias="_why")


def test_parameters_must_not_look_like_the_rationale() -> None:
    with pytest.raises(Misconfigured, match="must not begin with _"):
        Tool("fine", "automation", "d", Hidden, lambda _c, _p: {}, "a:b")


def test_facts_that_are_not_declared_are_the_worst_case() -> None:
    for made in (order(), tool("t", category="crm", parameters=Parameters, permission="a:b")(lambda _c, _p: {})):
        worst = (made.risk, made.changes_world, made.sends_outside, made.moves_money, made.returns_untrusted)
        assert worst == ("critical", True, True, True, True)
        assert (made.only_reads, made.repeat_is_harmless, made.takes_idempotency_key) == (False, False, False)
        assert made.at_stake(Parameters.model_construct()) == Stake(amount=None)
    assert order().must_not_repeat
    assert order(changes_world=False, moves_money=False).acts  # it still sends something out
    assert order(moves_money=False).at_stake(Parameters.model_construct()).amount == 0


def test_the_page_says_what_holds_of_each_fact_that_is_not_declared() -> None:
    page = (ROOT / "docs" / "tools.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| `(\w+)` \| `?\"?(\w+)\"?`? \|", page, re.MULTILINE))
    defaults: dict[str, Any] = {fact.name: fact.default for fact in fields(Tool)}
    written: dict[Any, str] = {False: "false", True: "true", None: "none"}
    assert said == {name: written.get(defaults[name], defaults[name]) for name in Facts.__annotations__} | {
        "stake": "unknown"  # which is declared beside the facts
    }


@pytest.mark.parametrize("said", ["1_000", "١٢٣", "１２", "inf", "-Infinity", "nan", "0x10", "1,000", "", "12abc"])  # noqa: RUF001
@pytest.mark.parametrize("field", ["amount", "share"])
def test_a_number_is_written_in_plain_digits(field: str, said: str) -> None:
    with pytest.raises(InvalidInput, match="plain number"):
        order().validate(PLAIN | {field: said})


def test_numbers_in_lists_and_nested_models_too() -> None:
    for wrong in ({"counts": ["1_0"]}, {"lines": [{"article": "a", "count": "1_0"}]}):
        with pytest.raises(InvalidInput, match="plain number"):
            order().validate(PLAIN | wrong)
    for number in (float("inf"), float("nan")):
        with pytest.raises(InvalidInput, match="finite"):
            order().validate(PLAIN | {"share": number})
    assert order().validate(PLAIN | {"amount": " 12.50 ", "share": "1e-3", "counts": ["7"]})


def test_an_answer_about_unknown_parameters_stays_short() -> None:
    with pytest.raises(InvalidInput) as refused:
        order().validate(PLAIN | {"x" * 200_000: 1} | {f"k{n}": 1 for n in range(500)})
    assert len(refused.value.message) < 3_000
    assert "and 491 more" in refused.value.message


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, True),
        ({"repeat_is_harmless": True}, False),
        ({"takes_idempotency_key": True}, False),
        ({"changes_world": False}, True),  # it still moves money
        ({"moves_money": False}, True),
        ({"changes_world": False, "moves_money": False}, False),
    ],
)
def test_what_does_harm_when_done_twice_must_not_repeat(facts: dict[str, Any], *, expected: bool) -> None:
    assert order(**facts).must_not_repeat is expected
    own = tool("own", category="crm", parameters=Parameters, permission="a:b", **facts)(lambda _c, _p: {})
    assert not own.must_not_repeat  # its writes are in the transaction of its step


QUIET: dict[str, Any] = {"changes_world": False, "sends_outside": False, "moves_money": False}


@pytest.mark.parametrize(
    ("facts", "only_reads", "reaches_people"),
    [
        (QUIET, True, False),
        (QUIET | {"changes_world": True}, False, False),
        (QUIET | {"sends_outside": True}, False, True),
        (QUIET | {"moves_money": True}, False, True),
        (QUIET | {"drafts_for_outside": True, "changes_world": True}, False, True),
        (QUIET | {"price": "email"}, False, False),  # what it charges must be undone with it
        (QUIET | {"charges_itself": True}, False, False),
    ],
)
def test_what_only_reads_and_what_reaches_people(
    facts: dict[str, Any], *, only_reads: bool, reaches_people: bool
) -> None:
    made = tool("t", category="crm", parameters=Parameters, permission="a:b", **facts)(lambda _c, _p: {})
    assert (made.only_reads, made.reaches_people) == (only_reads, reaches_people)
    assert not order(**QUIET).only_reads  # what reaches outside is no look-up at our own records


def test_the_rationale_is_left_out_of_parameters_and_nothing_else_is_let_through() -> None:
    said = {"_why": "x", "_intent": "x", "_confidence": 1, "_alternatives": "x"}
    assert order().validate(PLAIN | said) == order().validate(PLAIN)
    for unknown in ("_reason", "why"):
        with pytest.raises(InvalidInput, match=unknown):
            order().validate(PLAIN | {unknown: "x"})


class Choices(Parameters):
    """Parameters that may be left out, or have several kinds."""

    name: str | None = None
    many: list[int] | None = None
    either: int | list[int] | None = None
    size: int = 3


def test_a_schema_has_no_null_no_title_and_keeps_real_alternatives() -> None:
    schema = parameter_schema(Choices)
    assert schema == {
        "type": "object",
        "required": [],
        "properties": {
            "name": {"type": "string"},
            "many": {"type": "array", "items": {"type": "integer"}},
            "either": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]},
            "size": {"type": "integer", "default": 3},
        },
    }


def test_tools_are_found_by_name_and_no_two_share_one() -> None:
    asked = 0

    def more() -> list[Tool]:
        nonlocal asked
        asked += 1
        return [Tool("b", "crm", "d", Parameters, lambda _c, _p: {}, "a:b")]

    first = order()
    registry = Registry([first], more)
    assert asked == 0  # foreign code is loaded when a tool is first looked up
    assert (registry.get("order"), registry.get("c")) == (first, None)
    assert (registry.names(), [one.name for one in registry]) == (["b", "order"], ["order", "b"])
    assert registry.unknown(["order", "z", "a", "z"]) == ["a", "z"]
    assert asked == 1
    with pytest.raises(Misconfigured, match="Two tools are called order"):
        Registry([order(), order()]).names()
