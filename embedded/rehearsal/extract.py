"""Extraction of values from a message: days, people, addresses, numbers. Independent of any tool."""

import calendar
import functools
import re
from datetime import date, timedelta

from core.text import fold
from embedded.rehearsal.lexicon import MONTHS, WEEKDAYS, is_ordinary, words

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]+\.[\w.-]*\w")
_PHONE = re.compile(r"\+?\d[\d \-]{7,}\d")
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_ISO_DAY = re.compile(r"\b(20\d\d)-(\d\d)-(\d\d)\b")
_SLASHED_DAY = re.compile(r"\b(\d{1,2})[/.](\d{1,2})(?:[/.](20\d\d))?\b")
_NUMBER = re.compile(r"(?<![\w:/.-])\d+(?:[.,]\d+)?(?![\w:/-])")
_NOW = re.compile(r"\b(20\d\d)-(\d\d)-(\d\d)\b")
_CLOCK = re.compile(r"\b([01]?\d|2[0-3])(?:[:h.]([0-5]\d))?\s*(am|pm|h|hs)?\b", re.IGNORECASE)
_CAPITALISED = re.compile(r"^[A-ZÁÉÍÓÚÑ][\w'’áéíóúüñÁÉÍÓÚÑ-]*$")
_PARTICLES = {"de", "la", "del", "van", "von", "da", "o"}
# After these words a single unknown word is a name. After those below it takes two, or "for spin" would be a name.
_INTRODUCES_A_NAME = {
    "client", "member", "customer", "named", "called", "lead", "cliente", "socio", "socia", "soy", "llamo", "llama",
    "i'm",
}  # fmt: skip
_PRECEDES_A_NAME = {
    "book", "for", "is", "am", "im", "para", "a", "reserva", "apunta", "inscribe", "reservar", "apuntar", "of", "de",
    "about", "sobre", "freeze", "cancel", "pause", "congela", "does", "did", "has", "put", "sign", "add", "can",
}  # fmt: skip
_ISO_MONTH = re.compile(r"\b(20\d\d)-(\d\d)\b")
_NOON, _MONTHS_A_YEAR = 12, 12


def today_in(system: str, fallback: date) -> date:
    """Return the first date in a system prompt, which tells the present day, or `fallback`."""
    found = _NOW.search(system)
    return _date(*map(int, found.groups())) or fallback if found else fallback


def days(text: str, today: date) -> list[date]:
    """Return the days that a text names, in its order. A weekday is the next one, today included."""
    found = [(match.start(), day) for match in _ISO_DAY.finditer(text) if (day := _date(*map(int, match.groups())))]
    for match in _SLASHED_DAY.finditer(text):
        number, month, year = match.groups()
        if day := _date(int(year or today.year), int(month), int(number)):
            found.append((match.start(), day if year else _not_past(day, today)))
    if not found:
        found = _named_days(text, today)
    return [day for _, day in sorted(found)]


def _named_days(text: str, today: date) -> list[tuple[int, date]]:
    found: list[tuple[int, date]] = []
    listed = words(text)
    is_morning = fold(text)
    for index, word in enumerate(listed):
        before = listed[index - 1] if index else ""
        if word in {"today", "hoy", "tonight"}:
            found.append((index, today))
        elif word in {"tomorrow", "tomorow", "tmrw", "2moro"} or (
            word == "manana" and before not in {"la", "de", "por", "esta"}
        ):
            found.append((index, today + timedelta(days=1)))
        elif word in {"yesterday", "ayer"}:
            found.append((index, today - timedelta(days=1)))
        elif word in WEEKDAYS:
            found.append((index, today + timedelta(days=(WEEKDAYS[word] - today.weekday()) % 7)))
        elif word in {"weekend", "finde"} or (word == "semana" and before == "de" and "fin de semana" in is_morning):
            saturday = today + timedelta(days=(5 - today.weekday()) % 7)
            found += [(index, saturday), (index, saturday + timedelta(days=1))]
        elif word in {"week", "semana"}:
            start = today + timedelta(days=7 - today.weekday()) if before in {"next", "proxima"} else today
            found += [(index, start), (index, start + timedelta(days=6))]
        elif word in {"month", "mes"}:
            found += [(index, day) for day in _month(before, listed[index + 1 : index + 2], today)]
        elif word in MONTHS and (day := _day_of_month(listed, index, today)):
            found.append((index, day))
    return found


