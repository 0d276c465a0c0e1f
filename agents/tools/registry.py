"""Tools: what an agent may call, with which parameters, at what price, to what effect."""

import functools
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection

from agents.llm.base import ToolSpec
from core.errors import InvalidInput, Misconfigured, RotaError
from domain.wallet.schemas import PriceItem

Category = Literal["crm", "booking", "analytics", "messaging", "automation", "resources", "coordination"]

Risk = Literal["low", "moderate", "high", "critical"]
"""what an action can spoil: low is easily undone in our own records; moderate changes somebody's standing; high reaches
people outside; critical moves money, deletes, or reaches many at once"""

# A tool's own rationale, asked for beside its parameters: who decides tells why (docs/decisions/0006).
RATIONALE: dict[str, Any] = {
    "_intent": {"type": "string", "description": "What the person wants, in a few words"},
    "_why": {"type": "string", "description": "Why this action serves that, in one sentence"},
    "_confidence": {"type": "number", "description": "How sure you are that this is right, from 0 to 1"},
    "_alternatives": {"type": "string", "description": "What else you considered, if anything, apart by semicolons"},
}


class Parameters(BaseModel):
    """Base of every tool's parameters: nothing unknown, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


Day = Annotated[date, Field(ge=date(2000, 1, 1), le=date(2100, 12, 31))]
"""A day that a gym's records could know, so that reckoning with it cannot overflow."""


@dataclass(frozen=True)
class Acting:
    """On whose behalf, and in which step of which task, a tool is at work."""

    org_id: UUID
    user_id: UUID
    agent: str
    task_id: UUID
    seq: int
    location_id: UUID | None = None
    """where the task is to be done, if that was said"""
    scopes: list[str] | None = None
    """of the key that the task was submitted with; None for all"""
    read_untrusted: bool = False
    """whether what is done now may stem from what strangers wrote"""


def _charge_nothing(_item: PriceItem, _note: str) -> None:
    """For tools used without a task."""


@dataclass(frozen=True)
class ToolContext:
    """What a tool on our own records may use. Its SQL runs in the transaction that records its step: both commit, or
    neither.
    """

    connection: Connection
    zone: ZoneInfo
    today: date
    acting: Acting
    charge: Callable[[PriceItem, str], None] = _charge_nothing
    """charges one unit of an item, under a note by which it can be paid back; raises InsufficientFunds"""


@dataclass(frozen=True)
class OutwardContext:
    """What a tool that reaches outside may use. No transaction is open while it works."""

    idempotency_key: str
    """the same for this action however often it is tried: hand it to the other side where that takes one"""
    zone: ZoneInfo
    today: date


class NotDone(RotaError):
    """The action certainly did not happen, for a reason that may pass: the task is tried again later."""


@dataclass(frozen=True)
class Stake:
    """What a call has at stake: money it moves, and whom its words go to."""

    amount: Decimal = Decimal(0)
    """in the organisation's currency"""
    recipients: tuple[str, ...] = ()
    """ids of clients and leads, or addresses"""
    to_contact: bool = False
    """whether it goes to the contact that the task is about, whoever that is"""

    @classmethod
    def none(cls, _: Any) -> "Stake":
        """Nothing."""
        return cls()


P = TypeVar("P", bound=Parameters)


