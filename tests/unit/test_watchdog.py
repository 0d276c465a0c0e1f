"""A worker that looks after itself: what it says, when it leaves, how it grows. Its SIGTERM is caught here."""

import signal
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from agents.interrupt import Interrupt
from core.ids import new_id
from core.settings import Settings
from domain.claims.schemas import Claimed
from domain.workers.schemas import Beat
from workers.presence import Presence
from workers.watchdog import Watchdog


def presence() -> Presence:
    return Presence("test", ["normal"], 4, timedelta(seconds=1))


def watchdog(resize: Any = lambda _: None, **config: Any) -> Watchdog:
    return Watchdog(Settings(**config), resize)


def beat(wanted: int | None) -> Beat:
    return Beat(held={}, wanted_concurrency=wanted)


def test_a_worker_follows_the_size_that_people_want() -> None:
    sizes: list[int] = []
    dog, here = watchdog(sizes.append), presence()
    for wanted in (None, 4, 9, 9, 2):
        dog.follow(here, beat(wanted))
    assert sizes == [9, 2]
    assert here.concurrency == 2


def test_a_pool_that_cannot_change_its_size_and_a_leaving_worker_do_not_follow() -> None:
    sizes: list[int] = []
    dog = watchdog(sizes.append)
    fixed = Presence("test", ["normal"], 4, timedelta(seconds=1), pool="prefork")
    dog.follow(fixed, beat(9))
    leaving = presence()
    leaving.drain(timedelta(0))
    dog.follow(leaving, beat(9))
    assert sizes == []


@pytest.mark.parametrize(
    ("config", "reason"),
    [({"worker_max_age": 0.000001}, "older than"), ({"worker_max_memory": 1_000_000}, "bytes")],
)
def test_a_worker_that_is_too_old_or_too_large_leaves_once(
    config: dict[str, Any], reason: str, told_to_stop: list[int]
) -> None:
    dog, here = watchdog(**config), presence()
    assert reason in (dog.vitals(here).draining_because or "")
    assert reason in (dog.vitals(here).draining_because or "")
    assert told_to_stop == [signal.SIGTERM]


def test_a_healthy_worker_stays(told_to_stop: list[int]) -> None:
    vitals = watchdog(worker_max_age=1e6, worker_max_memory=10**15).vitals(presence())
    assert vitals.draining_because is None
    assert vitals.memory_bytes > 1_000_000
    assert told_to_stop == []


def test_a_thread_in_time_is_not_stuck_and_one_that_is_late_is_named() -> None:
    interrupt = Interrupt()
    with interrupt.doing("a call", timedelta(seconds=60)):
        assert interrupt.stuck(timedelta(0)) == {}
    with interrupt.doing("a call", timedelta(seconds=-5)):
        assert interrupt.stuck(timedelta(seconds=1)) == {threading.get_ident(): "a call"}
        assert interrupt.stuck(timedelta(seconds=10)) == {}
    assert interrupt.stuck(timedelta(0)) == {}


def claimed() -> Claimed:
    return Claimed(
        id=new_id(), org_id=UUID(int=1), agent_id=UUID(int=2), agent="a", claim=1, attempts=0, max_attempts=3, input={},
        remaining=None, user_id=UUID(int=3), now=datetime.now(UTC), organisation_version=None, agent_version=None,
    )  # fmt: skip
