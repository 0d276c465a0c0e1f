"""Fill a tool's parameters from a message, by their description in the tool's schema."""

import re
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from core.text import fold
from embedded.rehearsal import extract
from embedded.rehearsal.guess import guess_text, phrases
from embedded.rehearsal.lexicon import concept, concepts, is_ordinary, translate, words
from embedded.rehearsal.talk import Call

_FIRST_OF_A_SPAN = re.compile(r"from|first|start|begin|since|after", re.IGNORECASE)
_LAST_OF_A_SPAN = re.compile(r"\bto\b|to_|last|end|until|before", re.IGNORECASE)
_AT_LEAST = re.compile(r"\b(over|above|at least|more than|mas de|minimo|superior(?:es)? a)\s+[€$]?(\d+)", re.IGNORECASE)
_SO_MANY = re.compile(r"\b(?:last|top|first|latest|ultim[oa]s|primer[oa]s)\s+(\d+)\b")
_BECAUSE = re.compile(r"\b(?:because|since|as|porque|ya que)\s+(.{3,120}?)(?:[.;!?\n]|$)", re.IGNORECASE)
_WITH = re.compile(r"\b(?:with|con)\s+([A-ZÁÉÍÓÚÑ][\wáéíóúñ]+)")
_BESIDE_CLASS = re.compile(r"\b(?:class(?:es)?|clases?|session|sesion)\b")

_AFTER_COLON = re.compile(r":\s+([^:\n]{3,600}?)(?:\s\w+:|\n|$)")

_FIRST_YEAR, _LAST_YEAR = 1900, 2100

UNKNOWN = object()
"""no rule covers the parameter; MISSING means that a rule covers it, but found no value"""

MISSING = object()
"""the message holds no value for the parameter"""


@dataclass(frozen=True)
class Situation:
    """The sources of values: the clause in question, the whole message, the present day, and earlier results."""

    clause: str
    message: str
    today: date
    calls: list[Call]
    topic: frozenset[str] = frozenset()  # concepts of the tool's name, which therefore choose no enum value
    required: frozenset[str] = frozenset()  # parameters for which a guess is better than no value
    taken: list[Any] = field(default_factory=list)  # values of other parameters of the same call


def fill(name: str, schema: dict[str, Any], here: Situation) -> Any:
    """Return the value of the parameter `name`, or MISSING."""
    if "enum" in schema:
        return _enum(schema["enum"], here)
    kind = schema.get("type")
    if schema.get("format") == "uuid":
        return _id(name, here)
    if schema.get("format") in {"date", "date-time"}:
        return _day(f"{name} {schema.get('description', '')}", here)
    if kind == "boolean":
        return True if set(concepts(name)) & set(concepts(here.clause)) else MISSING
    if kind in {"integer", "number"}:
        return _number(name, kind, here)
    return _words(name, schema, here)


def _words(name: str, schema: dict[str, Any], here: Situation) -> Any:
    """Return a text or a list. If no rule covers it, guess, but only for a required parameter."""
    is_required = name in here.required
    if schema.get("type") == "array":
        return _list(schema.get("items", {}), here) if is_required else MISSING
    if schema.get("type") != "string":
        return MISSING
    about = f"{name.replace('_', ' ')}: {schema.get('description', '')}"
    found = _month(here) if name == "month" and "YYYY-MM" in about else _text(about, here)
    if found is not UNKNOWN:
        return found
    return guess_text(about, here.message, here.taken) if is_required else MISSING


def _month(here: Situation) -> Any:
    days = _named_days(here)
    return f"{days[0]:%Y-%m}" if days else MISSING


def _list(items: dict[str, Any], here: Situation) -> Any:
    if items.get("type") in {"integer", "number"}:
        numbers = extract.numbers(here.clause) or extract.numbers(here.message)
        return [int(one) if one.is_integer() else one for one in numbers] or MISSING
    return phrases(here.message) or MISSING


def _enum(values: list[Any], here: Situation) -> Any:
    meant = concepts(here.clause)
    for value in values:
        parts = set(concepts(str(value)))
        if parts <= set(meant) and not parts <= here.topic:
            return value
    return MISSING


def _id(name: str, here: Situation) -> Any:
    written = extract.uuids(here.clause) or extract.uuids(here.message)
    if written:
        return written[0]
    candidates = [row for call in here.calls if not call.is_error for row in _rows_with(name, call.result)]
    return max(candidates, key=lambda row: _likeness(row, here))[name] if candidates else MISSING


