"""The threads of a process that carry out a decision's calls side by side.

Each decision gets a bounded share of them, and decisions take turns: one with three hundred slow calls does not keep
another task's two waiting. The task's own thread works as well, so a decision gets on even while every thread is taken.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Job = Callable[[], object]


@dataclass(eq=False)
class _Decision:
    """The calls of one decision that are not begun, and how many helper threads carry out others of them."""

    waiting: deque[Job]
    helpers: int = 0
    errors: list[BaseException] = field(default_factory=list)


class ToolThreads:
    """Up to `most` helper threads, started when they are needed."""

    def __init__(self, most: int, *, share: int) -> None:
        """At most `share` calls of one decision are carried out at once, one of them by the task's own thread."""
        self._most = most
        self._helpers_each = share - 1
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._done = threading.Condition(self._lock)
        self._turns: deque[_Decision] = deque()
        self._started = 0
        self._idle = 0
        self._is_closing = False

    def carry_out(self, calls: Iterable[Job]) -> list[BaseException]:
        """Carry out every call, and return what they raised when the last has ended."""
        decision = _Decision(deque(calls))
        with self._lock:
            wanted = min(len(decision.waiting) - 1, self._helpers_each)
            if wanted > 0:
                self._turns.append(decision)
                self._start(wanted - self._idle)
                self._work.notify(wanted)
        while (call := self._own(decision)) is not None:
            _run(call, decision)
        with self._lock:
            self._done.wait_for(lambda: decision.helpers == 0)
        return decision.errors

    def close(self) -> None:
        """End the helper threads that have nothing to do; the others end after their call."""
        with self._lock:
            self._is_closing = True
            self._work.notify_all()

    def _own(self, decision: _Decision) -> Job | None:
        with self._lock:
            return decision.waiting.popleft() if decision.waiting else None

    def _start(self, number: int) -> None:
        with contextlib.suppress(RuntimeError):  # the system gives no more threads: the task's own does the work
            for _ in range(min(number, self._most - self._started)):
                threading.Thread(target=self._help, name=f"tool-{self._started}", daemon=True).start()
                self._started += 1

    def _help(self) -> None:
        while self._help_once():
            pass

    def _help_once(self) -> bool:
        """Wait for a call and carry it out; apart, so that a thread that waits keeps nothing of the last task alive.
        False when the threads are closed.
        """
        with self._lock:
            while (found := self._next()) is None:
                if self._is_closing:
                    return False
                self._idle += 1
                self._work.wait()
                self._idle -= 1
        decision, call = found
        _run(call, decision)
        with self._lock:
            decision.helpers -= 1
            self._done.notify_all()
        return True

    def _next(self) -> tuple[_Decision, Job] | None:
        """The next call, of the decision whose turn it is and that has not its share of threads yet."""
        for _ in range(len(self._turns)):
            decision = self._turns.popleft()
            if not decision.waiting:
                continue
            self._turns.append(decision)
            if decision.helpers < self._helpers_each:
                decision.helpers += 1
                return decision, decision.waiting.popleft()
        return None


def _run(call: Job, decision: _Decision) -> None:
    try:
        call()
    except BaseException as error:  # noqa: BLE001  foreign code raises anything, and its thread goes on
        decision.errors.append(error)
