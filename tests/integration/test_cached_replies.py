"""The cache of model replies on a real database: what is found again, for how long, and by whom."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from core import db
from core.ids import new_id
from core.settings import Settings
from domain.replies import service as replies
from domain.replies.schemas import KeptReply
from tests.support.clock import Clock, movable_clock
from tests.support.factories import make_organisation

MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock(config: Settings) -> Iterator[Clock]:
    with movable_clock() as made:
        yield made


def keep(org: UUID, digest: bytes, reply: dict[str, Any], ttl: timedelta = MINUTE) -> None:
    with db.transaction(org) as connection:
        replies.keep(connection, org, KeptReply(digest=digest, reply=reply, ttl=ttl))


def find(org: UUID, digest: bytes) -> dict[str, Any] | None:
    with db.transaction(org) as connection:
        return replies.find(connection, digest)


def test_a_reply_is_found_under_its_digest_as_it_was_kept(org: UUID) -> None:
    reply = {"text": "¿Sí? 日本", "calls": [{"name": "x", "arguments": {"n": 1.5, "none": None}}]}
    keep(org, b"\x00\xff", reply)
    assert find(org, b"\x00\xff") == reply
    assert find(org, b"\x00") is None


def test_a_reply_expires_and_a_later_one_takes_its_place_and_time(org: UUID, clock: Clock) -> None:
    keep(org, b"one", {"text": "old"})
    clock.move(MINUTE / 2)
    assert find(org, b"one") == {"text": "old"}
    keep(org, b"one", {"text": "new"})
    clock.move(MINUTE * 3 / 4)
    assert find(org, b"one") == {"text": "new"}
    clock.move(MINUTE)
    assert find(org, b"one") is None
    keep(org, b"one", {"text": "newest"})
    assert find(org, b"one") == {"text": "newest"}


def test_only_expired_replies_are_deleted(org: UUID, clock: Clock) -> None:
    with db.transaction(org) as connection:
        replies.forget_expired(connection)
    keep(org, b"short", {}, MINUTE)
    keep(org, b"long", {}, 10 * MINUTE)
    clock.move(2 * MINUTE)
    with db.transaction(org) as connection:
        assert replies.forget_expired(connection) == 1
        assert replies.forget_expired(connection) == 0
    assert find(org, b"long") == {}


def test_a_reply_is_given_to_no_other_organisation(org: UUID) -> None:
    other = make_organisation(f"org-{new_id().hex[-12:]}")
    keep(org, b"one", {"text": "ours"})
    assert find(other, b"one") is None
    keep(other, b"one", {"text": "theirs"})
    assert (find(org, b"one"), find(other, b"one")) == ({"text": "ours"}, {"text": "theirs"})
