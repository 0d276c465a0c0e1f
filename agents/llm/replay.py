"""Bring a conversation into a form that neither provider refuses.

The journal keeps the original; each call sends a cleaned copy. A conversation may have begun at another provider, and
models invent things: ids that are empty, duplicate, foreign or too long, names with dots, a call without a result.
Providers answer each of these with a 400 that no retry fixes, so the copy obeys the stricter rule of the two providers
and of compatible servers:

- Calls are numbered in the order of the conversation, in nine letters and digits, as the strictest server requires.
- Each call is followed by its one result, and each result belongs to the call before it.
- Names fit `[a-zA-Z0-9_-]{1,64}`, texts are not blank, and the assistant has neither the first nor the last message.
- No message of the user follows another: between them stands that there was no answer. They are not joined, because
  what somebody outside wrote must not run into what the user says.

The same conversation always gives the same copy, so the provider's prompt cache keeps working.
"""

import itertools
import re
from collections.abc import Iterable, Iterator

from agents.llm.base import AssistantMessage, Message, Request, ToolCall, ToolMessage, ToolSpec, UserMessage
from agents.llm.calls import UNNAMED
from core.text import storable

_MOST_CALLS = 128  # in one message
_LONGEST_NAME = 64
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")
_CONTINUE = "Go on."
_NOTHING = "(empty)"
_NO_ANSWER = "(no answer)"
_NO_RESULT = '{"error":"There is no result of this call."}'


def is_blank(text: str) -> bool:
    """Whether a text has no visible character: it is empty, or only spaces, control and zero-width characters."""
    return not any(letter.isprintable() and not letter.isspace() for letter in text)


def presentable(messages: list[Message]) -> list[Message]:
    """Return the conversation as both providers accept it."""
    sent: list[Message] = []
    numbers = itertools.count(1)
    for index, message in enumerate(messages):
        if isinstance(message, UserMessage):
            if sent and isinstance(sent[-1], UserMessage):
                sent.append(AssistantMessage(text=_NO_ANSWER))
            sent.append(message.model_copy(update={"text": _filled(message.text)}))
        elif isinstance(message, AssistantMessage):
            sent += _turn(message, _results(messages[index + 1 :]), numbers)
    if not sent or not isinstance(sent[0], UserMessage):
        sent.insert(0, UserMessage(text=_CONTINUE))
    if isinstance(sent[-1], AssistantMessage):
        # A final assistant message is a prefill, which newer models refuse.
        sent.append(UserMessage(text=_CONTINUE))
    return sent


def offered(request: Request) -> list[ToolSpec]:
    """Return the tools to offer, without duplicates. If there are none but the conversation contains calls, declare the
    called tools: without any tool, such a conversation is refused.
    """
    tools = list({spec.name: spec for spec in request.tools}.values())
    if tools:
        return tools
    called = dict.fromkeys(
        _legal(call.name) for one in request.messages if isinstance(one, AssistantMessage) for call in one.tool_calls
    )
    nothing = {"type": "object", "properties": {}}
    return [ToolSpec(name=name, description="Not available any more.", parameters=nothing) for name in called]


def _results(following: list[Message]) -> list[ToolMessage]:
    """Return the tool results before the next message of the assistant."""
    heard = itertools.takewhile(lambda message: not isinstance(message, AssistantMessage), following)
    return [message for message in heard if isinstance(message, ToolMessage)]


def _turn(said: AssistantMessage, results: list[ToolMessage], numbers: Iterator[int]) -> Iterable[Message]:
    text = "" if is_blank(said.text) else storable(said.text).rstrip()
    if not said.tool_calls:
        return [AssistantMessage(text=text)] if text else []
    turn: list[Message] = []
    answered = list(zip(said.tool_calls, _paired(said.tool_calls, results), strict=True))
    for start in range(0, len(answered), _MOST_CALLS):
        some = [(f"call{next(numbers):05}", *one) for one in answered[start : start + _MOST_CALLS]]
        calls = [call.model_copy(update={"id": number, "name": _legal(call.name)}) for number, call, _ in some]
        turn.append(AssistantMessage(text="" if start else text, tool_calls=calls))
        turn += [_result(number, result) for number, _, result in some]
    return turn


def _paired(calls: list[ToolCall], results: list[ToolMessage]) -> list[ToolMessage | None]:
    """Return the result of each call, None for a call without one.

    Results are matched by id, in order if ids are equal. Results left over go to the calls left over, in order.
    """
    left = list(results)
    found: list[ToolMessage | None] = []
    for call in calls:
        match = next((result for result in left if result.call_id == call.id), None)
        found.append(match)
        if match is not None:
            left.remove(match)
    strangers = iter(left)
    return [result if result is not None else next(strangers, None) for result in found]


def _result(number: str, result: ToolMessage | None) -> ToolMessage:
    if result is None:
        return ToolMessage(call_id=number, content=_NO_RESULT, is_error=True)
    return result.model_copy(update={"call_id": number, "content": _filled(result.content)})


def _filled(text: str) -> str:
    return _NOTHING if is_blank(text) else str(storable(text))


def _legal(name: str) -> str:
    return _ILLEGAL.sub("_", name)[:_LONGEST_NAME] or UNNAMED
