"""What is told while it happens: its form in Redis.

The words of a model are written by workers and read by API processes. A task's words are a capped Redis stream of its
own that expires. Redis may lose them: the journal has the whole text when the step is done. That a user is typing is
written and read by API processes, in a stream of each conversation; if Redis loses it, nobody is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self
from uuid import UUID

LISTENED_TO = "rota:listened-to"
"""sorted set of the ids of tasks with listeners, scored by the Unix time at which the entry expires"""
LISTENED_FOR = 10
"""seconds until an entry expires; it is renewed while there is a listener"""
KEPT = 900
"""seconds that words can be read after the last of them"""
MOST = 10_000
"""deltas that a task's stream keeps, about"""

TYPING_FOR = 6
"""seconds for which a user counts as typing; clients say so again every few seconds"""
MOST_TYPING = 100
"""entries that a conversation's stream keeps, about"""


def stream_of(task: UUID | str) -> str:
    """Return the name of the stream of a task's words."""
    return f"rota:words:{task}"


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of what a model says in a step."""

    step: int
    previous: int
    """the decision before: the step of the task's last decision, -1 if this is the first"""
    claim: int
    attempt: int
    """which call of a model this is within the step and the claim, from 1"""
    offset: int
    """Unicode characters of the attempt's text before this piece"""
    text: str

    def fields(self) -> dict[str, str | int]:
        """Return the delta as an entry of a Redis stream."""
        return {
            "s": self.step, "p": self.previous, "c": self.claim, "a": self.attempt, "o": self.offset, "t": self.text,
        }  # fmt: skip

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Self:
        """Return the delta in an entry of a Redis stream.

        Raises:
            KeyError, ValueError: it is no delta.
        """
        step, previous, claim, attempt, offset = (int(fields[name]) for name in "spcao")
        return cls(step, previous, claim, attempt, offset, fields["t"])


def typing_stream_of(conversation: UUID) -> str:
    """Return the name of the stream that tells who is typing in a conversation."""
    return f"rota:typing:{conversation}"


@dataclass(frozen=True, slots=True)
class Typing:
    """A user is typing in a conversation."""

    conversation: UUID
    user: UUID
    until: datetime

    def fields(self) -> dict[str, str]:
        """Return it as an entry of the conversation's Redis stream."""
        return {"u": str(self.user), "e": str(self.until.timestamp())}

    @classmethod
    def of(cls, conversation: UUID, fields: Mapping[str, str]) -> Self:
        """Return what an entry of a conversation's Redis stream says.

        Raises:
            KeyError, ValueError: it says nothing of the kind.
        """
        return cls(conversation, UUID(fields["u"]), datetime.fromtimestamp(float(fields["e"]), UTC))
