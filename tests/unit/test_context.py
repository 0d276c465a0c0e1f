"""A conversation that is cut to a model's context window: what goes first, and what never goes."""

from hypothesis import given
from hypothesis import strategies as st

from agents.llm.base import AssistantMessage, Message, Request, ToolCall, ToolMessage, UserMessage
from agents.llm.context import fit

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
