"""OpenAI's Chat Completions API through the official SDK, which many other servers speak as well."""

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Annotated, Any

import httpx2
import openai
from pydantic import BaseModel, BeforeValidator

from agents.llm.base import (
    AssistantMessage,
    MediaPart,
    Message,
    Reply,
    Request,
    Said,
    StopReason,
    TextDelta,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from agents.llm.calls import read_call, written_at
from agents.llm.counting import Count, Report, counted
from agents.llm.errors import ModelError, Remedies, from_answer, mapped_errors
from agents.llm.replay import offered, presentable
from agents.llm.transport import call_options, whole_address
from domain.billing.schemas import Tokens

_STOP_REASONS: dict[str, StopReason] = {
    "stop": "end", "tool_calls": "tool_use", "function_call": "tool_use", "length": "max_tokens",
    "content_filter": "refusal",
    # Synonyms of other servers.
    "eos": "end", "eos_token": "end", "end_turn": "end", "stop_sequence": "end", "tool_use": "tool_use",
    "max_tokens": "max_tokens", "model_length": "window",
}  # fmt: skip

_OLD_LIMIT, _NEW_LIMIT = "max_tokens", "max_completion_tokens"
_NEWER = re.compile(r"(^|[/:])(o\d|gpt-([5-9]|\d\d)|codex|computer-use)")


def limit_name(model: str, *, is_openai: bool) -> str:
    """Return the name of the limit of output tokens. OpenAI renamed it. Its newer models refuse the old name wherever
    they are served; compatible servers mostly know only the old name.
    """
    return _NEW_LIMIT if is_openai or _NEWER.search(model) else _OLD_LIMIT


class OpenAIProvider:
    """GPT models, or anything that serves Chat Completions at `base_url`: vLLM, Ollama, OpenRouter."""

    def __init__(
        self, *, name: str, api_key: str, base_url: str | None, http_client: httpx2.Client, remedies: Remedies
    ) -> None:
        self._name = name
        self._remedies = remedies
        self._client = openai.OpenAI(api_key=api_key, base_url=base_url, http_client=http_client, max_retries=0)
        self._address = whole_address(self._client.base_url, "/chat/completions")
        self._is_openai = base_url is None
        self._limits: dict[str, str] = {}
        """the name of the limit by model, if the server's error named it"""

    def complete(self, request: Request) -> Reply:
        """Return the whole reply at once."""
        limit = self._limit_name(request.model)
        try:
            return self._complete(request, limit)
        except ModelError as error:
            other = self._other_limit(request.model, limit, error)
            if other is None:
                raise
            return self._complete(request, other)

    def _complete(self, request: Request, limit: str) -> Reply:
        assembly = _Assembly(request)
        with self._mapped_errors(assembly):
            # Equivalent to `chat.completions.create`, without its walk through every tool's schema and its generic
            # parsing of the response, which are half the cost of a call.
            response = self._client.post(
                self._address,
                cast_to=httpx2.Response,
                body=self._body(request, limit),
                options=call_options(request.timeout),
            )
            return self._whole(request, response.text, assembly)

    def stream(self, request: Request) -> Iterator[TextDelta | Reply]:
        """Yield the text as it arrives, then the reply."""
        limit = self._limit_name(request.model)
        try:
            yield from self._stream(request, limit)
        except ModelError as error:  # a refused request, so no text was yielded yet
            other = self._other_limit(request.model, limit, error)
            if other is None:
                raise
            yield from self._stream(request, other)

    def _stream(self, request: Request, limit: str) -> Iterator[TextDelta | Reply]:
        assembly = _Assembly(request)
        with self._mapped_errors(assembly):
            body = self._body(request, limit) | {"stream": True, "stream_options": {"include_usage": True}}
            with self._client.post(
                self._address,
                cast_to=object,
                body=body,
                options=call_options(request.timeout),
                stream=True,
                stream_cls=openai.Stream[object],
            ) as chunks:
                for chunk in chunks:
                    if text := assembly.add(chunk):
                        yield TextDelta(text=text)
            yield self._reply(request, assembly.choice(), assembly.usage)

    def _mapped_errors(self, assembly: "_Assembly") -> AbstractContextManager[None]:
        return mapped_errors(openai, openai.OpenAIError, self._name, self._remedies, assembly.spent)

    def _limit_name(self, model: str) -> str:
        return self._limits.get(model) or limit_name(model, is_openai=self._is_openai)

    def _other_limit(self, model: str, used: str, error: ModelError) -> str | None:
        """Return the limit's other name, and use it for this model from now on; None unless a refusal names it."""
        other = _NEW_LIMIT if used == _OLD_LIMIT else _OLD_LIMIT
        if error.kind != "bad_request" or not re.search(rf"\b{other}\b", error.message):
            return None
        self._limits[model] = other
        return other

    def _body(self, request: Request, limit: str) -> dict[str, Any]:
        system = [{"role": "system", "content": request.system}] if request.system.strip() else []
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [*system, *map(_message, presentable(request.messages))],
            limit: request.max_output_tokens,
        }
        tools = [tool_format(spec) for spec in offered(request)]
        return body | ({"tools": tools} if tools else {})

    def _whole(self, request: Request, text: str, assembly: "_Assembly") -> Reply:
        body = json.loads(text)
        assembly.whole = body
        completion = _Completion.model_validate(body)
        choice = completion.choices[0] if completion.choices else None
        if error := completion.error or (choice and choice.error):
            raise from_answer(self._name, httpx2.codes.OK, {}, {"error": error}, text, self._remedies)
        if choice is None:
            raise ModelError("incomplete", f"{self._name}'s answer holds no choice.")
        for index, call in enumerate(choice.message.tool_calls or []):
            if call.function and isinstance(call.function.arguments, dict):
                path = ("choices", 0, "message", "tool_calls", index, "function", "arguments")
                call.function.text = written_at(text, *path)
        return self._reply(request, choice, completion.usage)

    def _reply(self, request: Request, choice: "_Choice", usage: "_Usage") -> Reply:
        message = choice.message
        announced = list(message.tool_calls or [])
        if message.function_call is not None:
            announced.append(_Call(function=message.function_call))
        calls = [
            read_call(id=call.id, name=call.function.name, arguments=call.function.arguments, text=call.function.text)
            for call in announced
            if call.function is not None
        ]
        said = message.content + message.refusal + "".join(call.text for call in calls)
        tokens = _tokens(request, usage, said)
        if not choice.finish_reason:
            raise ModelError("incomplete", f"{self._name}'s answer broke off before its end.", tokens=tokens)
        stop_reason = "refusal" if message.refusal else _STOP_REASONS.get(choice.finish_reason, "unknown")
        if calls and stop_reason == "end":
            stop_reason = "tool_use"  # some servers say "stop" although they ask for tools
        is_cut = stop_reason in {"max_tokens", "window"} and bool(announced)
        return Reply(
            message=AssistantMessage(text=message.content or message.refusal, tool_calls=[] if is_cut else calls),
            stop_reason=stop_reason,
            tokens=tokens,
            provider=self._name,
            model=request.model,
            truncated_call=is_cut,
            missing_call=not is_cut and (len(calls) < len(announced) or (stop_reason == "tool_use" and not calls)),
            reason=choice.finish_reason,
        )


