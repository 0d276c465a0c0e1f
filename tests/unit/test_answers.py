"""Whole answers, and which of them can be used."""

from typing import Any

import pytest

from agents.llm.answers import Remedy, problem_of, remedy_for
from agents.llm.base import AssistantMessage, Reply, ToolCall
from domain.billing.schemas import Tokens

CALL = ToolCall(id="c", name="t")
UNREADABLE = ToolCall(id="c", name="t", problem="not JSON")


@pytest.mark.parametrize(
    ("text", "calls", "facts", "kind", "remedy"),
    [
        ("Hello.", [], {"stop_reason": "end"}, None, None),
        ("", [CALL], {"stop_reason": "tool_use"}, None, None),
        ("", [CALL], {"stop_reason": "end"}, None, None),
        ("", [UNREADABLE], {"stop_reason": "tool_use"}, None, None),
        ("Hel", [], {"stop_reason": "max_tokens"}, None, None),
        ("Hel", [], {"stop_reason": "window"}, None, None),
        ("", [], {"stop_reason": "pause"}, None, None),
        ("", [], {"stop_reason": "end"}, "empty", "once_more"),
        (" \n\u200b", [], {"stop_reason": "end"}, "empty", "once_more"),
        ("", [], {"stop_reason": "max_tokens"}, "truncated", "more_room"),
        ("  ", [], {"stop_reason": "max_tokens"}, "truncated", "more_room"),
        ("Hm", [], {"stop_reason": "max_tokens", "truncated_call": True}, "truncated", "more_room"),
        ("", [], {"stop_reason": "window"}, "too_long", "less"),
        ("Hm", [], {"stop_reason": "window", "truncated_call": True}, "too_long", "less"),
        ("", [], {"stop_reason": "tool_use", "missing_call": True}, "unfinished", "once_more"),
        ("Let me look.", [], {"stop_reason": "tool_use", "missing_call": True}, "unfinished", "once_more"),
        ("", [CALL], {"stop_reason": "tool_use", "missing_call": True}, "unfinished", "once_more"),
        ("Half an", [], {"stop_reason": "unknown", "reason": "abort"}, "unfinished", "once_more"),
        ("", [CALL], {"stop_reason": "unknown", "reason": "abort"}, "unfinished", "once_more"),
        ("No.", [], {"stop_reason": "refusal"}, "refused", None),
        ("", [], {"stop_reason": "refusal"}, "refused", None),
    ],
)
def test_each_kind_of_answer(
    text: str, calls: list[ToolCall], facts: dict[str, Any], kind: str | None, remedy: Remedy | None
) -> None:
    message = AssistantMessage(text=text, tool_calls=calls)
    problem = problem_of(Reply(message=message, tokens=Tokens(), provider="p", model="m", **facts), 2048)
    assert (problem.kind if problem else None) == kind
    assert (remedy_for(problem.kind) if problem else None) == remedy


def test_what_a_person_can_do_is_said() -> None:
    reply = Reply(message=AssistantMessage(), stop_reason="max_tokens", tokens=Tokens(), provider="p", model="m")
    problem = problem_of(reply, 2048)
    assert problem is not None
    assert "2048" in problem.message
    assert "max_output_tokens" in problem.message
