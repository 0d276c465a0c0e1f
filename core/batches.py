"""Batching of concurrent items: items that arrive while a batch is under way form the next batch."""

import asyncio
import functools
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Done = TypeVar("Done")


class Batches(Generic[Key, Item, Done]):
    """Carries out items for callers on an event loop, in threads: one batch of a key at a time.

    No caller waits for a batch to fill: the first item of a key starts at once. If a batch is refused because of its
    contents, each of its items is carried out alone, so that one bad item does not fail the others.
    """

    def __init__(
        self,
        carry_out: Callable[[Key, Sequence[Item]], list[Done]],
        *,
        is_refusal: Callable[[Exception], bool],
        most: int,
        threads: int,
    ) -> None:
        """`carry_out` does a batch of a key and returns the result of each item, in their order. If it raises a
        refusal, none of the batch was done. A batch weighs at most `most`; a single item may weigh more.
        """
        self._carry_out = carry_out
        self._is_refusal = is_refusal
        self._most = most
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="batch")
        self._waiting: dict[Key, list[_Asked[Item, Done]]] = {}

    async def add(self, key: Key, item: Item, *, weight: int = 1) -> Done:
        """Add an item of this weight to the next batch of `key`, and return its result.

        Raises:
            Exception: the error that carrying it out raised.
        """
        asked: _Asked[Item, Done] = _Asked(item, weight, asyncio.get_running_loop().create_future())
        if key in self._waiting:
            self._waiting[key].append(asked)
        else:
            self._waiting[key] = []
            self._begin(key, [asked])
        return await asked.answer

    def _begin(self, key: Key, batch: "list[_Asked[Item, Done]]") -> None:
        try:
            work = asyncio.get_running_loop().run_in_executor(self._threads, self._do, key, [one.item for one in batch])
        except RuntimeError as error:  # no thread can be started; fail the waiting callers, or they would wait for ever
            for one in (*batch, *self._waiting.pop(key)):
                one.tell(error)
            return
        work.add_done_callback(functools.partial(self._end, key, batch))

    def _do(self, key: Key, items: list[Item]) -> list[Done | Exception]:
        try:
            return [*self._carry_out(key, items)]
        except Exception as error:  # noqa: BLE001  each caller gets the error of its own item
            if len(items) == 1 or not self._is_refusal(error):
                return [error for _ in items]
            return [done for item in items for done in self._do(key, [item])]

    def _end(self, key: Key, batch: "list[_Asked[Item, Done]]", work: "asyncio.Future[list[Done | Exception]]") -> None:
        for one, done in zip(batch, work.result(), strict=True):
            one.tell(done)
        waiting = self._waiting[key]
        if not waiting:
            del self._waiting[key]
            return
        number, weight = 1, waiting[0].weight
        while number < len(waiting) and (weight := weight + waiting[number].weight) <= self._most:
            number += 1
        self._waiting[key] = waiting[number:]
        self._begin(key, waiting[:number])


class _Asked(Generic[Item, Done]):
    """An item, and the future that receives its outcome."""

    def __init__(self, item: Item, weight: int, answer: "asyncio.Future[Done]") -> None:
        self.item = item
        self.weight = weight
        self.answer = answer

    def tell(self, done: Done | Exception) -> None:
        if self.answer.done():  # the caller was cancelled
            return
        if isinstance(done, Exception):
            self.answer.set_exception(done)
        else:
            self.answer.set_result(done)
