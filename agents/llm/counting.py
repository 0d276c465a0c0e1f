"""Tokens of a call, as the provider reports them. Missing counts are estimated, and marked as estimates."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

from agents.llm.base import AssistantMessage, Message, Request, ToolMessage, ToolSpec, UserMessage
from domain.billing.schemas import Tokens

_CHARACTERS_PER_TOKEN = 4  # OpenAI's rule of thumb
_MOST = 2_000_000_000  # fits the database's column; no call has as many


def _plausible(value: Any) -> int | None:
    """Return a number of tokens; None for a value that cannot be one."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number <= _MOST else None


Count = Annotated[int | None, BeforeValidator(_plausible)]
"""A number of tokens as a server reports it: None if it is missing, negative, implausibly large or no number."""

Report = BeforeValidator(lambda value: value if isinstance(value, dict) else {})
"""For pydantic's `Annotated`: a usage report, empty if it is no JSON object."""


def counted(
    request: Request, said: str, *, sent: int | None, answered: int | None, cached: int | None, cache_write: int | None
) -> Tokens:
    """Return the tokens of a call: the reported counts (`sent` is the whole prompt), and estimates of missing ones.

    A server that does not count reports 0. That counts as missing, because no prompt has 0 tokens, nor has a reply that
    is not empty.
    """
    sent, answered = sent or None, answered if answered or not said else None
    whole = _tokens_of(_asked(request)) + sum(map(media_tokens, request.messages)) if sent is None else sent
    read = min(cached or 0, whole)  # some servers report more cached than sent
    return Tokens(
        input=whole,
        cached=read,
        cache_write=min(cache_write or 0, whole - read),
        output=_tokens_of(len(said)) if answered is None else answered,
        is_estimated=sent is None or answered is None,
    )


def size_of(message: Message) -> int:
    """Return the number of characters of a message, as the model reads it, without its images and PDF."""
    if isinstance(message, ToolMessage):
        return len(message.told)
    if isinstance(message, AssistantMessage):
        return len(message.text) + sum(len(call.name) + len(call.text) for call in message.tool_calls)
    return len(message.text)


def media_tokens(message: Message) -> int:
    """Return the tokens that the images and PDF of a message count as at most."""
    return sum(part.tokens for part in message.media) if isinstance(message, UserMessage) else 0


def size_of_tools(tools: Sequence[ToolSpec]) -> int:
    """Return the number of characters of the tools' names, descriptions and schemas."""
    return sum(len(spec.name) + len(spec.description) + len(spec.parameters_json) for spec in tools)


def _asked(request: Request) -> int:
    return len(request.system) + sum(map(size_of, request.messages)) + size_of_tools(request.tools)


def _tokens_of(characters: int) -> int:
    return -(-characters // _CHARACTERS_PER_TOKEN)
