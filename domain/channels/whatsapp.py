"""WhatsApp conversations: 24 hours from the first message of either side, paid for once.

Our first message in a conversation pays for it, no matter which side opened it: an inbound message alone costs nothing.
Joining a conversation locks its number until the transaction ends, so that two concurrent tasks pay once. A transaction
that writes to several numbers locks all of them first, in a fixed order: two such transactions cannot deadlock.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from core.ids import new_id
from domain.channels import queries
from domain.channels.schemas import Payer


def bare(number: str) -> str:
    """Return the digits of a telephone number, country code first, so that all spellings of a number compare equal."""
    digits = "".join(letter for letter in number if letter.isdecimal())
    return digits.removeprefix("00") if number.lstrip().startswith("00") else digits


def lock_numbers(connection: Connection, org: UUID, numbers: Iterable[str]) -> None:
    """Lock the conversations with these numbers until this transaction ends."""
    queries.lock_numbers(connection, org, [bare(number) for number in numbers])


def join(connection: Connection, org: UUID, number: str, at: datetime | None, *, is_ours: bool = True) -> UUID:
    """Return the conversation with a number that is open at `at` (None: now); open one if there is none. The number
    stays locked until this transaction ends.
    """
    lock_numbers(connection, org, [number])
    found = queries.open_conversation(connection, org, bare(number), at)
    if found is not None:
        return found
    opened = new_id()
    row = {"id": opened, "org": org, "number": bare(number), "at": at, "opened_by": "us" if is_ours else "them"}
    queries.insert_conversation(connection, row)
    return opened


def claim_payment(connection: Connection, payer: Payer) -> bool:
    """Make the message of `payer` pay for its conversation. Return False if the conversation is already paid for."""
    return queries.claim_payment(connection, payer)


def refund(connection: Connection, org: UUID, message_id: UUID) -> Payer | None:
    """Mark the conversation of a message that was not sent as unpaid and return its payer, if no other message of ours
    is left in it. Otherwise return None.
    """
    number = queries.number_of(connection, message_id)
    if number is None:
        return None
    queries.lock_numbers(connection, org, [number])
    return queries.unclaim_payment(connection, message_id)
