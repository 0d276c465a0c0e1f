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
"""the damage that an action can do: low is easily undone in our own records; moderate changes a person's standing; high
reaches people outside; critical moves money, deletes, or reaches many people at once"""

# The rationale of a tool call, requested beside its parameters: the model that decides says why (docs/decisions/0006).
RATIONALE: dict[str, Any] = {
    "_intent": {"type": "string", "description": "What the person wants, in a few words"},
    "_why": {"type": "string", "description": "Why this action serves that, in one sentence"},
    "_confidence": {"type": "number", "description": "How sure you are that this is right, from 0 to 1"},
    "_alternatives": {"type": "string", "description": "What else you considered, if anything, apart by semicolons"},
}


class Parameters(BaseModel):
    """The base of every tool's parameters, and of models nested in them. It refuses unknown parameters, so that a
    misspelt one is noticed, and numbers that are not in plain digits.
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
"""A day in the range of an organisation's records, so that arithmetic with it cannot overflow."""


@dataclass(frozen=True)
class Acting:
    """On whose behalf, and in which step of which task, a tool runs."""

    org_id: UUID
    user_id: UUID
    agent: str
    task_id: UUID
    seq: int
    location_id: UUID | None = None
    """the task's location, if it was given one"""
    scopes: list[str] | None = None
    """scopes of the API key that the task was submitted with; None for all"""
    may_start: "Start | None" = None
    """under which limits it may start other tasks; None for a tool that runs without a task"""
    read_untrusted: bool = False
    """whether this action may be caused by what strangers wrote"""


@dataclass(frozen=True)
class Start:
    """Under which limits a task may start other tasks."""

    root_id: UUID
    depth: int
    """the depth of the tasks that it starts"""
    bounds: Bounds
    max_children: int


def _charge_nothing(_item: PriceItem, _note: str) -> None:
    """Charge nothing, for tools that run without a task."""


@dataclass(frozen=True)
class ToolContext:
    """The context of a tool on our own records. Its SQL runs in the transaction that records its step: both commit, or
    neither.
    """

    connection: Connection
    zone: ZoneInfo
    today: date
    acting: Acting
    charge: Callable[[PriceItem, str], None] = _charge_nothing
    """charges one unit of an item, under a note by which it can be refunded; raises InsufficientFunds"""


@dataclass(frozen=True)
class OutwardContext:
    """The context of a tool that reaches outside our database. No transaction is open while it runs."""

    idempotency_key: str
    """identical for every attempt of this action: pass it to the other system, if that accepts one"""
    zone: ZoneInfo
    today: date


class ToolFailed(RotaError):
    """A tool raised an exception that it may not raise."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"The tool {name} failed: {what}")


# Exceptions with which a tool refuses: the model reads the message and can act on it.
REFUSALS = (InvalidInput, NotFound, Conflict, NotPermitted)


class NotDone(RotaError):
    """The action certainly did not happen, for a reason that may pass: the task is tried again later."""


@dataclass(frozen=True)
class Stake:
    """What is at stake in a tool call: the money it moves, and the recipients of its words."""

    amount: Decimal | None = Decimal(0)
    """in the organisation's currency; None if it is unknown before the call is done"""
    recipients: tuple[str, ...] = ()
    """ids of contacts, or addresses"""
    to_contact: bool = False
    """whether it goes to the contact that the task is about"""


@dataclass(frozen=True)
class Wording:
    """The words in which people ask for what a tool does; requests are searched for them (`agents/provenance.py`).

    Commas separate phrases; accents and case are ignored. Bars separate alternatives to a word. A word that ends in `*`
    matches every word with that prefix. One that ends in `~` is the stem of a Spanish verb, and matches its imperatives
    and its infinitive, with pronouns ("reserv~": reserva, reserve, reservar, resérvale).
    """

    effect: str
    """phrases of which a command must contain one: it begins with the phrase's first word, a verb in the imperative,
    and contains the others somewhere after it"""
    values: Mapping[str, str] = field(default_factory=dict)
    """phrases for each value of a fixed choice, such as a status, if people seldom use the value itself; their words
    may be anywhere in the command"""
    prose: str = ""
    """names of parameters that hold text to be written, or say when something is to happen: a request need not contain
    their values
    """


def phrases(text: str) -> list[str]:
    """Return the phrases, or names, that commas separate."""
    return [part.strip() for part in text.split(",") if part.strip()]


Returns = Literal["people", "records", "catalogue"]
"""what a look-up returns: records of people, to which a request refers by naming them; records of other things, to
which it refers by speaking of them; or a catalogue of what is on offer to all, such as a timetable"""


class Facts(TypedDict, total=False):
    """What a tool declares beside its name and parameters; `Tool` explains each."""

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
    """Return the names of parameters that a model sees. The schema has them too, but making it runs foreign code."""
    fields = parameters.model_fields.items()
    return [field.validation_alias if isinstance(field.validation_alias, str) else name for name, field in fields]


