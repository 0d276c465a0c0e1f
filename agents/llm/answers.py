"""Whether a whole answer can be used, and what to do about one that cannot. Decides only; each is billed all the same.

| the answer                                                        | kind       | then                              |
|-------------------------------------------------------------------|------------|-----------------------------------|
| text, or calls, at an end of its own                              |            | used                              |
| text that stops at the limit of output tokens or of the window    |            | used, and marked as cut off       |
| calls that cannot be read                                         |            | used: the model is told, and may  |
|                                                                   |            | correct them                      |
| nothing to see, or calls, cut at the limit of output tokens       | truncated  | asked again with twice the limit  |
| the same at the end of the window                                 | too_long   | asked again with less             |
| nothing to see at an end of its own                               | empty      | asked once more                   |
| calls announced and not there; a stop reason that is not known    | unfinished | asked once more                   |
| declined                                                          | refused    | fails                             |
"""

from typing import Literal

from agents.llm.base import Reply
from agents.llm.errors import Kind, ModelError
from agents.llm.replay import is_blank

Remedy = Literal["less", "more_room", "once_more"]

_REMEDIES: dict[Kind, Remedy] = {
    "too_long": "less", "truncated": "more_room", "empty": "once_more", "unfinished": "once_more",
}  # fmt: skip


def problem_of(reply: Reply, limit: int) -> ModelError | None:  # noqa: PLR0911  one for each line of the table
    """Why a whole answer to a request for at most `limit` output tokens cannot be used; None where it can."""
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
    """What to ask anew after an error of this kind; None where that would not help."""
    return _REMEDIES.get(kind)
