"""What goes to a model and what comes back, the same for every provider."""

import functools
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from core.text import storable, unstorable
from domain.billing.schemas import Tokens

StopReason = Literal["end", "tool_use", "max_tokens", "window", "refusal", "pause", "unknown"]
"""why the model stopped; `window`: prompt and answer together filled its context window; `unknown`: for a reason that
this wire does not define, so the answer may be half of one"""


# What a model says is not ours to refuse, and must not be what keeps its step from being written down.
Said = Annotated[str, BeforeValidator(storable)]


class ToolCall(BaseModel):
    """A tool the model asks for. `problem` says why the arguments could not be read, where they could not."""

    id: Said
    name: Said
    arguments: Annotated[dict[str, Any], BeforeValidator(storable)] = {}
    text: str = ""
    """the arguments as JSON, as the model wrote them. jsonb reorders keys and respells numbers, so what goes back on
    the wire is kept as text; where the model's own text cannot go back, the arguments as they were read"""
    problem: str | None = None

    @model_validator(mode="after")
    def _is_storable(self) -> Self:
        if reason := unstorable(self.arguments):
            self.problem, self.arguments = f"an argument {reason}", {}
        if self.problem or not self.text:
            self.text = json.dumps(self.arguments, ensure_ascii=False)
        return self


UNTRUSTED = "untrusted_data"
"""the name under which models are told what strangers may have written"""


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # it was shortened


class UserMessage(BaseModel):
    """What the person said."""

    role: Literal["user"] = "user"
    text: str


class AssistantMessage(BaseModel):
    """What the model said."""

    role: Literal["assistant"] = "assistant"
    text: Said = ""
    tool_calls: list[ToolCall] = []


class ToolMessage(BaseModel):
    """What a tool answered."""

    role: Literal["tool"] = "tool"
    call_id: str
    content: str
    is_error: bool = False
    is_untrusted: bool = False

    @property
    def told(self) -> str:
        """The content as a model is told it: what strangers may have written is marked as data.

        As JSON inside JSON it cannot end its own quotation.
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
        """The parameters as JSON. Written once: a tool is offered with every call."""
        return json.dumps(self.parameters, ensure_ascii=False)


class Request(BaseModel):
    """One call of a model."""

    model: str
    system: str
    messages: list[Message]
    tools: list[ToolSpec] = []
    max_output_tokens: int = 2048
    timeout: timedelta = timedelta(minutes=2)


REHEARSAL_HEADER = "x-rota-rehearsal"
"""every answer of the rehearsal model has it"""


class Reply(BaseModel):
    """A whole answer. Calls that did not arrive whole are not in it: `truncated_call` tells that there was one."""

    model_config = ConfigDict(frozen=True)

    message: AssistantMessage
    stop_reason: StopReason
    tokens: Tokens
    provider: str
    """the name of the endpoint that answered"""
    model: str
    truncated_call: bool = False
    missing_call: bool = False
    """it announced a call that is not in it"""
    reason: Said = ""
    """the stop reason in the provider's own word"""
    is_rehearsal: bool = False
    """whether the rehearsal model gave it"""


class TextDelta(BaseModel):
    """A piece of the answer while it is said."""

    text: str


class Provider(Protocol):
    """A provider of models. Both methods raise `ModelError`, and nothing else, for what goes wrong out there."""

    def complete(self, request: Request) -> Reply:
        """The whole answer at once."""
        ...

    def stream(self, request: Request) -> Iterator[TextDelta | Reply]:
        """The text as it is said, then, last and only when all of it came, the reply."""
        ...
