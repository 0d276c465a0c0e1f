"""Parse cron expressions of five fields strictly, and compute their due times in a time zone. Pure.

    minute (0-59)  hour (0-23)  day of month (1-31)  month (1-12, JAN-DEC)  day of week (0-7, SUN-SAT)

A field is `*`, or a list of values, ranges `a-b` and steps `*/n`, `a/n`, `a-b/n`. A day of the month may also be `L`,
the last day, or `15W`, the weekday nearest the 15th (in a shorter month the last day stands for the 31st, so `31W` is
the last weekday). A day of the week, where 0 and 7 are Sunday, may also be `FRI#2`, the second Friday, or `5L`, the
last Friday of the month. If both day fields are restricted, a date matches when either does, as in Vixie cron. Macros
such as `@hourly` expand to five fields.

Daylight saving time follows two rules. A time that the clocks skip happens once, right after the jump. When the clocks
are set back, a fixed time happens once, at its first occurrence; an expression that reads like an interval, with a `*`,
a range or a step for its minute or hour, keeps its rhythm and happens at both occurrences.
"""

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter

LONGEST = 500
"""maximum length of an expression, in characters; a longer one is a mistake or an attack"""


Language = Literal["en", "es"]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a part of a schedule, and what to write instead."""

    field: str
    message: str


class Refused(ValueError):
    """The cron expression is malformed, or never comes due."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
        self.problems = problems


class _Fault(ValueError):
    """An error in one field or, without a field, in the whole expression, worded in each language."""

    def __init__(self, english: str, spanish: str, field: str = "cron") -> None:
        super().__init__(english)
        self.field = field
        self._told: dict[Language, str] = {"en": english, "es": spanish}

    def problem(self, language: Language, field: str | None = None) -> Problem:
        """Return the fault worded in `language`; `field` overrides the fault's own field."""
        return Problem(field or self.field, self._told[language])


@dataclass(frozen=True)
class Cron:
    """A parsed expression. `text` is its source, with macros expanded and fields separated by single spaces; `parts`
    holds the five parsed fields.
    """

    text: str
    parts: tuple["Part", ...]
    strands: tuple[str, ...]
    is_interval_like: bool

    def following(self, wall: datetime) -> datetime | None:
        """Return the first matching wall-clock time after the naive time `wall`; None if the calendar ends first."""
        return min((found for strand in self.strands if (found := _following(strand, wall))), default=None)


def _following(strand: str, wall: datetime) -> datetime | None:
    try:
        found: datetime = croniter(strand, wall, max_years_between_matches=_FARTHEST).get_next(datetime)
    except (CroniterBadDateError, OverflowError, ValueError):
        return None
    return found if found.year < MAXYEAR else None


_FARTHEST = 50
"""years to search ahead; the rarest date, 29 February, is at most eight years away"""


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name.upper(): (number + 1) % 7 for number, name in enumerate(calendar.day_abbr)}
_PART = re.compile(r"(?P<low>\*|[0-9]{1,4}|[A-Z]+)(?:-(?P<high>[0-9]{1,4}|[A-Z]+))?(?:/(?P<step>[0-9]{1,4}))?")
_NEAREST = re.compile(r"([0-9]{1,2})W")
_LAST_DAY_OF_WEEK = re.compile(r"([0-7]|[A-Z]{3})L|L([0-7]|[A-Z]{3})")
_NTH_DAY_OF_WEEK = re.compile(r"([0-7]|[A-Z]{3})#([0-9])")
_MOST_WEEKS = 5
_MOST_DAYS = {month: calendar.monthrange(2024, month)[1] for month in range(1, 13)}


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: dict[str, int]
    else_: tuple[str, str] | tuple[()]
    ends: tuple[str, str]
    in_spanish: str

    def number(self, word: str, *, is_end: bool = False) -> int:
        if word.isdigit():
            value = int(word)
        elif word in self.names:
            value = self.names[word]
            if is_end and self.name == "day of week" and value == 0:
                return 7  # SAT-SUN: Sunday at the end of a range is 7, not 0
        else:
            known, conocido = (f", or {self.else_[0]}", f", o {self.else_[1]}") if self.else_ else ("", "")
            raise _Fault(
                f"{word!r} is not a {self.name}; write a number from {self.low} to {self.high}{known}",
                f"{word!r} no vale como {self.in_spanish}; escribe un número de {self.low} a {self.high}{conocido}",
            )
        if not self.low <= value <= self.high:
            raise _Fault(
                f"{value} is out of range; a {self.name} goes from {self.low} to {self.high}",
                f"{value} está fuera de rango; el campo {self.in_spanish} va de {self.low} a {self.high}",
            )
        return value


