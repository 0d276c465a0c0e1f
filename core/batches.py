"""Batches of what comes at the same time: what comes while one is under way waits for it, and goes together."""

import asyncio
import functools
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Done = TypeVar("Done")


class Batches(Generic[Key, Item, Done]):
    """Carries out what callers on an event loop ask for, in threads: one batch of a key at a time.

    Nobody waits for a batch to fill: the first of a key goes at once, and a lone caller loses nothing. Where a batch is
    refused for what is in it, each of it is carried out alone: one bad item costs its neighbours nothing.
    """

    def __init__(
        self,
        carry_out: Callable[[Key, Sequence[Item]], list[Done]],
        *,
        is_refusal: Callable[[Exception], bool],
        most: int,
        threads: int,
    ) -> None:
        """`carry_out` does a batch of a key and returns what came of each, in their order. Where what it raises
        is a refusal, none of the batch is done. A batch weighs no more than `most`, but for a single item.
        """
        self._carry_out = carry_out
        self._is_refusal = is_refusal
        self._most = most
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="batch")
        self._waiting: dict[Key, list[_Asked[Item, Done]]] = {}

    async def add(self, key: Key, item: Item, *, weight: int = 1) -> Done:
        """What came of an item that weighs so much.

        Raises:
            Exception: whatever carrying it out raised.
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
        except RuntimeError as error:  # no thread can be started; nobody must wait for one
            for one in (*batch, *self._waiting.pop(key)):
                one.tell(error)
            return
        work.add_done_callback(functools.partial(self._end, key, batch))

    def _do(self, key: Key, items: list[Item]) -> list[Done | Exception]:
        try:
            return [*self._carry_out(key, items)]
        except Exception as error:  # noqa: BLE001  each caller is told of its own
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
    """An item, and whom its outcome is told."""

    def __init__(self, item: Item, weight: int, answer: "asyncio.Future[Done]") -> None:
        self.item = item
        self.weight = weight
        self.answer = answer

    def tell(self, done: Done | Exception) -> None:
        if self.answer.done():  # its caller is gone
            return
        if isinstance(done, Exception):
            self.answer.set_exception(done)
        else:
            self.answer.set_result(done)
