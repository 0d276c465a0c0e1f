"""A client of a Responses stream has the whole text once, wherever it is cut off and however the text comes."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from api.openai_wire.parts import Segment, Spoken
from api.openai_wire.response_stream import ResponseEvents
from domain.conversations.schemas import Answer
from domain.tasks.schemas import TaskDetail

ID = UUID("0198a1b2-0000-7000-8000-000000000001")
NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
ANSWER = Answer(ID, ID, ID, ID, ID, None, is_listed=False, is_deleted=False, options={}, created_at=NOW)
_MAKE: Any = TaskDetail.model_construct  # only what the stream reads of a task
TASK: TaskDetail = _MAKE(
    id=ID, agent="support-assistant", status="succeeded", result={}, error=None, waiting_for=None, finished_at=NOW,
    billed_cost=Decimal(0), steps=[], attempt_history=[], open_calls=[],
)  # fmt: skip
TEXTS = st.text(alphabet="ab ñ🎉", min_size=1, max_size=70)
STEPS = st.lists(st.tuples(st.lists(TEXTS, max_size=3), TEXTS, st.integers(1, 40)), min_size=1, max_size=3)
"""of each step: what the tries said that were given up, the text, and how many characters a piece has"""


def _segment(steps: list[tuple[list[str], str, int]]) -> Segment:
    claim, spoken = 1, []
    for step, (given_up, text, _) in enumerate(steps):
        claim += len(given_up)
        spoken.append(Spoken(step, claim, 1, text))
    return Segment(0, 1, spoken, [], is_closed=True, next=None, input_tokens=1, output_tokens=1)


def _live(events: ResponseEvents, steps: list[tuple[list[str], str, int]]) -> list[dict[str, Any]]:
    """What is told while it happens."""
    told, claim = events.begin() + events.start(), 1
    for step, (given_up, text, size) in enumerate(steps):
        for half in given_up:
            told += events.say(step, claim, 1, half)
            claim += 1
            told += events.give_up(step, claim, 1)
        for offset in range(0, len(text), size):
            told += events.say(step, claim, 1, text[offset : offset + size])
        told += events.decide(Spoken(step, claim, 1, text))
    return told + events.finish(TASK, _segment(steps))


def _journal(events: ResponseEvents, steps: list[tuple[list[str], str, int]]) -> list[dict[str, Any]]:
    """What is told once all has happened."""
    return events.begin() + events.finish(TASK, _segment(steps))


def _fresh(after: int = -1) -> ResponseEvents:
    return ResponseEvents(ANSWER, TASK, 0, 1, after)


def _client(events: list[dict[str, Any]]) -> list[str]:
    """The texts that a client puts together, by the items' ids; those that were given up are not in the end."""
    texts: dict[str, str] = {}
    for event in events:
        if event["type"] == "response.output_text.delta":
            texts[event["item_id"]] = texts.get(event["item_id"], "") + event["delta"]
    final = [item["id"] for item in events[-1]["response"]["output"]]
    return [texts[one] for one in final]


@given(STEPS)
def test_what_is_told_live_is_the_whole_text_in_numbered_events(steps: list[tuple[list[str], str, int]]) -> None:
    told = _live(_fresh(), steps)
    numbers = [event["sequence_number"] for event in told]
    assert all(earlier < later for earlier, later in pairwise(numbers))
    assert _client(told) == [text for _, text, _ in steps]


@given(STEPS, st.data())
def test_cut_off_anywhere_a_client_gets_the_rest(steps: list[tuple[list[str], str, int]], data: st.DataObject) -> None:
    live = _live(_fresh(), steps)
    heard = live[: data.draw(st.integers(1, len(live) - 1))]
    rest = _journal(_fresh(heard[-1]["sequence_number"]), steps)
    numbers = [event["sequence_number"] for event in heard + rest]
    assert all(earlier < later for earlier, later in pairwise(numbers))
    assert rest[-1]["response"] == live[-1]["response"]
    assert _client(heard + rest) == [text for _, text, _ in steps]


@given(STEPS, st.lists(st.integers(1, 40), min_size=3, max_size=3))
def test_without_tries_that_were_given_up_it_is_always_told_the_same(
    steps: list[tuple[list[str], str, int]], sizes: list[int]
) -> None:
    plain: list[tuple[list[str], str, int]] = [
        ([], text, size) for (_, text, _), size in zip(steps, sizes, strict=False)
    ]
    assert _live(_fresh(), plain) == _live(_fresh(), [([], text, 1) for _, text, _ in plain])
    told = [event for event in _live(_fresh(), plain) if event["type"] != "response.queued"]
    assert told == _journal(_fresh(), plain)
