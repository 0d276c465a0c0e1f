"""Which earlier messages an agent reads. Pure."""

from collections.abc import Iterable

from domain.conversations.schemas import Said

MOST_MESSAGES = 40
MOST_CHARACTERS = 24_000
"""about 6,000 tokens of English"""


def window(latest_first: Iterable[Said]) -> list[Said]:
    """Return the earlier messages that are read, in order: as many of the latest as fit, beginning with a user's.
    Answers without text, such as those that failed, are left out.
    """
    chosen: list[Said] = []
    left = MOST_CHARACTERS
    for message in latest_first:
        if message.is_empty:
            continue
        left -= message.size
        if left < 0 or len(chosen) == MOST_MESSAGES:
            break
        chosen.append(message)
    while chosen and chosen[-1].role != "user":  # nor is a call parted from its result
        chosen.pop()
    return chosen[::-1]
