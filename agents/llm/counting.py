"""Tokens of a call, as the provider reports them; what it does not report is estimated, and marked so."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

from agents.llm.base import AssistantMessage, Message, Request, ToolMessage, ToolSpec
from domain.billing.schemas import Tokens

_CHARACTERS_PER_TOKEN = 4  # OpenAI's rule of thumb
_MOST = 2_000_000_000  # what a column of the database holds; no call has as many


def _plausible(value: Any) -> int | None:
    """A number of tokens; None for what cannot be one."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number <= _MOST else None


Count = Annotated[int | None, BeforeValidator(_plausible)]
"""A number of tokens as a server reports it: None where it is missing, negative, absurd or no number."""

Report = BeforeValidator(lambda value: value if isinstance(value, dict) else {})
"""For pydantic's `Annotated`: a report of tokens, empty where it is no JSON object."""


def counted(
    request: Request, said: str, *, sent: int | None, answered: int | None, cached: int | None, cache_write: int | None
) -> Tokens:
    """The tokens of a call: what was reported (`sent` for the whole prompt), an estimate for what was not.

    A server that does not count reports 0. No prompt has 0 tokens, and no answer with something in it.
    """
    sent, answered = sent or None, answered if answered or not said else None
    whole = _tokens_of(_asked(request)) if sent is None else sent
    read = min(cached or 0, whole)  # some servers report more cached than sent
    return Tokens(
        input=whole,
        cached=read,
        cache_write=min(cache_write or 0, whole - read),
        output=_tokens_of(len(said)) if answered is None else answered,
        is_estimated=sent is None or answered is None,
    )


def size_of(message: Message) -> int:
    """Characters of a message, as the model reads it."""
    if isinstance(message, ToolMessage):
        return len(message.told)
    if isinstance(message, AssistantMessage):
        return len(message.text) + sum(len(call.name) + len(call.text) for call in message.tool_calls)
    return len(message.text)


def size_of_tools(tools: Sequence[ToolSpec]) -> int:
    """Characters of the tools' names, descriptions and schemas."""
    return sum(len(spec.name) + len(spec.description) + len(spec.parameters_json) for spec in tools)


def _asked(request: Request) -> int:
    return len(request.system) + sum(map(size_of, request.messages)) + size_of_tools(request.tools)


def _tokens_of(characters: int) -> int:
    return -(-characters // _CHARACTERS_PER_TOKEN)
