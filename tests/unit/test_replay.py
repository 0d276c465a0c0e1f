"""Conversations on their way to a provider: whatever models said, neither provider can refuse them."""

import itertools
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.llm import anthropic_provider, openai_provider
from agents.llm.base import AssistantMessage, Message, Request, ToolCall, ToolMessage, ToolSpec, UserMessage
from agents.llm.replay import is_blank, presentable
from tests.support.models import anthropic_refusal, openai_refusal

ASKED = UserMessage(text="Book Ana.")
LOOK = ToolSpec(name="look", description="Look.", parameters={"type": "object", "properties": {}})


def call(call_id: str = "c", name: str = "look", **more: Any) -> ToolCall:
    return ToolCall(id=call_id, name=name, **more)


def said(*calls: ToolCall, text: str = "") -> AssistantMessage:
    return AssistantMessage(text=text, tool_calls=list(calls))


def result(call_id: str = "c", content: str = '{"ok":true}', **more: Any) -> ToolMessage:
    return ToolMessage(call_id=call_id, content=content, **more)


CONVERSATIONS: dict[str, list[Message]] = {
    "ids with dots and colons": [ASKED, said(call("functions.search_clients:0")), result("functions.search_clients:0")],
    "two equal ids": [ASKED, said(call("toolu_1"), call("toolu_1")), result("toolu_1"), result("toolu_1")],
    "an id used again later": [ASKED, said(call()), result(), said(call()), result()],
    "empty ids": [ASKED, said(call(""), call("")), result(""), result("")],
    "an id of 100 letters": [ASKED, said(call("x" * 100)), result("x" * 100)],
    "a foreign id": [ASKED, said(call("toolu_01AbC")), result("toolu_01AbC"), said(call("call_9")), result("call_9")],
    "an invented name": [ASKED, said(call(name="multi_tool_use.parallel")), result()],
    "a name that is too long": [ASKED, said(call(name="n" * 300)), result()],
    "a name of spaces and letters of other scripts": [ASKED, said(call(name="búscame cliente")), result()],
    "a result without its call": [ASKED, result("gone"), said(call()), result()],
    "a call without its result": [ASKED, said(call("a"), call("b")), result("b"), said(text="Done."), ASKED],
    "a call without its result at the end": [ASKED, said(call())],
    "a result too many": [ASKED, said(call()), result(), result("other")],
    "a user's word between call and result": [ASKED, said(call()), UserMessage(text="Hurry."), result()],
    "ids that differ between call and result": [ASKED, said(call("a"), call("b")), result("x"), result("y")],
    "an empty word of the assistant": [ASKED, said(text=" \n"), ASKED],
    "an assistant's word at the end": [ASKED, said(text="Let me think. \n")],
    "an empty assistant's word at the end": [ASKED, said(text="")],
    "an assistant's word at the beginning": [said(text="Hello."), ASKED],
    "a blank user's word": [UserMessage(text=" \u200b\n")],
    "a blank result": [ASKED, said(call()), result(content="")],
    "results as the first": [result(), ASKED],
    "nothing at all": [],
    "arguments that could not be read": [ASKED, said(call(problem="no JSON")), result(is_error=True)],
    "300 calls at once": [ASKED, said(*(call(str(n)) for n in range(300))), *(result(str(n)) for n in range(300))],
}


def bodies(messages: list[Message], *, tools: bool = True, system: str = "Help.") -> tuple[Any, Any]:
    """The request as OpenAI and as Anthropic are sent it."""
    request = Request(
        model="m", system=system, messages=messages, tools=[LOOK] if tools else [], timeout=timedelta(seconds=1)
    )
    provider = openai_provider.OpenAIProvider.__new__(openai_provider.OpenAIProvider)
    theirs = json.loads(json.dumps(provider._body(request, "max_tokens")))
    return theirs, json.loads(anthropic_provider._written(anthropic_provider._body(request)))


@pytest.mark.parametrize("tools", [True, False], ids=["with tools", "without tools"])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_neither_provider_refuses(name: str, tools: bool) -> None:
    openai, anthropic = bodies(CONVERSATIONS[name], tools=tools, system="" if tools else "Help.")
    assert openai_refusal(openai) is None
    assert anthropic_refusal(anthropic) is None


_ids = st.sampled_from(["", "a", "b", "functions.x:0", "y" * 60])
_calls = st.builds(ToolCall, id=_ids, name=st.sampled_from(["look", "", "a.b", "n" * 99, "\u00e9"]))
_messages = st.one_of(
    st.builds(UserMessage, text=st.text(max_size=5)),
    st.builds(AssistantMessage, text=st.text(max_size=5), tool_calls=st.lists(_calls, max_size=3)),
    st.builds(ToolMessage, call_id=_ids, content=st.text(max_size=5), is_untrusted=st.booleans()),
)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(_messages, max_size=8), st.booleans())
def test_no_conversation_at_all_is_refused(messages: list[Message], tools: bool) -> None:
    openai, anthropic = bodies(messages, tools=tools)
    assert openai_refusal(openai) is None
    assert anthropic_refusal(anthropic) is None


@settings(deadline=None)  # the machine may be busy
@given(st.lists(_messages, max_size=8))
def test_what_was_sent_before_is_sent_again_unchanged(following: list[Message]) -> None:
    # The provider's prompt cache goes by the prefix.
    messages = [ASKED, *following]
    whole = presentable(messages)
    for end in [index for index, one in enumerate(messages) if isinstance(one, AssistantMessage)]:
        part = presentable(messages[:end])
        if part[-1] == UserMessage(text="Go on."):
            part.pop()
        assert whole[: len(part)] == part


def test_results_stay_with_their_calls() -> None:
    sent = presentable(
        [ASKED, said(call("a"), call("b"), call("a")), result("b", "2"), result("a", "1"), result("a", "3")]
    )
    asked = next(one for one in sent if isinstance(one, AssistantMessage))
    answered = {one.call_id: one.content for one in sent if isinstance(one, ToolMessage)}
    assert [answered[one.id] for one in asked.tool_calls] == ["1", "2", "3"]


def test_the_journal_keeps_what_was_said() -> None:
    messages: list[Message] = [ASKED, said(call("functions.x:0", "a.b")), result("functions.x:0")]
    before = [message.model_dump() for message in messages]
    presentable(messages)
    assert [message.model_dump() for message in messages] == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", True), (" \n\t", True), ("\u200b\ufeff", True), ("\x00", True), (".", False), (" ok ", False), ("🙂", False)],
)
def test_blank(text: str, expected: bool) -> None:
    assert is_blank(text) is expected


def test_more_calls_than_one_message_holds_are_split_in_order() -> None:
    sent = presentable(CONVERSATIONS["300 calls at once"])
    sizes = [len(one.tool_calls) for one in sent if isinstance(one, AssistantMessage)]
    assert sizes == [128, 128, 44]
    ids = itertools.chain.from_iterable(
        [one.id for one in message.tool_calls] for message in sent if isinstance(message, AssistantMessage)
    )
    assert len(set(ids)) == 300
