"""Whether the trusted request itself asked for an action: this effect, these people, this amount. Pure.

After an agent has read what strangers wrote, its decisions may be theirs. An action that a trusted person asked for in
so many words, before any of that was read, is still that person's. So a call is held against each command of the
request (`agents/commands.py`), and each of its arguments traced to where it comes from: the words of the request, the
person whom the command names, or an id that a look-up about that person returned. An argument that cannot be traced
counts as not requested: a person is asked once too often, not once too seldom.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any
from uuid import UUID

from agents.commands import MOST_READ, Command, commands, refers_back
from agents.figures import (
    EMAIL,
    MOMENT,
    UUID_TEXT,
    WORD,
    amounts,
    is_same_way,
    mask,
    pointers,
    spaced,
    without_figures,
)
from agents.phrasebook import CONTENT, FILLERS, REASON, SOURCES, SPANS, is_word
from agents.tools.registry import Stake, Tool, Wording, phrases
from core.text import fold

# A customer called "Spin Class" must not be found in every request about a spin class.
_NO_NAMES = {
    "class", "classes", "clase", "clases", "session", "sesion", "booking", "bookings", "reserva", "reservas",
    "member", "members", "membership", "socio", "socios", "client", "clients", "cliente", "clientes", "customer",
    "customers", "lead", "leads", "staff", "team", "equipo", "manager", "everybody", "everyone", "all", "todos",
    "todas", "gym", "trial", "prueba", "tour", "visit", "payment", "pago", "charge", "refund", "message",
    "mensaje", "email", "sms", "report", "informe", "post", "campaign", "campana", "task", "tarea", "ticket",
    "resource", "today", "tomorrow", "week", "month", "year", "hoy", "semana", "mes", "manana", "monday",
    "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "lunes", "martes", "miercoles", "jueves",
    "viernes", "sabado", "domingo",
}  # fmt: skip
_SHORTEST_SLIP = 4  # letters of a word in which one may be misspelt
_FREE_FORM = {"data"}  # fields of a record whose content has no fixed names
_TELLING = 4  # letters of a text that says which record is meant


@dataclass(frozen=True)
class Person:
    """Somebody whom a call concerns."""

    id: str
    name: str
    ways: frozenset[str] = frozenset()
    """e-mail address and telephone number, folded"""
    is_only_one: bool = True
    """whether nobody else of the organisation has this name, or one that begins with it"""

    @cached_property
    def spoken(self) -> str:
        """The name where it tells who is meant: two words or more, of which none is another thing's."""
        words = WORD.findall(fold(self.name))
        is_telling = self.is_only_one and len(words) > 1 and not _NO_NAMES.intersection(words)
        return " ".join(words) if is_telling else ""


@dataclass(frozen=True)
class LookUp:
    """A look-up at our own records that an agent made: what it asked, and what it got."""

    tool: Tool
    arguments: Mapping[str, Any]
    result: Any


class Request:
    """The words of a person we trust, the facts they sent along, and the contact whom they say it is about. The words
    say what is to be done; the facts can only say more closely to what.
    """

    def __init__(self, text: str, contact: UUID | None = None, facts: str = "") -> None:
        self.commands = commands(text)
        self.contact = str(contact) if contact else None
        self._text = fold(f"{text[:MOST_READ]}\n{facts[:MOST_READ]}")

    def asks_for(self, wording: str) -> list[Command]:
        """The commands to do what one of the phrases says."""
        wanted = phrases(wording)
        return [command for command in self.commands if any(command.says(phrase) for phrase in wanted)]

    def contains(self, words: str) -> bool:
        """Whether these words stand in the request, one after the other."""
        return spaced(words).strip() != "" and spaced(words) in self._words

    def has_number(self, value: Decimal) -> bool:
        """Whether the request says this number."""
        return value in self._numbers

    def has_pointer(self, pointer: str) -> bool:
        """Whether a link, an address or a telephone number stands in the request, the latter spelled in any way."""
        return any(is_same_way(pointer, said) for said in self._pointers)

    def has_id(self, one: str) -> bool:
        """Whether an id stands in the request."""
        return one in UUID_TEXT.findall(self._text)

    @cached_property
    def _pointers(self) -> frozenset[str]:
        return pointers(self._text)

    @cached_property
    def _words(self) -> str:
        return spaced(self._text)

    @cached_property
    def _numbers(self) -> frozenset[Decimal]:
        return amounts(self._text)

    def names(self, person: Person) -> bool:
        """Whether its words, or the facts, name somebody."""
        return _names(self._text, self._words, self._pointers, person)


