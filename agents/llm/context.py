"""Keeping a conversation within what the model can take in."""

from agents.llm.base import AssistantMessage, Message, Request, ToolMessage

# Without a tokenizer at hand a prompt is measured in characters, and the estimate errs on the high side: English runs
# near four characters a token.
_CHARACTERS_PER_TOKEN = 3
_UNKNOWN_WINDOW = 32_000
_SHORTENED_TO = 400
_RESERVE = 1_000


def _size(message: Message) -> int:
    return len(message.model_dump_json())


def fit(request: Request, window: int | None, *, share: float = 1.0) -> Request:
    """The request, cut to `share` of the model's context window less its answer.

    Old tool results are shortened first, oldest first; then whole old turns are left out. The first message, which is
    the task, and the last turn always stay, and no tool result is ever parted from its call.
    """
    room = int(((window or _UNKNOWN_WINDOW) - request.max_output_tokens - _RESERVE) * share)
    messages, sizes = list(request.messages), list(map(_size, request.messages))
    fixed = len(request.system) + sum(len(spec.model_dump_json()) for spec in request.tools)
    too_much = fixed + sum(sizes) - room * _CHARACTERS_PER_TOKEN
    if too_much <= 0:
        return request
    last_turn = _last_turn(messages)
    for index in range(1, last_turn):
        messages[index] = _shortened(messages[index])
        too_much -= sizes[index] - _size(messages[index])
        sizes[index] = _size(messages[index])
        if too_much <= 0:
            return request.model_copy(update={"messages": messages})
    end = 1
    while too_much > 0 and end < last_turn:
        begin, end = end, _end_of_turn(messages, end)
        too_much -= sum(sizes[begin:end])
    del messages[1:end]
    if too_much > 0:
        messages[1:] = [_shortened(message, to=room) for message in messages[1:]]
    return request.model_copy(update={"messages": messages})


def _last_turn(messages: list[Message]) -> int:
    """Where the last turn begins: the last thing the model said."""
    said = [index for index, message in enumerate(messages) if isinstance(message, AssistantMessage)]
    return said[-1] if said else len(messages)


def _end_of_turn(messages: list[Message], start: int) -> int:
    end = start + 1
    while end < len(messages) and isinstance(messages[end], ToolMessage):
        end += 1
    return end


def _shortened(message: Message, to: int = _SHORTENED_TO) -> Message:
    if not isinstance(message, ToolMessage) or len(message.content) <= to:
        return message
    return message.model_copy(update={"content": message.content[:to] + " … [shortened to fit the model's context]"})