_FIELDS = (
    _Field("minute", 0, 59, {}, (), ("59", "0"), "minuto"),
    _Field("hour", 0, 23, {}, (), ("23", "0"), "hora"),
    _Field("day of month", 1, 31, {}, ("L for the last day", "L para el último día"), ("31", "1"), "día del mes"),
    _Field("month", 1, 12, _MONTHS, ("JAN to DEC", "JAN a DEC"), ("DEC", "JAN"), "mes"),
    _Field("day of week", 0, 7, _DAYS, ("SUN to SAT", "SUN a SAT"), ("SAT", "SUN"), "día de la semana"),
)


@dataclass(frozen=True)
class Part:
    """A parsed field: its plain values, and days that depend on the month, in croniter's spelling."""

    is_any: bool
    values: frozenset[int] = frozenset()
    special: tuple[str, ...] = ()


def parse(text: str, language: Language = "en") -> Cron:
    """Parse an expression; error messages are in `language`.

    Raises:
        Refused: the expression is malformed, or matches no existing date; the error lists every faulty field.
    """
    problems: list[Problem] = []
    read: list[Part] = []
    try:
        words = _words(text)
        for field, word in zip(_FIELDS, words, strict=True):
            try:
                read.append(_read(field, word.upper()))
            except _Fault as fault:
                problems.append(fault.problem(language, field.name))
        if not problems:
            _refuse_dates_that_never_come(*read[2:])
    except _Fault as fault:
        problems.append(fault.problem(language))
    if problems:
        raise Refused(problems)
    return Cron(" ".join(words), tuple(read), tuple(_strands(*read)), any(map(_reads_like_an_interval, words[:2])))


def _words(text: str) -> list[str]:
    if len(text) > LONGEST:
        raise _Fault(
            f"{len(text)} characters are too many; {LONGEST} are the most",
            f"{len(text)} caracteres son demasiados; se admiten {LONGEST} como máximo",
        )
    words = text.split()
    if len(words) == 1 and words[0].startswith("@"):
        macro = _MACROS.get(words[0].lower())
        if macro is None:
            known = ", ".join(_MACROS)
            raise _Fault(f"{words[0]!r} is not known; there are {known}", f"{words[0]!r} no existe; hay {known}")
        return macro.split()
    if len(words) != len(_FIELDS):
        names, nombres = ", ".join(one.name for one in _FIELDS), ", ".join(one.in_spanish for one in _FIELDS)
        has_more = len(words) in {6, 7}
        raise _Fault(
            f"has {len(words)} fields, not 5: {names}" + ("; seconds and years cannot be given" if has_more else ""),
            f"tiene {len(words)} campos y no 5: {nombres}" + ("; no admite segundos ni años" if has_more else ""),
        )
    return words


def _read(field: _Field, word: str) -> Part:
    by_day = field.name in {"day of month", "day of week"}
    if word == "*" or (word == "?" and by_day):
        return Part(is_any=True)
    values: set[int] = set()
    special: list[str] = []
    for part in word.split(","):
        if not part:
            raise _Fault(
                "is empty between two commas; leave the comma out", "está vacío entre dos comas; quita la coma"
            )
        if by_day and (found := _special(field, part)):
            special.append(found)
        else:
            values.update(_values(field, part))
    if field.name == "day of week":
        values = {value % 7 for value in values}
    return Part(is_any=False, values=frozenset(values), special=tuple(dict.fromkeys(special)))


def _special(field: _Field, part: str) -> str | None:
    """Return a day that depends on the month in croniter's spelling; None for a plain day."""
    if field.name == "day of month":
        if part == "L":
            return "L"
        if part.startswith("L"):
            raise _Fault(
                f"{part!r} cannot be read; L, the last day, stands alone, and 31W is the last weekday",
                f"{part!r} no se entiende; L, el último día, va sola, y 31W es el último día laborable",
            )
        if nearest := _NEAREST.fullmatch(part):
            return f"{field.number(nearest[1])}W"
        return None
    if last := _LAST_DAY_OF_WEEK.fullmatch(part):
        return f"L{field.number(last[1] or last[2]) % 7}"
    if nth := _NTH_DAY_OF_WEEK.fullmatch(part):
        if not 1 <= int(nth[2]) <= _MOST_WEEKS:
            raise _Fault(
                f"{part} cannot be: a month has a first to fifth {nth[1]}, so write #1 to #5",
                f"{part} no puede ser: un mes tiene del primer al quinto {nth[1]}; escribe de #1 a #5",
            )
        return f"{field.number(nth[1]) % 7}#{nth[2]}"
    return None


def _values(field: _Field, part: str) -> range:
    found = _PART.fullmatch(part)
    if found is None:
        raise _Fault(
            f"{part!r} cannot be read; write a value, a range such as a-b, or a step such as */n",
            f"{part!r} no se entiende; escribe un valor, un rango como a-b o un paso como */n",
        )
    low, high, step = found["low"], found["high"], found["step"]
    if low == "*":
        if high is not None:
            raise _Fault(
                f"{part!r} cannot be read; a range has a value at both ends",
                f"{part!r} no se entiende; un rango tiene un valor en cada extremo",
            )
        first, last = field.low, 6 if field.name == "day of week" else field.high
    else:
        first = field.number(low)
        last = field.number(high, is_end=True) if high is not None else field.high if step else first
    if last < first:
        end, start = field.ends
        instead = f"{low}-{end},{start}-{high}"
        raise _Fault(
            f"{part} runs backwards; write {instead} for the two ends",
            f"{part} va hacia atrás; escribe {instead} para los dos extremos",
        )
    every = int(step) if step else 1
    if not 1 <= every <= field.high:
        raise _Fault(
            f"a step of {every} is out of range; it goes from 1 to {field.high}",
            f"un paso de {every} está fuera de rango; va de 1 a {field.high}",
        )
    return range(first, last + 1, every)


