"""Decide whether a complete reply can be used, and how to retry if it cannot. Every reply is billed either way.

| the reply                                                         | kind       | then                              |
|-------------------------------------------------------------------|------------|-----------------------------------|
| text or tool calls, with a regular stop reason                    |            | used                              |
| text cut at the limit of output tokens or of the context window   |            | used, and marked as cut off       |
| tool calls with unreadable arguments                              |            | used: the model is told, and may  |
|                                                                   |            | correct them                      |
| blank text or tool calls, cut at the limit of output tokens       | truncated  | retried with twice the limit      |
| blank text or tool calls, cut at the end of the context window    | too_long   | retried with a shorter prompt     |
| blank text, with a regular stop reason                            | empty      | retried once                      |
| tool calls announced but missing; an unknown stop reason          | unfinished | retried once                      |
| refusal                                                           | refused    | fails                             |
"""

from typing import Literal

from agents.llm.base import Reply
from agents.llm.errors import Kind, ModelError
from agents.llm.replay import is_blank

Remedy = Literal["less", "more_room", "once_more"]

_REMEDIES: dict[Kind, Remedy] = {
    "too_long": "less", "truncated": "more_room", "empty": "once_more", "unfinished": "once_more",
}  # fmt: skip


def problem_of(reply: Reply, limit: int) -> ModelError | None:  # noqa: PLR0911  one return for each row of the table
    """Return the error for a complete reply that cannot be used; None if it can. `limit`: the most output tokens."""
    shows_nothing = is_blank(reply.message.text) and not reply.message.tool_calls
    if reply.stop_reason == "refusal":
        return ModelError("refused", f"The model declined to answer: {reply.message.text or 'no reason given'}")
    if reply.stop_reason == "window" and (reply.truncated_call or shows_nothing):
        return ModelError("too_long", "The model's context window was full before it had answered.")
    if reply.truncated_call:
        return ModelError("truncated", f"The model's tool call was cut at the limit of {limit} output tokens.{_RAISE}")
    if reply.stop_reason == "max_tokens" and shows_nothing:
        return ModelError("truncated", f"The model used all {limit} output tokens without an answer.{_RAISE}")
    if reply.missing_call:
        return ModelError("unfinished", f"The model announced a tool call ({reply.reason}) that is not in its answer.")
    if reply.stop_reason == "unknown":
        return ModelError("unfinished", f"The model stopped for a reason that is not known here: {reply.reason!r}.")
    if reply.stop_reason == "end" and shows_nothing:
        return ModelError("empty", f"The model's answer was empty ({reply.reason}).")
    return None


_RAISE = " Raise the agent's limit max_output_tokens."


def remedy_for(kind: Kind) -> Remedy | None:
    """Return how to repeat the request at once after an error of this kind; None if that would not help."""
    return _REMEDIES.get(kind)
