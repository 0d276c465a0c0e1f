"""A conversation that is cut to a model's context window: what goes first, and what never goes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.llm.base import AssistantMessage, Message, Request, ToolCall, ToolMessage, UserMessage
from agents.llm.context import fair_level, fit
from agents.llm.counting import size_of

_LONG = 3_000


def turn(number: int, *results: int) -> list[Message]:
    """What the model asked for, and results of so many characters."""
    calls = [ToolCall(id=f"{number}.{index}", name="look") for index in range(len(results))]
    answers = [
        ToolMessage(call_id=call.id, content=str(number) * length) for call, length in zip(calls, results, strict=True)
    ]
    return [AssistantMessage(tool_calls=calls), *answers]


def asked(*turns: list[Message]) -> Request:
    messages: list[Message] = [UserMessage(text="the task"), *(message for one in turns for message in one)]
    return Request(model="m", system="Be brief.", messages=messages, max_output_tokens=100)


def tools(request: Request) -> list[ToolMessage]:
    return [message for message in request.messages if isinstance(message, ToolMessage)]


def test_what_fits_is_left_as_it_is() -> None:
    request = asked(turn(1, _LONG), turn(2, _LONG))
    assert fit(request, 100_000) is request
    assert fit(request, None) is request


def test_the_oldest_results_are_shortened_first_and_the_last_turn_not_at_all() -> None:
    cut = fit(asked(turn(1, _LONG), turn(2, _LONG), turn(3, _LONG)), 3_800)
    first, second, third = tools(cut)
    assert "shortened" in first.content
    assert (len(second.content), len(third.content)) == (_LONG, _LONG)
    first, second, third = tools(fit(asked(turn(1, _LONG), turn(2, _LONG), turn(3, _LONG)), 3_000))
    assert "shortened" in first.content
    assert "shortened" in second.content
    assert len(third.content) == _LONG


def test_then_whole_old_turns_are_left_out() -> None:
    cut = fit(asked(*(turn(number, 300, 300) for number in range(10)), turn(10, 500)), 2_000)
    assert cut.messages[0] == UserMessage(text="the task")
    assert cut.messages[-2:] == turn(10, 500)
    assert 4 < len(cut.messages) < 32


def test_a_last_turn_that_is_too_long_by_itself_is_shortened_too() -> None:
    cut = fit(asked(turn(1, 50_000)), 3_000)
    (only,) = tools(cut)
    assert "shortened" in only.content
    assert len(only.content) < 6_000


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(st.lists(st.integers(0, 2_000), min_size=1, max_size=3), min_size=1, max_size=12),
    st.integers(1_200, 9_000),
)
def test_no_result_is_parted_from_its_call_and_the_task_stays(results: list[list[int]], window: int) -> None:
    request = asked(*(turn(number, *lengths) for number, lengths in enumerate(results)))
    cut = fit(request, window)
    assert cut.messages[0] == request.messages[0]
    asked_for: set[str] = set()
    answered: set[str] = set()
    for message in cut.messages:
        if isinstance(message, AssistantMessage):
            asked_for |= {call.id for call in message.tool_calls}
        elif isinstance(message, ToolMessage):
            assert message.call_id in asked_for
            answered.add(message.call_id)
    assert asked_for == answered
    last = len(results) - 1
    assert {f"{last}.{index}" for index in range(len(results[last]))} <= answered


def size(request: Request) -> int:
    return len(request.system) + sum(map(size_of, request.messages))


def of_records(*sizes: int, is_untrusted: bool = True) -> list[Message]:
    """A turn whose results are JSON full of quotation marks, which grows when it is quoted again."""
    calls = [ToolCall(id=str(index), name="look") for index in range(len(sizes))]
    rows = [json.dumps([{"a": index}] * (length // 9)) for index, length in enumerate(sizes)]
    results = [
        ToolMessage(call_id=call.id, content=row, is_untrusted=is_untrusted)
        for call, row in zip(calls, rows, strict=True)
    ]
    return [AssistantMessage(tool_calls=calls), *results]


@pytest.mark.parametrize("is_untrusted", [True, False])
@pytest.mark.parametrize("window", [32_000, 8_000, None])
def test_eight_long_results_of_one_turn_fit_and_share_the_room(window: int | None, is_untrusted: bool) -> None:
    request = asked(of_records(*[60_000] * 8, is_untrusted=is_untrusted))
    cut = fit(request, window)
    room = ((window or 32_000) - request.max_output_tokens - 1_000) * 3
    assert 0.6 * room < size(cut) <= room
    lengths = {len(result.content) for result in tools(cut)}
    assert len(lengths) == 1
    assert all("shortened" in result.content for result in tools(cut))


def test_a_short_result_leaves_its_share_to_the_long_ones() -> None:
    short, *long = tools(fit(asked(of_records(90, 60_000, 60_000)), 8_000))
    assert "shortened" not in short.content
    assert len(long[0].content) == len(long[1].content) > 5_000


@pytest.mark.parametrize(
    ("lengths", "room", "level"),
    [
        ([], 100, 0),
        ([10, 10], 100, 10),
        ([10, 90, 90], 100, 45),
        ([50, 50], 10, 5),
        ([5, 5], -3, 0),
        ([1, 1, 98], 100, 98),
    ],
)
def test_the_level_that_fills_the_room(lengths: list[int], room: int, level: int) -> None:
    assert fair_level(lengths, room) == level


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=9), st.integers(0, 5_000))
def test_what_is_cut_to_the_level_fills_the_room_and_no_more(lengths: list[int], room: int) -> None:
    filled = sum(min(length, fair_level(lengths, room)) for length in lengths)
    assert filled <= room
    assert filled == sum(lengths) or filled > room - len(lengths)


@pytest.mark.parametrize(
    "turns", [[turn(1, 3_000), turn(2, 3_000)], [turn(1, 6_000)], [of_records(2_000, 2_000, 2_000)]]
)
def test_the_harder_trim_trims_what_was_sent_whatever_the_window(turns: list[list[Message]]) -> None:
    # The provider said that it is too long although the window is thought to have room for ten times as much.
    request = asked(*turns)
    sizes = [size(fit(request, 200_000, share=share)) for share in (1.0, 0.6, 0.36)]
    assert sizes[0] == size(request)
    assert sizes[1] <= 0.6 * (sizes[0] + 400)
    assert sizes[2] <= 0.36 * (sizes[0] + 400)


def test_arguments_of_the_last_turn_are_shortened_when_nothing_else_helps() -> None:
    call = ToolCall(id="1", name="write", arguments={"text": "x" * 50_000})
    cut = fit(asked([AssistantMessage(tool_calls=[call]), ToolMessage(call_id="1", content="ok")]), 3_000)
    assert size(cut) < 2_000 * 3
    said = next(message for message in cut.messages if isinstance(message, AssistantMessage))
    assert isinstance(json.loads(said.tool_calls[0].text), dict)


def test_an_answer_never_takes_more_than_half_of_a_small_window() -> None:
    request = asked(turn(1, 3_000)).model_copy(update={"max_output_tokens": 4_096})
    cut = fit(request, 4_096)
    assert cut.max_output_tokens == 2_048
    assert len(tools(cut)[0].content) > 2_000
    assert fit(request, 32_000).max_output_tokens == 4_096
