"""The interface of senders, and the errors by which they report what became of a message."""

from datetime import timedelta
from typing import Protocol

from core.errors import RotaError
from domain.channels.schemas import Outgoing


class NotSent(RotaError):
    """The message certainly was not sent, for a reason that may be temporary."""


class ReceiverInTrouble(NotSent):
    """The message was not sent because the receiver as a whole does not work: its other messages would fail too."""

    def __init__(self, message: str, *, retry_after: timedelta = timedelta(0)) -> None:
        """`retry_after` is the pause that the receiver asks for."""
        super().__init__(message)
        self.retry_after = retry_after


class Undeliverable(RotaError):
    """The message was not sent and never will be."""


class Gone(Undeliverable):
    """The receiver permanently accepts no more messages."""


class Sender(Protocol):
    """Sends the messages of one channel. After an exception other than the two below, the outcome is unknown: the
    message may have been sent.
    """

    repeat_is_harmless: bool
    """whether the receiver recognises a message that arrives twice"""

    def send(self, message: Outgoing) -> None:
        """Send `message`.

        Raises:
            NotSent: it was not sent; retry later.
            Undeliverable: it was not sent; do not retry.
        """
        ...
