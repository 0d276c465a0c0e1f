"""What a channel is: something that carries one message, and says honestly what became of it."""

from datetime import timedelta
from typing import Protocol

from core.errors import RotaError
from domain.channels.schemas import Outgoing


class NotSent(RotaError):
    """It certainly did not go out, for a reason that may pass."""


class ReceiverInTrouble(NotSent):
    """It did not go out because the receiver as a whole does not work: its other messages would not go out either."""

    def __init__(self, message: str, *, retry_after: timedelta = timedelta(0)) -> None:
        """The receiver asks for a pause of `retry_after`."""
        super().__init__(message)
        self.retry_after = retry_after


class Undeliverable(RotaError):
    """It did not go out and never will."""


class Gone(Undeliverable):
    """The receiver wants no more messages, ever."""


class Sender(Protocol):
    """Carries messages of one channel. Any other exception than these two leaves open whether the message went out."""

    repeat_is_harmless: bool
    """whether the other side knows a message that comes twice"""

    def send(self, message: Outgoing) -> None:
        """Carry `message`.

        Raises:
            NotSent: try again later.
            Undeliverable: do not.
        """
        ...
