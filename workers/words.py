"""Words of models on their way to listeners, through Redis.

Two threads of a worker process do what Redis is needed for: one looks which tasks are listened to, the other writes
what was said. So a task never waits for Redis, and a plain task costs one look into a set.
"""

import threading
import time
from collections import deque
from uuid import UUID

import redis

from core.logging import get_logger
from core.words import KEPT, LISTENED_TO, MOST, Delta, stream_of
from domain.claims.schemas import Claimed

log = get_logger(__name__)

_LOOK_EVERY = 0.5
_WRITE_EVERY = 0.06
_AFTER_A_FAILURE = 2.0
_PATIENCE = 1.0
_MOST_UNWRITTEN = 20_000  # deltas, while Redis is away


class RedisSink:
    """Passes on the words of tasks that are listened to, and of tasks that are always streamed."""

    def __init__(self, url: str, *, every: float = _WRITE_EVERY) -> None:
        """Words are gathered for `every` seconds, then written together."""
        self._url = url
        self.every = every
        self._listened_to: frozenset[str] = frozenset()
        self._unwritten: deque[tuple[UUID, Delta]] = deque(maxlen=_MOST_UNWRITTEN)
        self._has_words = threading.Event()
        self._attempts: dict[tuple[UUID, int], tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._is_stopping = threading.Event()

    def start(self) -> None:
        """Start the threads."""
        for name, run in (("listeners", self._look), ("words", self._write)):
            threading.Thread(target=run, name=name, daemon=True).start()

    def stop(self) -> None:
        """End the threads."""
        self._is_stopping.set()
        self._has_words.set()

    def begin(self, task: Claimed, seq: int, previous: int) -> "_Speech | None":
        """Return where the words of a call go; None if the task is not listened to."""
        if not task.is_streamed and str(task.id) not in self._listened_to:
            return None
        with self._lock:
            claim, attempt = self._attempts.get((task.id, seq), (task.claim, 0))
            attempt = attempt + 1 if claim == task.claim else 1
            self._attempts[task.id, seq] = (task.claim, attempt)
            while len(self._attempts) > _MOST_UNWRITTEN:
                del self._attempts[next(iter(self._attempts))]
        return _Speech(self, task, seq, previous, attempt)

    def put(self, task: UUID, delta: Delta) -> None:
        """Write a delta soon."""
        self._unwritten.append((task, delta))
        self._has_words.set()

    # ── the threads ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _look(self) -> None:
        client = self._client()
        while not self._is_stopping.is_set():
            try:
                found = client.zrangebyscore(LISTENED_TO, time.time(), "+inf")
                self._listened_to = frozenset(str(one) for one in found)
                self._is_stopping.wait(_LOOK_EVERY)
            except redis.RedisError as error:
                log.debug("cannot look for listeners", error=str(error))
                self._listened_to = frozenset()
                self._is_stopping.wait(_AFTER_A_FAILURE)

    def _write(self) -> None:
        client = self._client()
        while not self._is_stopping.is_set():
            self._has_words.wait()
            self._is_stopping.wait(self.every)  # what is said meanwhile is written together
            self._has_words.clear()
            try:
                self._write_all(client)
            except redis.RedisError as error:
                # What was taken may be lost: readers notice the gap, and get the whole text when the step is done.
                log.debug("words were not written", error=str(error))
                self._is_stopping.wait(_AFTER_A_FAILURE)

    def _write_all(self, client: "redis.Redis") -> None:
        pipeline = client.pipeline(transaction=False)
        tasks = set()
        while True:
            try:
                task, delta = self._unwritten.popleft()
            except IndexError:
                break
            pipeline.xadd(stream_of(task), delta.fields(), maxlen=MOST, approximate=True)  # type: ignore[arg-type]
            tasks.add(task)
        for task in tasks:
            pipeline.expire(stream_of(task), KEPT)
        if tasks:
            pipeline.execute()

    def _client(self) -> "redis.Redis":
        return redis.Redis.from_url(
            self._url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE, decode_responses=True
        )


class _Speech:
    """The words of one call of a model: gathered for a moment, then passed on as one delta."""

    def __init__(self, sink: RedisSink, task: Claimed, seq: int, previous: int, attempt: int) -> None:
        self.attempt = attempt
        self._sink = sink
        self._task = task
        self._seq = seq
        self._previous = previous
        self._offset = 0
        self._gathered: list[str] = []
        self._since = 0.0

    def say(self, text: str) -> None:
        """Pass a piece of text on, at once or with the next one."""
        self._gathered.append(text)
        now = time.monotonic()
        if now - self._since >= self._sink.every:
            self._since = now
            self.end()

    def end(self) -> None:
        """Pass on what was gathered."""
        text = "".join(self._gathered)
        if text:
            self._gathered.clear()
            delta = Delta(self._seq, self._previous, self._task.claim, self.attempt, self._offset, text)
            self._offset += len(text)
            self._sink.put(self._task.id, delta)
