"""Requests to models and their replies, in one form for all providers."""

import base64
import functools
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, Literal, Protocol, Self
from uuid import UUID

import httpx2
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from agents.llm.errors import Remedies
from core.model_providers import Medium
from core.text import storable, unstorable
from domain.billing.schemas import Tokens

StopReason = Literal["end", "tool_use", "max_tokens", "window", "refusal", "pause", "unknown"]
"""why the model stopped. `window`: the prompt and the reply together filled its context window; `unknown`: a reason
that the provider's API does not define, so the reply may be incomplete"""


# Text of a model. Characters that cannot be stored are replaced: they must not keep its step from being recorded.
Said = Annotated[str, BeforeValidator(storable)]


def _as_storable(arguments: Any) -> Any:
    """Replace characters that cannot be stored. Arguments that are nested too deep for that are refused unread."""
    try:
        return storable(arguments)
    except RecursionError:
        return arguments


class ToolCall(BaseModel):
    """A tool call. `problem` says why it cannot be carried out, such as unreadable arguments; None if it can."""

    id: Said
    name: Said
    arguments: Annotated[dict[str, Any], BeforeValidator(_as_storable)] = {}
    text: str = ""
    """the arguments as JSON text, as the model wrote them, to send back to the provider: jsonb would reorder keys and
    respell numbers. If the model's own text cannot be sent back, `arguments` as JSON"""
    problem: str | None = None

    @model_validator(mode="after")
    def _is_storable(self) -> Self:
        if reason := unstorable(self.arguments):
            self.problem, self.arguments = f"an argument {reason}", {}
        if self.problem or not self.text:
            self.text = json.dumps(self.arguments, ensure_ascii=False)
        return self


UNTRUSTED = "untrusted_data"
"""the JSON key that marks, for models, content that strangers may have written"""


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # no longer JSON: it was shortened


class MediaPart(BaseModel):
    """An image or a PDF that comes with a message. The journal and logs name it by its id and digest."""

    id: UUID
    name: str
    media_type: str
    medium: Medium
    pages: int
    sha256: str
    size: int
    """of its content, in bytes"""
    tokens: int = 0
    """as many it counts at most, at the model that is asked"""
    content: bytes = Field(default=b"", exclude=True, repr=False)
    """its bytes, only while a call is made"""

    @property
    def base64(self) -> str:
        """The content as text."""
        return base64.b64encode(self.content).decode()


class UserMessage(BaseModel):
    """A message of the user."""

    role: Literal["user"] = "user"
    text: str
    media: list[MediaPart] = []


class AssistantMessage(BaseModel):
    """A message of the model: text, tool calls, or both."""

    role: Literal["assistant"] = "assistant"
    text: Said = ""
    tool_calls: list[ToolCall] = []


class ToolMessage(BaseModel):
    """The result of a tool call."""

    role: Literal["tool"] = "tool"
    call_id: str
    content: str
    is_error: bool = False
    is_untrusted: bool = False

    @property
    def told(self) -> str:
        """The content as the model reads it: content that strangers may have written is marked as data.

        It is quoted as JSON inside JSON, so it cannot end its own quotation.
        """
        if not self.is_untrusted:
            return self.content
        return json.dumps({UNTRUSTED: _read_json(self.content)}, ensure_ascii=False, separators=(",", ":"))


Message = Annotated[UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class ToolSpec(BaseModel):
    """A tool as offered to a model; `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: dict[str, Any]

    @functools.cached_property
    def parameters_json(self) -> str:
        """The parameters as JSON. Cached: a tool is offered with every call."""
        return json.dumps(self.parameters, ensure_ascii=False)


class Request(BaseModel):
    """One call to a model."""

    model: str
    system: str
    messages: list[Message]
    earlier: int = 0
    """how many of the messages, from the first, were said before the task"""
    tools: list[ToolSpec] = []
    max_output_tokens: int = 2048
    timeout: timedelta = timedelta(minutes=2)


REHEARSAL_HEADER = "x-rota-rehearsal"
"""a header of every response of the rehearsal model"""


class Reply(BaseModel):
    """A complete reply. If its last tool call may be cut, all of them are left out and `truncated_call` is set."""

    model_config = ConfigDict(frozen=True)

    message: AssistantMessage
    stop_reason: StopReason
    tokens: Tokens
    provider: str
    """the name of the endpoint that answered"""
    model: str
    truncated_call: bool = False
    missing_call: bool = False
    """whether it announced a tool call that it does not contain"""
    reason: Said = ""
    """the stop reason as the provider spells it"""
    is_rehearsal: bool = False
    """whether it is from the rehearsal model"""


class TextDelta(BaseModel):
    """A piece of a streamed reply's text."""

    text: str


class Provider(Protocol):
    """A provider of models. Failures of the provider or the network raise `ModelError`, and nothing else."""

    def complete(self, request: Request) -> Reply:
        """Return the whole reply at once."""
        ...

    def stream(self, request: Request) -> Iterator[TextDelta | Reply]:
        """Yield the text as it arrives and, only if all of it arrived, the reply last."""
        ...


class Adapter(Protocol):
    """What makes a provider: the class that an entry of `core/model_providers.py` names."""

    def __call__(
        self, *, name: str, api_key: str, base_url: str | None, http_client: httpx2.Client, remedies: Remedies
    ) -> Provider:
        """Return the provider. It makes no request yet.

        `name` is told in errors and replies. `base_url` is where to call it; None means at the provider itself. Every
        request goes through `http_client`, and none is repeated: the SDK's own retries are off. `remedies` tell people
        what to do about an error.
        """
        ...
