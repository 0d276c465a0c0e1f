"""One suite over every channel: what it carries, how it refuses, and that it never reaches into our own network."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook

from core import db
from core.addresses import checked_address
from core.errors import InvalidInput, Unavailable
from core.ids import new_id
from core.settings import Settings, settings
from core.vault import make_vault
from domain.channels import delivery
from domain.channels import service as channels
from domain.channels.email import EmailSender
from domain.channels.schemas import (
    EmailChannel,
    Event,
    GatewaySettings,
    Message,
    MessageOutcome,
    NewMessage,
    NewWebhook,
)
from domain.channels.webhook import WebhookSender
from domain.contacts import service as contacts
from domain.wallet import service as wallet
from tests.support.factories import make_row, owner_of
from tests.support.mail import Mailbox, Receiver, mail_server, webhook_receiver


@dataclass
class Channel:
    """A channel with the far end in the test's hands."""

    kind: str
    send: Callable[[str], UUID]
    arrived: Callable[[], list[str]]
    refuse: Callable[[], None]
    balk: Callable[[], None]


@pytest.fixture(autouse=True)
def _empty_outbox(config: Settings) -> None:
    with db.system_transaction() as connection:
        connection.execute(text("DELETE FROM outbox"))


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mail_server() as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with webhook_receiver() as made:
        yield made


def deliver() -> int:
    return delivery.deliver_due(delivery.make_senders(settings()))


def put(org: UUID, **message: Any) -> UUID:
    with db.transaction(org) as connection:
        return channels.enqueue(connection, org, NewMessage(**message))


def message(org: UUID, message_id: UUID) -> Message:
    with db.transaction(org) as connection:
        return channels.get_message(connection, message_id)


def hurry(org: UUID) -> None:
    """What is to be tried later is due now."""
    with db.transaction(org) as connection:
        connection.execute(text("UPDATE outbox SET send_after = rota_now() WHERE status = 'queued'"))


@pytest.fixture(params=["email", "webhook", "sms"])
def channel(request: pytest.FixtureRequest, org: UUID, box: Mailbox, receiver: Receiver) -> Channel:
    with db.transaction(org) as connection:
        if request.param == "email":
            mail = EmailChannel(host="127.0.0.1", port=box.port, security="none", sender="gym@example.com")
            channels.set_up_email(connection, org, mail)
            return Channel(
                "email",
                lambda words: put(org, channel="email", recipient="ana@example.com", subject="Hi", body=words),
                lambda: [body for _, _, body in box.texts()],
                lambda: box.answers.append("550 no such user"),
                lambda: box.answers.append("451 try later"),
            )
        if request.param == "sms":
            channels.set_up_gateway(connection, org, "sms", GatewaySettings(url=receiver.url))
            return Channel(
                "sms",
                lambda words: put(org, channel="sms", recipient="+34600111222", body=words),
                lambda: [json.loads(body)["data"]["text"] for _, body in receiver.posts[:1]] if receiver.posts else [],
                lambda: receiver.answers.append(410),
                lambda: receiver.answers.append(503),
            )
        made = channels.add_webhook(connection, org, NewWebhook(url=receiver.url))
        return Channel(
            "webhook",
            lambda words: put(org, channel="webhook", recipient=made.url, body=words, webhook_id=made.id),
            lambda: [body.decode() for _, body in receiver.posts[:1]],
            lambda: receiver.answers.append(410),
            lambda: receiver.answers.append(429),
        )


def test_a_message_arrives_once_and_is_marked_as_sent(org: UUID, channel: Channel) -> None:
    sent = channel.send("good morning, ñandú")
    deliver()
    deliver()
    assert message(org, sent).status == "sent"
    assert channel.arrived() == ["good morning, ñandú"]


def test_what_may_pass_is_tried_again_later(org: UUID, channel: Channel) -> None:
    channel.balk()
    sent = channel.send("hello")
    deliver()
    found = message(org, sent)
    assert (found.status, found.attempts) == ("queued", 1)
    assert found.error
    deliver()
    assert message(org, sent).attempts == 1  # not before its time
    hurry(org)
    deliver()
    assert (message(org, sent).status, message(org, sent).attempts) == ("sent", 2)


