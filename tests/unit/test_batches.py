"""What comes at the same time goes together, and nobody pays for a neighbour."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.batches import Batches
from core.errors import Unavailable
from tests.support.servers import wait_until


class Post:
    """Carries letters, one batch at a time a street; the first batch of each waits at the gate."""

    def __init__(self) -> None:
        self.carried: list[tuple[str, list[str]]] = []
        self.gate = threading.Event()

    def carry(self, street: str, letters: Sequence[str]) -> list[str]:
        self.carried.append((street, list(letters)))
        assert self.gate.wait(10)
        if "away" in letters:
            raise Unavailable("The post is closed.")
        if "bad" in letters:
            raise ValueError(street)
        return [letter.upper() for letter in letters]


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def batches(post: Post) -> Batches[str, str, str]:
    return Batches(post.carry, is_refusal=lambda error: isinstance(error, ValueError), most=3, threads=2)


def weight_of(letter: str) -> int:
    return 10 if letter == "parcel" else 1


async def add_all(batches: Batches[str, str, str], post: Post, *letters: str) -> list[str | BaseException]:
    """Add a first letter, and the others while that one is under way."""
    added = [
        asyncio.ensure_future(batches.add("high street", letter, weight=weight_of(letter)))
        for letter in ("first", *letters)
    ]
    await asyncio.sleep(0)  # all of them have asked
    post.gate.set()
    return await asyncio.gather(*added, return_exceptions=True)


def test_the_first_goes_at_once_and_what_comes_meanwhile_goes_together(
    post: Post, batches: Batches[str, str, str]
) -> None:
    done = asyncio.run(add_all(batches, post, "a", "b", "c", "d"))
    assert done == ["FIRST", "A", "B", "C", "D"]
    assert [letters for _, letters in post.carried] == [["first"], ["a", "b", "c"], ["d"]]
    assert asyncio.run(batches.add("high street", "next day")) == "NEXT DAY"  # nothing was left behind


def test_another_key_does_not_wait(post: Post, batches: Batches[str, str, str]) -> None:
    async def both() -> str:
        held = asyncio.ensure_future(batches.add("high street", "first"))
        await asyncio.to_thread(wait_until, lambda: post.carried)
        other = asyncio.ensure_future(batches.add("low street", "other"))
        await asyncio.to_thread(wait_until, lambda: len(post.carried) == 2)
        post.gate.set()
        await held
        return await other

    assert asyncio.run(asyncio.wait_for(both(), 10)) == "OTHER"
    assert post.carried == [("high street", ["first"]), ("low street", ["other"])]


def test_a_bad_one_is_told_and_its_neighbours_are_carried(post: Post, batches: Batches[str, str, str]) -> None:
    first, a, bad, b = asyncio.run(add_all(batches, post, "a", "bad", "b"))
    assert (first, a, b) == ("FIRST", "A", "B")
    assert isinstance(bad, ValueError)
    assert [letters for _, letters in post.carried] == [["first"], ["a", "bad", "b"], ["a"], ["bad"], ["b"]]


def test_what_is_heavy_goes_apart(post: Post, batches: Batches[str, str, str]) -> None:
    asyncio.run(add_all(batches, post, "a", "parcel", "b", "c"))
    assert [letters for _, letters in post.carried] == [["first"], ["a"], ["parcel"], ["b", "c"]]


def test_where_no_thread_can_be_had_nobody_waits_for_one(
    batches: Batches[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_threads", ThreadPoolExecutor(1))
    batches._threads.shutdown()
    with pytest.raises(RuntimeError):
        asyncio.run(batches.add("high street", "first"))
    assert batches._waiting == {}


def test_what_is_no_refusal_may_have_been_done_and_is_not_repeated(post: Post, batches: Batches[str, str, str]) -> None:
    first, *others = asyncio.run(add_all(batches, post, "a", "away"))
    assert first == "FIRST"
    assert [type(other) for other in others] == [Unavailable, Unavailable]
    assert len(post.carried) == 2


def test_a_caller_who_is_gone_keeps_nobody_waiting(post: Post, batches: Batches[str, str, str]) -> None:
    async def one_leaves() -> str:
        gone = asyncio.ensure_future(batches.add("high street", "first"))
        stays = asyncio.ensure_future(batches.add("high street", "a"))
        await asyncio.to_thread(wait_until, lambda: post.carried)
        gone.cancel()
        post.gate.set()
        return await stays

    assert asyncio.run(asyncio.wait_for(one_leaves(), 10)) == "A"
