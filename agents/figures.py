"""Numbers, days and addresses in a folded text: what is an amount, and where words point. Pure."""

import re
from decimal import Decimal

from core.text import fold

WORD = re.compile(r"[a-z0-9]+")
MONTHS = (
    r"jan\w*|feb\w*|mar(?:ch|zo)?|apr\w*|abr\w*|mayo?|jun\w*|jul\w*|aug\w*|ago\w*|sep\w*|oct\w*|nov\w*|dec\w*|dic\w*|"
    r"ene\w*"
)
EMAIL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)+")
UUID_TEXT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}(?:[t ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:z|[+-]\d{2}:?\d{2})?)?", re.IGNORECASE)
_DAY = re.compile(r"\d{1,2}[/.-]\d{1,2}[/.-](?:\d{4}|\d{2})")
_NUMBERS_OF_A_WAY = re.compile(r"\+?\d(?:[ ()./-]{0,2}\d){6,}")
LINK = re.compile(r"[a-z][a-z0-9+]*://\S+|(?:[a-z0-9-]+\.)+[a-z]{2,}\S*|(?<!\w)@\w+")
_LOCAL_NUMBER = 9
"""digits: with or without the country's code before them, it is the same telephone"""
_TIMES = re.compile(
    rf"\d{{1,2}}[:.h]\d{{2}} ?(?:am|pm|h)\b|\d{{1,2}}:\d{{2}}|\b\d{{1,2}} ?(?:am|pm|h)\b|\b\d{{1,2}}(?:st|nd|rd|th)\b"
    rf"|\b\d{{1,2}} (?:de )?(?:{MONTHS})\b(?: (?:de )?\d{{4}})?|\b(?:{MONTHS}) \d{{1,2}}\b(?:,? \d{{4}})?|"
    rf"\b(?:{MONTHS}) (?:de )?\d{{4}}\b"
)
_AMOUNT = re.compile(
    r"(?:(?:[€$£]|\b(?:eur|usd|gbp)) ?)?(?<![\w/:#.,-])(?P<number>\d+(?:[.,]\d+)*)"
    r"(?: ?(?:[€$£]|(?:eur|euros?|usd|dollars?|gbp|pounds?|dolares?)\b)|(?! ?%|[\w/#]|[-.,:]\d))"
)
_GROUPS = re.compile(r"\d{1,3}(?P<mark>[.,])\d{3}(?:(?P=mark)\d{3})*")
_CENTS = re.compile(r"(?P<whole>\d+|\d{1,3}(?:[.,]\d{3})+)[.,](?P<cents>\d{1,2})")


def spaced(text: str) -> str:
    """The words of a text, folded, each between spaces: words that stand together in a text are part of it."""
    return f" {' '.join(WORD.findall(fold(text)))} "


def amounts(text: str) -> frozenset[Decimal]:
    """The numbers in a folded text that are no date, time, percentage, telephone or id."""
    found = _AMOUNT.finditer(_without_dates_and_ways(text))
    return frozenset(value for match in found if (value := _value(match["number"])) is not None)


def _without_dates_and_ways(text: str) -> str:
    for pattern in (UUID_TEXT, EMAIL, MOMENT, _DAY, _TIMES, _NUMBERS_OF_A_WAY, LINK):
        text = pattern.sub(mask, text)
    return text


def mask(found: re.Match[str]) -> str:
    """As many marks that no word holds as there were letters."""
    return "~" * len(found.group())


def without_figures(text: str) -> str:
    """A folded text with ids, addresses, days, hours and amounts made unreadable, each letter where it was."""
    return _AMOUNT.sub(mask, _without_dates_and_ways(text))


def _value(number: str) -> Decimal | None:
    """What a number says: one or two digits after its last mark are decimals, groups of three are thousands."""
    if number.isdigit():
        return Decimal(number)
    if _GROUPS.fullmatch(number):
        return Decimal(re.sub(r"[.,]", "", number))
    if found := _CENTS.fullmatch(number):
        return Decimal(f"{re.sub(r'[.,]', '', found['whole'])}.{found['cents']}")
    return None


def pointers(text: str) -> frozenset[str]:
    """Where a folded text sends its reader, or has them pay: links, names of hosts, e-mail addresses, names in social
    networks, telephone and account numbers. Days are none.
    """
    # A day can be part of a host's name, so links are looked for before days are taken out.
    found = [one.group().rstrip(".,;:!?)'\"") for pattern in (EMAIL, LINK) for one in pattern.finditer(text)]
    plain = _DAY.sub(" ", MOMENT.sub(lambda found: " " if _ends_there(text, found) else found.group(), text))
    numbers = [one.group() for one in _NUMBERS_OF_A_WAY.finditer(plain)]
    return frozenset([*found, *(digits(one) for one in numbers)])


def _ends_there(text: str, found: re.Match[str]) -> bool:
    """Whether a day stands by itself, and is no part of a longer name."""
    return not re.match(r"[\w@-]", text[found.end() : found.end() + 1])


def digits(text: str) -> str:
    """The digits of a number, however it is spelled."""
    return "".join(letter for letter in text if letter.isdigit())


def plain_way(way: str) -> str:
    """An address spelled in the one way under which it is counted: of telephone numbers the last digits."""
    number = digits(way)
    return way if "@" in way or len(number) < _LOCAL_NUMBER else number[-_LOCAL_NUMBER:]


def is_same_way(one: str, other: str) -> bool:
    """Whether two e-mail addresses, telephone numbers or links are the same; numbers with a country's code or
    without.
    """
    if one == other:
        return True
    numbers = [digits(way) for way in (one, other)]
    if any(re.search(r"[a-z@]", way) for way in (one, other)) or min(map(len, numbers)) < _LOCAL_NUMBER:
        return False
    return numbers[0][-_LOCAL_NUMBER:] == numbers[1][-_LOCAL_NUMBER:]