def test_what_will_never_go_fails_and_is_paid_back(org: UUID, channel: Channel) -> None:
    task = new_id()
    channel.refuse()
    with db.transaction(org) as connection:
        wallet.ensure(connection, org, task, 1)
    sent = channel.send("hello")
    with db.transaction(org) as connection:
        connection.execute(
            text("UPDATE outbox SET task_id = :task, seq = 2 WHERE id = :id"), {"task": task, "id": sent}
        )
        wallet.spend_ensured(connection, task, 2, "email", 1, note=str(sent))
        wallet.release(connection, task)
        before = wallet.balance(connection, org).balance
    deliver()
    assert message(org, sent).status == "failed"
    with db.transaction(org) as connection:
        assert wallet.balance(connection, org).balance == before + 1


def test_a_sender_that_dies_leaves_doubt_only_where_a_repetition_would_do_harm(org: UUID, channel: Channel) -> None:
    sent = channel.send("hello")
    with db.transaction(org) as connection:
        connection.execute(
            text("UPDATE outbox SET status = 'sending', attempts = 1, sending_since = rota_now() - interval '1 hour'")
        )
    delivery.reclaim_left_behind(delivery.make_senders(settings()))
    expected = "unknown" if channel.kind == "email" else "queued"
    assert message(org, sent).status == expected
    if expected == "unknown":
        deliver()
        assert channel.arrived() == []
        with db.transaction(org) as connection:
            assert (
                channels.settle_message(connection, org, sent, MessageOutcome(outcome="send_again")).status == "queued"
            )
    deliver()
    assert channel.arrived() == ["hello"]


def test_posts_are_signed_and_keep_their_id_over_attempts(org: UUID, receiver: Receiver) -> None:
    with db.transaction(org) as connection:
        made = channels.add_webhook(connection, org, NewWebhook(url=receiver.url, events=["approval.*"]))
        channels.tell(connection, org, [owner_of(org)], Event(kind="approval.requested", title="a", body="b"))
        channels.tell(connection, org, [], Event(kind="budget.crossed", title="c", body="d"))
    receiver.answers.append(500)
    deliver()
    hurry(org)
    deliver()
    assert len(receiver.posts) == 2
    assert receiver.posts[0][0]["webhook-id"] == receiver.posts[1][0]["webhook-id"]
    headers, body = receiver.posts[1]
    assert Webhook(made.signing_secret).verify(body, headers)["type"] == "approval.requested"
    with pytest.raises(Exception, match="signature"):
        Webhook(made.signing_secret).verify(body + b" ", headers)


def test_events_reach_users_in_the_app(org: UUID) -> None:
    with db.transaction(org) as connection:
        channels.tell(
            connection, org, [owner_of(org)] * 2, Event(kind="x.y", title="Title", body="Body", data={"a": 1})
        )
    deliver()
    with db.transaction(org) as connection:
        (found,) = channels.notifications(connection, owner_of(org), unread=True)
        assert (found.title, found.data) == ("Title", {"a": 1})
        assert channels.mark_read(connection, owner_of(org)) == 1
        assert channels.mark_read(connection, owner_of(org)) == 0


# ── our own network ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "0.0.0.0", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1",
        "2130706433", "0x7f.1", "127.1",
    ],
)  # fmt: skip
def test_no_address_of_ours_is_reached_however_it_is_written(host: str) -> None:
    with pytest.raises((InvalidInput, Unavailable)):
        checked_address(host, 80)


def test_a_public_address_and_a_network_that_was_allowed_are_reached() -> None:
    assert checked_address("1.1.1.1", 443).ip == "1.1.1.1"
    assert checked_address("127.0.0.1", 25, ["127.0.0.0/8"]).port == 25


