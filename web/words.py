"""The words of models while they are said: one thread of each process reads them from Redis, for the tasks that have
listeners here.

Redis may be away, slow or emptied: listeners then get the whole text from the journal when the step is done.
"""

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

import redis

from core.logging import get_logger
from core.settings import settings
from core.words import LISTENED_FOR, LISTENED_TO, Delta, stream_of
from web.feed import Listener

log = get_logger(__name__)

_EVERY = 0.05
_RENEW_EVERY = LISTENED_FOR / 4
_AFTER_A_FAILURE = 1.0
_PATIENCE = 1.0
_PORTION = 1_000
_BEGINNING = "0"


class WordFeed:
    """The thread that reads words, and the listeners of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[UUID, dict[Listener, str]] = defaultdict(dict)
        """by task: each listener with the id of the last entry that it was given"""
        self._has_listeners = threading.Event()
        self._thread: threading.Thread | None = None

    def join(self, task: UUID, listener: Listener) -> None:
        """Give a listener the words of a task, from the first that is kept."""
        with self._lock:
            self._listeners[task][listener] = _BEGINNING
            self._has_listeners.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="words", daemon=True)
                self._thread.start()

    def leave(self, task: UUID, listener: Listener) -> None:
        """Remove a listener. Idempotent."""
        with self._lock:
            theirs = self._listeners.get(task, {})
            theirs.pop(listener, None)
            if not theirs:
                self._listeners.pop(task, None)
            if not self._listeners:
                self._has_listeners.clear()

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
            self._has_listeners.wait()
            try:
                with self._lock:
                    tasks = set(self._listeners)
                now = time.time()
                is_due = now - renewed >= _RENEW_EVERY
                if new := tasks if is_due else tasks - announced:
                    client.zadd(LISTENED_TO, {str(task): now + LISTENED_FOR for task in new})
                if is_due:
                    client.zremrangebyscore(LISTENED_TO, "-inf", now)
                    renewed = now
                announced = tasks
                self._read(client)
                time.sleep(_EVERY)
            except redis.RedisError as error:
                log.debug("words cannot be read", error=str(error))
                announced = set()
                time.sleep(_AFTER_A_FAILURE)

    def _read(self, client: "redis.Redis") -> None:
        """Give each listener the entries that it has not been given."""
        with self._lock:
            places = {
                (task, last): [one for one, its in theirs.items() if its == last]
                for task, theirs in self._listeners.items()
                for last in set(theirs.values())
            }
        pipeline = client.pipeline(transaction=False)
        for task, last in places:
            pipeline.xread({stream_of(task): last}, count=_PORTION)
        for (task, _), listeners, found in zip(places, places.values(), pipeline.execute(), strict=True):
            for _, entries in found or []:
                deltas = _deltas([fields for _, fields in entries])
                with self._lock:
                    for listener in listeners:
                        if listener in self._listeners.get(task, {}):
                            self._listeners[task][listener] = entries[-1][0]
                for listener in listeners:
                    with contextlib.suppress(RuntimeError):  # its loop has ended
                        listener.loop.call_soon_threadsafe(listener.offer_words, task, deltas)


def _deltas(entries: Sequence[dict[str, str]]) -> list[Delta]:
    found = []
    for fields in entries:
        with contextlib.suppress(KeyError, ValueError):  # of another version
            found.append(Delta.of(fields))
    return found


words = WordFeed()
"""this process's reader of words"""
