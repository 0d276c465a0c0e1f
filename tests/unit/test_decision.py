"""What is read from a model's reply: actions with their reasons, or the answer; and how the conversation is rebuilt."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.decide import conversation
from agents.decision import confidence_of, read
from agents.llm.base import AssistantMessage, Message, Reply, StopReason, ToolCall, ToolMessage, UserMessage
from agents.perceive import Perception
from domain.billing.schemas import Tokens
from domain.tasks.schemas import Step


def call(name: str = "book_class", **arguments: Any) -> ToolCall:
    return ToolCall(id="c", name=name, arguments=arguments)


def reply(*calls: ToolCall, text: str = "", stop_reason: StopReason = "end", is_rehearsal: bool = False) -> Reply:
    message = AssistantMessage(text=text, tool_calls=list(calls))
    return Reply(
        message=message, stop_reason=stop_reason, tokens=Tokens(), provider="p", model="m", is_rehearsal=is_rehearsal
    )


def test_a_reply_without_calls_is_the_answer() -> None:
    decision = read(reply(text="It is at seven."), 3)
    assert decision.answers
    assert (decision.seq, decision.intent, decision.actions) == (3, "answer", [])
    assert (decision.confidence, decision.reasoning) == (None, "")
    assert decision.message.text == "It is at seven."


def test_the_reasons_of_a_call_are_kept_apart_from_its_arguments() -> None:
    said: dict[str, Any] = {
        "_intent": "book",
        "_why": "she asked",
        "_confidence": 0.8,
        "_alternatives": "wait; ; ask her ;",
        "_x": 1,
    }
    decision = read(reply(call(client="Ana", **said)), 1)
    (action,) = decision.actions
    assert (action.tool, action.arguments) == ("book_class", {"client": "Ana"})
    assert (action.intent, action.why, action.confidence) == ("book", "she asked", 0.8)
    assert action.alternatives == ["wait", "ask her"]
    assert not decision.answers


def test_reasons_that_are_missing_or_empty_are_none() -> None:
    nothing: list[dict[str, Any]] = [{}, {"_intent": "", "_why": None, "_alternatives": " ; "}]
    for said in nothing:
        (action,) = read(reply(call(**said)), 1).actions
        assert (action.intent, action.why, action.confidence, action.alternatives) == (None, None, None, [])


def test_reasons_that_are_no_text_are_kept_as_text_and_cut_at_a_thousand_characters() -> None:
    (action,) = read(reply(call(_intent=7, _why="w" * 2_000)), 1).actions
    assert (action.intent, action.why) == ("7", "w" * 1_000)


def test_of_several_calls_the_least_sure_decides_and_each_reason_is_told_once() -> None:
    decision = read(
        reply(
            call(_intent="book", _why="she asked", _confidence=0.9),
            call(_intent="book", _why="she asked", _confidence=0.4),
            call(_intent="tell", _why="he waits"),
        ),
        1,
    )
    assert decision.confidence == 0.4
    assert (decision.intent, decision.reasoning) == ("book; tell", "she asked he waits")


def test_without_an_intent_the_tools_are_named_and_the_text_goes_before_the_reasons() -> None:
    decision = read(reply(call("look"), call("book", _why="she asked"), text="Let me look."), 1)
    assert (decision.intent, decision.reasoning) == ("look, book", "Let me look.")


@pytest.mark.parametrize(
    ("stop_reason", "is_truncated", "is_pause", "answers"),
    [
        ("end", False, False, True),
        ("max_tokens", True, False, True),
        ("window", True, False, True),
        ("pause", False, True, False),  # the model goes on: a pause is not the last word
    ],
)
def test_why_a_reply_ended_is_kept(stop_reason: StopReason, is_truncated: bool, is_pause: bool, answers: bool) -> None:
    decision = read(reply(text="Hm", stop_reason=stop_reason), 1)
    assert (decision.is_truncated, decision.is_pause, decision.answers) == (is_truncated, is_pause, answers)


def test_a_rehearsed_reply_is_a_rehearsed_decision() -> None:
    assert [read(reply(text="x", is_rehearsal=is_so), 1).is_rehearsal for is_so in (True, False)] == [True, False]


@pytest.mark.parametrize(
    ("said", "confidence"),
    [
        (None, None),
        (0, 0.0),
        (1, 1.0),
        (0.35, 0.35),
        # An unusable confidence must never pass for certainty.
        (1.01, 0.0),
        (95, 0.0),
        (-0.1, 0.0),
        (10**400, 0.0),
        (True, 0.0),
        ("0.9", 0.0),
        ("high", 0.0),
        ("", 0.0),
        ([1], 0.0),
        ({}, 0.0),
    ],
)
def test_a_confidence_that_is_no_share_counts_as_unsure(said: Any, confidence: float | None) -> None:
    assert confidence_of(said) == confidence


_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)  # others become U+FFFD
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_text, inner, max_size=2),
    max_leaves=5,
)
_names = st.sampled_from(["_intent", "_why", "_confidence", "_alternatives", "_other", "client", "day"])


@settings(max_examples=40)
@given(st.dictionaries(_names, _json, max_size=6))
def test_whatever_a_model_writes_a_decision_is_read_and_can_be_kept(arguments: dict[str, Any]) -> None:
    decision = read(reply(call(**arguments)), 1)
    assert type(decision).model_validate(decision.model_dump(mode="json")) == decision
    assert decision.actions[0].arguments == {key: arguments[key] for key in arguments if not key.startswith("_")}
    assert decision.confidence is None or 0 <= decision.confidence <= 1


# ── the conversation ─────────────────────────────────────────────────────────────────────────────────────────────────


def step(seq: int, stage: Any, message: Message | None) -> Step:
    output = {} if message is None else {"message": message.model_dump(mode="json")}
    return Step(
        seq=seq, stage=stage, name="s", status="done", claim=1, input={}, output=output, model=None, input_tokens=0,
        output_tokens=0, billed_cost=0, duration_ms=0,
    )  # fmt: skip


ASKS = AssistantMessage(text="I look.", tool_calls=[ToolCall(id="c", name="look", arguments={"z": 1, "a": 2})])
FOUND = ToolMessage(call_id="c", content="{}", is_untrusted=True)
JOURNAL = [step(0, "perceive", None), step(1, "decide", ASKS), step(2, "act", FOUND)]
PERCEIVED = Perception(message="Hello", system="", model="m", fallback_model=None, tools=[])


def test_a_conversation_is_rebuilt_from_the_journal_in_its_order() -> None:
    assert conversation(PERCEIVED, JOURNAL, {}) == [UserMessage(text="Hello"), ASKS, FOUND]
    assert conversation(PERCEIVED, [], {}) == [UserMessage(text="Hello")]


def test_a_step_that_was_read_before_is_not_read_again() -> None:
    known: dict[int, Message] = {}
    first = conversation(PERCEIVED, JOURNAL[:2], known)
    assert known == {1: ASKS}
    second = conversation(PERCEIVED, JOURNAL, known)
    assert second[:2] == first
    assert second[1] is first[1]


def test_what_is_known_of_steps_outside_the_journal_is_left_out() -> None:
    assert conversation(PERCEIVED, JOURNAL[:2], {1: ASKS, 2: FOUND}) == [UserMessage(text="Hello"), ASKS]
