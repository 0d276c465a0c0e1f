"""OpenAI's Chat Completions API through the official SDK, which many other servers speak as well."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk
from openai.types.completion_usage import CompletionUsage
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
    "stop": "end", "tool_calls": "tool_use", "function_call": "tool_use", "length": "max_tokens",
    "content_filter": "refusal",
}  # fmt: skip
_CHARACTERS_PER_TOKEN = 4


class OpenAIProvider:
    """GPT models, or anything that serves Chat Completions at `base_url`: vLLM, Ollama, OpenRouter."""

    def __init__(self, *, api_key: str, base_url: str | None, http_client: httpx2.Client) -> None:
        self._client = openai.OpenAI(api_key=api_key, base_url=base_url, http_client=http_client, max_retries=0)
        # OpenAI renamed the limit; the servers that imitate it mostly know the old name.
        self._limit_name = "max_tokens" if base_url else "max_completion_tokens"

    def complete(self, request: Request) -> Reply:
        """The whole answer at once."""
        with _mapped_errors():
            # What `chat.completions.create` does, without its walk through every tool's schema and its generic reading
            # of the answer: half of a call.
            response = self._client.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                body=self._body(request),
                # It would make one up, from the system's randomness, to send it nowhere.
                options={"timeout": call_timeout(request.timeout), "idempotency_key": str(new_id())},
            )
            return _from_completion(request, _Completion.model_validate(response.json()))

    def stream(self, request: Request) -> Iterator[TextDelta | Reply]:
        """The text as it is said, then the reply."""
        answer = _Assembly()
        with _mapped_errors():
            body = self._body(request) | {"stream": True, "stream_options": {"include_usage": True}}
            with self._client.chat.completions.create(**body, timeout=call_timeout(request.timeout)) as chunks:
                for chunk in chunks:
                    if text := answer.add(chunk):
                        yield TextDelta(text=text)
            yield answer.reply(request)

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": "system", "content": request.system}, *map(_message, request.messages)],
            self._limit_name: request.max_output_tokens,
        }
        return body | ({"tools": [tool_format(spec) for spec in request.tools]} if request.tools else {})


def tool_format(spec: ToolSpec) -> dict[str, Any]:
    """A tool as this API takes it."""
    return {"type": "function", "function": spec.model_dump()}


def _message(message: Message) -> dict[str, Any]:
    match message:
        case UserMessage():
            return {"role": "user", "content": message.text}
        case ToolMessage():
            return {"role": "tool", "tool_call_id": message.call_id, "content": message.told}
        case AssistantMessage():
            calls = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
                }
                for call in message.tool_calls
            ]
            return {"role": "assistant", "content": message.text or None} | ({"tool_calls": calls} if calls else {})


class _Assembly:
    """An answer put together from the chunks of a stream."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.refusal = ""
        self.calls: dict[int, dict[str, str]] = {}
        self.finish_reason: str | None = None
        self.usage: CompletionUsage | None = None

    def add(self, chunk: ChatCompletionChunk) -> str:
        """Take a chunk in; returns the text it adds."""
        self.usage = chunk.usage or self.usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        self.refusal += choice.delta.refusal or ""
        for part in choice.delta.tool_calls or []:
            call = self.calls.setdefault(part.index, {"id": "", "name": "", "arguments": ""})
            call["id"] = part.id or call["id"]
            if part.function is not None:
                call["name"] += part.function.name or ""
                call["arguments"] += part.function.arguments or ""
        self.text.append(choice.delta.content or "")
        return self.text[-1]

    def reply(self, request: Request) -> Reply:
        """The whole reply."""
        return _make_reply(
            request,
            text="".join(self.text),
            refusal=self.refusal,
            calls=[self.calls[index] for index in sorted(self.calls)],
            finish_reason=self.finish_reason,
            usage=_Usage.model_validate(self.usage.model_dump()) if self.usage else None,
        )


# What is read of an answer. Servers that imitate OpenAI leave out much of the rest.


class _Function(BaseModel):
    name: Said
    arguments: Said | None = None


