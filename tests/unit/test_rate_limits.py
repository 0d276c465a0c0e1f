"""Rate limits: what is let in within any minute, and the time that a refusal names."""

from collections.abc import Iterable
from uuid import UUID

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from core.errors import TooManyRequests
from core.ids import new_id
from core.settings import Settings
from domain.tenants.schemas import KeyOwner
from web.rate_limits import RateLimits

KEY = new_id()
ORG = new_id()
START = 1_800_000_000.0  # the first second of a window


class Hand:
    """A clock that stands until it is moved."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def limited(hand: Hand, *, key: int = 1_000, organisation: int = 1_000, stranger: int = 1_000) -> RateLimits:
    config = Settings(
        requests_per_minute_key=key,
        requests_per_minute_organisation=organisation,
        requests_per_minute_stranger=stranger,
    )
    return RateLimits(config, hand)


def caller(key: UUID = KEY, org: UUID = ORG) -> KeyOwner:
    return KeyOwner(key_id=key, org_id=org, user_id=KEY, scopes=["*"])


def stranger(host: str | None) -> Request:
    return Request({"type": "http", "client": (host, 1) if host else None, "headers": []})


def is_let_in(made: RateLimits, who: KeyOwner | Request) -> bool:
    try:
        if isinstance(who, KeyOwner):
            made.take_request(who)
        else:
            made.take_stranger(who)
    except TooManyRequests:
        return False
    return True


def let_in(made: RateLimits, who: KeyOwner | Request, times: int) -> int:
    return sum(is_let_in(made, who) for _ in range(times))


def wait_named(made: RateLimits, who: KeyOwner) -> int:
    with pytest.raises(TooManyRequests) as refused:
        made.take_request(who)
    found: int = refused.value.details["retry_after"]
    assert f"Try again in {found} s" in refused.value.message
    return found


def test_the_refusal_says_whose_limit_was_reached() -> None:
    who = caller()
    for made, words in (
        (limited(Hand(), key=2), "This API key may ask 2 times a minute"),
        (limited(Hand(), organisation=2), "This organisation may ask 2 times a minute"),
    ):
        assert let_in(made, who, 2) == 2
        with pytest.raises(TooManyRequests, match=words):
            made.take_request(who)
    made = limited(Hand(), stranger=1)
    assert is_let_in(made, stranger("203.0.113.1"))
    with pytest.raises(TooManyRequests, match="This address may ask 1 times a minute"):
        made.take_stranger(stranger("203.0.113.1"))


def test_a_refused_request_is_not_counted() -> None:
    made, one = limited(Hand(), key=2, organisation=3), caller()
    assert let_in(made, one, 50) == 2
    other = caller(new_id())  # of the same organisation: the 48 refusals must not have used its share up
    assert let_in(made, other, 5) == 1
    assert let_in(made, caller(new_id(), new_id()), 1) == 1


def test_what_the_organisation_refuses_does_not_count_for_the_key() -> None:
    hand = Hand()
    made, one, other = limited(hand, key=3, organisation=4), caller(), caller(new_id())
    assert (let_in(made, other, 3), let_in(made, one, 20)) == (3, 1)
    hand.now += 90  # half of the organisation's 4 count, and half of the key's 1
    assert let_in(made, one, 20) == 2


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (0, 0),
        (59, 0),
        (60, 0),  # the whole previous minute still lies within the last 60 seconds
        (66, 1),  # a tenth of it has slid out: 9 of 10 count
        (90, 5),
        (119, 9),
        (120, 10),
        (600, 10),
    ],
)
def test_the_previous_minute_counts_by_the_share_that_is_left_of_it(after: float, expected: int) -> None:
    hand = Hand()
    made, who = limited(hand, key=10), caller()
    assert let_in(made, who, 10) == 10
    hand.now += after
    assert let_in(made, who, 20) == expected


@pytest.mark.parametrize(("at", "wait"), [(0, 66), (30, 36), (59, 7)])
def test_the_wait_after_a_burst_reaches_into_the_next_window(at: float, wait: int) -> None:
    # Ten requests in one window: the next fits once a tenth of that window has slid out, 6 s into the next.
    hand = Hand(START + at)
    made, who = limited(hand, key=10), caller()
    assert let_in(made, who, 10) == 10
    assert wait_named(made, who) - wait in {0, 1}  # rounded up


bursts = st.lists(st.tuples(st.integers(0, 70), st.integers(1, 12)), min_size=1, max_size=5)


@given(st.integers(1, 10), bursts)
def test_the_named_time_is_enough_and_hardly_more(limit: int, sent: list[tuple[int, int]]) -> None:
    hand = Hand()
    made, who = limited(hand, key=limit), caller()
    for pause, number in sent:
        hand.now += pause
        let_in(made, who, number)
    let_in(made, who, limit)  # until it is refused
    refused_at, wait = hand.now, wait_named(made, who)
    assert 1 <= wait <= 120
    if wait > 2:
        hand.now = refused_at + wait - 2
        assert not is_let_in(made, who)
    hand.now = refused_at + wait + 0.001  # rounding of the share may cost a moment
    assert is_let_in(made, who)


@given(st.integers(1, 10), bursts)
def test_no_window_lets_in_more_than_the_limit(limit: int, sent: list[tuple[int, int]]) -> None:
    hand = Hand()
    made, who = limited(hand, key=limit), caller()
    by_window: dict[int, int] = {}
    for pause, number in sent:
        hand.now += pause
        window = int(hand.now // 60)
        by_window[window] = by_window.get(window, 0) + let_in(made, who, number)
    assert max(by_window.values()) <= limit


# ── strangers ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (["203.0.113.1", "203.0.113.1"], 1),
        (["203.0.113.1", "203.0.113.2"], 2),
        (["2a00:1:2:3::1", "2a00:1:2:3:ffff::9"], 1),  # one subscriber has the whole /64
        (["2a00:1:2:3::1", "2a00:1:2:4::1"], 2),
        (["203.0.113.1", "::ffff:203.0.113.1"], 1),
        ([None, None], 1),  # a socket without addresses
    ],
)
def test_strangers_are_counted_by_network(hosts: Iterable[str | None], expected: int) -> None:
    made = limited(Hand(), stranger=1)
    assert sum(is_let_in(made, stranger(host)) for host in hosts) == expected


def test_what_is_given_back_can_be_used_again() -> None:
    made, who = limited(Hand(), stranger=2), stranger("203.0.113.1")
    for _ in range(10):
        assert is_let_in(made, who)
        made.give_back_stranger(who)
    assert let_in(made, who, 5) == 2


def test_a_key_and_an_address_have_nothing_in_common() -> None:
    made = limited(Hand(), key=1, organisation=1, stranger=1)
    assert is_let_in(made, stranger("203.0.113.1"))
    assert is_let_in(made, caller())


# ── forgetting ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("after", "expected"), [(0, 0), (60, 0), (119, 9)])
def test_forgetting_keeps_every_window_that_counts(after: float, expected: int) -> None:
    hand = Hand()
    made, who = limited(hand, key=10), caller()
    assert let_in(made, who, 10) == 10
    hand.now += after
    made.forget_old()
    assert let_in(made, who, 20) == expected


def test_old_windows_take_no_memory() -> None:
    hand = Hand()
    made = limited(hand)
    for _ in range(50):
        assert is_let_in(made, caller())
        hand.now += 60
        made.forget_old()
    assert len(made._counts) <= 4  # a key and its organisation, in two windows


def test_a_flood_from_many_addresses_is_forgotten_and_keys_are_not() -> None:
    made, who = limited(Hand(), key=1), caller()
    assert is_let_in(made, who)
    for number in range(50_001):
        made._add(f"stranger:{number}")
    made.forget_old()
    assert len(made._counts) == 2
    assert not is_let_in(made, who)
