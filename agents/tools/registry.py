"""Tools: what an agent may call, with which parameters, at what price, to what effect."""

import contextlib
import functools
import importlib
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict, TypeVar, Unpack, cast, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from agents.llm.base import ToolSpec
from core.errors import Conflict, InvalidInput, Misconfigured, NotFound, NotPermitted, RotaError
from core.numbers import is_plain
from core.text import described
from domain.tasks.schemas import Bounds
from domain.wallet.schemas import InsufficientFunds, PriceItem

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
    """Base of every tool's parameters, and of models nested in them: nothing unknown, so that a misspelt one is
    noticed, and numbers in plain digits only.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_plain(cls, value: Any, info: ValidationInfo) -> Any:
        if _is_number(cast("Hashable", cls.model_fields[str(info.field_name)].annotation)):
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, str) and not is_plain(one):
                    raise ValueError("is not a plain number, such as 59.00")
        return value


@functools.cache
def _is_number(annotation: Any) -> bool:
    """Whether a field takes numbers and no text."""
    kinds = _kinds(annotation)
    return bool(kinds & {int, float, Decimal}) and str not in kinds


def _kinds(annotation: Any) -> set[Any]:
    parts = get_args(annotation)
    return {kind for part in parts for kind in _kinds(part)} if parts else {annotation}


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
    may_start: "Start | None" = None
    """under what it may start other tasks; None for a tool used without a task"""
    read_untrusted: bool = False
    """whether what is done now may stem from what strangers wrote"""


@dataclass(frozen=True)
class Start:
    """Under what a task may start others."""

    root_id: UUID
    depth: int
    """of those that it starts"""
    bounds: Bounds
    max_children: int


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


class ToolFailed(RotaError):
    """A tool raised what it may not raise."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"The tool {name} failed: {what}")


# What a tool may refuse with: the model reads it and can act on it.
REFUSALS = (InvalidInput, NotFound, Conflict, NotPermitted)


class NotDone(RotaError):
    """The action certainly did not happen, for a reason that may pass: the task is tried again later."""


@dataclass(frozen=True)
class Stake:
    """What a call has at stake: money it moves, and whom its words go to."""

    amount: Decimal | None = Decimal(0)
    """in the organisation's currency; None where nobody knows it before it is done"""
    recipients: tuple[str, ...] = ()
    """ids of contacts, or addresses"""
    to_contact: bool = False
    """whether it goes to the contact that the task is about, whoever that is"""


@dataclass(frozen=True)
class Wording:
    """How people ask for what a tool does, in words that a request can be searched for (see `agents/provenance.py`).

    Phrases stand apart by commas; accents and case do not count. A word may name others that do as well, apart by bars.
    One that ends in `*` stands for all that begin so; one that ends in `~` is the stem of a Spanish verb, and stands
    for its imperatives and its infinitive, with pronouns ("reserv~": reserva, reserve, reservar, resérvale).
    """

    effect: str
    """phrases of which a command must hold one: it begins with the phrase's first word, a verb in its imperative, and
    has the others somewhere behind it"""
    values: Mapping[str, str] = field(default_factory=dict)
    """phrases for a choice among given values, such as a status, where people seldom use the value itself; their words
    stand anywhere in the command"""
    prose: str = ""
    """names of parameters that hold words to be written, or say when something is to happen: a request need not contain
    these
    """