def _refuse_dates_that_never_come(day: Part, month: Part, day_of_week: Part) -> None:
    if not day_of_week.is_any or day.is_any or day.special:
        return
    months = range(1, 13) if month.is_any else month.values
    longest = max(_MOST_DAYS[number] for number in months)
    if min(day.values) > longest:
        named = ", ".join(calendar.month_name[number] for number in sorted(months))
        numbers = ", ".join(str(number) for number in sorted(months))
        raise _Fault(
            f"{min(day.values)} never comes in {named}, which has {longest} days at most",
            f"el día {min(day.values)} no existe en el mes {numbers}, que tiene {longest} días como máximo",
            "day of month",
        )


def _strands(minute: Part, hour: Part, day: Part, month: Part, day_of_week: Part) -> Iterator[str]:
    """Yield croniter expressions that together mean this one. Each restricts at most one of the two day fields, so the
    result does not depend on how croniter combines them. None mixes plain and special days: croniter cannot.
    """
    clock, months = f"{_written(minute)} {_written(hour)}", _written(month)
    if day.is_any and day_of_week.is_any:
        yield f"{clock} * {months} *"
    for each in _alternatives(day):
        yield f"{clock} {each} {months} *"
    for each in _alternatives(day_of_week):
        yield f"{clock} * {months} {each}"


def _alternatives(days: Part) -> list[str]:
    return [*([_written(days)] if days.values else []), *days.special]


def _written(read: Part) -> str:
    return "*" if read.is_any else ",".join(map(str, sorted(read.values)))


def _reads_like_an_interval(word: str) -> bool:
    return any(sign in word for sign in "*-/")


# ── in a time zone ───────────────────────────────────────────────────────────────────────────────────────────────────


def next_run(cron: Cron, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Return the first time (UTC) after `after` at which the expression is due by the clocks of `zone`."""
    local = after.astimezone(zone).replace(microsecond=0)
    wall = local.replace(tzinfo=None, fold=0)
    if cron.is_interval_like and not local.fold and _is_twice(wall, zone):
        return _next_within_first_passing(cron, zone, wall)
    passed_again_until = _overlap_end(wall, zone) if cron.is_interval_like and local.fold else None
    while (found := cron.following(wall)) is not None:
        moment = _moment(found, zone, again=passed_again_until is not None and found < passed_again_until)
        if moment > after:
            return moment
        wall = found
    return None


def upcoming(cron: Cron, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Yield the times (UTC) after `after` at which the expression is due, in order."""
    moment = next_run(cron, zone, after)
    while moment is not None:
        yield moment
        moment = next_run(cron, zone, moment)


def _next_within_first_passing(cron: Cron, zone: ZoneInfo, wall: datetime) -> datetime | None:
    """Return the next time shortly before the clocks are set back: one that is due before that, else the first due time
    of the second pass.
    """
    turn, end = _turn(wall, zone), _overlap_end(wall, zone)
    found = cron.following(wall)
    if found is not None and found < end:
        return _moment(found, zone, again=False)
    found = cron.following(turn.astimezone(zone).replace(tzinfo=None, fold=0) - timedelta(seconds=1))
    return None if found is None else _moment(found, zone, again=found < end)


def _moment(wall: datetime, zone: ZoneInfo, *, again: bool) -> datetime:
    """Return when (UTC) the clocks show `wall`: right after the jump if never; with `again`, the second time."""
    first, second = _utc(wall, zone, fold=0), _utc(wall, zone, fold=1)
    if second < first:
        return _turn(wall, zone)
    return second if again else first


def _utc(wall: datetime, zone: ZoneInfo, *, fold: int) -> datetime:
    return wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _is_twice(wall: datetime, zone: ZoneInfo) -> bool:
    return _utc(wall, zone, fold=0) < _utc(wall, zone, fold=1)


def _turn(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment (UTC, to the second) of the clock change that skips or repeats `wall`."""
    low, high = sorted((_utc(wall, zone, fold=0), _utc(wall, zone, fold=1)))
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        middle -= timedelta(microseconds=middle.microsecond)
        if middle <= low:
            break
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return high.replace(microsecond=0)


def _overlap_end(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the wall-clock time at which the clocks are set back, for a `wall` that they show twice."""
    return wall + (_turn(wall, zone) - _utc(wall, zone, fold=0))
