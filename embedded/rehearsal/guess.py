"""Guess a text parameter that no rule covers: from quotations, URLs, codes and names in the message."""

import re
from typing import Any

from core.text import fold
from embedded.rehearsal.lexicon import is_ordinary

_QUOTED = re.compile(r"(?:^|[\s(:])(?:'([^']{1,200})'|\"([^\"]{1,200})\"|«([^»]{1,200})»|“([^”]{1,200})”)")
_URL = re.compile(r"https?://[^\s'\"<>)]+")
_CODE = re.compile(r"\b(?=[\w.-]*\d)(?=[\w.-]*[A-Za-z])[\w.-]*\w\b")
_NAMED = re.compile(r"\b[A-ZÁÉÍÓÚÑ][\w'’&-]*(?:,? (?:(?:of|de|la|del|the|and) )?[A-ZÁÉÍÓÚÑ0-9][\w'’&.-]*)*")
_OPENERS = {
    "find",
    "get",
    "give",
    "show",
    "tell",
    "what",
    "can",
    "could",
    "would",
    "please",
    "search",
    "calculate",
    "i",
    "how",
}
_AFTER = re.compile(
    r"\b(?:of|for|about|named|called|de|para|sobre)\s+(?:the |a |an |el |la |un |una )?([^,.;:?!]{2,80})", re.IGNORECASE
)
# Part of a parameter's name, and the words that precede its value in a message.
_LED_BY = {
    "from": "from|leaving|desde",
    "origin": "from|leaving|desde",
    "depart": "from|leaving|desde",
    "to ": "to|hasta|a",
    "destination": "to|hasta|a",
    "location": "in|at|near|en",
    "city": "in|at|near|en",
    "place": "in|at|near|en",
}


def guess_text(about: str, message: str, taken: list[Any]) -> Any:
    """Return the most likely value for a text parameter with the description `about`, except those in `taken`; if there
    is none, the message.
    """
    wanted = fold(about)
    candidates: list[str] = []
    if "url" in wanted or "link" in wanted:
        candidates += _URL.findall(message)
    name = wanted.partition(":")[0] + " "
    for hint, words in _LED_BY.items():
        if hint in name:
            candidates += [
                found.group()
                for lead in re.finditer(rf"\b(?:{words})\s+", message)
                if (found := _NAMED.match(message, lead.end()))
            ]
    candidates += ["".join(groups) for groups in _QUOTED.findall(message)]
    if "id" in name.split() or "code" in name or "number" in name:
        candidates += _CODE.findall(message)
    candidates += phrases(message)
    candidates += [found.strip() for found in _AFTER.findall(message)]
    return next((one for one in candidates if one and one not in taken), message.strip()[:200])


def phrases(message: str) -> list[str]:
    """Return the runs of capitalised words, without an ordinary word that only begins a sentence."""
    found = []
    for match in _NAMED.finditer(message):
        words = match.group().split()
        begins = match.start() == 0 or message[: match.start()].rstrip()[-1:] in ".?!\"'"
        if begins and (fold(words[0]) in _OPENERS or is_ordinary(fold(words[0]))):
            words = words[1:]
        text = " ".join(words).rstrip(",'’")
        if text and not is_ordinary(fold(text)) and text != "I":
            found.append(text.removesuffix("'s").removesuffix("’s"))
    return list(dict.fromkeys(found))
