"""Which earlier messages an agent reads, and which become part of a summary. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from domain.conversations.schemas import Said

MOST_MESSAGES = 40
MOST_CHARACTERS = 24_000
"""about 6,000 tokens of English"""

# After a summary half a window is left, so the next one is due only when as much has been said again.
_MESSAGES_KEPT = MOST_MESSAGES // 2
_CHARACTERS_KEPT = MOST_CHARACTERS // 2


@dataclass(frozen=True, slots=True)
class Reading:
    """Earlier messages, in order."""

    to_read: list[Said]
    """those that are read as they are"""
    to_sum_up: list[Said] = field(default_factory=list)
    """those that become part of a summary; none if all fit the window"""
    summary: Said | None = None
    """what came before them all"""


def window(latest_first: Iterable[Said]) -> list[Said]:
    """Return the earlier messages that are read, in order: as many of the latest as fit, beginning with a user's.
    Answers without text, such as those that failed, are left out.
    """
    return _latest(_spoken(latest_first), MOST_MESSAGES, MOST_CHARACTERS)


def divide(latest_first: Sequence[Said]) -> Reading:
    """Return which messages are read, and which are summed up. The last may be the summary of those before. What is
    read begins with a user's message, so no call of a tool is parted from its result. Answers without text are left
    out.
    """
    summary = latest_first[-1] if latest_first and latest_first[-1].role == "summary" else None
    spoken = _spoken(latest_first[:-1] if summary else latest_first)
    if len(spoken) <= MOST_MESSAGES and sum(message.size for message in spoken) <= MOST_CHARACTERS:
        return Reading(_latest(spoken, MOST_MESSAGES, MOST_CHARACTERS), summary=summary)
    to_read = _latest(spoken, _MESSAGES_KEPT, _CHARACTERS_KEPT)
    return Reading(to_read, spoken[len(to_read) :][::-1], summary)


def _spoken(messages: Iterable[Said]) -> list[Said]:
    return [message for message in messages if not message.is_empty]


def _latest(latest_first: list[Said], most: int, characters: int) -> list[Said]:
    """Return as many messages as fit, in order, beginning with a user's. The latest of the user and what follows it are
    among them, however long.
    """
    chosen: list[Said] = []
    has_user = False
    for message in latest_first:
        characters -= message.size
        if has_user and (characters < 0 or len(chosen) == most):
            break
        chosen.append(message)
        has_user = has_user or message.role == "user"
    while chosen and chosen[-1].role != "user":
        chosen.pop()
    return chosen[::-1]
