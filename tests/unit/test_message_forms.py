"""Settings of channels and webhooks that are taken or refused, and the marks on messages of the rehearsal model."""

import json
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from core.errors import InvalidInput
from core.ids import new_id
from domain.channels.rehearsal import marked
from domain.channels.schemas import (
    Carrier,
    EmailChannel,
    GatewaySettings,
    NewMessage,
    NewWebhook,
    Outgoing,
    TemplateFields,
)
from domain.channels.service import settings_of
from domain.channels.whatsapp import bare
from domain.contacts.reaching import why_not_win
from domain.contacts.schemas import Contact


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com", "http://hooks.example.com:8080/a/b?c=d", "https://[2001:db8::1]/x",
        "https://xn--bcher-kva.example/", "https://10.0.0.1/",  # whether it is reached is decided by its address
    ],
)  # fmt: skip
def test_these_addresses_are_taken(url: str) -> None:
    assert NewWebhook(url=url).url == GatewaySettings(url=url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.example.com", "ftp://hooks.example.com", "https://", "https:///path", "https://user:pw@example.com/",
        "https://example.com/a b", "https://example.com/\r\nX-Header: 1", "https://bücher.example/",
        "https://example.com:99999/", "https://example.com:http/", "https://[2001:db8::1/", "HTTPS://example.com",
        "https://example.com/\0", "https://example.com/" + "x" * 2_000,
    ],
)  # fmt: skip
def test_these_addresses_are_refused(url: str) -> None:
    for form in (NewWebhook, GatewaySettings):
        with pytest.raises(ValidationError):
            form(url=url)


@pytest.mark.parametrize(
    ("events", "is_taken"),
    [
        (["*"], True), (["approval.*", "budget.crossed"], True), (["post.due"], True), ([], False),
        (["approval"], False), (["*.created"], False),
        (["approval.**"], False), (["Approval.made"], False), (["approval.[a-z]*"], False),
        ([""], False), (["post.due\n"], False), (["*"] * 51, False),
    ],
)  # fmt: skip
def test_a_webhook_subscribes_to_kinds_of_events(events: list[str], is_taken: bool) -> None:
    if is_taken:
        assert NewWebhook(url="https://example.com", events=events).events == events
    else:
        with pytest.raises(ValidationError):
            NewWebhook(url="https://example.com", events=events)


@pytest.mark.parametrize(
    "changes",
    [
        {"host": ""}, {"host": "-mail.example.com"}, {"host": "mail.example.com."}, {"host": "mail example.com"},
        {"host": "https://mail.example.com"}, {"host": "mail.example.com\n"}, {"port": 0}, {"port": 65_536},
        {"security": "ssl"}, {"sender": "gym"}, {"sender_name": "Gym\r\nBcc: all@example.com"}, {"sender_name": " "},
        {"username": "a\0"}, {"password": "a\ud800"}, {"reply_to": "a@example.com"},
    ],
)  # fmt: skip
def test_a_mail_server_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    good = {"host": "mail.example.com", "sender": "gym@example.com", "password": "s3cret"}
    EmailChannel.model_validate(good)
    with pytest.raises(ValidationError):
        EmailChannel.model_validate(good | changes)


def test_refused_settings_are_named_without_the_password() -> None:
    body = {"host": "mail.example.com", "sender": "nobody", "password": "s3cret\ud800", "port": "many"}
    with pytest.raises(InvalidInput) as refused:
        settings_of("email", body)
    assert all(f"{field}: " in refused.value.message for field in ("sender", "password", "port"))
    assert "s3cret" not in refused.value.message
    with pytest.raises(InvalidInput, match=r"^url: "):
        settings_of("sms", {"url": "nowhere"})
    with pytest.raises(InvalidInput) as refused:  # a gateway has no password
        settings_of("whatsapp", {"url": "https://example.com", "password": "s3cret"})
    assert refused.value.message.startswith("password: ")
    assert "s3cret" not in refused.value.message


@pytest.mark.parametrize("subject", ["Hi\nBcc: all@example.com", "Hi\rBcc: all@example.com", "", " ", "x" * 301, "\0"])
def test_a_template_has_a_subject_of_one_line(subject: str) -> None:
    assert TemplateFields(subject=" Hi ", body="x").subject == "Hi"
    with pytest.raises(ValidationError):
        TemplateFields(subject=subject, body="x")


# ── rehearsal ────────────────────────────────────────────────────────────────────────────────────────────────────────


