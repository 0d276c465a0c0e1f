"""Rate limits of API keys, organisations and strangers (requests without a valid key). Each process counts by itself
and shares its counts through Redis in the background: no request waits for Redis, and during an outage of Redis each
process goes by its own counts.

A window counter with two windows (Alex Xu, "System Design Interview", 2020, chapter 4): of the previous minute, the
share that still lies within the last 60 seconds counts, as if its requests had been evenly spread.
"""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import redis
from fastapi import Request

from core.addresses import subscriber
from core.errors import TooManyRequests
from core.logging import get_logger
from core.settings import Settings, settings
from domain.tenants.schemas import KeyOwner
from web.problems import problem

log = get_logger(__name__)

_WINDOW = 60
_SHARE_EVERY = 0.25
_MOST_SUBJECTS = 50_000
# Prefixes of subjects of unlimited number. All visitors of a publishable key are also counted together.
_MANY = ("stranger:", "visitor:")
_TYPING_A_MINUTE = 60
# What takes a key counts by itself: it knows whether the key is valid.
_COUNTED_ELSEWHERE = ("/v1/", "/openai/v1/", "/socket.io/", "/health")


@dataclass
class _Count:
    """Requests of one subject in one window: all that this process knows of, and its own that are not yet shared."""

    known: int = 0
    unshared: int = 0


class RateLimits:
    """The counters of this process, and the thread that shares them."""

    def __init__(self, config: Settings, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._clock = clock
        self._counts: dict[tuple[str, int], _Count] = defaultdict(_Count)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def take_request(self, owner: KeyOwner) -> None:
        """Count a request of a key. Raises TooManyRequests, and counts nothing, if a limit is reached."""
        self.take(
            (f"key:{owner.key_id}", self._config.requests_per_minute_key, "This API key"),
            (f"org:{owner.org_id}", self._config.requests_per_minute_organisation, "This organisation"),
        )

    def take_typing(self, owner: KeyOwner) -> None:
        """Count that a user says that it is typing. Raises TooManyRequests, and counts nothing, if the limit is
        reached.
        """
        self.take((f"typing:{owner.user_id}", _TYPING_A_MINUTE, "A user who is typing"))

    def take_stranger(self, request: Request) -> None:
        """Count a request without a valid key, by the address that it comes from. Raises TooManyRequests, and counts
        nothing, if the limit is reached.
        """
        self.take((_stranger(request), self._config.requests_per_minute_stranger, "This address"))

    def give_back_stranger(self, request: Request) -> None:
        """Undo `take_stranger`: the key of the request is valid."""
        with self._lock:
            self._add(_stranger(request), -1)

    def take(self, *wanted: tuple[str, int, str]) -> None:
        """Count a request of each subject, given with its limit a minute and what messages call it. Raises
        TooManyRequests, and counts nothing, if a limit is reached.
        """
        with self._lock:
            for subject, limit, who in wanted:
                self._check(subject, limit, who)
            for subject, _, _ in wanted:
                self._add(subject)

    def _check(self, subject: str, limit: int, who: str) -> None:
        now = self._clock()
        window = int(now // _WINDOW)
        gone = now % _WINDOW / _WINDOW
        before, present = self._known(subject, window - 1), self._known(subject, window)
        if before * (1 - gone) + present + 1 > limit:
            wait = _seconds_to_wait(before, present, limit, gone)
            raise TooManyRequests(f"{who} may ask {limit} times a minute. Try again in {wait} s.", retry_after=wait)

    def _known(self, subject: str, window: int) -> int:
        count = self._counts.get((subject, window))
        return count.known if count else 0

    def _add(self, subject: str, number: int = 1) -> None:
        count = self._counts[subject, int(self._clock() // _WINDOW)]
        count.known += number
        count.unshared += number

    # ── sharing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start the thread that shares the counts."""
        self._thread = threading.Thread(target=self._share_for_ever, name="rate-limits", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sharing the counts."""
        self._stopping.set()
        if self._thread:
            self._thread.join(5)

    def _share_for_ever(self) -> None:
        client = redis.Redis.from_url(self._config.redis_url, socket_timeout=1, socket_connect_timeout=1)
        is_away = False
        while not self._stopping.wait(_SHARE_EVERY):
            self.forget_old()
            try:
                self.share(client)
            except redis.RedisError as error:
                if not is_away:
                    log.warning("rate limits are counted by this process alone", error=str(error))
                is_away = True
            else:
                is_away = False
        client.close()

    def share(self, client: "redis.Redis") -> None:
        """Add this process's counts to the totals in Redis, and read the totals of all processes."""
        with self._lock:
            added = {key: count.unshared for key, count in self._counts.items() if count.unshared}
        if not added:
            return
        pipeline = client.pipeline(transaction=False)
        for (subject, window), number in added.items():
            pipeline.incrby(_name(subject, window), number)
            pipeline.expire(_name(subject, window), 3 * _WINDOW)
        totals: Iterable[int] = pipeline.execute()[::2]
        with self._lock:
            for (key, number), total in zip(added.items(), totals, strict=True):
                count = self._counts[key]
                count.unshared -= number
                count.known = int(total) + count.unshared

    def forget_old(self) -> None:
        """Drop the windows that no longer count, and all strangers and visitors if there are too many subjects."""
        oldest = int(self._clock() // _WINDOW) - 1
        with self._lock:
            if len(self._counts) > _MOST_SUBJECTS:
                for key in [key for key in self._counts if key[0].startswith(_MANY)]:
                    del self._counts[key]
            for key in [key for key in self._counts if key[1] < oldest]:
                del self._counts[key]


def _seconds_to_wait(before: int, present: int, limit: int, gone: float) -> int:
    """Return the seconds until the next request fits, if no other request arrives: until enough of the previous window
    has slid out or, if that does not suffice, enough of the present one.
    """
    if present + 1 <= limit and before:
        needed = 1 - (limit - present - 1) / before
        return max(1, math.ceil((needed - gone) * _WINDOW))
    needed = 1 - (limit - 1) / present if present else 0.0
    return max(1, math.ceil((1 - gone + max(0.0, needed)) * _WINDOW))


def _name(subject: str, window: int) -> str:
    return f"rota:requests:{subject}:{window}"


def _stranger(request: Request) -> str:
    return f"stranger:{subscriber(request.client.host if request.client else 'unknown')}"


_limits: list[RateLimits] = []


def limits() -> RateLimits:
    """Return the counters of this process."""
    if not _limits:
        _limits.append(RateLimits(settings()))
    return _limits[0]


class LimitStrangers:
    """ASGI middleware: counts requests that need no key, such as for the documentation and the metrics, by address.
    Health checks are not counted.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(_COUNTED_ELSEWHERE):
            try:
                limits().take_stranger(Request(scope))
            except TooManyRequests as error:
                headers = {"retry-after": str(error.details["retry_after"])}
                await problem(HTTPStatus.TOO_MANY_REQUESTS, error.message, headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def reset_limits() -> None:
    """Discard the counters: the next call of `limits` creates new ones, with the settings of that time."""
    _limits.clear()