@dataclass(frozen=True)
class Tool:
    """A tool, and what it declares: the permission it needs, what it costs, what effects it has.

    A fact that is not declared has its most restrictive value, so that forgetting one can only make a tool ask more
    often. The exceptions add something that few tools do: `drafts_for_outside`, `always_asks`, `price`.

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
    """the item charged for each unit; None if it costs no tokens"""
    charges_itself: bool = False
    """it charges for each unit, through its context; otherwise one unit is charged for the call"""
    changes_world: bool = True
    repeat_is_harmless: bool = False
    takes_idempotency_key: bool = False
    is_outward: bool = False
    """it reaches outside our database, and gets an `OutwardContext`"""
    risk: Risk = "critical"
    sends_outside: bool = True
    """it sends words or data outside the organisation, even if only in the address of a page that it fetches"""
    moves_money: bool = True
    drafts_for_outside: bool = False
    """it stores words that are sent to people outside later"""
    returns_untrusted: bool = True
    """its results may contain words that customers or strangers wrote"""
    returns: Returns = "people"
    """what its results are about; it decides to which of the ids in them a request can refer"""
    always_asks: bool = False
    """its purpose is to ask a person: no rule lets it run without approval"""
    wording: Wording | None = None
    """how people ask for it; None: no request is taken to ask for it explicitly"""
    stake: Callable[[Any], Stake] | None = None
    """returns what is at stake in a call with these parameters"""

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
        """Let pass the exceptions that a tool may raise, and `allowed`; turn all others into `ToolFailed`.

        A tool is foreign code. It may raise `SystemExit`, which would end the worker's thread, or an exception of ours
        that means something else to the executor, such as `ClaimLost`. Database errors pass unchanged: the transaction
        around the tool distinguishes an outage from a refused statement.
        """
        try:
            yield
        except (*_MAY_RAISE, *allowed):
            raise
        except DBAPIError as error:
            if self.is_outward:  # an outward tool has no connection of ours
                raise ToolFailed(self.name, described(error)) from error
            error.add_note(f"in the tool {self.name}")
            raise
        except BaseException as error:
            if isinstance(error, InsufficientFunds) and not self.is_outward:
                raise  # raised by its context's `charge`
            raise ToolFailed(self.name, described(error)) from error

    @property
    def must_not_repeat(self) -> bool:
        """Whether doing it twice would do harm that nothing else prevents. If so, its intent is recorded first."""
        is_effect = self.changes_world or self.moves_money
        return self.is_outward and is_effect and not (self.repeat_is_harmless or self.takes_idempotency_key)

    @property
    def reaches_people(self) -> bool:
        """Whether people outside the organisation notice what it does, now or later."""
        return self.sends_outside or self.moves_money or self.drafts_for_outside

    @property
    def only_reads(self) -> bool:
        """Whether it only reads our own records, so that there is nothing to undo."""
        return not (self.is_outward or self.acts or self.price or self.charges_itself)

    def at_stake(self, parameters: Parameters) -> Stake:
        """Return what is at stake in a call. If a tool that moves money declares no stake, its amount is unknown."""
        if self.stake is None:
            return Stake(amount=None if self.moves_money else Decimal(0))
        return self.stake(parameters)

    def validate(self, arguments: dict[str, Any]) -> Parameters:
        """Parse and validate the arguments of a call.

        Raises:
            InvalidInput: they do not fit; the message is for the model, which can correct the call.
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
        """The tool as offered to a model, with fields for its rationale. Cached: making it takes milliseconds."""
        with self._guard():
            schema = parameter_schema(self.parameters)
        return ToolSpec(
            name=self.name,
            description=self.description,
            parameters=schema | {"properties": schema["properties"] | RATIONALE},
        )


_MOST_PROBLEMS, _LONGEST_PLACE = 10, 100


def _problems(tool: Tool, error: ValidationError) -> str:
    """Return what is wrong with a call's arguments, short enough for a model: long invented names are cut."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    told = [f"{_cut('.'.join(map(str, one['loc'])) or tool.name)}: {_cut(one['msg'])}" for one in found]
    more = len(told) - _MOST_PROBLEMS
    return "; ".join(told[:_MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_PLACE else f"{text[:_LONGEST_PLACE]}…"


class Registry:
    """All tools, by name. `more` is called for further tools at the first look-up."""

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
        """Return the tool called `name`; None if there is none."""
        return self._tools.get(name)

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that no tool has."""
        return sorted(set(names) - set(self._tools))

    def names(self) -> list[str]:
        """Return every tool's name."""
        return sorted(self._tools)


def load_tools(names: Iterable[str]) -> list[Tool]:
    """Return the tools that `names` point to. Each name, such as `my_company.tools:TOOLS`, refers to a list of tools.

    Raises:
        Misconfigured: a name refers to no such list.
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
    """Turn a function into a tool on our own records. The model reads its docstring. `facts` declare what it does; for
    a tool that only reads, use `reading_tool`.
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
    """Turn a function into a tool that only reads our own records."""
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
    """Turn a function into a tool that reaches outside our database, with a request to another system and its own
    time-out. `Tool` says what holds of a fact that is not declared.

    The function raises `InvalidInput`, `NotFound`, `Conflict` or `NotPermitted` with a message for the model, and
    `NotDone` if nothing happened and a retry may help. Any other exception of a tool that must not repeat leaves its
    outcome unknown until a person resolves it.
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
    """Return the JSON Schema of a tool's parameters, simplified for both providers: no titles, no null alternatives,
    and the definitions of nested models if there are any.
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
