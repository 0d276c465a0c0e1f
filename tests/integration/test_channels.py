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
from core.errors import Conflict, InvalidInput, NotFound, Unavailable
from core.ids import new_id
from core.settings import Settings, settings
from core.vault import make_vault
from domain.channels import delivery
from domain.channels import service as channels
from domain.channels.email import EmailSender
from domain.channels.schemas import (
    EmailChannel,
    GatewaySettings,
    Message,
    MessageOutcome,
    NewMessage,
    NewWebhook,
    Notice,
)
from domain.channels.webhook import WebhookSender
from domain.contacts import service as contacts
from domain.wallet import service as wallet
from tests.support.factories import make_organisation, make_row, make_user, owner_of
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
        channels.tell(connection, org, [owner_of(org)], Notice(kind="approval.requested", title="a", body="b"))
        channels.tell(connection, org, [], Notice(kind="budget.crossed", title="c", body="d"))
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
            connection, org, [owner_of(org)] * 2, Notice(kind="x.y", title="Title", body="Body", data={"a": 1})
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


# ── what a sender's name may hold ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Gimnasio Ñandú", "Gimnasio Ñandú"), ('Gym, "Best" <x@y>', 'Gym, "Best" <x@y>'),
        ("Gym\x0bMadrid", "Gym Madrid"), ("Gym\u2028Madrid\t", "Gym Madrid"), (None, ""),
    ],
)  # fmt: skip
def test_a_mail_comes_from_the_sender_whatever_its_name_holds(
    org: UUID, box: Mailbox, name: str | None, shown: str
) -> None:
    with db.transaction(org) as connection:
        mail = EmailChannel(
            host="127.0.0.1", port=box.port, security="none", sender="gym@example.com", sender_name=name
        )
        channels.set_up_email(connection, org, mail)
    put(org, channel="email", recipient="ana@example.com", subject="Hi", body="x")
    deliver()
    [received] = box.mails
    [address] = received["From"].addresses
    assert (address.display_name, address.addr_spec) == (shown, "gym@example.com")


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_mail_password_is_kept_for_its_server_and_user_name_only(org: UUID) -> None:
    def set_up(**changes: Any) -> bool:
        known = {"host": "mail.example.com", "sender": "gym@example.com", "username": "gym"}
        with db.transaction(org) as connection:
            return channels.set_up_email(connection, org, EmailChannel.model_validate(known | changes)).has_secret

    assert set_up() is False
    assert set_up(host="other.example.com") is False
    assert set_up(password="s3cret") is True
    assert set_up(sender="club@example.com", sender_name="Club") is True
    for change in ({"host": "evil.example.com"}, {"port": 2525}, {"security": "none"}, {"username": "root"}):
        with pytest.raises(InvalidInput, match="give it again"):
            set_up(**change)
        with db.transaction(org) as connection:
            assert channels.list_channels(connection)[0].settings["host"] == "mail.example.com"
    with pytest.raises(InvalidInput, match="not sent unencrypted"):
        set_up(security="none", password="s3cret")
    assert set_up(host="new.example.com", password="s3cret") is True


def test_without_its_channel_a_message_is_refused_and_nothing_is_queued(org: UUID) -> None:
    for kind in ("email", "sms", "whatsapp"):
        with pytest.raises(Conflict, match=f"no {kind} channel"):
            put(org, channel=kind, recipient="ana@example.com", body="x")
    with db.transaction(org) as connection:
        assert channels.list_messages(connection).messages == []
        with pytest.raises(NotFound, match="There is no sms channel"):
            channels.remove_channel(connection, "sms")


# ── the outbox and the inbox as lists ────────────────────────────────────────────────────────────────────────────────


def test_messages_are_listed_in_pages_the_newest_first_and_notifications_are_none_of_them(
    org: UUID, receiver: Receiver
) -> None:
    with db.transaction(org) as connection:
        channels.set_up_gateway(connection, org, "sms", GatewaySettings(url=receiver.url))
        hook = channels.add_webhook(connection, org, NewWebhook(url=receiver.url))
    texts = [put(org, channel="sms", recipient="+34600", body=str(number)) for number in range(4)]
    posted = put(org, channel="webhook", recipient=hook.url, body="{}", webhook_id=hook.id)
    hidden = put(org, channel="in_app", recipient=str(owner_of(org)), body="{}")
    with db.transaction(org) as connection:
        channels.cancel_message(connection, org, texts[0])
        listed, before = [], None
        for _ in range(3):
            page = channels.list_messages(connection, before=before, limit=2)
            listed += [one.id for one in page.messages]
            before = page.next_before
        assert (listed, before) == ([posted, *texts[::-1]], None)
        for wanted, found in (
            ({"channel": "webhook"}, [posted]), ({"webhook": hook.id}, [posted]), ({"status": "cancelled"}, texts[:1]),
            ({"status": "queued", "channel": "sms"}, texts[:0:-1]), ({"webhook": new_id()}, []),
            ({"task": new_id()}, []),
        ):  # fmt: skip
            assert [one.id for one in channels.list_messages(connection, **wanted).messages] == found
        with pytest.raises(NotFound):
            channels.get_message(connection, hidden)