def _rows_with(name: str, value: Any) -> list[dict[str, Any]]:
    """Return every object within `value` that has a value in the field `name`."""
    if isinstance(value, list):
        return [row for item in value for row in _rows_with(name, item)]
    if not isinstance(value, dict):
        return []
    inner = [row for item in value.values() for row in _rows_with(name, item)]
    return [value, *inner] if value.get(name) else inner


def _likeness(row: dict[str, Any], here: Situation) -> tuple[int, int]:
    """Return how well a row fits the message: by shared words and times. A row with no place left fits worst."""
    said = set(words(here.message)) | set(concepts(here.message))
    text = " ".join(str(value) for value in row.values())
    shared = len(set(words(text)) & said) + 3 * sum(hour in text for hour in extract.hours(here.message))
    is_full = any(key.endswith("_left") and value == 0 for key, value in row.items())
    return (0 if is_full else 1, shared)


def _day(about: str, here: Situation) -> Any:
    named = _named_days(here)
    if not named:
        return MISSING
    if _LAST_OF_A_SPAN.search(about.split(" ", maxsplit=1)[0]):
        return named[-1].isoformat()
    return named[0].isoformat() if _FIRST_OF_A_SPAN.search(about) or len(named) == 1 else named[-1].isoformat()


# Tools about these topics concern the future: for them, a month without a year is one that is not over.
_AHEAD = frozenset({"schedule", "upcoming", "calendar", "availability"})


def _named_days(here: Situation) -> list[date]:
    """Return the days, or else the first and last days of the months, that the clause names, or else the message."""
    ahead = bool(here.topic & _AHEAD)
    for text in (here.clause, here.message):
        if days := extract.days(text, here.today):
            return days
        if spans := extract.months(text, here.today, ahead=ahead):
            return [day for span in spans for day in span]
    return []


def _number(name: str, kind: str, here: Situation) -> Any:
    if name.startswith("min"):
        found = _AT_LEAST.search(fold(here.clause))
        value = float(found.group(2)) if found else None
    elif name in {"limit", "count", "max_results"}:
        found = _SO_MANY.search(fold(here.clause))
        value = float(found.group(1)) if found else None
    else:
        free = [one for one in extract.numbers(here.clause) + extract.numbers(here.message) if one not in here.taken]
        years = [one for one in free if _FIRST_YEAR <= one <= _LAST_YEAR]
        value = next(iter(years if "year" in name else free), None)
    if value is None:
        return MISSING
    return int(value) if kind == "integer" else value


def _text(about: str, here: Situation) -> Any:
    """Return a text by the first rule that fits the parameter's description, most specific first; else UNKNOWN."""
    wanted = fold(about)
    if "instructor" in wanted:
        found = _WITH.search(here.clause)
        return found.group(1) if found else MISSING
    if "class" in wanted:
        return _kind_of_class(here)
    if "why" in wanted or "reason" in wanted or "what happened" in wanted:
        found = _BECAUSE.search(here.message)
        return found.group(1).strip() if found else MISSING
    if "name" in wanted and ("e-mail" in wanted or "phone" in wanted):
        people = extract.names(here.clause) or extract.names(here.message)
        return extract.email(here.message) or (people[0] if people else extract.phone(here.message) or MISSING)
    if "such as" in wanted:
        return _such_as(about, here)
    # What follows a colon: "write to her: we miss you", "what it is to do: ask how she is".
    found = _AFTER_COLON.search(here.message) if "what to write" in wanted else None
    return found.group(1).strip() if found else UNKNOWN


def _kind_of_class(here: Situation) -> Any:
    """Return the unknown word nearest to "class" or "session" or, without these, the last unknown word. People's names
    do not count.
    """
    people = {word for name in extract.names(here.message) for word in words(name)}
    for text in (here.clause, here.message):
        unknown = [word for word in words(text) if not is_ordinary(word) and word not in people and not word.isdigit()]
        if not unknown:
            continue
        folded = fold(text)
        beside = _BESIDE_CLASS.search(folded)
        if beside is None:
            return translate(unknown[-1])
        return translate(min(unknown, key=lambda word: abs(folded.find(word) - beside.start())))
    return MISSING


def _such_as(about: str, here: Situation) -> Any:
    """Return a word of the clause that the description gives as an example ("such as …")."""
    _, _, examples = about.partition("such as ")
    given = {concept(word): word for word in words(examples)}
    return next((given[one] for one in concepts(here.clause) if one in given), MISSING)
