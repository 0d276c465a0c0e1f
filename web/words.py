"""What is told while it happens: one thread of each process reads from Redis what the listeners here want to hear, the
words of tasks and who is typing in conversations, and writes who is typing here.

Redis may be away, slow or emptied: listeners then get the whole text from the journal when the step is done, and nobody
is told who is typing.
"""

import contextlib
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import redis

from core.logging import get_logger
from core.settings import settings
from core.words import (
    LISTENED_FOR,
    LISTENED_TO,
    MOST_TYPING,
    TYPING_FOR,
    Delta,
    Typing,
    stream_of,
    typing_stream_of,
)
from web.feed import Listener

log = get_logger(__name__)

_EVERY = 0.05
_RENEW_EVERY = LISTENED_FOR / 4
_AFTER_A_FAILURE = 1.0
_PATIENCE = 1.0
_PORTION = 1_000
_MOST_UNTOLD = 1_000
_BEGINNING = "0"


class Source(NamedTuple):
    """A Redis stream: the words of a task, or who is typing in a conversation."""

    id: UUID
    is_typing: bool = False

    @property
    def stream(self) -> str:
        """The name of the stream."""
        return typing_stream_of(self.id) if self.is_typing else stream_of(self.id)

    def give(self, listeners: Iterable[Listener], entries: Sequence[dict[str, str]]) -> None:
        """Give listeners what the entries say, each on its event loop."""
        if self.is_typing:
            typing = _typing(self.id, entries)
            _call_each(listeners, lambda listener: listener.offer_typing(typing))
        else:
            deltas = _deltas(entries)
            _call_each(listeners, lambda listener: listener.offer_words(self.id, deltas))


class WordFeed:
    """The thread that reads and writes, and the listeners of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[Source, dict[Listener, str]] = defaultdict(dict)
        """by stream: each listener with the id of the last entry that it was given"""
        self._untold: deque[Typing] = deque(maxlen=_MOST_UNTOLD)
        self._has_work = threading.Event()
        self._thread: threading.Thread | None = None

    def join(self, source: Source, listener: Listener) -> None:
        """Give a listener what a stream has, from the first entry that is kept."""
        with self._lock:
            self._listeners[source][listener] = _BEGINNING
            self._wake()

    def leave(self, source: Source, listener: Listener) -> None:
        """Remove a listener. Idempotent."""
        with self._lock:
            theirs = self._listeners.get(source, {})
            theirs.pop(listener, None)
            if not theirs:
                self._listeners.pop(source, None)

    def tell(self, typing: Typing) -> None:
        """Tell the listeners of a conversation, in every process, that a user is typing. Waits for nothing."""
        with self._lock:
            self._untold.append(typing)
            self._wake()

    @property
    def has_work(self) -> bool:
        """Whether there are listeners, or something is still to be told."""
        return self._has_work.is_set()

    def _wake(self) -> None:
        self._has_work.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="words", daemon=True)
            self._thread.start()

    # ── the thread ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        client = redis.Redis.from_url(
            settings().redis_url,
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
            decode_responses=True,
        )
        announced: set[UUID] = set()
        renewed = 0.0
        while True:
            self._has_work.wait()
            try:
                self._write(client)
                now = time.time()
                is_due = now - renewed >= _RENEW_EVERY
                announced = self._announce(client, set() if is_due else announced, now)
                if is_due:
                    client.zremrangebyscore(LISTENED_TO, "-inf", now)
                    renewed = now
                self._read(client)
                self._rest_if_idle()
                time.sleep(_EVERY)
            except redis.RedisError as error:
                log.debug("words cannot be read", error=str(error))
                announced = set()
                self._rest_if_idle()
                time.sleep(_AFTER_A_FAILURE)

    def _rest_if_idle(self) -> None:
        with self._lock:
            if not self._listeners and not self._untold:
                self._has_work.clear()

    def _announce(self, client: "redis.Redis", announced: set[UUID], now: float) -> set[UUID]:
        """Tell workers which tasks are listened to, except those that were `announced`. Return all of them."""
        with self._lock:
            tasks = {source.id for source in self._listeners if not source.is_typing}
        if new := tasks - announced:
            client.zadd(LISTENED_TO, {str(task): now + LISTENED_FOR for task in new})
        return tasks

    def _write(self, client: "redis.Redis") -> None:
        """Write who is typing. What cannot be written is dropped: it would be too late."""
        with self._lock:
            untold = [*self._untold]
            self._untold.clear()
        if not untold:
            return
        pipeline = client.pipeline(transaction=False)
        for typing in untold:
            name = typing_stream_of(typing.conversation)
            pipeline.xadd(name, typing.fields(), maxlen=MOST_TYPING, approximate=True)  # type: ignore[arg-type]
            pipeline.expire(name, 2 * TYPING_FOR)
        pipeline.execute()

    def _read(self, client: "redis.Redis") -> None:
        """Give each listener the entries that it has not been given."""
        with self._lock:
            places = {
                (source, last): [one for one, its in theirs.items() if its == last]
                for source, theirs in self._listeners.items()
                for last in set(theirs.values())
            }
        pipeline = client.pipeline(transaction=False)
        for source, last in places:
            pipeline.xread({source.stream: last}, count=_PORTION)
        for (source, _), listeners, found in zip(places, places.values(), pipeline.execute(), strict=True):
            for _, entries in found or []:
                with self._lock:
                    for listener in listeners:
                        if listener in self._listeners.get(source, {}):
                            self._listeners[source][listener] = entries[-1][0]
                source.give(listeners, [fields for _, fields in entries])


def _call_each(listeners: Iterable[Listener], offer: Callable[[Listener], None]) -> None:
    for listener in listeners:
        with contextlib.suppress(RuntimeError):  # its loop has ended
            listener.loop.call_soon_threadsafe(offer, listener)


def _deltas(entries: Sequence[dict[str, str]]) -> list[Delta]:
    found = []
    for fields in entries:
        with contextlib.suppress(KeyError, ValueError):  # of another version
            found.append(Delta.of(fields))
    return found


def _typing(conversation: UUID, entries: Sequence[dict[str, str]]) -> list[Typing]:
    """Return what is not over yet: an earlier entry may be read by a listener that comes later."""
    found = []
    for fields in entries:
        with contextlib.suppress(KeyError, ValueError):  # of another version
            found.append(Typing.of(conversation, fields))
    now = datetime.now(UTC)
    return [typing for typing in found if typing.until > now]


words = WordFeed()
"""this process's reader of words, and of who is typing"""
