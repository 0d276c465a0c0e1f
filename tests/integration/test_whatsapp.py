"""A WhatsApp conversation, 24 hours opened by either side, costs 10 tokens once, whatever runs at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from agents.tools.messaging import send
from agents.tools.registry import Acting, ToolContext
from business.tools.messaging import send_bulk_message
from core import db
from core.ids import new_id
from core.settings import Settings, settings
from domain.channels import delivery
from domain.channels import service as channels
from domain.channels.schemas import GatewaySettings, MessageOutcome
from domain.channels.whatsapp import bare
from domain.followups import service as followups
from domain.followups.schemas import NewReply
from domain.wallet import service as wallet
from tests.support.clock import Clock, movable_clock
from tests.support.factories import ZONE, make_organisation, make_row, owner_of
from tests.support.mail import Receiver, webhook_receiver

NUMBER = "+34 600 111 222"
HOUR = timedelta(hours=1)


@pytest.fixture
def clock(config: Settings) -> Iterator[Clock]:
    with movable_clock() as made:
        yield made


@pytest.fixture
def gateway(org: UUID) -> Iterator[Receiver]:
    with webhook_receiver() as made:
        with db.transaction(org) as connection:
            channels.set_up_gateway(connection, org, "whatsapp", GatewaySettings(url=made.url))
        yield made


def paid_task(org: UUID) -> UUID:
    """A task with tokens to spend. Its transaction is over, so that the wallet's lock hides no race."""
    task = new_id()
    with db.transaction(org) as connection:
        wallet.ensure(connection, org, task, 100)
    return task


def context_of(connection: Any, org: UUID, task: UUID) -> ToolContext:
    acting = Acting(org_id=org, user_id=owner_of(org), agent="support-assistant", task_id=task, seq=2)

    def charge(item: Any, note: str) -> None:
        wallet.spend_ensured(connection, task, 2, item, wallet.prices(connection)[item], note)

    return ToolContext(connection, ZONE, date(2026, 11, 28), acting, charge)


def write(org: UUID, number: str = NUMBER, at: datetime | None = None) -> UUID:
    """A message of a task of its own."""
    task = paid_task(org)
    with db.transaction(org) as connection:
        sent: UUID = send(context_of(connection, org, task), "whatsapp", number, "", "hello", at=at)["message_id"]
        wallet.release(connection, task)
    return sent


def receive(org: UUID, **reply: Any) -> None:
    with db.transaction(org) as connection:
        followups.receive(connection, org, NewReply(channel="whatsapp", body="hello", **reply))


def cost(org: UUID) -> int:
    """The tokens that were spent and not given back."""
    with db.transaction(org) as connection:
        entries = wallet.statement(connection, org, limit=200).entries
    spent = [entry for entry in entries if entry.item == "whatsapp_conversation"]
    return sum(entry.tokens if entry.reason == "spend" else -entry.tokens for entry in spent)


def test_what_is_written_within_24_hours_is_one_conversation(org: UUID, gateway: Receiver, clock: Clock) -> None:
    write(org)
    clock.move(HOUR)
    write(org, "0034600111222")
    clock.move(22 * HOUR)
    write(org, "+34600-111-222")
    assert cost(org) == 10
    clock.move(HOUR + timedelta(seconds=1))
    write(org)
    assert cost(org) == 20
    write(org, "+34600111223")
    assert cost(org) == 30


@pytest.mark.parametrize("by", ["contact", "sender"])
def test_a_conversation_that_they_open_is_paid_for_by_the_first_answer(
    org: UUID, gateway: Receiver, clock: Clock, by: str
) -> None:
    client = make_row(org, "clients", phone=NUMBER)
    receive(org, **({"contact": client} if by == "contact" else {"sender": "+34600111222"}))
    assert cost(org) == 0
    clock.move(23 * HOUR)
    write(org)
    assert cost(org) == 10
    write(org)
    receive(org, contact=client)
    assert cost(org) == 10
    clock.move(2 * HOUR)  # more than a day after they opened it
    write(org)
    assert cost(org) == 20


def test_it_costs_once_whatever_runs_at_once(org: UUID, gateway: Receiver) -> None:
    client = make_row(org, "clients", phone=NUMBER)

    def one(number: int) -> None:
        if number % 4:
            write(org)
        else:
            receive(org, contact=client)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(24)))
    assert cost(org) == 10


def test_many_at_once_do_not_lock_each_other_out(org: UUID, gateway: Receiver) -> None:
    clients = [make_row(org, "clients", name=f"Ana {n}", phone=f"+3460011100{n}") for n in range(6)]

    def bulk(order: list[UUID]) -> int:
        task = paid_task(org)
        with db.transaction(org) as connection:
            parameters = send_bulk_message.validate(
                {"client_ids": [str(one) for one in order], "channel": "whatsapp", "body": "hello"}
            )
            queued: int = send_bulk_message.run(context_of(connection, org, task), parameters)["queued"]
            wallet.release(connection, task)
        return queued

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(bulk, [clients, clients[::-1]] * 6)) == {6}
    assert cost(org) == 60


def test_a_message_for_later_belongs_to_the_conversation_of_its_time(
    org: UUID, gateway: Receiver, clock: Clock
) -> None:
    write(org)
    write(org, at=clock.now() + 23 * HOUR)
    assert cost(org) == 10
    write(org, at=clock.now() + 48 * HOUR)
    write(org, at=clock.now() + 50 * HOUR)
    assert cost(org) == 20


def test_a_conversation_is_given_back_when_nothing_of_ours_went_out(org: UUID, gateway: Receiver) -> None:
    first, second = write(org), write(org)
    for message in (first, second):
        with db.transaction(org) as connection:
            channels.cancel_message(connection, org, message)
        assert cost(org) == (10 if message == first else 0)
    write(org)  # the conversation is still open, and pays again
    assert cost(org) == 10


def test_what_was_sent_is_not_given_back_with_what_was_not(org: UUID, gateway: Receiver) -> None:
    gateway.answers += [422]
    write(org)
    delivery.deliver_due(delivery.make_senders(settings()))
    assert cost(org) == 0
    gateway.answers.clear()
    write(org)
    delivery.deliver_due(delivery.make_senders(settings()))
    lost = write(org)
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE outbox SET status = 'unknown' WHERE id = :id"), {"id": lost})
    with db.transaction(org) as connection:
        channels.settle_message(connection, org, lost, MessageOutcome(outcome="not_sent"))
    assert cost(org) == 10


def test_organisations_do_not_share_conversations(org: UUID, gateway: Receiver) -> None:
    other = make_organisation(f"org-{new_id().hex[-12:]}")
    with db.transaction(other) as connection:
        channels.set_up_gateway(connection, other, "whatsapp", GatewaySettings(url=gateway.url))
    write(org)
    write(other)
    assert (cost(org), cost(other)) == (10, 10)


@pytest.mark.parametrize(
    "spelt", ["+34 600 111 222", "0034600111222", "34600111222", "(+34) 600-111-222", " 00 34 600 11 12 22"]
)
def test_a_number_is_the_same_however_it_is_written(spelt: str) -> None:
    assert bare(spelt) == "34600111222"