def phrases(text: str) -> list[str]:
    """The phrases, or names, that stand apart by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


Returns = Literal["people", "records", "catalogue"]
"""what a look-up returns: records of people, which a request means where it names them; records of other things, which
it means where it speaks of them; or what is on offer to everybody, such as a timetable"""


class Facts(TypedDict, total=False):
    """What a tool says of itself beside name and parameters; `Tool` explains each."""

    price: PriceItem | None
    charges_itself: bool
    changes_world: bool
    repeat_is_harmless: bool
    takes_idempotency_key: bool
    risk: Risk
    sends_outside: bool
    moves_money: bool
    drafts_for_outside: bool
    returns_untrusted: bool
    returns: Returns
    always_asks: bool
    wording: Wording | None


_MAY_RAISE: tuple[type[Exception], ...] = (*REFUSALS, NotDone, ToolFailed)

P = TypeVar("P", bound=Parameters)
T = TypeVar("T")

# What both providers accept: OpenAI takes names of 64 characters, Anthropic more.
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_PARAMETER_NAME = re.compile(r"[a-zA-Z0-9.-][a-zA-Z0-9_.-]{0,63}")


def _parameter_names(parameters: type[BaseModel]) -> list[str]:
    """The names under which a model is told of parameters. The schema would say so too, but runs foreign code."""
    fields = parameters.model_fields.items()
    return [field.validation_alias if isinstance(field.validation_alias, str) else name for name, field in fields]


@dataclass(frozen=True)
class Tool:
    """A tool, and what it says of itself: the permission it needs, what it costs, what it does to the world.

    A fact that is not declared has its most restrictive value, so that forgetting one can only make a tool ask more.

    Raises:
        Misconfigured: a provider would refuse the tool's name or that of a parameter.
    """

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
    changes_world: bool = True
    repeat_is_harmless: bool = False
    takes_idempotency_key: bool = False
    is_outward: bool = False
    """it reaches outside our database, and is given an `OutwardContext`"""
    risk: Risk = "critical"
    sends_outside: bool = True
    """it sends words or data to somebody outside the organisation, were it only in the address of a page it fetches"""
    moves_money: bool = True
    drafts_for_outside: bool = False
    """it keeps words that are sent to people outside later"""
    returns_untrusted: bool = True
    """its results may hold words that customers or strangers wrote"""
    returns: Returns = "people"
    """what its results are about: which of the ids in them a request can be taken to mean depends on it"""
    always_asks: bool = False
    """its whole purpose is to ask a person: no rule lets it run without one"""
    wording: Wording | None = None
    """how people ask for it; None: a request is never taken to ask for it in so many words"""
    stake: Callable[[Any], Stake] | None = None
    """what a call with these parameters has at stake"""

    def __post_init__(self) -> None:
        if not _TOOL_NAME.fullmatch(self.name):
            raise Misconfigured(
                f"No provider accepts a tool called {self.name!r}: use 1 to 64 letters, digits, _ and - of ASCII."
            )
        for name in _parameter_names(self.parameters):
            if not _PARAMETER_NAME.fullmatch(name):
                raise Misconfigured(
                    f"The parameter {name!r} of the tool {self.name} must be 1 to 64 letters, digits, _, . and - of "
                    "ASCII, and must not begin with _, which is kept for the model's rationale."
                )
        # Wrapped here, so that no caller can run foreign code without the guard.
        object.__setattr__(self, "run", self._guarded(self.run))
        if self.stake is not None:
            object.__setattr__(self, "stake", self._guarded(self.stake))

    @property
    def acts(self) -> bool:
        """Whether a call does more than read: it changes something, sends something out, or moves money."""
        return self.changes_world or self.sends_outside or self.moves_money

    def _guarded(self, function: Callable[..., T]) -> Callable[..., T]:
        @functools.wraps(function)
        def call(*args: Any) -> T:
            with self._guard():
                return function(*args)

        return call

    @contextlib.contextmanager
    def _guard(self, *allowed: type[Exception]) -> Iterator[None]:
        """Let through what a tool may raise, and `allowed`; turn everything else into `ToolFailed`.

        A tool is foreign code. It may raise `SystemExit`, which would end the worker's thread, or an exception of ours
        that means something else to the executor, such as `ClaimLost`. Errors of the database stay what they are: the
        transaction around the tool tells an outage from a refused statement.
        """
        try:
            yield
        except (*_MAY_RAISE, *allowed):
            raise
        except DBAPIError as error:
            if self.is_outward:  # it has no connection of ours
                raise ToolFailed(self.name, described(error)) from error
            error.add_note(f"in the tool {self.name}")
            raise
        except BaseException as error:
            if isinstance(error, InsufficientFunds) and not self.is_outward:
                raise  # its context charges for it
            raise ToolFailed(self.name, described(error)) from error

    @property
    def must_not_repeat(self) -> bool:
        """Whether doing it twice would do harm that nobody else prevents: its intent is written down first."""
        is_effect = self.changes_world or self.moves_money
        return self.is_outward and is_effect and not (self.repeat_is_harmless or self.takes_idempotency_key)

    @property
    def reaches_people(self) -> bool:
        """Whether people outside the organisation notice what it does, now or later."""
        return self.sends_outside or self.moves_money or self.drafts_for_outside

    @property
    def only_reads(self) -> bool:
        """Whether it reads our own records and does nothing else, so that there is nothing to undo."""
        return not (self.is_outward or self.acts or self.price or self.charges_itself)

    def at_stake(self, parameters: Parameters) -> Stake:
        """What a call has at stake; an amount that a tool which moves money does not declare is unknown."""
        if self.stake is None:
            return Stake(amount=None if self.moves_money else Decimal(0))
        return self.stake(parameters)

    def validate(self, arguments: dict[str, Any]) -> Parameters:
        """The parameters that `arguments` spell.

        Raises:
            InvalidInput: they do not fit; the message is for the model, which can mend the call.
        """
        try:
            with self._guard(ValidationError):
                return self.parameters.model_validate({k: v for k, v in arguments.items() if k not in RATIONALE})
        except ValidationError as error:
            raise InvalidInput(
                f"The parameters of {self.name} do not fit: {_problems(self, error)}. Call it again, corrected."
            ) from error

    @functools.cached_property
    def spec(self) -> ToolSpec:
        """The tool as offered to a model, with room for the model's rationale. Made once: it takes milliseconds."""
        with self._guard():
            schema = parameter_schema(self.parameters)
        return ToolSpec(
            name=self.name,
            description=self.description,
            parameters=schema | {"properties": schema["properties"] | RATIONALE},
        )