def outgoing(channel: Carrier, body: str) -> Outgoing:
    return Outgoing(
        id=new_id(), org_id=new_id(), channel=channel, recipient="x", subject="Offer", body=body, attempts=1,
        webhook_id=None, task_id=None, seq=None, settings=None, secret=None, url=None, receiver="x",
        receiver_failures=0, is_troubled=False, is_rehearsal=True, is_demonstration=True,
    )  # fmt: skip


def test_the_mark_stands_where_the_reader_of_each_channel_looks_first() -> None:
    mail = marked(outgoing("email", "Hola"))
    assert (mail.subject, mail.body) == ("[Rehearsal] Offer", "Hola")
    for channel in ("sms", "whatsapp"):
        short = marked(outgoing(channel, "¿Vienes?"))
        assert (short.subject, short.body) == ("Offer", "[Rehearsal] ¿Vienes?")


def test_a_marked_event_keeps_its_data_and_says_so_to_programs() -> None:
    note = marked(outgoing("in_app", json.dumps({"kind": "post.due", "title": "Publish", "data": {"post_id": "1"}})))
    assert json.loads(note.body) == {
        "kind": "post.due", "title": "[Rehearsal] Publish", "data": {"post_id": "1", "is_rehearsal": True},
    }  # fmt: skip
    posted = marked(outgoing("webhook", json.dumps({"type": "post.due"})))
    assert json.loads(posted.body) == {"type": "post.due", "data": {"is_rehearsal": True}}
    assert "ñ" in marked(outgoing("webhook", json.dumps({"type": "ñ"}, ensure_ascii=False))).body


def test_marking_leaves_the_original_as_it_was() -> None:
    before = outgoing("email", "Hola")
    marked(before)
    assert before.subject == "Offer"


# ── recipients ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "writers"), [((None, None), 0), ((1, None), 1), ((None, 2), 1), ((1, 2), 2)], ids=str
)
def test_a_message_comes_from_the_task_that_sends_it_and_the_one_that_wrote_it(
    given: tuple[int | None, int | None], writers: int
) -> None:
    task, author = (UUID(int=one) if one else None for one in given)
    message = NewMessage(channel="email", recipient="a@example.com", body="x", task_id=task, written_by=author)
    assert len(message.writers) == writers
    assert set(message.writers) == {task, author} - {None}


@pytest.mark.parametrize(
    ("number", "digits"),
    [
        ("+34 600 111 222", "34600111222"), ("0034600111222", "34600111222"), (" 00 34 600-111-222", "34600111222"),
        ("(34) 600.111.222", "34600111222"), ("+1 (800) 555-0100", "18005550100"), ("", ""), ("no number", ""),
    ],
)  # fmt: skip
def test_a_number_is_its_digits_from_the_country_code_on(number: str, digits: str) -> None:
    assert bare(number) == digits


def contact(**changes: Any) -> Contact:
    known: dict[str, Any] = {
        "id": new_id(), "kind": "client", "name": "Ana", "email": "ana@example.com", "phone": "+34600111222",
        "status": "active", "language": "es", "location_id": None, "time_zone": None, "has_consented": False,
        "opted_out_at": None,
    }  # fmt: skip
    return Contact.model_validate(known | changes)


@pytest.mark.parametrize(
    ("changes", "by_email", "by_text"),
    [
        ({}, None, None),
        ({"phone": None}, None, "has no phone number"),
        ({"phone": ""}, None, "has no phone number"),
        ({"email": ""}, "has no e-mail address", None),
        ({"email": "unknown"}, "has no e-mail address", None),
        ({"status": "lapsed"}, None, None),
        ({"status": "cancelled"}, "has cancelled", "has cancelled"),
        ({"status": "cancelled", "email": ""}, "has cancelled", "has cancelled"),
        ({"opted_out_at": "2026-01-01T00:00:00Z"}, "wants no such messages", "wants no such messages"),
        ({"opted_out_at": "2026-01-01T00:00:00Z", "email": "", "phone": None}, "wants no such messages",
         "wants no such messages"),
    ],
)  # fmt: skip
def test_advertising_goes_to_who_stayed_and_did_not_object_on_a_channel_that_reaches_them(
    changes: dict[str, Any], by_email: str | None, by_text: str | None
) -> None:
    person = contact(**changes)
    assert why_not_win(person) == why_not_win(person, "email") == by_email
    assert why_not_win(person, "sms") == why_not_win(person, "whatsapp") == by_text