def test_senders_refuse_private_addresses_and_redirects(org: UUID, receiver: Receiver, config: Settings) -> None:
    vault = make_vault(config)
    with db.transaction(org) as connection:
        made = channels.add_webhook(connection, org, NewWebhook(url=receiver.url))
        mail = EmailChannel(host="127.0.0.1", port=1, security="none", sender="gym@example.com")
        channels.set_up_email(connection, org, mail)
    put(org, channel="webhook", recipient=made.url, body="{}", webhook_id=made.id)
    put(org, channel="email", recipient="a@example.com", subject="x", body="y")
    strict = {"webhook": WebhookSender(vault, []), "email": EmailSender(vault, [])}
    delivery.deliver_due(strict)  # type: ignore[arg-type]
    assert receiver.posts == []
    with db.transaction(org) as connection:
        found = channels.list_messages(connection).messages
    assert {one.status for one in found} == {"failed"}
    receiver.location, receiver.answers = "http://169.254.169.254/", [302]
    sent = put(org, channel="webhook", recipient=made.url, body="{}", webhook_id=made.id)
    deliver()
    assert "redirect" in str(message(org, sent).error)
    assert len(receiver.posts) == 1


def test_a_header_cannot_be_smuggled_into_a_mail(org: UUID, box: Mailbox) -> None:
    with db.transaction(org) as connection:
        mail = EmailChannel(host="127.0.0.1", port=box.port, security="none", sender="gym@example.com")
        channels.set_up_email(connection, org, mail)
    put(
        org,
        channel="email",
        recipient="a@example.com",
        subject="Hi\r\nBcc: evil@example.com",
        body="x\r\n.\r\nRCPT TO:<e>",
    )
    deliver()
    (only,) = box.mails
    assert only["Bcc"] is None
    assert only["Subject"] == "Hi Bcc: evil@example.com"


def test_secrets_are_encrypted_rotated_and_never_shown(org: UUID, receiver: Receiver) -> None:
    with db.transaction(org) as connection:
        wanted = EmailChannel.model_validate(
            {"host": "mail.example.com", "sender": "gym@example.com", "password": "hunter2-secret"}
        )
        shown = channels.set_up_email(connection, org, wanted)
        assert "hunter2" not in shown.model_dump_json()
        made = channels.add_webhook(connection, org, NewWebhook(url=receiver.url))
        secrets = "SELECT secret FROM channels UNION ALL SELECT secret FROM webhooks"
        stored = connection.execute(text(f"SELECT string_agg(t::text, '') FROM ({secrets}) t")).scalar_one()  # noqa: S608
    assert b"hunter2".hex() not in stored
    old = settings().pepper
    both = make_vault(settings().model_copy(update={"encryption_keys": _keys("new", old)}))
    with db.transaction(org) as connection:
        assert channels.rotate_secrets(connection, both) == 2
    only_new = make_vault(settings().model_copy(update={"encryption_keys": _keys("new")}))
    put(org, channel="webhook", recipient=made.url, body='{"type": "x"}', webhook_id=made.id)
    delivery.deliver_due({"webhook": WebhookSender(only_new, ["127.0.0.0/8"])})
    headers, body = receiver.posts[-1]
    assert Webhook(made.signing_secret).verify(body, headers)
    with db.transaction(org) as connection:
        channels.rotate_secrets(
            connection, make_vault(settings().model_copy(update={"encryption_keys": _keys(old, "new")}))
        )


def _keys(*keys: str) -> list[Any]:
    return Settings.model_validate({"encryption_keys": list(keys)}).encryption_keys


def test_a_domain_with_letters_of_its_own_is_written_to_and_its_answers_are_known(org: UUID, box: Mailbox) -> None:
    person = make_row(org, "clients", email="ana@bücher.example")
    sender = EmailChannel(host="127.0.0.1", port=box.port, security="none", sender="gym@bücher.example")
    with db.transaction(org) as connection:
        channels.set_up_email(connection, org, sender)
        message = NewMessage(channel="email", recipient="ana@bücher.example", subject="s", body="b")
        queued = channels.enqueue(connection, org, message)
        with pytest.raises(InvalidInput, match="before the @"):
            channels.enqueue(connection, org, message.model_copy(update={"recipient": "añá@example.com"}))
    deliver()
    with db.transaction(org) as connection:
        assert channels.get_message(connection, queued).status == "sent"
        for spelled in ("ana@xn--bcher-kva.example", "Ana@Bücher.example"):
            assert contacts.at_address(connection, spelled) == [person]
        assert "ana@xn--bcher-kva.example" in contacts.addresses(connection, person)
    [(to, _, _)] = box.texts()
    assert to == "ana@xn--bcher-kva.example"