_MOST_PROBLEMS, _LONGEST_PLACE = 10, 100


def _problems(tool: Tool, error: ValidationError) -> str:
    """What is wrong with a call's arguments, at a length that a model can read: names it made up are cut."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    told = [f"{_cut('.'.join(map(str, one['loc'])) or tool.name)}: {_cut(one['msg'])}" for one in found]
    more = len(told) - _MOST_PROBLEMS
    return "; ".join(told[:_MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_PLACE else f"{text[:_LONGEST_PLACE]}…"


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
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # importing a foreign module may raise anything
            raise Misconfigured(
                f"ROTA_TOOLS names {name!r}, which cannot be loaded: {type(error).__name__}: {error}"
            ) from error
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
    stake: Callable[[P], Stake] | None = None,
    **facts: Unpack[Facts],
) -> Callable[[Callable[[ToolContext, P], dict[str, Any]]], Tool]:
    """Turn a function into a tool on our own records; its docstring is what the model reads. Declare what it does: see
    `reading_tool` for one that only looks something up.
    """
    return _maker(name=name, category=category, parameters=parameters, permission=permission, stake=stake, **facts)


def reading_tool(
    name: str,
    *,
    category: Category,
    parameters: type[P],
    permission: str,
    returns_untrusted: bool = True,
    returns: Returns = "people",
) -> Callable[[Callable[[ToolContext, P], dict[str, Any]]], Tool]:
    """Turn a function into a tool that looks something up in our own records, and does nothing else."""
    return _maker(
        name=name,
        category=category,
        parameters=parameters,
        permission=permission,
        changes_world=False,
        sends_outside=False,
        moves_money=False,
        risk="low",
        returns_untrusted=returns_untrusted,
        returns=returns,
    )


def outward_tool(
    name: str,
    *,
    category: Category,
    parameters: type[P],
    permission: str,
    stake: Callable[[P], Stake] | None = None,
    **facts: Unpack[Facts],
) -> Callable[[Callable[[OutwardContext, P], dict[str, Any]]], Tool]:
    """Turn a function into a tool that reaches outside our database: a request to another system, with a time-out of
    its own. Every fact that is not declared has its most restrictive value.

    The function raises `InvalidInput`, `NotFound`, `Conflict` or `NotPermitted` for what the model should hear, and
    `NotDone` where nothing happened and another try may help. Any other exception of a tool that must not repeat leaves
    its outcome unknown, for a person to settle.
    """
    return _maker(
        name=name,
        category=category,
        parameters=parameters,
        permission=permission,
        stake=stake,
        is_outward=True,
        **facts,
    )


def _maker(**facts: Any) -> Callable[[Callable[..., dict[str, Any]]], Tool]:
    def make(function: Callable[..., dict[str, Any]]) -> Tool:
        return Tool(description=" ".join((function.__doc__ or "").split()), run=function, **facts)

    return make


def parameter_schema(parameters: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a tool's parameters, as plain as both providers like it: no titles, no null alternatives, and
    the definitions of nested models where some are used.
    """
    schema = parameters.model_json_schema()
    plain = {
        "type": "object",
        "properties": {name: _plain(field) for name, field in schema.get("properties", {}).items()},
        "required": schema.get("required", []),
    }
    if definitions := schema.get("$defs"):
        plain["$defs"] = {name: _plain_model(definition) for name, definition in definitions.items()}
    return plain


def _plain_model(schema: dict[str, Any]) -> dict[str, Any]:
    kept = _plain(schema)
    if "properties" in kept:
        kept["properties"] = {name: _plain(field) for name, field in kept["properties"].items()}
    return kept


def _plain(field: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in field.items() if name not in {"title", "anyOf"}}
    alternatives = [one for one in field.get("anyOf", []) if one.get("type") != "null"]
    if len(alternatives) == 1:
        kept = alternatives[0] | kept
    elif alternatives:
        kept["anyOf"] = alternatives
    return {name: value for name, value in kept.items() if not (name == "default" and value is None)}
