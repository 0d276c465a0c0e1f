"""A receiver's trouble stays its own: caps on every send, turns between organisations, pauses, retries over days."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.app import make_app
from core import db
from core.addresses import checked_address, look_up_in_time
from core.deadlines import Deadline
from core.errors import Unavailable
from core.ids import new_id
from core.settings import ROOT, Settings, settings
from core.vault import make_vault
from domain.channels import delivery, queries
from domain.channels import service as channels
from domain.channels.email import EmailSender
from domain.channels.schemas import (
    Carrier,
    EmailChannel,
    GatewaySettings,
    MadeWebhook,
    Message,
    NewMessage,
    NewWebhook,
    Notice,
    Outgoing,
    Room,
)
from domain.channels.senders import NotSent, Sender
from domain.channels.webhook import WebhookSender
from tests.support.clock import Clock, movable_clock
from tests.support.dribbler import Dribbler, dribbler
from tests.support.factories import make_key, make_organisation, owner_of
from tests.support.mail import Receiver, webhook_receiver
from tests.support.servers import SECRET_KEY, serving, wait_until

_HERE = ["127.0.0.0/8"]


@pytest.fixture(autouse=True)
def _empty_outbox(config: Settings) -> None:
    with db.system_transaction() as connection:
        for table in ("outbox", "troubled_receivers", "notifications"):
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with webhook_receiver() as made:
        yield made


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    with TestClient(make_app(), client=("sending", 1), raise_server_exceptions=False) as made:
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
        yield made


@pytest.fixture
def clock(config: Settings) -> Iterator[Clock]:
    with movable_clock() as made:
        yield made


@pytest.fixture
def served(config: Settings) -> Iterator[str]:
    """The API's address."""
    with serving(make_app()) as url:
        yield url