def _names(text: str, words: str, ways: Iterable[str], person: Person, alias: str = "") -> bool:
    """Whether a text names somebody: by id, by an address of theirs, or by a name that can mean nobody else."""
    if person.id in UUID_TEXT.findall(text) or any(is_same_way(way, said) for way in person.ways for said in ways):
        return True
    return any(name and f" {name} " in words for name in (person.spoken, alias))


def is_nearly(said: str, name: str) -> bool:
    """Whether two names have the same words, each but for one letter too many, too few, or another."""
    one, other = WORD.findall(fold(said)), WORD.findall(fold(name))
    return len(one) == len(other) > 1 and all(_is_one_slip(*pair) for pair in zip(one, other, strict=True))


def _is_one_slip(one: str, other: str) -> bool:
    if one == other:
        return True
    short, long = sorted((one, other), key=len)
    if len(short) < _SHORTEST_SLIP or len(long) - len(short) > 1:
        return False
    at = next((place for place, letter in enumerate(short) if letter != long[place]), len(short))
    return short[at + (len(short) == len(long)) :] == long[at + 1 :]


# ── one call ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def is_requested(
    request: Request,
    tool: Tool,
    arguments: Mapping[str, Any],
    stake: Stake,
    people: Mapping[str, Person],
    look_ups: Iterable[LookUp] = (),
    done: Iterable[Mapping[str, Any]] = (),
) -> bool:
    """Whether `request` asked for this call. `people` are those whom its arguments and the look-ups can mean, by id and
    by address; `look_ups` what the agent has looked up before, in order; `done` the arguments of this tool's calls that
    were carried out before: what was asked for once is done once.
    """
    wording = tool.wording
    if wording is None or stake.amount is None:
        return False
    prose = phrases(wording.prose)
    given = chosen(tool, arguments)
    if any(_traced(chosen(tool, before), prose) == _traced(given, prose) for before in done):
        return False
    everybody = list({person.id: person for person in people.values()}.values())
    looked_up = list(look_ups)
    for command in request.asks_for(wording.effect):
        reading = _Reading(tool, request, command, people, everybody)
        reading.learn(looked_up)
        if (
            reading.allows(stake.amount)
            and reading.is_understood(tool, wording, given, stake)
            and all(
                reading.has_prose(value, of=given) if name in prose else reading.has(name, value, wording.values)
                for name, value in given.items()
            )
        ):
            return True
    return False


def _traced(given: Mapping[str, Any], prose: list[str]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in prose}


