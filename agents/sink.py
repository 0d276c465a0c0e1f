"""Where the words of a model go while they are said."""

from typing import Protocol


class Sink(Protocol):
    """Somebody who may be listening to a task. Nothing here may slow the task down or make it fail."""

    def wants_words(self) -> bool:
        """Whether anybody listens, so that it is worth streaming."""
        ...

    def word(self, seq: int, text: str) -> None:
        """A piece of what the model says in step `seq`. Sent again from the start when a step is tried again."""
        ...


class NobodyListens:
    """The sink for tasks that nobody watches."""

    def wants_words(self) -> bool:
        """Never."""
        return False

    def word(self, seq: int, text: str) -> None:
        """Dropped."""
