"""Times in words, English and Spanish. Pure."""

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cron_descriptor import ExpressionDescriptor, Options

from domain.schedules import cron
from domain.schedules.schemas import CronTimes, Interval, Language, Once, OnEvent, Times

_LOCALES = {"en": "en_US", "es": "es_ES"}
# The library takes the names of days and months from the process's locale, which is English.
_SPANISH = {
    "Monday": "lunes", "Tuesday": "martes", "Wednesday": "miércoles", "Thursday": "jueves", "Friday": "viernes",
    "Saturday": "sábado", "Sunday": "domingo", "January": "enero", "February": "febrero", "March": "marzo",
    "April": "abril", "May": "mayo", "June": "junio", "July": "julio", "August": "agosto", "September": "septiembre",
    "October": "octubre", "November": "noviembre", "December": "diciembre",
}  # fmt: skip
_ENGLISH_NAME = re.compile(rf"\b({'|'.join(_SPANISH)})\b")
_UNITS: list[tuple[int, dict[Language, tuple[str, str]]]] = [
    (86_400, {"en": ("day", "days"), "es": ("día", "días")}),
    (3_600, {"en": ("hour", "hours"), "es": ("hora", "horas")}),
    (60, {"en": ("minute", "minutes"), "es": ("minuto", "minutos")}),
    (1, {"en": ("second", "seconds"), "es": ("segundo", "segundos")}),
]


def describe(times: Times, zone: str = "UTC", language: Language = "en") -> str:
    """What `times` mean, as a sentence without a full stop; `zone` is that of a single time."""
    match times:
        case CronTimes():
            return describe_cron(cron.parse(times.cron), times.timezone or zone, language)
        case Interval():
            return describe_interval(times.every, language)
        case Once():
            return {"en": "Once, at {}", "es": "Una vez, el {}"}[language].format(_shown(times.at, zone))
        case OnEvent():
            return _describe_event(times, language)


def describe_cron(read: cron.Cron, zone: str, language: Language = "en") -> str:
    """What a cron expression means, with its time zone."""
    options = Options()
    options.locale_code = _LOCALES[language]
    options.use_24hour_time_format = True
    words = ExpressionDescriptor(read.text.upper(), options).get_full_description()
    if language == "es":
        words = _ENGLISH_NAME.sub(lambda found: _SPANISH[found[1]], words)
    return f"{words} ({zone})"


def describe_interval(every: timedelta, language: Language = "en") -> str:
    """How often, in the largest units that fit."""
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
    return start + where + ", ".join(f"{path} {_wanted(value)}" for path, value in times.filter.items())


def _wanted(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {operand}" for name, operand in value.items())
    return f"= {value}"


def _shown(moment: datetime, zone: str) -> str:
    return f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} ({zone})"
