"""A sink that listens to every task."""

from domain.claims.schemas import Claimed


class Ear:
    """Hears every word, as sink and as speech at once."""

    attempt = 1

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.is_over = False

    def begin(self, task: Claimed, seq: int, previous: int) -> "Ear":
        """Every call is listened to."""
        return self

    def say(self, text: str) -> None:
        """Keep it."""
        self.heard.append(text)

    def end(self) -> None:
        """The call is over."""
        self.is_over = True