def _month(before: str, after: list[str], today: date) -> list[date]:
    first = today.replace(day=1)
    if before in {"last", "ultimo"} or after in (["pasado"], ["anterior"]):
        end = first - timedelta(days=1)
        return [end.replace(day=1), end]
    return [first, today] if before in {"this", "este", "the", "el"} else []


def _day_of_month(listed: list[str], index: int, today: date) -> date | None:
    beside = [listed[i] for i in (index - 2, index - 1, index + 1) if 0 <= i < len(listed)]
    numbers = [int(digits) for word in beside if (digits := re.sub(r"(st|nd|rd|th)$", "", word)).isdigit()]
    if not numbers:
        return None
    day = _date(today.year, MONTHS[listed[index]], numbers[-1])
    return _not_past(day, today) if day else None


_YEAR_SAID = re.compile(r"20\d\d")
_ALSO_OTHER_WORDS = {"may", "march", "april", "june", "august"}  # verbs and first names
_BEFORE_A_MONTH = {"in", "of", "for", "during", "since", "last", "this", "next", "en", "de", "del", "durante", "from"}


def months(text: str, today: date, *, ahead: bool = False) -> list[tuple[date, date]]:
    """Return the first and last day of each month that a text names without a day, in its order.

    A month without a year is the latest that has begun, and ends today at the latest; with `ahead`, it is the first
    that is not over.
    """
    cleaned = _SLASHED_DAY.sub(" ", _ISO_DAY.sub(" ", text))
    found = [
        (match.start(), _month_span(int(match[1]), int(match[2])))
        for match in _ISO_MONTH.finditer(cleaned)
        if 1 <= int(match[2]) <= _MONTHS_A_YEAR
    ]
    listed = words(_ISO_MONTH.sub(" ", cleaned))
    for index, word in enumerate(listed):
        if word in MONTHS and _is_a_month_alone(listed, index):
            year = _year_said(listed, index, today) or _year_of(MONTHS[word], today, ahead=ahead)
            found.append((len(text) + index, _month_span(year, MONTHS[word])))
    spans = [span for _, span in sorted(found)]
    return spans if ahead else [(first, max(first, min(last, today))) for first, last in spans]


def _is_a_month_alone(listed: list[str], index: int) -> bool:
    if _day_of_month(listed, index, date(2000, 1, 1)):
        return False
    before, after = (listed[at] if 0 <= at < len(listed) else "" for at in (index - 1, index + 1))
    return listed[index] not in _ALSO_OTHER_WORDS or before in _BEFORE_A_MONTH or bool(_YEAR_SAID.fullmatch(after))


def _year_said(listed: list[str], index: int, today: date) -> int | None:
    following = listed[index + 1 : index + 5]
    for word in following[:3]:
        if _YEAR_SAID.fullmatch(word):
            return int(word)
    said = " ".join(following)
    if re.match(r"(of |de |del )?(last year|ano pasado|el ano pasado|ano anterior)", said):
        return today.year - 1
    return today.year if re.match(r"(of |de |del )?(this year|este ano)", said) else None


def _year_of(month: int, today: date, *, ahead: bool) -> int:
    if ahead:
        return today.year if month >= today.month else today.year + 1
    return today.year if month <= today.month else today.year - 1


def _month_span(year: int, month: int) -> tuple[date, date]:
    return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])


