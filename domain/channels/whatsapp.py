"""WhatsApp conversations: 24 hours from the first message of either side, paid for once.

The first message of ours in a conversation pays, whoever opened it: what strangers write costs nothing by itself.
Joining a conversation locks its number until the transaction ends, so two tasks at once pay once. A transaction that
writes to several numbers locks all of them first, in one order: two such transactions cannot deadlock.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from core.ids import new_id
from domain.channels import queries
from domain.channels.schemas import Payer


def bare(number: str) -> str:
    """A telephone number as its digits, with the country code first: however it is written, it is the same then."""
    digits = "".join(letter for letter in number if letter.isdecimal())
    return digits.removeprefix("00") if number.lstrip().startswith("00") else digits


def hold(connection: Connection, org: UUID, numbers: Iterable[str]) -> None:
    """Hold these numbers' conversations for the rest of this transaction."""
    queries.lock_numbers(connection, org, [bare(number) for number in numbers])


def join(connection: Connection, org: UUID, number: str, at: datetime | None, *, is_ours: bool = True) -> UUID:
    """The conversation with a number that is open at `at` (None: now), opened where none is. The number is held from
    here on.
    """
    hold(connection, org, [number])
    found = queries.open_conversation(connection, org, bare(number), at)
    if found is not None:
        return found
    opened = new_id()
    row = {"id": opened, "org": org, "number": bare(number), "at": at, "opened_by": "us" if is_ours else "them"}
    queries.insert_conversation(connection, row)
    return opened


def claim_payment(connection: Connection, payer: Payer) -> bool:
    """Whether the message of `payer` is the one that pays for its conversation, as nothing has paid for it yet."""
    return queries.claim_payment(connection, payer)


def take_payment_back(connection: Connection, org: UUID, message_id: UUID) -> Payer | None:
    """Who paid for the conversation of a message that did not go out, where no other message of ours is left in it. The
    conversation is unpaid then.
    """
    number = queries.number_of(connection, message_id)
    if number is None:
        return None
    queries.lock_numbers(connection, org, [number])
    row = queries.unclaim_payment(connection, message_id)
    return Payer(**row) if row is not None else None