def tool_format(spec: ToolSpec) -> dict[str, Any]:
    """Return a tool in this API's format."""
    return {"type": "function", "function": spec.model_dump()}


def _message(message: Message) -> dict[str, Any]:
    match message:
        case UserMessage():
            return {"role": "user", "content": _user_content(message)}
        case ToolMessage():
            return {"role": "tool", "tool_call_id": message.call_id, "content": message.told}
        case AssistantMessage():
            calls = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.text}}
                for call in message.tool_calls
            ]
            return {"role": "assistant", "content": message.text or None} | ({"tool_calls": calls} if calls else {})


def _user_content(message: UserMessage) -> str | list[dict[str, Any]]:
    if not message.media:
        return message.text
    return [*map(_media, message.media), {"type": "text", "text": message.text}]


def _media(part: MediaPart) -> dict[str, Any]:
    address = f"data:{part.media_type};base64,{part.base64}"
    if part.medium == "image":
        return {"type": "image_url", "image_url": {"url": address}}
    return {"type": "file", "file": {"filename": part.name, "file_data": address}}


# ── what is read of an answer ────────────────────────────────────────────────────────────────────────────────────────
# Compatible servers leave out much of it, and write some of it differently.


def _plain(value: Any) -> str:
    """Return a text, which some servers send as a list of parts."""
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in value]
        return "".join(part for part in parts if isinstance(part, str))
    return value if isinstance(value, str) else ""


_Text = Annotated[Said, BeforeValidator(_plain)]


class _Function(BaseModel):
    name: Any = None
    arguments: Any = None
    text: str | None = None
    """the JSON text of arguments that are not a string"""


class _Call(BaseModel):
    """A tool call. It has no `function` if it is of another kind."""

    id: Any = None
    function: _Function | None = None