def test_what_is_received_twice_under_one_id_of_a_channel_is_kept_once(org: UUID) -> None:
    ana, ben = make_row(org, "clients"), make_row(org, "clients")
    with db.transaction(org) as connection:
        first, is_new = channels.receive(connection, org, ana, "sms", "Hola", "id-1")
        assert is_new
        elsewhere, is_new = channels.receive(connection, org, ana, "email", "Hola", "id-1")
        assert is_new
        again, is_new = channels.receive(connection, org, ben, "sms", "Something else", "id-1")
        assert (again, is_new) == (first, False)
        without = [channels.receive(connection, org, ana, "sms", "Hola")[0].id for _ in range(2)]
        kept = [first.id, elsewhere.id, *without]
        assert [one.id for one in channels.list_received(connection)] == kept[::-1]
        assert [one.id for one in channels.list_received(connection, before=without[0], limit=1)] == [elsewhere.id]
        assert channels.list_received(connection, contact=ben) == []
    other = make_organisation(f"org-{new_id().hex[-12:]}")
    with db.transaction(other) as connection:
        assert channels.list_received(connection) == []
        _, is_new = channels.receive(connection, other, new_id(), "sms", "Hola", "id-1")
        assert is_new


def test_correspondence_is_what_went_and_came_in_order_without_what_never_left_or_came_back(
    org: UUID, box: Mailbox
) -> None:
    ana = make_row(org, "clients")
    with db.transaction(org) as connection:
        mail = EmailChannel(host="127.0.0.1", port=box.port, security="none", sender="gym@example.com")
        channels.set_up_email(connection, org, mail)
    box.answers.append("550 no such user")
    sent: dict[str, Any] = {"channel": "email", "recipient": "ana@example.com", "contact": ana, "subject": "Hi"}
    put(org, **sent, body="refused")
    deliver()
    put(org, **sent, body="first")
    deliver()
    with db.transaction(org) as connection:
        channels.receive(connection, org, ana, "email", "second")
        channels.receive(connection, org, ana, "email", "Undelivered", kind="bounce")
        channels.receive(connection, org, make_row(org, "clients"), "email", "of somebody else")
    put(org, **sent, body="third")
    cancelled = put(org, **sent, body="cancelled")
    with db.transaction(org) as connection:
        channels.cancel_message(connection, org, cancelled)
        letters = channels.correspondence(connection, ana)
        assert [(one.direction, one.body) for one in letters] == [
            ("sent", "first"), ("received", "second"), ("sent", "third"),
        ]  # fmt: skip
        assert [one.body for one in channels.correspondence(connection, ana, limit=2)] == ["second", "third"]


def test_notifications_are_read_by_their_user_alone(org: UUID) -> None:
    other = make_user(org, "manager")
    with db.transaction(org) as connection:
        for number in range(2):
            event = Notice(kind="x.y", title=f"Title {number}", body="Body")
            channels.tell(connection, org, [owner_of(org), other], event)
    deliver()
    with db.transaction(org) as connection:
        mine = channels.notifications(connection, owner_of(org))
        assert sorted(one.title for one in mine) == ["Title 0", "Title 1"]
        assert channels.mark_read(connection, other, mine[0].id) == 0
        assert channels.mark_read(connection, owner_of(org), mine[0].id) == 1
        assert [one.id for one in channels.notifications(connection, owner_of(org), unread=True)] == [mine[1].id]
        assert len(channels.notifications(connection, owner_of(org), limit=1)) == 1
        assert len(channels.notifications(connection, other, unread=True)) == 2


@pytest.mark.parametrize(
    ("kind", "subscribed"),
    [
        ("approval.wanted", ["all", "approvals", "one"]),
        ("approval.decided", ["all", "approvals"]),
        ("post.due", ["all"]),
    ],
)
def test_an_event_is_posted_to_the_webhooks_that_subscribe_to_its_kind(
    org: UUID, receiver: Receiver, kind: str, subscribed: list[str]
) -> None:
    patterns = {"all": "*", "approvals": "approval.*", "one": "approval.wanted", "off": "*"}
    with db.transaction(org) as connection:
        for name, pattern in patterns.items():
            made = channels.add_webhook(connection, org, NewWebhook(url=f"{receiver.url}/{name}", events=[pattern]))
        channels.disable_webhook(connection, org, made.id, "It answered 410.")
        channels.tell(connection, org, [], Notice(kind=kind, title="Title", body="Body", data={"n": 1}))
        posted = [one for one in channels.list_messages(connection).messages if f'"{kind}"' in one.body]
    assert sorted(one.recipient.rpartition("/")[2] for one in posted) == subscribed
    assert {one.body for one in posted} == {f'{{"type":"{kind}","data":{{"title":"Title","n":1}}}}'}
