"""The words of a model while they are said: their form in Redis, which workers write and API processes read.

A task's words are a capped Redis stream of its own that expires. Redis may lose them: the journal has the whole text
when the step is done.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
