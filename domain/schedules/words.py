"""Describe times in English and Spanish. Pure."""

from datetime import datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

from domain.schedules import cron, cron_words
from domain.schedules.cron import Language
from domain.schedules.schemas import CronTimes, Interval, Once, OnEvent, Times

_UNITS: list[tuple[int, dict[Language, tuple[str, str]]]] = [
    (86_400, {"en": ("day", "days"), "es": ("día", "días")}),
    (3_600, {"en": ("hour", "hours"), "es": ("hora", "horas")}),
    (60, {"en": ("minute", "minutes"), "es": ("minuto", "minutos")}),
    (1, {"en": ("second", "seconds"), "es": ("segundo", "segundos")}),
]


def describe(times: Times, zone: str = "UTC", language: Language = "en") -> str:
    """Describe `times` as a sentence without a full stop; `zone` applies to times that have no zone of their own."""
    match times:
        case CronTimes():
            return describe_cron(cron.parse(times.cron), times.timezone or zone, language)
        case Interval():
            return describe_interval(times.every, language)
        case Once():
            return {"en": "Once, at {}", "es": "Una vez, el {}"}[language].format(_shown(times.at, zone))
        case OnEvent():
            return _describe_event(times, language)


def describe_in_each(times: Times, zone: str) -> dict[Language, str]:
    """Describe `times` in every language."""
    return {language: describe(times, zone, language) for language in get_args(Language)}


def describe_cron(read: cron.Cron, zone: str, language: Language = "en") -> str:
    """Describe a cron expression, with its time zone."""
    return f"{cron_words.in_words(read, language)} ({zone})"


def describe_interval(every: timedelta, language: Language = "en") -> str:
    """Describe an interval in the largest units that fit."""
    left, parts = round(every.total_seconds()), []
    for size, names in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append((count, names[language][count > 1]))
    joined = {"en": " and ", "es": " y "}[language].join(f"{count} {name}" for count, name in parts)
    if len(parts) == 1 and parts[0][0] == 1:
        unit = parts[0][1]
        return f"Every {unit}" if language == "en" else f"Cada {unit}"
    return f"Every {joined}" if language == "en" else f"Cada {joined}"


def _describe_event(times: OnEvent, language: Language) -> str:
    start = {"en": "Whenever {} happens", "es": "Cuando ocurre {}"}[language].format(times.event)
    if not times.filter:
        return start
    where = {"en": " where ", "es": " si "}[language]
    return start + where + ", ".join(f"{path} {_wanted(value, language)}" for path, value in times.filter.items())


_SIGNS = {"eq": "=", "ne": "≠", "gt": ">", "gte": "≥", "lt": "<", "lte": "≤"}
_EXISTS: dict[Language, dict[bool, str]] = {
    "en": {True: "is given", False: "is not given"},
    "es": {True: "está presente", False: "no está presente"},
}
_ONE_OF: dict[Language, str] = {"en": "is one of {}", "es": "es uno de {}"}


def _wanted(value: object, language: Language) -> str:
    if not isinstance(value, dict):
        return f"= {value}"
    return {"en": " and ", "es": " y "}[language].join(
        _comparison(name, operand, language) for name, operand in value.items()
    )


def _comparison(name: str, operand: object, language: Language) -> str:
    if name == "exists":
        return _EXISTS[language][bool(operand)]
    if name == "in":
        listed = operand if isinstance(operand, list) else [operand]
        return _ONE_OF[language].format(", ".join(map(str, listed)))
    return f"{_SIGNS[name]} {operand}"


def _shown(moment: datetime, zone: str) -> str:
    return f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} ({zone})"
