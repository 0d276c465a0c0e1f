"""When messages are sent again, what an answer means, and which addresses are refused."""

from datetime import UTC, datetime, timedelta

import pytest

from core.addresses import NameUnknown
from core.errors import InvalidInput, Unavailable
from domain.channels.reachable import Check, ensure_url_is_deliverable, judge
from domain.channels.retrying import delay_after, pause_after
from domain.channels.schemas import Carrier
from domain.channels.senders import Gone, NotSent, ReceiverInTrouble, Undeliverable
from domain.channels.webhook import failure_of, pause_asked_for

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def total(channel: Carrier) -> timedelta:
    waited, attempts = timedelta(0), 1
    while (delay := delay_after(channel, attempts)) is not None:
        waited, attempts = waited + delay, attempts + 1
    return waited


def test_events_and_mails_are_tried_for_days_and_text_messages_for_hours() -> None:
    assert timedelta(days=3) < total("webhook") == total("email") < timedelta(days=5)
    assert timedelta(hours=2) < total("sms") == total("whatsapp") < timedelta(hours=4)


def test_a_receivers_wish_for_a_pause_is_granted() -> None:
    assert delay_after("webhook", 1, timedelta(hours=1)) == timedelta(hours=1)
    assert delay_after("webhook", 1, timedelta(seconds=1)) == timedelta(seconds=5)
    assert pause_after(1, timedelta(minutes=30)) == timedelta(minutes=30)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 0), (2, 5), (3, 10), (4, 20), (8, 320), (9, 600), (50, 600), (5_000, 600)]
)
def test_a_receiver_is_left_alone_for_longer_and_longer(failures: int, seconds: int) -> None:
    assert pause_after(failures) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("status", "of_webhook", "of_gateway"),
    [
        (301, NotSent, NotSent), (308, NotSent, NotSent), (400, NotSent, Undeliverable), (401, NotSent, NotSent),
        (403, NotSent, NotSent), (404, NotSent, NotSent), (408, ReceiverInTrouble, ReceiverInTrouble),
        (410, Gone, Undeliverable), (413, NotSent, Undeliverable), (422, NotSent, Undeliverable),
        (429, ReceiverInTrouble, ReceiverInTrouble), (451, NotSent, NotSent),
        (500, ReceiverInTrouble, ReceiverInTrouble), (503, ReceiverInTrouble, ReceiverInTrouble),
    ],
)  # fmt: skip
def test_what_an_answer_means(status: int, of_webhook: type, of_gateway: type) -> None:
    assert type(failure_of(status, is_gateway=False)) is of_webhook
    assert type(failure_of(status, is_gateway=True)) is of_gateway


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0), ("", 0), ("soon", 0), ("-5", 0), ("120", 120), (" 7 ", 7), ("99999999999999", 86_400),
        ("Sat, 28 Nov 2026 12:01:00 GMT", 60), ("Sat, 28 Nov 2026 11:00:00 GMT", 0),
        ("Sat, 28 Nov 2026 12:01:00 -0000", 60), ("Sun, 28 Nov 2027 12:00:00 GMT", 86_400), ("٣", 3),
    ],
)  # fmt: skip
def test_a_pause_that_is_asked_for_is_read(header: str | None, seconds: int) -> None:
    assert pause_asked_for(header, NOW) == timedelta(seconds=seconds)


def _network(known: set[str]) -> Check:
    """Name servers that know these names."""

    def check(host: str, _port: int) -> str:
        if host in known:
            return host
        raise NameUnknown(f"The name {host} does not resolve.")

    return check


@pytest.mark.parametrize(
    "host", ["typo.example.con", "hooks.invalid", "intranet", "printer.local", "x.test", "y.onion."]
)
def test_a_name_that_nobody_knows_is_refused_where_other_names_are_known(host: str) -> None:
    with pytest.raises(InvalidInput, match="does not resolve"):
        judge(host, 443, _network({"a.root-servers.net"}))


def test_a_name_is_accepted_that_cannot_be_looked_up_just_now() -> None:
    judge("hooks.example.com", 443, _network(set()))  # this machine knows no public name at all
    judge("hooks.example.com", 443, _network({"hooks.example.com"}))

    def too_busy(host: str, _port: int) -> str:
        raise Unavailable(f"The name servers of {host} did not answer.")

    judge("hooks.example.com", 443, too_busy)
    with pytest.raises(InvalidInput):
        judge("hooks.invalid", 443, too_busy)


def test_port_0_is_refused() -> None:
    with pytest.raises(InvalidInput, match="port 0"):
        ensure_url_is_deliverable("https://127.0.0.1:0/", ["127.0.0.0/8"])
    with pytest.raises(InvalidInput, match="port 0"):
        judge("hooks.example.com", 0, _network({"hooks.example.com"}))