def chosen(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that say more than the tool assumes without them."""
    fields = tool.parameters.model_fields
    return {
        name: value
        for name, value in arguments.items()
        if not name.startswith("_")
        and not (name in fields and fields[name].get_default(call_default_factory=True) == value)
    }


class _Reading:
    """One command of a request, read for one tool, and what can be traced to it: its words, the people it names, and
    ids found by looking these up.

    Where a command names nobody ("then book her"), it is about the only one whom the request names.
    """

    def __init__(
        self, tool: Tool, request: Request, command: Command, people: Mapping[str, Person], everybody: list[Person]
    ) -> None:
        self._is_grave = tool.risk in {"high", "critical"}
        self._has_content = tool.risk != "low" and tool.wording is not None and tool.wording.prose != ""
        self._request = request
        self._command = command
        self._people = people
        self._everybody = everybody
        self._found: set[tuple[str, str]] = set()
        """ids, each with the name under which it stood"""
        self._aliases: dict[str, str] = {}
        """misspelt names, by the id of the only one who can be meant"""

    def learn(self, look_ups: list[LookUp]) -> None:
        """Add the ids that look-ups returned: in records of what the request speaks of, and of people who are named."""
        for one in look_ups:
            self._aliases |= self._misspelled(one)
        for one in look_ups:
            asked = [(name, leaf) for name, value in chosen(one.tool, one.arguments).items() for leaf in _leaves(value)]
            is_asked = bool(asked) and all(self._has_leaf(name, leaf, {}) for name, leaf in asked)
            is_of_named = is_asked and any(self._is_meant(leaf) for _, leaf in asked)
            if is_of_named or one.tool.returns != "people":
                is_all_meant = is_of_named or is_asked or one.tool.returns == "catalogue"
                self._found.update(self._ids(one.result, all_of_it=is_all_meant))

    def allows(self, amount: Decimal) -> bool:
        """Whether the command says this amount, no other, and of one person at most."""
        return not amount or (self._command.amounts == {amount} and len(self._meant) <= 1)

    def is_understood(self, tool: Tool, wording: Wording, given: Mapping[str, Any], stake: Stake) -> bool:
        """Whether every word of the command is accounted for, up to where words to be written, or a reason, begin.
        Where money moves or somebody outside is written to, the whole request must be commands. What is easily undone
        in our own records may be asked for in any words.
        """
        if tool.risk == "low":
            return True
        if self._is_grave and (self._command.asks_whether or not self._command.stands_alone):
            return False
        known = FILLERS | (set() if self._is_grave else SPANS)
        known -= SOURCES if stake.recipients else set()
        prose = phrases(wording.prose)
        known |= {word for name, one in given.items() if name not in prose for word in WORD.findall(fold(str(one)))}
        declared = " ".join([wording.effect, *wording.values.values()]).replace(",", " ").replace("|", " ").split()
        rest = WORD.findall(self._masked[: self._head])[1:]
        return all(word in known or any(is_word(one, word) for one in declared) for word in rest)

    @cached_property
    def _masked(self) -> str:
        """The command with people, amounts and days made unreadable, each letter where it was."""
        text = self._command.text
        for person in self._everybody:
            for name in filter(None, (person.spoken, self._aliases.get(person.id, ""))):
                said = r"\W+".join(map(re.escape, name.split()))
                text = re.sub(rf"\b{said}(?:'s)?\b", mask, text)
        return without_figures(text)

    @cached_property
    def _head(self) -> int:
        """Where the command ends and what is only to be written, or a reason, begins."""
        found = CONTENT.search(self._masked) if self._has_content else None
        return found.start() if found else len(self._masked)

    def has(self, name: str, value: Any, values: Mapping[str, str]) -> bool:
        """Whether everything in the argument stems from the request."""
        return all(self._has_leaf(name, leaf, values) for leaf in _leaves(value))

    def has_prose(self, value: Any, *, of: Mapping[str, Any]) -> bool:
        """Whether words to be written point nowhere but where the request does, or to the one they go to."""
        named = {way for leaf in _leaves(of) if (who := self._person(leaf)) for way in who.ways}
        text = fold("\n".join(str(leaf) for leaf in _leaves(value)))
        return all(
            self._request.has_pointer(one) or any(is_same_way(one, way) for way in named) for one in pointers(text)
        )

    def _has_leaf(self, name: str, leaf: Any, values: Mapping[str, str]) -> bool:
        if leaf is None or isinstance(leaf, bool):
            return leaf is None  # a request never says true
        if isinstance(leaf, int | float):
            return self._request.has_number(Decimal(str(leaf)))
        if self._person(leaf) is not None:
            return self._is_meant(leaf)
        return self._has_text(name, fold(str(leaf)), values)

    def _has_text(self, name: str, text: str, values: Mapping[str, str]) -> bool:
        if text in values:
            words = WORD.findall(REASON.split(self._command.text)[0])
            said = [one for one in values if any(self._command.has(phrase, words) for phrase in phrases(values[one]))]
            return said == [text]
        if UUID_TEXT.fullmatch(text):
            return (_singular(name), text) in self._found or self._request.has_id(text)
        if EMAIL.fullmatch(text) or _is_number(text):
            return any(is_same_way(text, said) for said in self._ways)
        return bool(MOMENT.fullmatch(text)) or self._request.contains(text)

    def _person(self, leaf: Any) -> Person | None:
        return self._people.get(leaf.lower()) if isinstance(leaf, str) else None

    def _is_meant(self, leaf: Any) -> bool:
        person = self._person(leaf)
        return person is not None and person.id in self._meant

    @cached_property
    def _ways(self) -> frozenset[str]:
        return pointers(self._command.text[: self._head])

    @cached_property
    def _meant(self) -> frozenset[str]:
        """The ids of those whom the command is about."""
        text = self._command.text[: self._head]
        said = spaced(text)
        named = [
            person
            for person in self._everybody
            if _names(text, said, self._ways, person, self._aliases.get(person.id, ""))
        ]
        if named:
            return frozenset(person.id for person in named if not any(_is_within(person, other) for other in named))
        spoken_of = {person.id for person in self._everybody if self._request.names(person)} | set(self._aliases)
        if not spoken_of and self._request.contact:
            spoken_of = {self._request.contact}
        return frozenset(spoken_of if len(spoken_of) == 1 and refers_back(self._command) else ())

    def _misspelled(self, look_up: LookUp) -> dict[str, str]:
        """Who is meant where a search for words of the request, and for nothing else, found one person alone, whose
        name is these words but for a slip of the pen; with these words.
        """
        asked = list(chosen(look_up.tool, look_up.arguments).values())
        found = {person.id: person for one in ids_in(look_up.result) if (person := self._people.get(one))}
        if len(asked) != 1 or not isinstance(asked[0], str) or len(found) != 1:
            return {}
        person = next(iter(found.values()))
        is_meant = self._request.contains(asked[0]) and is_nearly(asked[0], person.name)
        return {person.id: spaced(asked[0]).strip()} if is_meant else {}

    def _ids(self, result: Any, *, all_of_it: bool) -> Iterator[tuple[str, str]]:
        """The ids in a result, each with the name under which it stands: in records of nobody who is not meant, and of
        what the request speaks of. Words are no ids, whatever they look like.
        """
        if isinstance(result, list):
            for one in result:
                yield from self._ids(one, all_of_it=all_of_it)
        if not isinstance(result, Mapping):
            return
        texts = [value for value in result.values() if isinstance(value, str)]
        if any(self._person(text) is not None and not self._is_meant(text) for text in texts):
            return
        is_spoken_of = all_of_it or any(len(text) >= _TELLING and self._request.contains(text) for text in texts)
        for name, value in result.items():
            if isinstance(value, str):
                if is_spoken_of and UUID_TEXT.fullmatch(value.lower()):
                    yield name, value.lower()
            elif name not in _FREE_FORM:
                yield from self._ids(value, all_of_it=all_of_it)


def _is_within(person: Person, other: Person) -> bool:
    """Whether somebody's name is part of another's, so that the other's name does not name them."""
    return person is not other and f" {person.spoken} " in f" {other.spoken} " and person.spoken != other.spoken


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\+?[\d ()./-]{6,20}", text) is not None and not MOMENT.fullmatch(text)


def _singular(name: str) -> str:
    return name.removesuffix("s") if name.endswith("_ids") else name


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _leaves(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


def ids_in(value: Any) -> set[str]:
    """Every id in a JSON value, in lower case."""
    return {leaf.lower() for leaf in _leaves(value) if isinstance(leaf, str) and UUID_TEXT.fullmatch(leaf.lower())}


def addresses_in(value: Any) -> set[str]:
    """Every value that is an e-mail address or a telephone number as a whole, folded."""
    texts = {fold(leaf) for leaf in _leaves(value) if isinstance(leaf, str)}
    return {text for text in texts if EMAIL.fullmatch(text) or _is_number(text)}
