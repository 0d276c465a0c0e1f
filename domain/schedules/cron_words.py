"""Describe cron expressions in English and Spanish. Pure.

The words follow the meaning of the fields, not their spelling: expressions that are due at the same times read the
same. The parts of a field are joined by "and". If both day fields are restricted, either is enough, so these two are
joined by "or".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from domain.schedules.cron import Cron, Language, Part

_MOST_TIMES = 6
"""maximum number of times of day that are listed one by one; more are written as minutes past hours"""
_HOURS, _MINUTES = 24, 60
_LAST_MONTH_DAY = 31


@dataclass(frozen=True)
class _Words:
    """The phrases of one language. Braces are positional placeholders."""

    joined: str
    either: str
    days: tuple[str, ...]
    months: tuple[str, ...]
    ordinals: tuple[str, ...]
    every_minute: str
    every_minutes: str
    every_hour: str
    every_hours: str
    at: str
    at_one: str
    minute_past: str
    minutes_past: str
    between_hours: str
    day: str
    days_listed: str
    run: str
    last_day: str
    last_weekday: str
    nearest: str
    weekday: Callable[[str], str]
    weekdays_run: str
    last_of: str
    nth_of: str
    only: str
    in_months: str
    in_run_of_months: str


def _spanish_weekday(name: str) -> str:
    return f"los {name}{'s' if name.endswith('o') else ''}"


_ENGLISH = _Words(
    joined="and",
    either="or",
    days=("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    months=("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
            "November", "December"),
    ordinals=("first", "second", "third", "fourth", "fifth"),
    every_minute="Every minute",
    every_minutes="Every {} minutes",
    every_hour="Every hour",
    every_hours="Every {} hours",
    at="At {}",
    at_one="At {}",
    minute_past="At {} minutes past the hour",
    minutes_past="At {} minutes past the hour",
    between_hours="between {:02d}:00 and {:02d}:59",
    day="on day {} of the month",
    days_listed="on days {} of the month",
    run="{} through {}",
    last_day="on the last day of the month",
    last_weekday="on the last weekday of the month",
    nearest="on the weekday nearest day {} of the month",
    weekday=lambda name: f"on {name}",
    weekdays_run="{} through {}",
    last_of="on the last {} of the month",
    nth_of="on the {} {} of the month",
    only="only {}",
    in_months="in {}",
    in_run_of_months="from {} through {}",
)  # fmt: skip
_SPANISH = _Words(
    joined="y",
    either="o",
    days=("domingo", "lunes", "martes", "miércoles", "jueves", "viernes", "sábado"),
    months=("enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre",
            "noviembre", "diciembre"),
    ordinals=("primer", "segundo", "tercer", "cuarto", "quinto"),
    every_minute="Cada minuto",
    every_minutes="Cada {} minutos",
    every_hour="Cada hora",
    every_hours="Cada {} horas",
    at="A las {}",
    at_one="A la {}",
    minute_past="Al minuto {} de cada hora",
    minutes_past="A los minutos {} de cada hora",
    between_hours="entre las {:02d}:00 y las {:02d}:59",
    day="el día {} del mes",
    days_listed="los días {} del mes",
    run="{} a {}",
    last_day="en el último día del mes",
    last_weekday="en el último día laborable del mes",
    nearest="en el día laborable más cercano al día {} del mes",
    weekday=_spanish_weekday,
    weekdays_run="de {} a {}",
    last_of="en el último {} del mes",
    nth_of="en el {} {} del mes",
    only="sólo {}",
    in_months="en {}",
    in_run_of_months="de {} a {}",
)  # fmt: skip
_LANGUAGES: dict[Language, _Words] = {"en": _ENGLISH, "es": _SPANISH}


def in_words(cron: Cron, language: Language = "en") -> str:
    """Describe `cron`, without a time zone."""
    say = _LANGUAGES[language]
    minute, hour, day, month, weekday = cron.parts
    parts = [
        *_clock(sorted(_plain(minute, range(_MINUTES))), sorted(_plain(hour, range(_HOURS))), say),
        *_days(day, weekday, say),
        *_months(sorted(_plain(month, range(1, 13))), say),
    ]
    return ", ".join(parts)


def _plain(part: Part, all_values: range) -> frozenset[int]:
    return frozenset(all_values) if part.is_any else part.values


def _joined(words: Sequence[str], conjunction: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


def _runs(values: Sequence[int]) -> list[tuple[int, int]]:
    """Split sorted values into runs of consecutive numbers; return the first and last of each."""
    breaks = [index for index, (one, following) in enumerate(pairwise(values), 1) if following != one + 1]
    edges = [0, *breaks, len(values)]
    return [(values[begin], values[end - 1]) for begin, end in pairwise(edges)]


def _numbers(values: Sequence[int], say: _Words) -> str:
    """List the values, with a run of three or more written as its two ends."""
    listed: list[str] = []
    for first, last in _runs(values):
        listed += [say.run.format(first, last)] if last - first > 1 else map(str, range(first, last + 1))
    return _joined(listed, say.joined)


def _step(values: Sequence[int], size: int) -> int | None:
    """Return the step at which `values` divide a field of `size` evenly, starting at 0; None if they do not."""
    step = values[1] - values[0] if len(values) > 1 else size
    return step if size % step == 0 and list(values) == list(range(0, size, step)) else None


# ── time of day ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _clock(minutes: list[int], hours: list[int], say: _Words) -> list[str]:
    if len(minutes) * len(hours) <= _MOST_TIMES:
        return [_times(minutes, hours, say)]
    if minutes != [0]:
        return [_past(minutes, say), *_in_hours(hours, say)]
    step = _step(hours, _HOURS)
    if step is not None:
        return [say.every_hour if step == 1 else say.every_hours.format(step)]
    return [say.every_hour, *_in_hours(hours, say)] if len(_runs(hours)) == 1 else [_times(minutes, hours, say)]


def _times(minutes: list[int], hours: list[int], say: _Words) -> str:
    times = [f"{hour:02d}:{minute:02d}" for hour in hours for minute in minutes]
    return (say.at_one if hours[0] == 1 else say.at).format(_joined(times, say.joined))


def _past(minutes: list[int], say: _Words) -> str:
    step = _step(minutes, _MINUTES)
    if step == 1:
        return say.every_minute
    if step is not None and step < _MINUTES:
        return say.every_minutes.format(step)
    if minutes == [1] and say is _ENGLISH:
        return "At 1 minute past the hour"
    return (say.minute_past if len(minutes) == 1 else say.minutes_past).format(_numbers(minutes, say))


def _in_hours(hours: list[int], say: _Words) -> list[str]:
    if len(hours) == _HOURS:
        return []
    step = _step(hours, _HOURS)
    if step is not None and step < _HOURS:
        lowered = say.every_hours.format(step)
        return [lowered[0].lower() + lowered[1:]]
    return [_joined([say.between_hours.format(first, last) for first, last in _runs(hours)], say.joined)]


# ── days ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _days(day: Part, weekday: Part, say: _Words) -> list[str]:
    """Return an empty list if every day matches: neither field is restricted, or one lists all its values."""
    if _is_every(day, _LAST_MONTH_DAY) or _is_every(weekday, len(say.days)):
        return []
    told = [_joined(words, say.joined) for words in (_month_days(day, say), _weekdays(weekday, say)) if words]
    return [f" {say.either} ".join(told)] if told else []


def _is_every(part: Part, size: int) -> bool:
    return not part.is_any and len(part.values) == size


def _month_days(day: Part, say: _Words) -> list[str]:
    told: list[str] = []
    if values := sorted(day.values):
        told.append((say.day if len(values) == 1 else say.days_listed).format(_numbers(values, say)))
    for special in sorted(day.special, key=lambda one: (one == "L", int(one.rstrip("LW") or 0))):
        if special == "L":
            told.append(say.last_day)
        elif special == f"{_LAST_MONTH_DAY}W":
            told.append(say.last_weekday)
        else:
            told.append(say.nearest.format(int(special.removesuffix("W"))))
    return told


def _weekdays(weekday: Part, say: _Words) -> list[str]:
    told: list[str] = []
    # The week begins with Monday, so that a weekend is a run and Sunday comes last.
    values = sorted((value or 7) for value in weekday.values)
    for first, last in _runs(values) if values else []:
        if last - first > 1:
            told.append(say.weekdays_run.format(say.days[first % 7], say.days[last % 7]))
        else:
            told += [say.weekday(say.days[value % 7]) for value in range(first, last + 1)]
    for special in sorted(weekday.special, key=_in_the_month):
        if special.startswith("L"):
            told.append(say.last_of.format(say.days[int(special[1:])]))
        else:
            number, _, which = special.partition("#")
            told.append(say.nth_of.format(say.ordinals[int(which) - 1], say.days[int(number)]))
    return told


def _in_the_month(special: str) -> tuple[int, int]:
    if special.startswith("L"):
        return len(_ENGLISH.ordinals), int(special[1:]) or 7
    number, _, which = special.partition("#")
    return int(which) - 1, int(number) or 7


def _months(months: list[int], say: _Words) -> list[str]:
    if len(months) == len(say.months):
        return []
    runs = [run for run in _runs(months) if run[1] - run[0] > 1]
    single = [month for month in months if not any(first <= month <= last for first, last in runs)]
    told = [say.in_run_of_months.format(say.months[first - 1], say.months[last - 1]) for first, last in runs]
    if single:
        told.append(say.in_months.format(_joined([say.months[month - 1] for month in single], say.joined)))
    return [say.only.format(_joined(told, say.joined))]