class _Message(BaseModel):
    content: _Text = ""
    refusal: _Text = ""
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None
    """OpenAI's first format of a tool call, which some servers still use"""


class _Choice(BaseModel):
    message: Annotated[_Message, BeforeValidator(lambda value: {} if value is None else value)]
    finish_reason: str | None = None
    error: Any = None


class _CachedTokens(BaseModel):
    cached_tokens: Count = None
    cache_write_tokens: Count = None


class _Usage(BaseModel):
    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: Annotated[_CachedTokens, Report] = _CachedTokens()


class _Completion(BaseModel):
    choices: list[_Choice] | None = None
    usage: Annotated[_Usage, Report] = _Usage()
    error: Any = None


class _Assembly:
    """A reply assembled from the chunks of a stream."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._text: list[str] = []
        self._refusal = ""
        self._calls: list[dict[str, Any]] = []
        self._at: dict[int | None, dict[str, Any]] = {}
        self._function_call: dict[str, Any] | None = None
        self._finish_reason: str | None = None
        self._has_begun = False
        self.usage = _Usage()
        self.whole: Any = None
        """the response's body, if it was not streamed"""

    def add(self, chunk: object) -> str:
        """Add a chunk. Return the text that it contributes."""
        self._has_begun = True
        if isinstance(usage := _field(chunk, "usage"), dict):
            self.usage = _Usage.model_validate(usage)
        choices = _field(chunk, "choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        self._finish_reason = _field(choice, "finish_reason") or self._finish_reason
        delta = _field(choice, "delta")
        self._refusal += _plain(_field(delta, "refusal"))
        parts = _field(delta, "tool_calls")
        for part in parts if isinstance(parts, list) else []:
            self._add_to_call(self._call_of(part), _field(part, "function"))
        if (function := _field(delta, "function_call")) is not None:
            self._function_call = self._function_call or _begun(None)
            self._add_to_call(self._function_call, function)
        text = _plain(_field(delta, "content"))
        self._text.append(text)
        return text

    def _call_of(self, part: object) -> dict[str, Any]:
        """Return the tool call that a part belongs to. Some servers send no index, or the same one for all calls. Some
        send each part of a call with another id, but begin no call without its name.
        """
        index, call_id = _field(part, "index"), _field(part, "id")
        if not isinstance(index, int):
            index = None
        found = (self._calls[-1] if self._calls else None) if index is None else self._at.get(index)
        is_other = found is not None and call_id and found["id"] and call_id != found["id"]
        if found is None or (is_other and _field(_field(part, "function"), "name")):
            found = _begun(call_id)
            self._calls.append(found)
            self._at[index] = found
        found["id"] = call_id or found["id"]
        return found

    @staticmethod
    def _add_to_call(call: dict[str, Any], function: object) -> None:
        name, arguments = _field(function, "name"), _field(function, "arguments")
        if isinstance(name, str) and name != call["function"]["name"]:  # some servers repeat the name
            call["function"]["name"] += name
        if arguments:
            call["function"]["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def choice(self) -> _Choice:
        """Return everything received so far."""
        message = {
            "content": "".join(self._text), "refusal": self._refusal, "tool_calls": self._calls,
            "function_call": self._function_call["function"] if self._function_call else None,
        }  # fmt: skip
        return _Choice.model_validate({"message": message, "finish_reason": self._finish_reason})

    def spent(self) -> Tokens | None:
        """Return the tokens used if the reply ends here; None if it has not begun."""
        if isinstance(self.whole, dict) and isinstance(self.whole.get("usage"), dict):
            return _tokens(self._request, _Usage.model_validate(self.whole["usage"]), "")
        if not self._has_begun:
            return None
        said = "".join(self._text) + self._refusal + "".join(one["function"]["arguments"] for one in self._calls)
        return _tokens(self._request, self.usage, said)


def _field(value: object, name: str) -> Any:
    """Return what a part of a chunk has under a name, None if it has nothing or is no object."""
    return value.get(name) if isinstance(value, dict) else None


def _begun(call_id: str | None) -> dict[str, Any]:
    return {"id": call_id, "function": {"name": "", "arguments": ""}}


def _tokens(request: Request, usage: _Usage, said: str) -> Tokens:
    sent, answered, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    if total is not None and (sent is None) != (answered is None):  # the missing count is the rest
        rest = max(0, total - (sent or answered or 0))
        sent, answered = (rest, answered) if sent is None else (sent, rest)
    cached, cache_write = usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens_details.cache_write_tokens
    return counted(request, said, sent=sent, answered=answered, cached=cached, cache_write=cache_write)