def _not_past(day: date, today: date) -> date:
    """Return the day in this year or, if it has passed, in the next. A 29 February stays as it is."""
    is_leap_day = (day.month, day.day) == (2, 29)
    return day if day >= today or is_leap_day else day.replace(year=day.year + 1)


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def hours(text: str) -> list[str]:
    """Return the clock times in a text, as HH:MM. A bare number counts only with am, pm, h or minutes."""
    found = []
    for hour, minute, half in _CLOCK.findall(text):
        if not minute and not half:
            continue
        number = int(hour)
        if half.lower() in {"am", "pm"} and number <= _NOON:  # 12 am is midnight, 12 pm is noon
            number = number % _NOON + (_NOON if half.lower() == "pm" else 0)
        found.append(f"{number:02d}:{minute or '00'}")
    return found


@functools.lru_cache(maxsize=256)
def email(text: str) -> str | None:
    """Return the first e-mail address in a text."""
    found = _EMAIL.search(text)
    return found.group() if found else None


def phone(text: str) -> str | None:
    """Return the first telephone number in a text."""
    found = _PHONE.search(_UUID.sub(" ", _ISO_DAY.sub(" ", text)))
    return found.group() if found else None


@functools.lru_cache(maxsize=256)
def uuids(text: str) -> tuple[str, ...]:
    """Return every UUID in a text, in lower case."""
    return tuple(found.lower() for found in _UUID.findall(text))


def numbers(text: str) -> list[float]:
    """Return the plain numbers in a text, without those in dates, times, ids or telephone numbers."""
    cleaned = _ISO_DAY.sub(" ", _UUID.sub(" ", text))
    cleaned = _SLASHED_DAY.sub(lambda found: " " if _is_day_and_month(found) else found[0], cleaned)
    cleaned = _PHONE.sub(" ", cleaned)
    return [float(found.replace(",", ".")) for found in _NUMBER.findall(cleaned)]


def _is_day_and_month(found: re.Match[str]) -> bool:
    """Whether a match of `_SLASHED_DAY` can be a day: 12.50 is a number."""
    return _date(2000, int(found[2]), int(found[1])) is not None


@functools.lru_cache(maxsize=256)
def names(text: str) -> tuple[str, ...]:
    """Return what look like people's names: runs of capitalised words that are not ordinary words. If there are none,
    return unknown words after a word that announces a name, for messages without capitals.
    """
    tokens = re.findall(r"[^\s,.;:!?¿¡()\"]+", _EMAIL.sub(" ", text))
    tokens = [re.sub(r"['’]s$", "", token) for token in tokens]
    return tuple(_capitalised_names(tokens) or _announced_names(tokens))


def _capitalised_names(tokens: list[str]) -> list[str]:
    found: list[list[str]] = [[]]
    for index, token in enumerate(tokens):
        rest = [following for following in tokens[index + 1 : index + 3] if following.lower() not in _PARTICLES]
        is_joint = token in _PARTICLES and found[-1] and bool(rest) and _CAPITALISED.match(rest[0])
        if (_CAPITALISED.match(token) and not is_ordinary(fold(token)) and not token.isupper()) or is_joint:
            found[-1].append(token)
        else:
            found.append([])
    several = [" ".join(run) for run in found if len(run) > 1]
    # A single capitalised word may merely begin a sentence; it is used only if there is no longer run.
    single = [run[0] for run in found if len(run) == 1 and run[0] != tokens[0]]
    return several or single


def _announced_names(tokens: list[str]) -> list[str]:
    for index, token in enumerate(tokens[:-1]):
        announcer = fold(token)
        if announcer not in _INTRODUCES_A_NAME | _PRECEDES_A_NAME:
            continue
        run: list[str] = []
        for following in tokens[index + 1 : index + 4]:
            if is_ordinary(fold(following)) or not following.isalpha():
                break
            run.append(following)
        if len(run) > 1 or (run and announcer in _INTRODUCES_A_NAME):
            return [" ".join(run)]
    return []
