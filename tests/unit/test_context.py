"""A conversation that is cut to a model's context window: what goes first, and what never goes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.llm.base import AssistantMessage, Message, Request, ToolCall, ToolMessage, ToolSpec, UserMessage
from agents.llm.context import fair_level, fit
from agents.llm.counting import size_of, size_of_tools

_LONG = 3_000
_NOTE = " … [shortened to fit the model's context]"


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


def estimated(request: Request) -> int:
    """How many characters a request is taken for: forty more a message than it has."""
    return (
        len(request.system) + size_of_tools(request.tools) + sum(size_of(message) + 40 for message in request.messages)
    )


def test_what_fits_is_left_as_it_is() -> None:
    request = asked(turn(1, _LONG), turn(2, _LONG))
    assert fit(request, 100_000) is request
    assert fit(request, None) is request


def filling(room: int, **more: object) -> Request:
    """A request of two turns that is taken for exactly `room` characters."""
    bare = asked(turn(1, 0), turn(2, 2_000)).model_copy(update=more)
    first = ToolMessage(call_id="1.0", content="1" * (room - estimated(bare)))
    return bare.model_copy(update={"messages": [*bare.messages[:2], first, *bare.messages[3:]]})


_LOOK = ToolSpec(name="look", description="Looks things up.", parameters={"type": "object"})


@pytest.mark.parametrize(
    ("window", "reply", "room"),
    [
        (3_000, 100, 1_900 * 3),  # three characters a token; a thousand tokens are kept free, besides the reply's
        (None, 100, 30_900 * 3),  # an unknown window is taken for 32,000 tokens
        (3_600, 1_800, 900 * 3),  # a quarter of the window is for the prompt, however long the reply
        (3_600, 9_999, 900 * 3),  # and the reply gets half of it at most
    ],
)
@pytest.mark.parametrize("tools", [[], [_LOOK]])
def test_a_request_is_cut_when_it_is_one_character_too_long(
    window: int | None, reply: int, room: int, tools: list[ToolSpec]
) -> None:
    full, over = (filling(length, max_output_tokens=reply, tools=tools) for length in (room, room + 1))
    assert fit(full, window).messages == full.messages
    assert fit(over, window).messages != over.messages


def test_the_oldest_results_are_shortened_first_and_the_last_turn_not_at_all() -> None:
    cut = fit(asked(turn(1, _LONG), turn(2, _LONG), turn(3, _LONG)), 3_800)
    first, second, third = tools(cut)
    assert "shortened" in first.content
    assert (len(second.content), len(third.content)) == (_LONG, _LONG)
    first, second, third = tools(fit(asked(turn(1, _LONG), turn(2, _LONG), turn(3, _LONG)), 3_000))
    assert "shortened" in first.content
    assert "shortened" in second.content
    assert len(third.content) == _LONG


def test_a_shortened_result_keeps_its_first_four_hundred_characters() -> None:
    request = asked(turn(1, 400, 401, 10_000), turn(2, 10))
    assert [result.content for result in tools(fit(request, 3_000))] == [
        "1" * 400, "1" * 400 + _NOTE, "1" * 400 + _NOTE, "2" * 10,
    ]  # fmt: skip


def test_no_more_results_are_shortened_than_needed() -> None:
    request = asked(turn(1, 2_000), turn(2, 1_000), turn(3, 3_944))
    cut = fit(request, 3_000)
    assert estimated(cut) == 5_700
    assert [len(result.content) for result in tools(cut)] == [400 + len(_NOTE), 1_000, 3_944]


@pytest.mark.parametrize(
    ("window", "last", "kept"),
    [
        (2_290, 499, 4), (2_290, 500, 3), (2_289, 499, 3), (2_046, 499, 3),
        (2_045, 499, 2), (1_558, 499, 1), (1_557, 499, 0),
    ],
)  # fmt: skip
def test_then_old_turns_are_left_out_as_many_as_needed(window: int, last: int, kept: int) -> None:
    old = [turn(number, 300, 300) for number in range(9)]
    # The task and a last turn of 499 fill a window of 1,314 tokens; each old turn takes 244 more.
    assert fit(asked(*old, turn(9, last)), window).messages == asked(*old[9 - kept :], turn(9, last)).messages


@pytest.mark.parametrize(("window", "left_out"), [(3_000, 1), (2_943, 2), (2_942, 3)])
def test_a_message_between_two_turns_is_left_out_after_the_first(window: int, left_out: int) -> None:
    turns: list[list[Message]] = [turn(1, 300), [UserMessage(text="and again")], turn(2, 300), turn(3, 5_000)]
    assert fit(asked(*turns), window).messages == asked(*turns[left_out:]).messages


@pytest.mark.parametrize("length", [1, 90_000])
def test_a_task_alone_is_never_cut(length: int) -> None:
    request = asked().model_copy(update={"messages": [UserMessage(text="x" * length)]})
    assert fit(request, 3_000).messages == request.messages
    with_more = request.model_copy(update={"messages": [*request.messages, UserMessage(text="and again")]})
    assert fit(with_more, 3_000).messages[:1] == request.messages


def test_a_last_turn_that_is_one_character_too_long_is_cut() -> None:
    full, over = (asked(turn(1, length)) for length in (5_557, 5_558))
    assert estimated(full) == 5_700
    assert fit(full, 3_000).messages == full.messages
    assert estimated(fit(over, 3_000)) <= 5_700


@pytest.mark.parametrize("results", [1, 2, 3, 7])
def test_the_results_of_the_last_turn_fill_the_room(results: int) -> None:
    cut = fit(asked(turn(1, 300), turn(2, *[50_000] * results)), 3_000)
    assert cut.messages[0] == UserMessage(text="the task")
    assert 5_700 - results < estimated(cut) <= 5_700
    assert all(result.content.endswith("2" + _NOTE) for result in tools(cut))


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


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 4_000), st.booleans()), max_size=8),
    st.lists(st.lists(st.integers(0, 2_000), min_size=1, max_size=3), max_size=6),
    st.integers(1_200, 9_000),
)
def test_what_was_said_before_goes_before_the_task_does(
    said: list[tuple[int, int, bool]], results: list[list[int]], window: int
) -> None:
    before: list[Message] = []
    for number, (question, answer, uses_a_tool) in enumerate(said):
        before += [UserMessage(text="q" * question), AssistantMessage(text="a" * answer)]
        before += turn(1000 + number, 50) if uses_a_tool else []
    task = asked(*(turn(number, *lengths) for number, lengths in enumerate(results)))
    request = task.model_copy(update={"messages": [*before, *task.messages], "earlier": len(before)})
    cut = fit(request, window)
    assert cut.messages[cut.earlier] == task.messages[0]
    kept = cut.messages[: cut.earlier]
    assert not kept or isinstance(kept[0], UserMessage)
    assert [type(one) for one in kept] == [type(one) for one in before[len(before) - len(kept) :]]
    assert [one for one in kept if isinstance(one, UserMessage)] == [
        one for one in before[len(before) - len(kept) :] if isinstance(one, UserMessage)
    ]
    if len(cut.messages) - cut.earlier < len(task.messages):  # turns of the task go only when all before is gone
        assert not kept


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
    assert 0.9 * room < size(cut) <= room
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


@pytest.mark.parametrize(("window", "room"), [(200_000, 25_000), (3_000, 2_850)])
def test_the_harder_trim_cuts_to_its_share_of_what_was_sent_before(window: int, room: int) -> None:
    request = asked(turn(1, 50_000 - estimated(asked(turn(1, 0)))))
    assert estimated(fit(request, window, share=0.5)) == room
    assert estimated(request) == 50_000


def test_arguments_of_the_last_turn_are_shortened_when_nothing_else_helps() -> None:
    arguments = [{"text": "x" * 50_000}, {"text": "y" * 388}, {"text": "é" * 389}]  # 388 and {"text": ""} are 400
    calls = [ToolCall(id=str(index), name="write", arguments=given) for index, given in enumerate(arguments)]
    results = [ToolMessage(call_id=call.id, content="ok") for call in calls]
    cut = fit(asked([AssistantMessage(text="So:", tool_calls=calls), *results]), 3_000)
    said = cut.messages[1]
    assert isinstance(said, AssistantMessage)
    assert said.text == "So:"
    assert [call.model_dump(exclude={"text"}) for call in said.tool_calls] == [
        call.model_dump(exclude={"text"}) for call in calls
    ]
    assert [json.loads(call.text) for call in said.tool_calls] == [
        {"shortened": '{"text": "' + "x" * 390 + _NOTE},
        arguments[1],
        {"shortened": '{"text": "' + "é" * 389 + '"' + _NOTE},
    ]
    assert "é" in said.tool_calls[2].text  # an escape would take six characters


def test_arguments_stay_where_shortening_the_results_is_enough() -> None:
    call = ToolCall(id="1", name="write", arguments={"text": "x" * 1_000})
    said: Message = AssistantMessage(tool_calls=[call])
    assert fit(asked([said, ToolMessage(call_id="1", content="y" * 50_000)]), 3_000).messages[1] == said


def test_an_answer_never_takes_more_than_half_of_a_small_window() -> None:
    request = asked(turn(1, 3_000)).model_copy(update={"max_output_tokens": 4_096})
    cut = fit(request, 4_096)
    assert cut.max_output_tokens == 2_048
    assert len(tools(cut)[0].content) > 2_000
    assert fit(request, 32_000).max_output_tokens == 4_096
    assert fit(request, 9_000).max_output_tokens == 4_096
    assert fit(request, 4_097).max_output_tokens == 2_048
