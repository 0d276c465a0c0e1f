"""Anthropic's Messages API through the official SDK."""

import contextlib
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
from pydantic import BaseModel

from agents.llm.base import (
    AssistantMessage,
    Message,
    Reply,
    Request,
    Said,
    StopReason,
    TextDelta,
    ToolCall,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from agents.llm.errors import UNREADABLE as _UNREADABLE
from agents.llm.errors import ModelError, from_answer
from agents.llm.transport import call_timeout
from core.ids import new_id
from domain.billing.schemas import Tokens

_STOP_REASONS: dict[str, StopReason] = {
    "end_turn": "end", "stop_sequence": "end", "tool_use": "tool_use", "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens", "refusal": "refusal", "pause_turn": "pause",
}  # fmt: skip


class AnthropicProvider:
    """Claude models, or anything that serves the Messages API at `base_url`."""

    def __init__(self, *, api_key: str, base_url: str | None, http_client: httpx2.Client) -> None:
        self._client = anthropic.Anthropic(api_key=api_key, base_url=base_url, http_client=http_client, max_retries=0)

    def complete(self, request: Request) -> Reply:
        """The whole answer at once."""
        with _mapped_errors():
            # What `messages.create` does, without its walk through every tool's schema and its generic reading of the
            # answer: half of a call.
            response = self._client.post(
                "/v1/messages",
                cast_to=httpx2.Response,
                body=_body(request),
                # It would make one up, from the system's randomness, to send it nowhere.
                options={"timeout": call_timeout(request.timeout), "idempotency_key": str(new_id())},
            )
            return _reply(request, _Answer.model_validate(response.json()))

    def stream(self, request: Request) -> Iterator[TextDelta | Reply]:
        """The text as it is said, then the reply."""
        timeout = call_timeout(request.timeout)
        with _mapped_errors(), self._client.messages.stream(**_body(request), timeout=timeout) as events:
            for text in events.text_stream:
                yield TextDelta(text=text)
            yield _reply(request, _Answer.model_validate(events.get_final_message().model_dump()))


def tool_format(spec: ToolSpec) -> dict[str, Any]:
    """A tool as this API takes it."""
    return {"name": spec.name, "description": spec.description, "input_schema": spec.parameters}


def _body(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "system": request.system,
        "messages": _messages(request.messages),
        "max_tokens": request.max_output_tokens,
    }
    return body | ({"tools": [tool_format(spec) for spec in request.tools]} if request.tools else {})


def _messages(messages: list[Message]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    for message in messages:
        role, blocks = _blocks(message)
        if sent and sent[-1]["role"] == role:
            sent[-1]["content"] += blocks  # the results of parallel calls belong into one message
        else:
            sent.append({"role": role, "content": blocks})
    return sent


def _blocks(message: Message) -> tuple[str, list[dict[str, Any]]]:
    match message:
        case UserMessage():
            return "user", [{"type": "text", "text": message.text}]
        case AssistantMessage():
            text = [{"type": "text", "text": message.text}] if message.text.strip() else []
            calls = [
                {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
                for call in message.tool_calls
            ]
            return "assistant", [*text, *calls]
        case ToolMessage():
            return "user", [
                {
                    "type": "tool_result",
                    "tool_use_id": message.call_id,
                    "content": message.told,
                    "is_error": message.is_error,
                }
            ]


# What is read of an answer.


class _Block(BaseModel):
    type: str
    text: Said = ""
    id: Said = ""
    name: Said = ""
    input: Any = None


class _Usage(BaseModel):
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Answer(BaseModel):
    content: list[_Block]
    stop_reason: str | None = None
    usage: _Usage


def _reply(request: Request, message: _Answer) -> Reply:
    # The SDK ends a cut stream without a word, with an empty tool call and no stop reason.
    if message.stop_reason is None:
        raise ModelError("incomplete", "anthropic's answer broke off before its end")
    stop_reason = _STOP_REASONS.get(message.stop_reason, "end")
    calls = [
        ToolCall(id=block.id, name=block.name, arguments=block.input)
        for block in message.content
        if block.type == "tool_use" and isinstance(block.input, dict)
    ]
    # At the limit the last call's arguments may stop anywhere, and the SDK closes them as well as it can.
    is_cut = stop_reason == "max_tokens" and bool(calls)
    return Reply(
        message=AssistantMessage(
            text="".join(block.text for block in message.content if block.type == "text"),
            tool_calls=[] if is_cut else calls,
        ),
        stop_reason=stop_reason,
        tokens=_tokens(message.usage),
        provider="anthropic",
        model=request.model,
        truncated_call=is_cut,
    )


def _tokens(usage: _Usage) -> Tokens:
    cached = usage.cache_read_input_tokens or 0
    cache_write = usage.cache_creation_input_tokens or 0
    return Tokens(
        input=usage.input_tokens + cached + cache_write,  # reported apart here, together everywhere else
        cached=cached,
        cache_write=cache_write,
        output=usage.output_tokens,
    )


@contextlib.contextmanager
def _mapped_errors() -> Iterator[None]:
    try:
        yield
    except anthropic.APITimeoutError as error:
        raise ModelError("timeout", "anthropic did not answer in time") from error
    except anthropic.APIStatusError as error:
        raise from_answer("anthropic", error.status_code, error.response.headers, error.body, error.message) from error
    except anthropic.APIConnectionError as error:
        raise ModelError("network", f"anthropic could not be reached: {error.__cause__ or error}") from error
    except httpx2.TimeoutException as error:
        raise ModelError("timeout", "anthropic stopped in the middle of its answer") from error
    except httpx2.TransportError as error:
        raise ModelError("incomplete", f"anthropic's answer was cut: {error}") from error
    except (anthropic.AnthropicError, *_UNREADABLE) as error:
        raise ModelError("incomplete", f"anthropic's answer could not be read: {error}") from error