@dataclass(frozen=True)
class Tool:
    """A tool, and what it says of itself: the permission it needs, what it costs, what it does to the world."""

    name: str
    category: Category
    description: str
    parameters: type[Parameters]
    run: Callable[[Any, Any], dict[str, Any]]
    permission: str
    price: PriceItem | None = None
    """what is charged for each unit; None where it costs no tokens"""
    charges_itself: bool = False
    """it charges for each unit, through its context; otherwise one is charged for the call"""
    changes_world: bool = False
    repeat_is_harmless: bool = False
    takes_idempotency_key: bool = False
    is_outward: bool = False
    """it reaches outside our database, and is given an `OutwardContext`"""
    risk: Risk = "low"
    sends_outside: bool = False
    """it sends words to people outside the organisation"""
    moves_money: bool = False
    returns_untrusted: bool = True
    """its results may hold words that customers or strangers wrote"""
    stake: Callable[[Any], Stake] = Stake.none
    """what a call with these parameters has at stake"""

    @property
    def must_not_repeat(self) -> bool:
        """Whether doing it twice would do harm that nobody else prevents: its intent is written down first."""
        return self.is_outward and self.changes_world and not (self.repeat_is_harmless or self.takes_idempotency_key)

    @property
    def only_reads(self) -> bool:
        """Whether it reads our own records and does nothing else, so that there is nothing to undo."""
        return not (self.is_outward or self.changes_world or self.price or self.charges_itself)

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
    """The tools there are, by name. `more` is asked for others at the first look."""

    def __init__(self, tools: Iterable[Tool], more: Callable[[], Iterable[Tool]] = tuple) -> None:
        self._given = tuple(tools)
        self._more = more

    @functools.cached_property
    def _tools(self) -> dict[str, Tool]:
        tools: dict[str, Tool] = {}
        for tool in (*self._given, *self._more()):
            if tool.name in tools:
                raise Misconfigured(f"Two tools are called {tool.name}.")
            tools[tool.name] = tool
        return tools

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


def load_tools(names: Iterable[str]) -> list[Tool]:
    """The tools that `names` point to, each a list of tools written like `my_company.tools:TOOLS`.

    Raises:
        Misconfigured: a name leads to no such list.
    """
    found: list[Tool] = []
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            some = getattr(importlib.import_module(module), attribute or "TOOLS")
        except (ImportError, AttributeError, ValueError) as error:
            raise Misconfigured(f"ROTA_TOOLS names {name!r}, which cannot be loaded: {error}") from error
        if not isinstance(some, list) or not all(isinstance(one, Tool) for one in some):
            raise Misconfigured(f"ROTA_TOOLS names {name!r}, which is not a list of tools.")
        found += some
    return found


def tool(
    name: str,
    *,
    category: Category,
    parameters: type[P],
    permission: str,
    price: PriceItem | None = None,
    changes_world: bool = False,
    repeat_is_harmless: bool = False,
    risk: Risk = "low",
    sends_outside: bool = False,
    moves_money: bool = False,
    returns_untrusted: bool = True,
    charges_itself: bool = False,
    stake: Callable[[P], Stake] = Stake.none,
) -> Callable[[Callable[[ToolContext, P], dict[str, Any]]], Tool]:
    """Make a tool on our own records of a function; its docstring is what the model reads."""

    return _maker(
        name=name,
        category=category,
        parameters=parameters,
        permission=permission,
        price=price,
        changes_world=changes_world,
        repeat_is_harmless=repeat_is_harmless,
        risk=risk,
        sends_outside=sends_outside,
        moves_money=moves_money,
        returns_untrusted=returns_untrusted,
        charges_itself=charges_itself,
        stake=stake,
    )


def _maker(**facts: Any) -> Callable[[Callable[..., dict[str, Any]]], Tool]:
    def make(function: Callable[..., dict[str, Any]]) -> Tool:
        return Tool(description=" ".join((function.__doc__ or "").split()), run=function, **facts)

    return make


def outward_tool(
    name: str,
    *,
    category: Category,
    parameters: type[P],
    permission: str,
    price: PriceItem | None = None,
    changes_world: bool = True,
    repeat_is_harmless: bool = False,
    takes_idempotency_key: bool = False,
    risk: Risk = "high",
    sends_outside: bool = False,
    moves_money: bool = False,
    stake: Callable[[P], Stake] = Stake.none,
) -> Callable[[Callable[[OutwardContext, P], dict[str, Any]]], Tool]:
    """Make a tool that reaches outside of a function: a request to some other system, with a time-out of its own.

    It raises `InvalidInput`, `NotFound`, `Conflict` or `NotPermitted` for what the model should hear, and `NotDone`
    where nothing happened and another try may help. Any other exception of a tool that must not repeat leaves its
    outcome unknown, for a person to settle.
    """

    return _maker(
        name=name,
        category=category,
        parameters=parameters,
        permission=permission,
        price=price,
        changes_world=changes_world,
        repeat_is_harmless=repeat_is_harmless,
        risk=risk,
        sends_outside=sends_outside,
        moves_money=moves_money,
        stake=stake,
        takes_idempotency_key=takes_idempotency_key,
        is_outward=True,
    )


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