@pytest.fixture
def no_private_networks(config: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings of an installation that lets organisations reach public addresses only."""
    with monkeypatch.context() as environment:
        environment.setenv("ROTA_PRIVATE_NETWORKS", "[]")
        settings.cache_clear()
        yield
    settings.cache_clear()


@pytest.fixture
def many(config: Settings) -> Callable[[int], list[UUID]]:
    """So many organisations."""
    return lambda number: [make_organisation(f"org-{new_id().hex[-12:]}") for _ in range(number)]


def senders(config: Settings, *, cap: float = 15) -> dict[Carrier, Sender]:
    vault = make_vault(config)
    webhook = WebhookSender(vault, _HERE, cap=cap)
    made: dict[Carrier, Sender] = {**delivery.make_senders(config)}
    return made | {"webhook": webhook, "sms": webhook, "whatsapp": webhook, "email": EmailSender(vault, _HERE, cap=cap)}


def add_webhook(org: UUID, url: str, events: list[str] | None = None) -> MadeWebhook:
    with db.transaction(org) as connection:
        return channels.add_webhook(connection, org, NewWebhook(url=url, events=events or ["*"]))


def post_to(org: UUID, webhook: MadeWebhook, body: str = "{}") -> UUID:
    return put(org, channel="webhook", recipient=webhook.url, body=body, webhook_id=webhook.id)


def put(org: UUID, **message: Any) -> UUID:
    with db.transaction(org) as connection:
        return channels.enqueue(connection, org, NewMessage(**message))


def message(org: UUID, message_id: UUID) -> Message:
    with db.transaction(org) as connection:
        return channels.get_message(connection, message_id)


def status_of(message_id: UUID) -> str:
    with db.system_transaction() as connection:
        statement = text("SELECT status FROM outbox WHERE id = :id")
        return str(connection.execute(statement, {"id": message_id}).scalar_one())


# ── a cap on the whole of every send ─────────────────────────────────────────────────────────────────────────────────


def outgoing(kind: str, config: Settings, far_end: Dribbler) -> Outgoing:
    vault, secret = make_vault(config), None
    given: dict[str, Any] = {"channel": "webhook", "url": far_end.url, "settings": None}
    if kind == "webhook over TLS":
        given["url"] = f"https://127.0.0.1:{far_end.port}/"
    if kind == "text message":
        given = {"channel": "sms", "url": None, "settings": {"url": far_end.url}}
    if kind.startswith("mail"):
        security = {"mail": "none", "mail over TLS": "tls", "mail with STARTTLS": "starttls"}[kind]
        settings = {"host": "127.0.0.1", "port": far_end.port, "security": security, "sender": "a@example.com"}
        given = {"channel": "email", "url": None, "settings": settings}
    else:
        secret = vault.lock("whsec_" + "A" * 32)
    return Outgoing(
        id=new_id(), org_id=new_id(), recipient="ana@example.com", subject="Hi", body="{}", attempts=1, webhook_id=None,
        task_id=None, seq=None, secret=secret, receiver="x", receiver_failures=0, is_troubled=False,
        is_rehearsal=False, is_demonstration=False, **given,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("webhook", "a status, then headers without an end"),
        ("webhook", "half a status"),
        ("webhook", "interim answers without an end"),
        ("webhook", "a refusal with a body without an end"),
        ("webhook over TLS", "nothing that TLS could be"),
        ("text message", "a status, then headers without an end"),
        ("mail", "a greeting without an end"),
        ("mail", "greetings line by line"),
        ("mail", "a greeting, then silence"),
        ("mail over TLS", "nothing that TLS could be"),
        ("mail with STARTTLS", "greetings line by line"),
    ],
)
def test_a_send_ends_at_its_cap_whatever_the_receiver_dribbles(config: Settings, kind: str, answer: str) -> None:
    with dribbler(answer) as far_end:
        sender = senders(config, cap=1)["email" if kind.startswith("mail") else "webhook"]
        started = time.monotonic()
        with pytest.raises(NotSent):
            sender.send(outgoing(kind, config, far_end))
        assert time.monotonic() - started < 4  # no time-out of a single wait is so short
        assert len(far_end.connections) == 1


def test_an_accepted_post_does_not_wait_for_the_rest_of_the_answer(config: Settings) -> None:
    with dribbler("a body without an end") as far_end:
        started = time.monotonic()
        senders(config)["webhook"].send(outgoing("webhook", config, far_end))
        assert time.monotonic() - started < 4


def test_a_name_server_that_does_not_answer_is_given_up() -> None:
    is_over = threading.Event()

    def look_up() -> list[str]:
        is_over.wait(30)
        return ["1.1.1.1"]

    try:
        with pytest.raises(Unavailable, match=r"The name servers of slow.example.com did not answer"):
            look_up_in_time(look_up, "slow.example.com", 0.1)
    finally:
        is_over.set()


def test_a_deadline_leaves_nothing_open(config: Settings) -> None:
    with dribbler("half a status") as far_end, Deadline(0.2) as deadline:
        opened = deadline.connect(checked_address("127.0.0.1", far_end.port, _HERE), 5)
        with opened:
            while opened.recv(100):
                pass
        assert deadline.has_passed
        with pytest.raises(TimeoutError):
            deadline.connect(checked_address("127.0.0.1", far_end.port, _HERE), 5)


# ── each by itself, organisations in turns ───────────────────────────────────────────────────────────────────────────


def test_receivers_that_dribble_delay_nobody_else(config: Settings, org: UUID, many: Any, receiver: Receiver) -> None:
    with dribbler("a status, then headers without an end") as slow:
        held = []
        for other in many(6):
            webhook = add_webhook(other, slow.url)
            held += [post_to(other, webhook) for _ in range(10)]
        outbox = delivery.Outbox(senders(config))
        try:
            outbox.send_due()
            wait_until(lambda: len(slow.connections) >= 6, what="every slow receiver has a post in hand")
            mine = add_webhook(org, receiver.url)
            posted = post_to(org, mine)
            told = put(
                org, channel="in_app", recipient=str(owner_of(org)), body='{"kind": "a", "title": "b", "body": "c"}'
            )
            outbox.send_due()
            wait_until(lambda: status_of(posted) == status_of(told) == "sent", seconds=10, what="mine left")
            assert {status_of(one) for one in held} <= {"queued", "sending"}
            assert "sending" in {status_of(one) for one in held}
        finally:
            outbox.stop()
            for connection in slow.connections:
                connection.close()
            outbox.close()


def test_organisations_have_turns_whatever_waits_for_whom(config: Settings, org: UUID, many: Any) -> None:
    (other,) = many(1)
    for number in range(3):
        busy = add_webhook(org, f"http://127.0.0.1:{9 + number}/")
        for _ in range(5):
            post_to(org, busy)
    late = add_webhook(other, "http://127.0.0.1:9/")
    post_to(other, late)
    served: list[UUID] = []
    for _ in range(3):
        room = Room(["webhook"], messages=1, to_troubled=1, of_organisation=9, of_receiver=9, served=served)
        with db.system_transaction() as connection:
            (row,) = queries.take_due(connection, room)
        served = [one for one in served if one != row.org_id] + [row.org_id]
    assert served == [other, org]  # org, other, org
    room = Room(["webhook"], messages=9, to_troubled=9, of_organisation=9, of_receiver=1, served=[])
    with db.system_transaction() as connection:
        rows = queries.take_due(connection, room)
    assert [row.org_id for row in rows] == [org, org]  # the two receivers that have nothing in hand


def test_a_receiver_in_trouble_is_left_alone_and_its_neighbours_are_not(
    config: Settings, org: UUID, receiver: Receiver, clock: Clock
) -> None:
    bad, good = add_webhook(org, "http://127.0.0.1:9/"), add_webhook(org, receiver.url)
    first = [post_to(org, bad) for _ in range(3)]
    for _ in range(4):
        delivery.deliver_due(senders(config))
        clock.move(timedelta(seconds=6))
    attempts = sum(message(org, one).attempts for one in first)
    late = post_to(org, bad)
    posted = post_to(org, good)
    delivery.deliver_due(senders(config))
    assert message(org, posted).status == "sent"
    assert message(org, late).attempts == 0  # nothing goes there now, the new one neither
    assert sum(message(org, one).attempts for one in first) == attempts
    with db.transaction(org) as connection:
        shown = {one.id: one for one in channels.list_webhooks(connection, org)}
    assert shown[bad.id].failing_since is not None
    assert shown[bad.id].last_error == "It cannot be reached: ConnectionRefusedError"
    assert shown[good.id].failing_since is None


@pytest.mark.parametrize("kind", ["webhook", "channel"])
def test_what_somebody_has_mended_is_tried_at_once(
    config: Settings, org: UUID, receiver: Receiver, client: TestClient, kind: str
) -> None:
    webhook = add_webhook(org, receiver.url)
    gateway = {"url": receiver.url}
    assert client.put("/v1/channels/sms", json=gateway).is_success
    message_of = {
        "webhook": lambda: post_to(org, webhook),
        "channel": lambda: put(org, channel="sms", recipient="+34600111222", body="hello"),
    }
    receiver.answers += [503, 503]
    sent = [message_of[kind](), message_of[kind]()]
    delivery.deliver_due(senders(config))
    delivery.deliver_due(senders(config))
    assert {message(org, one).status for one in sent} == {"queued"}
    if kind == "webhook":
        assert client.post(f"/v1/webhooks/{webhook.id}/enable").is_success
    else:
        assert client.put("/v1/channels/sms", json=gateway).is_success
    delivery.deliver_due(senders(config))
    assert {message(org, one).status for one in sent} == {"sent"}


def test_ones_own_slow_receivers_do_not_keep_words_in_the_app(config: Settings, org: UUID) -> None:
    with dribbler("a status, then headers without an end") as slow:
        for _ in range(6):
            post_to(org, add_webhook(org, slow.url))
        outbox = delivery.Outbox(senders(config))
        try:
            outbox.send_due()
            wait_until(lambda: len(slow.connections) >= 4, what="as many as may be are in hand")
            body = '{"kind": "a", "title": "b", "body": "c"}'
            told = put(org, channel="in_app", recipient=str(owner_of(org)), body=body)
            outbox.send_due()
            wait_until(lambda: status_of(told) == "sent", seconds=8, what="the word in the app is there")
        finally:
            outbox.stop()
            for connection in slow.connections:
                connection.close()
            outbox.close()


def test_a_receiver_that_works_again_gets_what_waited_at_once(
    config: Settings, org: UUID, receiver: Receiver, clock: Clock
) -> None:
    webhook = add_webhook(org, receiver.url)
    sent = [post_to(org, webhook) for _ in range(4)]
    receiver.answers += [503] * 12
    for _ in range(12):
        delivery.deliver_due(senders(config))
        clock.move(timedelta(minutes=2))
        if not receiver.answers:
            break
    receiver.answers.clear()
    clock.move(timedelta(minutes=11))  # the longest pause
    delivery.deliver_due(senders(config))
    assert {message(org, one).status for one in sent} == {"sent"}
    with db.transaction(org) as connection:
        assert channels.list_webhooks(connection, org)[0].failing_since is None


# ── webhooks: over days, gone, listed, sent again ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [301, 400, 401, 404, 422, 451, 500, 429])
def test_an_event_outlives_an_hour_of_refusals(
    config: Settings, org: UUID, receiver: Receiver, clock: Clock, status: int
) -> None:
    sent = post_to(org, add_webhook(org, receiver.url))
    receiver.answers += [status] * 4
    for _ in range(14):
        delivery.deliver_due(senders(config))
        clock.move(timedelta(minutes=5))
    assert message(org, sent).status == "queued"
    clock.move(timedelta(hours=3))
    delivery.deliver_due(senders(config))
    assert message(org, sent).status == "sent"


def test_an_event_fails_after_three_days_and_not_before(config: Settings, org: UUID, clock: Clock) -> None:
    sent = post_to(org, add_webhook(org, "http://127.0.0.1:9/"))
    began = time.monotonic()
    hours = 0
    while message(org, sent).status == "queued":
        delivery.deliver_due(senders(config))
        clock.move(timedelta(hours=1))
        hours += 1
        assert time.monotonic() - began < 120
    assert message(org, sent).status == "failed"
    assert 72 < hours < 120


def test_a_webhook_that_is_gone_is_disabled_and_that_is_said(
    config: Settings, org: UUID, receiver: Receiver, client: TestClient
) -> None:
    with webhook_receiver() as other:
        watched = add_webhook(org, other.url, ["webhook.*"])
        gone = add_webhook(org, receiver.url, ["a.b"])
        lost, also = post_to(org, gone), post_to(org, gone)
        receiver.answers.append(410)
        delivery.deliver_due({"webhook": senders(config)["webhook"]})
        delivery.deliver_due(senders(config))
        assert len(receiver.posts) <= 2  # the second may have been on its way
        assert b"webhook.disabled" in other.posts[0][1]
    shown = {one["id"]: one for one in client.get("/v1/webhooks").json()}
    assert shown[str(gone.id)]["disabled_at"]
    assert "410" in shown[str(gone.id)]["disabled_because"]
    assert shown[str(watched.id)]["disabled_at"] is None
    (told,) = [one for one in client.get("/v1/notifications").json() if one["kind"] == "webhook.disabled"]
    assert receiver.url in told["title"]
    before = len(receiver.posts)
    with db.transaction(org) as connection:
        channels.tell(connection, org, [], Notice(kind="a.b", title="a", body="b"))
    delivery.deliver_due(senders(config))
    assert len(receiver.posts) == before  # nothing new is posted there
    path = f"/v1/webhooks/{gone.id}/deliveries"
    failed = [one["id"] for one in client.get(path, params={"status": "failed"}).json()["messages"]]
    assert str(lost) in failed
    refused = client.post(f"{path}/{lost}/send-again")
    assert (refused.status_code, "enable" in refused.json()["detail"]) == (409, True)
    assert client.post(f"/v1/webhooks/{gone.id}/enable").json()["disabled_at"] is None
    assert client.post(f"{path}/send-again", json={}).json() == {"queued": len(failed)}
    delivery.deliver_due(senders(config))
    assert {message(org, one).status for one in (lost, also)} == {"sent"}
    assert str(lost) in {headers["webhook-id"] for headers, _ in receiver.posts[before:]}


def test_one_delivery_is_sent_again_and_no_other_webhooks(
    config: Settings, org: UUID, receiver: Receiver, client: TestClient
) -> None:
    mine, other = add_webhook(org, receiver.url), add_webhook(org, receiver.url)
    sent = post_to(org, mine)
    delivery.deliver_due(senders(config))
    assert client.post(f"/v1/webhooks/{other.id}/deliveries/{sent}/send-again").status_code == 404
    again = client.post(f"/v1/webhooks/{mine.id}/deliveries/{sent}/send-again").json()
    assert (again["status"], again["attempts"]) == ("queued", 0)
    delivery.deliver_due(senders(config))
    assert [headers["webhook-id"] for headers, _ in receiver.posts] == [str(sent)] * 2
    assert client.get(f"/v1/webhooks/{new_id()}/deliveries").status_code == 404


def test_a_gateway_may_refuse_one_message_for_good(config: Settings, org: UUID, receiver: Receiver) -> None:
    with db.transaction(org) as connection:
        channels.set_up_gateway(connection, org, "sms", GatewaySettings(url=receiver.url))
    receiver.answers += [422, 401]
    wrong = put(org, channel="sms", recipient="+34600111222", body="hello")
    delivery.deliver_due(senders(config))
    later = put(org, channel="sms", recipient="+34600111222", body="hello")
    delivery.deliver_due(senders(config))
    assert message(org, wrong).status == "failed"
    assert message(org, later).status == "queued"  # a wrong key can be mended


def test_a_wrong_mail_password_loses_no_mail(config: Settings, org: UUID) -> None:
    with dribbler("a greeting, then silence") as far_end:
        with db.transaction(org) as connection:
            wanted = EmailChannel(host="127.0.0.1", port=far_end.port, security="none", sender="gym@example.com")
            channels.set_up_email(connection, org, wanted)
        sent = put(org, channel="email", recipient="ana@example.com", subject="Hi", body="hello")
        delivery.deliver_due(senders(config, cap=0.5))
        assert message(org, sent).status == "queued"


# ── addresses that nothing could be sent to ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "169.254.169.254",
        "[::1]",
        "192.168.1.1",
        "hooks.invalid",
        "localhost.local",
        "intranet",
        "127.0.0.2",
    ],
)
@pytest.mark.usefixtures("no_private_networks")
def test_what_could_not_be_delivered_is_refused_when_it_is_created(client: TestClient, host: str) -> None:
    wanted = [
        ("POST", "/v1/webhooks", {"url": f"https://{host}/hook"}),
        ("PUT", "/v1/channels/sms", {"url": f"https://{host}/hook"}),
        ("PUT", "/v1/channels/whatsapp", {"url": f"https://{host}/hook"}),
    ]
    if ":" not in host:
        wanted.append(("PUT", "/v1/channels/email", {"host": host, "sender": "a@example.com"}))
    for method, path, body in wanted:
        answer = client.request(method, path, json=body)
        assert answer.status_code == 422, (path, answer.text)
        assert host.strip("[]") in answer.json()["detail"]
    assert client.get("/v1/webhooks").json() == []
    assert client.get("/v1/channels").json() == []


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_deliveries_are_listed_and_sent_again_by_commands(
    config: Settings, org: UUID, receiver: Receiver, served: str
) -> None:
    webhook = add_webhook(org, receiver.url)
    sent = post_to(org, webhook)
    receiver.answers.append(410)
    delivery.deliver_due(senders(config))

    def rota(*arguments: str) -> str:
        environment = os.environ | {"ROTA_API_URL": served, "ROTA_API_KEY": make_key(org, SECRET_KEY), "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "webhooks", *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "disabled: It answered 410" in rota()
    assert str(sent) in rota("deliveries", str(webhook.id), "--status", "failed")
    assert "enabled" in rota("enable", str(webhook.id))
    assert "queued again: 1" in rota("send-again", str(webhook.id))
    delivery.deliver_due(senders(config))
    assert message(org, sent).status == "sent"
    assert "works" in rota()
