"""When messages are sent again, what an answer means, and which addresses are refused."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.addresses import NameUnknown
from core.errors import InvalidInput, Unavailable
from domain.channels.reachable import Check, ensure_url_is_deliverable, judge
from domain.channels.retrying import delay_after, pause_after
from domain.channels.schemas import Carrier
from domain.channels.senders import Gone, NotSent, ReceiverInTrouble, Undeliverable
from domain.channels.webhook import failure_of, pause_asked_for, port_of

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
        ("Sat, 28 Nov 2026 14:01:00 +0200", 60), ("²", 0), ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 0),
        ("Sat, 28 Nov 2026 12:01:00 +999999999999999999", 0), ("Fri, 31 Dec 9999 23:59:59 -2359", 86_400),
    ],
)  # fmt: skip
def test_a_pause_that_is_asked_for_is_read(header: str | None, seconds: int) -> None:
    assert pause_asked_for(header, NOW) == timedelta(seconds=seconds)


_DATES = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Mon", "Sun", "", "x"]), st.integers(-1, 10**20), st.sampled_from(["Jan", "Dec", "13", ""]),
    st.integers(-1, 10**20), st.integers(-1, 99), st.integers(-1, 99), st.integers(-1, 99),
    st.sampled_from(["GMT", "-0000", "+9999", ""]) | st.integers(-(10**20), 10**20).map(str),
)  # fmt: skip


@given(st.text(max_size=40) | _DATES | st.integers(-(10**12), 10**12).map(str))
def test_whatever_a_receiver_asks_for_the_pause_lies_between_none_and_a_day(header: str) -> None:
    assert timedelta(0) <= pause_asked_for(header, NOW) <= timedelta(days=1)


@pytest.mark.parametrize("channel", ["webhook", "email", "sms", "whatsapp", "in_app"])
def test_each_retry_waits_at_least_as_long_as_the_one_before(channel: Carrier) -> None:
    waits = [delay_after(channel, attempts) for attempts in range(1, 20)]
    tried = [wait for wait in waits if wait is not None]
    assert tried == sorted(tried)
    assert waits[len(tried) :] == [None] * (len(waits) - len(tried))  # once given up, it stays given up
    assert tried[0] == timedelta(seconds=5)
    assert delay_after(channel, len(tried) + 1, timedelta(hours=1)) is None  # a wished pause gives no more attempts


@given(st.integers(0, 50), st.integers(0, 50), st.timedeltas(timedelta(0), timedelta(days=1)))
def test_more_failures_never_shorten_the_pause_and_a_wished_one_is_kept(
    failures: int, more: int, wished: timedelta
) -> None:
    assert wished <= pause_after(failures, wished) <= pause_after(failures + more, wished)
    assert pause_after(failures + more, wished) <= max(wished, timedelta(minutes=10))


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("https://hooks.example.com/x", 443), ("http://hooks.example.com", 80),
        ("https://hooks.example.com:8443/", 8443),
        ("http://hooks.example.com:443", 443), ("https://[2001:db8::1]:9/x", 9), ("https://hooks.example.com:0", 0),
    ],
)  # fmt: skip
def test_a_port_is_the_given_one_or_that_of_the_scheme(url: str, port: int) -> None:
    assert port_of(url) == port


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
