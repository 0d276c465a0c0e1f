"""Batches of what comes at the same time: what comes while one is under way waits for it, and goes together."""

import asyncio
import functools
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from core.errors import Unavailable

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Done = TypeVar("Done")


class Batches(Generic[Key, Item, Done]):
    """Carries out what callers on an event loop ask for, in threads: one batch of a key at a time, of at most `most`.

    Nobody waits for a batch to fill: the first of a key goes at once, and a lone caller loses nothing. Where a batch as
    a whole is refused, each of it is carried out alone: one bad item costs its neighbours nothing.
    """

    def __init__(self, carry_out: Callable[[Key, Sequence[Item]], list[Done]], *, most: int, threads: int) -> None:
        """`carry_out` does a batch of a key, all of it or nothing. Returns what came of each, in their order."""
        self._carry_out = carry_out
        self._most = most
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="batch")
        self._waiting: dict[Key, list[tuple[Item, asyncio.Future[Done]]]] = {}

    async def add(self, key: Key, item: Item) -> Done:
        """What came of it.

        Raises:
            Exception: whatever carrying it out raised.
        """
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        if key in self._waiting:
            self._waiting[key].append((item, future))
        else:
            self._waiting[key] = []
            self._begin(key, [(item, future)])
        return await future

    def _begin(self, key: Key, batch: list[tuple[Item, asyncio.Future[Done]]]) -> None:
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._do, key, [item for item, _ in batch])
        work.add_done_callback(functools.partial(self._end, key, [future for _, future in batch]))

    def _do(self, key: Key, items: list[Item]) -> list[Done | Exception]:
        try:
            return [*self._carry_out(key, items)]
        except Unavailable as error:  # each alone would only wait as long
            return [error for _ in items]
        except Exception as error:  # noqa: BLE001  each caller is told of its own
            return [error] if len(items) == 1 else [done for item in items for done in self._do(key, [item])]

    def _end(
        self,
        key: Key,
        futures: list[asyncio.Future[Done]],
        work: asyncio.Future[list[Done | Exception]],
    ) -> None:
        for future, done in zip(futures, work.result(), strict=True):
            if future.done():  # its caller is gone
                continue
            if isinstance(done, Exception):
                future.set_exception(done)
            else:
                future.set_result(done)
        waiting = self._waiting[key]
        if waiting:
            self._waiting[key] = waiting[self._most :]
            self._begin(key, waiting[: self._most])
        else:
            del self._waiting[key]