class _Call(BaseModel):
    id: Said
    type: str = "function"
    function: _Function | None = None


class _Message(BaseModel):
    content: Said | None = None
    refusal: Said | None = None
    tool_calls: list[_Call] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _CachedTokens(BaseModel):
    cached_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _CachedTokens | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = []
    usage: _Usage | None = None


def _from_completion(request: Request, completion: _Completion) -> Reply:
    if not completion.choices:
        raise ModelError("incomplete", "openai's answer holds no choice")
    choice = completion.choices[0]
    return _make_reply(
        request,
        text=choice.message.content or "",
        refusal=choice.message.refusal or "",
        calls=[
            {"id": call.id, "name": call.function.name, "arguments": call.function.arguments or ""}
            for call in choice.message.tool_calls or []
            if call.type == "function" and call.function is not None
        ],
        finish_reason=choice.finish_reason,
        usage=completion.usage,
    )


def _make_reply(
    request: Request,
    *,
    text: str,
    refusal: str,
    calls: list[dict[str, str]],
    finish_reason: str | None,
    usage: _Usage | None,
) -> Reply:
    if finish_reason is None:
        raise ModelError("incomplete", "openai's answer broke off before its end")
    stop_reason = "refusal" if refusal else _STOP_REASONS.get(finish_reason, "end")
    if calls and stop_reason == "end":
        stop_reason = "tool_use"  # some servers say "stop" although they ask for tools
    is_cut = stop_reason == "max_tokens" and bool(calls)
    return Reply(
        message=AssistantMessage(
            text=text or refusal, tool_calls=[] if is_cut else [_tool_call(call) for call in calls]
        ),
        stop_reason=stop_reason,
        tokens=_tokens(usage) if usage else _estimate(request, text, calls),
        provider="openai",
        model=request.model,
        truncated_call=is_cut,
    )


def _tool_call(call: dict[str, str]) -> ToolCall:
    try:
        arguments = json.loads(call["arguments"] or "{}")
    except (ValueError, RecursionError) as error:
        return ToolCall(id=call["id"], name=call["name"], problem=f"the arguments are not valid JSON: {error}")
    if not isinstance(arguments, dict):
        return ToolCall(id=call["id"], name=call["name"], problem="the arguments must be a JSON object")
    return ToolCall(id=call["id"], name=call["name"], arguments=arguments)


def _tokens(usage: _Usage) -> Tokens:
    details = usage.prompt_tokens_details
    return Tokens(
        input=usage.prompt_tokens,
        cached=min((details.cached_tokens if details else 0) or 0, usage.prompt_tokens),
        output=usage.completion_tokens,
    )


def _estimate(request: Request, text: str, calls: list[dict[str, str]]) -> Tokens:
    """For servers that report no usage: four characters a token, OpenAI's own rule of thumb."""
    asked = len(request.system) + len("".join(message.model_dump_json() for message in request.messages))
    said = len(text) + sum(len(call["arguments"]) for call in calls)
    return Tokens(input=-(-asked // _CHARACTERS_PER_TOKEN), output=-(-said // _CHARACTERS_PER_TOKEN))


@contextlib.contextmanager
def _mapped_errors() -> Iterator[None]:
    try:
        yield
    except openai.APITimeoutError as error:
        raise ModelError("timeout", "openai did not answer in time") from error
    except openai.APIStatusError as error:
        raise from_answer("openai", error.status_code, error.response.headers, error.body, error.message) from error
    except openai.APIConnectionError as error:
        raise ModelError("network", f"openai could not be reached: {error.__cause__ or error}") from error
    except openai.APIError as error:  # an error event in the middle of a stream
        raise from_answer("openai", 200, {}, error.body, error.message) from error
    except httpx2.TimeoutException as error:
        raise ModelError("timeout", "openai stopped in the middle of its answer") from error
    except httpx2.TransportError as error:
        raise ModelError("incomplete", f"openai's answer was cut: {error}") from error
    except (openai.OpenAIError, *_UNREADABLE) as error:
        raise ModelError("incomplete", f"openai's answer could not be read: {error}") from error
