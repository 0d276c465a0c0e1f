"""The published rules of a Responses stream, checked on what a client received.

Source: the Open Responses specification (events of a stream, their order and the state that they carry) and the types
of the official `openai` package.
"""

import itertools
from collections.abc import Sequence
from typing import Any

ENDS = {"response.completed", "response.failed", "response.incomplete"}


def check_rules(events: Sequence[Any], *, is_resumed: bool = False) -> None:
    """Raise AssertionError where a stream breaks a rule. A resumed one begins in the middle."""
    numbers = [event.sequence_number for event in events]
    assert all(a < b for a, b in itertools.pairwise(numbers) if a != b), numbers
    ends = [event for event in events if event.type in ENDS]
    assert ends == [events[-1]], "one terminal event, and it is the last"
    if not is_resumed:
        assert events[0].type == "response.created"
        assert events[0].response.status in {"queued", "in_progress"}
        assert "response.in_progress" in [event.type for event in events]
    ids = {event.response.id for event in events if hasattr(event, "response")}
    assert len(ids) == 1
    if not is_resumed:
        _check_items(events)


def _check_items(events: Sequence[Any]) -> None:
    items: dict[int, list[Any]] = {}
    for event in events:
        if hasattr(event, "output_index"):
            items.setdefault(event.output_index, []).append(event)
    final = {item.id: item for item in events[-1].response.output}
    for index, told in items.items():
        assert [event.type for event in (told[0], told[-1])] == [
            "response.output_item.added", "response.output_item.done",
        ]  # fmt: skip
        assert sum(event.type == "response.output_item.added" for event in told) == 1, index
        item = told[-1].item
        check = _check_message if item.type == "message" else _check_call
        check(told, item)
        if item.status == "completed":
            assert final[item.id] == item
    assert [item.id for item in events[-1].response.output] == [
        told[-1].item.id for _, told in sorted(items.items()) if told[-1].item.id in final
    ]


def _check_message(told: Sequence[Any], item: Any) -> None:
    kinds = [event.type.removeprefix("response.") for event in told]
    deltas = [event.delta for event in told if event.type == "response.output_text.delta"]
    assert kinds == [
        "output_item.added", "content_part.added", *["output_text.delta"] * len(deltas), "output_text.done",
        "content_part.done", "output_item.done",
    ]  # fmt: skip
    whole = "".join(deltas)
    assert (told[0].item.content, told[0].item.status) == ([], "in_progress")
    assert told[1].part.text == ""
    assert told[-3].text == told[-2].part.text == item.content[0].text == whole
    assert {event.item_id for event in told[1:-1]} == {item.id}


def _check_call(told: Sequence[Any], item: Any) -> None:
    kinds = [event.type.removeprefix("response.") for event in told]
    assert kinds == [
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
    ]  # fmt: skip
    assert told[0].item.arguments == ""
    assert told[1].delta == told[2].arguments == item.arguments


def text_in(events: Sequence[Any]) -> str:
    """Return the text that a client has put together from the deltas, without what was given up."""
    texts: dict[str, str] = {}
    for event in events:
        if event.type == "response.output_text.delta":
            texts[event.item_id] = texts.get(event.item_id, "") + event.delta
        elif event.type == "response.output_item.done" and event.item.status == "incomplete":
            texts.pop(event.item.id, None)
    return "".join(texts.values())
