"""Cut a conversation to fit the model's context window."""

import json

from agents.llm.base import AssistantMessage, Message, Request, ToolCall, ToolMessage, UserMessage
from agents.llm.counting import media_tokens, size_of, size_of_tools

# There is no tokenizer, so a prompt is measured in characters. The estimate errs on the high side: English has nearly
# four characters a token.
_CHARACTERS_PER_TOKEN = 3
_UNKNOWN_WINDOW = 32_000
_SHORTENED_TO = 400
_RESERVE = 1_000  # tokens
_AROUND = 40  # characters of overhead per message
_NOTE = " … [shortened to fit the model's context]"
_ROUNDS = 4


def fit(request: Request, window: int | None, *, share: float = 1.0) -> Request:
    """Return the request, cut to fit the model's context window with room for the reply.

    Images and PDF of earlier messages are left out first. Then old tool results are shortened, oldest first. Then what
    was said before the task is left out, oldest first, and then whole old turns. Then the results of the last turn are
    shortened, each to its fair share, and finally the arguments of its calls. The message that is the task and the last
    turn always stay. A tool result always stays with its call.

    A `share` below 1 is for a request that a provider refused as too long although it was estimated to fit: it is cut
    to that share of its own size even if the window is said to be larger.
    """
    tokens = window or _UNKNOWN_WINDOW
    if request.max_output_tokens > tokens // 2:  # the reply must leave room for the prompt
        request = request.model_copy(update={"max_output_tokens": tokens // 2})
    room = max(tokens - request.max_output_tokens - _RESERVE, tokens // 4) * _CHARACTERS_PER_TOKEN
    fixed = len(request.system) + size_of_tools(request.tools)
    if share == 1 and fixed + sum(map(_size_at_most, request.messages)) <= room:
        return request
    messages, sizes = list(request.messages), list(map(_size, request.messages))
    if share < 1:
        room = int(min(room, fixed + sum(sizes)) * share)
    too_much = fixed + sum(sizes) - room
    if too_much <= 0:
        return request
    task = request.earlier
    last_turn = _last_turn(messages, task)
    for index, smaller in _smaller(messages, task, last_turn):
        messages[index] = smaller
        too_much -= sizes[index] - _size(messages[index])
        sizes[index] = _size(messages[index])
        if too_much <= 0:
            return request.model_copy(update={"messages": messages})
    before = _end_of_oldest(messages[:task], sizes, too_much)
    while before < task and not isinstance(messages[before], UserMessage):  # providers want one of the user's first
        before = _end_of_turn(messages, before)
    too_much -= sum(sizes[:before])
    turns = _end_of_oldest(messages[task + 1 : last_turn], sizes[task + 1 :], too_much)
    too_much -= sum(sizes[task + 1 : task + 1 + turns])
    messages = [*messages[before : task + 1], *messages[task + 1 + turns :]]
    if too_much > 0:
        messages = _with_short_results(messages, room - fixed)
    if fixed + sum(map(_size, messages)) > room:
        messages = [_with_short_arguments(message) for message in messages]
    return request.model_copy(update={"messages": messages, "earlier": task - before})


def _end_of_oldest(messages: list[Message], sizes: list[int], too_much: int) -> int:
    """Return where the oldest turns end that are left out so that `too_much` characters go."""
    end = 0
    while too_much > 0 and end < len(messages):
        begin, end = end, _end_of_turn(messages, end)
        too_much -= sum(sizes[begin:end])
    return end


def fair_level(lengths: list[int], room: int) -> int:
    """Return the length to cut each to so that together they fill `room`: the long ones share what the short ones leave
    (water-filling).
    """
    left = len(lengths)
    for length in sorted(lengths):
        if length * left > room:
            return max(0, room) // left
        room -= length
        left -= 1
    return max(lengths, default=0)


def _with_short_results(messages: list[Message], room: int) -> list[Message]:
    """Return the messages, with each tool result cut to its fair share of the `room` that other messages leave."""
    results = [message for message in messages if isinstance(message, ToolMessage)]
    for_results = room - sum(_size(message) for message in messages if not isinstance(message, ToolMessage))
    for_content = for_results
    cut = messages
    # Quoting lengthens a result; by how much is only known afterwards.
    for _ in range(_ROUNDS):
        around = len(results) * (_AROUND + len(_NOTE))
        level = fair_level([len(result.content) for result in results], for_content - around)
        cut = [_shortened(message, level) for message in messages]
        excess = sum(_size(message) for message in cut if isinstance(message, ToolMessage)) - for_results
        if excess <= 0:
            break
        for_content -= excess
    return cut


def _size_at_most(message: Message) -> int:
    """Return an upper bound of a message's size without quoting it: a quoted character takes at most six."""
    return _AROUND + 6 * len(message.content) if isinstance(message, ToolMessage) else _size(message)


def _size(message: Message) -> int:
    return size_of(message) + _AROUND + _CHARACTERS_PER_TOKEN * media_tokens(message)


def _last_turn(messages: list[Message], task: int) -> int:
    """Return the index where the last turn begins: the model's last message after the task's."""
    said = [index for index, message in enumerate(messages) if index > task and isinstance(message, AssistantMessage)]
    return said[-1] if said else len(messages)


def _end_of_turn(messages: list[Message], start: int) -> int:
    end = start + 1
    while end < len(messages) and isinstance(messages[end], ToolMessage):
        end += 1
    return end


def _smaller(messages: list[Message], task: int, last_turn: int) -> list[tuple[int, Message]]:
    """Return what can be made smaller before anything is left out whole, by index, in the order to do it."""
    media = [(index, without_media(messages[index])) for index in range(task) if media_tokens(messages[index])]
    results = [(index, _shortened(messages[index], _SHORTENED_TO)) for index in range(last_turn)]
    return media + [(index, shorter) for index, shorter in results if isinstance(shorter, ToolMessage)]


def without_media(message: Message) -> Message:
    """Return a message of the user with a note in place of each image and PDF."""
    assert isinstance(message, UserMessage)  # noqa: S101  only these have media
    notes = "".join(f"\n[File {part.name}: left out to fit the model's context]" for part in message.media)
    return message.model_copy(update={"text": message.text + notes, "media": []})


def _shortened(message: Message, to: int) -> Message:
    if not isinstance(message, ToolMessage) or len(message.content) <= to:
        return message
    return message.model_copy(update={"content": message.content[:to] + _NOTE})


def _with_short_arguments(message: Message) -> Message:
    if not isinstance(message, AssistantMessage):
        return message
    return message.model_copy(update={"tool_calls": [_short_call(call) for call in message.tool_calls]})


def _short_call(call: ToolCall) -> ToolCall:
    if len(call.text) <= _SHORTENED_TO:
        return call
    text = json.dumps({"shortened": call.text[:_SHORTENED_TO] + _NOTE}, ensure_ascii=False)
    return call.model_copy(update={"text": text})
