"""Where the words of a model go while they are said."""

from typing import Protocol

from domain.claims.schemas import Claimed


class Speech(Protocol):
    """One call of a model whose words are listened to."""

    attempt: int
    """which call within the step and the claim this is, from 1"""

    def say(self, text: str) -> None:
        """Pass a piece of text on. Returns at once, and never fails."""
        ...

    def end(self) -> None:
        """Pass on what is left: the call is over, however it ended."""
        ...


class Sink(Protocol):
    """The listeners of tasks. They must neither slow a task down nor make it fail."""

    def begin(self, task: Claimed, seq: int, previous: int) -> Speech | None:
        """Return where the words of a call of a model in step `seq` go, or None without listeners: then the call need
        not be streamed. `previous` is the step of the decision before, -1 for the first.
        """
        ...


class NobodyListens:
    """The sink for processes without listeners."""

    def begin(self, task: Claimed, seq: int, previous: int) -> None:
        """No words are wanted."""
