"""Tools: what an agent may call, with which parameters, at what price, to what effect."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection

from agents.llm.base import ToolSpec
from core.errors import InvalidInput

Category = Literal["crm", "booking", "analytics", "messaging", "automation"]

# A tool's own rationale, asked for beside its parameters: who decides tells why (docs/decisions/0006).
RATIONALE: dict[str, Any] = {
    "_intent": {"type": "string", "description": "What the person wants, in a few words"},
    "_why": {"type": "string", "description": "Why this action serves that, in one sentence"},
    "_confidence": {"type": "number", "description": "How sure you are that this is right, from 0 to 1"},
}


class Parameters(BaseModel):
    """Base of every tool's parameters: nothing unknown, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


Day = Annotated[date, Field(ge=date(2000, 1, 1), le=date(2100, 12, 31))]
"""A day that a gym's records could know, so that reckoning with it cannot overflow."""


@dataclass(frozen=True)
class ToolContext:
    """What a tool may use. Its SQL runs in the transaction that records its step: both commit, or neither."""

    connection: Connection
    zone: ZoneInfo
    today: date


P = TypeVar("P", bound=Parameters)


@dataclass(frozen=True)
class Tool:
    """A tool, and what it says of itself: the permission it needs, what it costs, what it does to the world."""

    name: str
    category: Category
    description: str
    parameters: type[Parameters]
    run: Callable[[ToolContext, Any], dict[str, Any]]
    permission: str
    token_price: int = 0
    changes_world: bool = False
    repeat_is_harmless: bool = False

    def validate(self, arguments: dict[str, Any]) -> Parameters:
        """The parameters that `arguments` spell.

        Raises:
            InvalidInput: they do not fit; the message is for the model, which can mend the call.
        """
        try:
            return self.parameters.model_validate({k: v for k, v in arguments.items() if k not in RATIONALE})
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or self.name}: {problem['msg']}" for problem in error.errors()
            )
            raise InvalidInput(
                f"The parameters of {self.name} do not fit: {problems}. Call it again, corrected."
            ) from error

    @functools.cached_property
    def spec(self) -> ToolSpec:
        """The tool as offered to a model, with room for the model's rationale. Made once: it takes milliseconds."""
        schema = parameter_schema(self.parameters)
        return ToolSpec(
            name=self.name,
            description=self.description,
            parameters=schema | {"properties": schema["properties"] | RATIONALE},
        )


class Registry:
    """The tools there are, by name."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.name in self._tools:
                raise ValueError(f"two tools are called {tool.name}")
            self._tools[tool.name] = tool

    def __iter__(self) -> Any:
        return iter(self._tools.values())

    def get(self, name: str) -> Tool | None:
        """The tool called `name`."""
        return self._tools.get(name)

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that no tool has."""
        return sorted(set(names) - set(self._tools))

    def names(self) -> list[str]:
        """Every tool's name."""
        return sorted(self._tools)


def tool(
    name: str,
    *,
    category: Category,
    parameters: type[P],
    permission: str,
    token_price: int = 0,
    changes_world: bool = False,
    repeat_is_harmless: bool = False,
) -> Callable[[Callable[[ToolContext, P], dict[str, Any]]], Tool]:
    """Make a tool of a function; its docstring is what the model reads."""

    def make(function: Callable[[ToolContext, P], dict[str, Any]]) -> Tool:
        return Tool(
            name=name,
            category=category,
            description=" ".join((function.__doc__ or "").split()),
            parameters=parameters,
            run=function,
            permission=permission,
            token_price=token_price,
            changes_world=changes_world,
            repeat_is_harmless=repeat_is_harmless,
        )

    return make


def parameter_schema(parameters: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a tool's parameters, as plain as both providers like it: no titles, no null alternatives."""
    schema = parameters.model_json_schema()
    return {
        "type": "object",
        "properties": {name: _plain(field) for name, field in schema.get("properties", {}).items()},
        "required": schema.get("required", []),
    }


def _plain(field: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in field.items() if name not in {"title", "anyOf"}}
    alternatives = [one for one in field.get("anyOf", []) if one.get("type") != "null"]
    if len(alternatives) == 1:
        kept = alternatives[0] | kept
    elif alternatives:
        kept["anyOf"] = alternatives
    return {name: value for name, value in kept.items() if not (name == "default" and value is None)}
