"""Read a request as a list of commands. Pure.

Reading is strict on purpose. A *command* begins with a verb in its imperative ("book Ana into spin", "apunta a Ana"),
after words of courtesy at most ("can you", "quiero que"); a statement, a question about something, reported and quoted
speech command nothing. A request that forbids anything, sets a condition or leaves something to be confirmed, in
whichever sentence, commands nothing at all: what it means is for a person to say. Both lean the same way: what is not
understood is asked about.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property

from agents.figures import EMAIL, LINK, WORD, amounts
from agents.phrasebook import (
    ABOUT_WORDS,
    AFTER_A_NOUN,
    ASKS_WHETHER,
    CLITIC,
    GREETING,
    GUARDED,
    HARMLESS,
    HEADING,
    LEAD,
    OPENS_CONTENT,
    REFERS,
    VERBS,
    WOULD_YOU,
    is_word,
)
from core.text import fold

MOST_READ = 5_000
"""characters of a request: a longer one commands nothing, whatever stands in it"""

_QUOTED = re.compile(
    r"```.*?(?:```|\Z)|“[^”]*(?:”|\Z)|«[^»]*(?:»|\Z)|\"[^\"]*(?:\"|\Z)|(?<!\w)['\u2018][^'\u2019\n]{2,}['\u2019](?!\w)|^>.*$",
    re.DOTALL | re.MULTILINE,
)
_APOSTROPHE = re.compile("[\u2019\u00b4\u02bc\u2032\uff07]|(?<!`)`(?!`)")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|[¿¡]")
# The words are joints where they stand by themselves: "e-mail" is one word, and an address no list.
_JOINT = re.compile(
    r"\s*(?:[,()]|\s[-\u2013\u2014]\s|:(?=\s|$)|(?<![\w@./-])(?:and|then|y|e|luego)(?![\w@/-]|\.\w))\s*"
)


@dataclass(frozen=True)
class Command:
    """One thing that a request tells to do: its words from the verb on, folded."""

    text: str
    asks_whether: bool = False
    """whether it is put as a question ("can we …?") that may want an answer only"""
    stands_alone: bool = True
    """whether the request holds commands and courtesy and nothing else"""

    @cached_property
    def words(self) -> list[str]:
        return WORD.findall(self.text.replace("'", "").replace("e-mail", "email"))

    def says(self, phrase: str) -> bool:
        """Whether it begins with the verb of a phrase and has the phrase's other words; see `Wording`."""
        verb, *others = phrase.split()
        return is_word(verb, self.words[0]) and self.has(" ".join(others), self.words[1:])

    def has(self, phrase: str, words: list[str] | None = None) -> bool:
        """Whether all words of a phrase stand in it, in any order."""
        said = self.words if words is None else words
        return all(any(is_word(wanted, word) for word in said) for wanted in phrase.split())

    @cached_property
    def amounts(self) -> frozenset[Decimal]:
        """The numbers in it that are no date, time, percentage, telephone or id."""
        return amounts(self.text)


def refers_back(command: Command) -> bool:
    """Whether a command refers to a person without a name: "book her"."""
    return bool(REFERS.intersection(command.words)) or CLITIC.fullmatch(command.words[0]) is not None


def commands(text: str) -> list[Command]:
    """What a request tells to do, in order. Nothing where it forbids, sets a condition or leaves something open. What
    follows a colon is what somebody says, or a text to work on, unless the words before it announce commands.
    """
    said = _plain(text) if len(text) <= MOST_READ else ""
    if GUARDED.search(HARMLESS.sub(" ", LINK.sub(" ", EMAIL.sub(" ", said))).replace("'", "")):
        return []
    found: list[Command] = []
    stands_alone = True
    for sentence in _sentences(said):
        reader = _Sentence(sentence)
        found += reader.commands
        stands_alone = stands_alone and reader.is_understood
        if reader.opens_a_text:
            break
    # What stands behind "tell Bob" or "summarise this" may be what Bob is to hear, or the text to be summarised.
    stands_alone = stands_alone and not any(is_word(ABOUT_WORDS, command.words[0]) for command in found[:-1])
    return [replace(command, stands_alone=stands_alone) for command in found]


def _sentences(said: str) -> Iterator[str]:
    for line in said.splitlines():
        yield from _SENTENCE_END.split(_BULLET.sub("", line))


def _plain(text: str) -> str:
    """The text without what it quotes, folded; "sí" is told from "si" while it still can be."""
    spoken = _QUOTED.sub(" , ", _APOSTROPHE.sub("'", unicodedata.normalize("NFC", text)))
    spoken = re.sub(r"[^\S\n]+", " ", spoken)
    return fold(re.sub(r"\bs[íÍ](?!\w)", "yes", spoken, flags=re.IGNORECASE))


class _Sentence:
    """A sentence, read part by part: each part begins a command, goes on with one, or is courtesy. Any other part at
    its beginning makes it a statement or a question, which commands nothing.
    """

    def __init__(self, sentence: str) -> None:
        self.commands: list[Command] = []
        self.opens_a_text = False
        self._begun = ""
        self._is_content = False
        self._asks_whether = sentence.rstrip().endswith("?") and not WOULD_YOU.search(sentence)
        self.is_understood = self._read(sentence)
        if self.is_understood:
            self._end()

    def _read(self, sentence: str) -> bool:
        at = 0
        for joint in [*_JOINT.finditer(sentence), None]:
            part, mark = sentence[at : joint.start() if joint else None], joint.group() if joint else ""
            at = joint.end() if joint else len(sentence)
            if not self._take(part, mark):
                self.opens_a_text = self.opens_a_text or ":" in sentence[at - 1 :]
                return False
        return True

    def _take(self, part: str, mark: str) -> bool:
        own = "" if self._is_content else _command(part)
        if own:
            self._end()
            self._asks_whether = self._asks_whether or bool(ASKS_WHETHER.search(part))
        self._begun = own + mark if own else self._begun + part + mark if self._begun else ""
        if ":" in mark and not _is_heading(part):
            self.opens_a_text = self._is_content = True
        self._is_content = self._is_content or bool(own and OPENS_CONTENT.match(own))
        return bool(self._begun) or _is_courtesy(part)

    def _end(self) -> None:
        if self._begun:
            self.commands.append(Command(self._begun, self._asks_whether))
            self._begun = ""


def _is_courtesy(part: str) -> bool:
    return _is_heading(part) or bool(GREETING.fullmatch(_without_lead(part)[0]))


def _is_heading(part: str) -> bool:
    """Whether what follows is still what the person themselves tells to do."""
    return bool(HEADING.fullmatch(_without_lead(part)[0]))


def _without_lead(part: str) -> tuple[str, bool]:
    """What follows the words of courtesy, and whether the last of these was "que", after which the verb ends in s."""
    rest, last = part.strip(" \t.!?-"), ""
    while found := LEAD.match(rest):
        last = found.group().strip()
        rest = rest[found.end() :]
    return rest, last.endswith(" que")


def _command(part: str) -> str:
    """The part from its verb on, if it begins with one; else nothing."""
    rest, is_wish = _without_lead(part)
    words = WORD.findall(rest.replace("e-mail", "email"))
    if not words:
        return ""
    verb = words[0].removesuffix("s") if is_wish else words[0]
    is_noun = len(words) > 1 and words[1] in AFTER_A_NOUN
    if is_noun or not is_word(VERBS, verb):
        return ""
    return rest if verb == words[0] else rest.replace(words[0], verb, 1)
