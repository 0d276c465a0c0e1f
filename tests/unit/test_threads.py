"""A decision's calls side by side: a bounded share of the threads, turns between decisions, and none left undone."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from agents.threads import ToolThreads
from tests.support.servers import wait_until


class Gate:
    """Calls that wait until they are let go."""

    def __init__(self) -> None:
        self.begun = Counter[str]()
        self.open = threading.Event()
        self._lock = threading.Lock()

    def call(self, whose: str) -> Callable[[], None]:
        def go() -> None:
            with self._lock:
                self.begun[whose] += 1
            assert self.open.wait(30)

        return go


@pytest.fixture
def background() -> Any:
    with ThreadPoolExecutor(8) as made:
        yield made


def test_every_call_is_carried_out_once_and_what_they_raise_comes_back() -> None:
    threads, done = ToolThreads(4, share=3), list[int]()

    def call(number: int) -> Callable[[], None]:
        def go() -> None:
            done.append(number)
            if number % 10 == 0:
                raise SystemExit(number)

        return go

    errors = threads.carry_out(call(number) for number in range(100))
    assert sorted(done) == list(range(100))
    assert sorted(str(error) for error in errors) == sorted(map(str, range(0, 100, 10)))
    assert threads.carry_out([call(1), call(2)]) == []  # the threads live
    threads.close()


def test_one_decision_gets_no_more_than_its_share(background: ThreadPoolExecutor) -> None:
    threads, gate = ToolThreads(16, share=8), Gate()
    running: Future[Any] = background.submit(threads.carry_out, [gate.call("many")] * 300)
    wait_until(lambda: gate.begun["many"] == 8, what="its share is at work")
    other = Gate()
    others = background.submit(threads.carry_out, [other.call("few")] * 2)
    wait_until(lambda: other.begun["few"] == 2, what="another decision's calls run side by side meanwhile")
    other.open.set()
    assert others.result(10) == []
    assert gate.begun["many"] == 8
    gate.open.set()
    assert running.result(30) == []
    assert gate.begun["many"] == 300


def test_a_decision_gets_on_by_itself_while_every_thread_is_taken(background: ThreadPoolExecutor) -> None:
    threads, gate = ToolThreads(2, share=3), Gate()
    running = background.submit(threads.carry_out, [gate.call("many")] * 10)
    wait_until(lambda: gate.begun["many"] == 3, what="all threads are taken")
    done: list[int] = []
    assert threads.carry_out(partial(done.append, number) for number in range(5)) == []
    assert done == [0, 1, 2, 3, 4]
    gate.open.set()
    assert running.result(30) == []


def test_a_thread_that_comes_free_goes_to_whose_turn_it_is(background: ThreadPoolExecutor) -> None:
    """One helper thread, and two decisions whose own threads are held up: they take turns with the helper."""
    threads, own, next_ = ToolThreads(1, share=2), threading.Event(), threading.Semaphore(0)
    order: list[str] = []
    held: list[str] = []

    def call(whose: str) -> Callable[[], None]:
        def go() -> None:
            if not threading.current_thread().name.startswith("tool-"):
                held.append(whose)
                assert own.wait(30)
                return
            order.append(whose)
            assert next_.acquire(timeout=30)

        return go

    def has_taken(number: int) -> bool:
        return len(order) == number

    running = [background.submit(threads.carry_out, [call(whose)] * 20) for whose in ("a", "b")]
    try:
        wait_until(lambda: sorted(held) == ["a", "b"], what="both are at work")
        for number in range(1, 10):
            wait_until(partial(has_taken, number), what="the helper took the next")
            next_.release()
        assert abs(order.count("a") - order.count("b")) <= 1, order
    finally:
        own.set()
        for _ in range(40):
            next_.release()
    assert [one.result(30) for one in running] == [[], []]
