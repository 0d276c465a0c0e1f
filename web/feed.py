"""The live feed of events: one thread of each process reads new events from Postgres, and gives them to listeners.

Postgres is asked at short intervals, and only while there are listeners. A listener whose queue is full loses the queue
and reads what it missed from Postgres, so a slow reader never slows another, and nothing is lost.
"""

import asyncio
import contextlib
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from core.db import transaction_on
from core.engines import SYSTEM, dedicated_connection, engine_on
from core.errors import TooManyRequests, Unavailable
from core.logging import get_logger
from core.settings import settings
from core.words import Delta, Typing
from domain.events import service as events
from domain.events.schemas import Cursor, Event
from web.audience import Audience

log = get_logger(__name__)

_EVERY = 0.04
_AFTER_A_FAILURE = 1.0
_PATIENCE = 10.0
_LONGEST_QUEUE = 500
_MOST_WORDS = 2_000
_MOST_OF_A_VISITOR = 6
_MOST_TYPING = 100


class Listener:
    """One reader of the feed. All methods are called on its event loop."""

    def __init__(self, org: UUID, audience: Audience) -> None:
        self.org = org
        self.audience = audience
        self.is_behind = False
        """whether events were dropped: call `catch_up`, then read them from the database"""
        self._queue: deque[Event] = deque()
        self._words: deque[tuple[UUID, Delta]] = deque(maxlen=_MOST_WORDS)
        self._typing: deque[Typing] = deque(maxlen=_MOST_TYPING)
        self._news = asyncio.Event()
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """done when every event from now on comes through the feed, or through the database once it `is_behind`"""
        self.loop = asyncio.get_running_loop()

    def offer(self, event: Event) -> None:
        """Queue an event if the audience wants it and may hear of it."""
        if self.is_behind or not self.audience.hears(event):
            return
        if len(self._queue) >= _LONGEST_QUEUE:
            self.fall_behind()
        else:
            self._queue.append(event)
            self._news.set()

    def offer_all(self, events: Iterable[Event]) -> None:
        """Queue those of the events that the audience wants and may hear of."""
        for event in events:
            self.offer(event)

    def offer_words(self, task: UUID, deltas: Iterable[Delta]) -> None:
        """Queue words of a task. If they are too many the oldest are dropped: the journal has them."""
        self._words.extend((task, delta) for delta in deltas)
        self._news.set()

    def offer_typing(self, typing: Iterable[Typing]) -> None:
        """Queue who is typing. If they are too many the oldest are dropped."""
        self._typing.extend(typing)
        self._news.set()

    def fall_behind(self) -> None:
        """Drop the queue: the listener must read from the database."""
        self._queue.clear()
        self.is_behind = True
        self._news.set()

    def catch_up(self) -> None:
        """Queue events again. Call it before reading what was missed: what comes meanwhile is queued."""
        self.is_behind = False

    async def wait(self, seconds: float) -> None:
        """Wait for events, for at most `seconds`."""
        if not self._queue and not self._words and not self._typing and not self.is_behind:
            # Not `wait_for`: on Python 3.11 it loses a cancellation that comes together with the news.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
        self._news.clear()

    def take(self) -> list[Event]:
        """Return the queued events and empty the queue."""
        taken = [*self._queue]
        self._queue.clear()
        return taken

    def take_words(self) -> list[tuple[UUID, Delta]]:
        """Return the queued words, each with its task, and empty their queue."""
        taken = [*self._words]
        self._words.clear()
        return taken

    def take_typing(self) -> list[Typing]:
        """Return who is typing, as queued, and empty the queue."""
        taken = [*self._typing]
        self._typing.clear()
        return taken


class Feed:
    """The thread that reads events, and the listeners of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[UUID, set[Listener]] = {}
        self._new: list[Listener] = []
        self._has_listeners = threading.Event()
        self._thread: threading.Thread | None = None

    # ── listeners ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def join(self, listener: Listener) -> None:
        """Add a listener. When this returns, every event that was not visible in the database before is given to it.

        Raises:
            Unavailable: the database does not answer.
        """
        with self._lock:
            self._new.append(listener)
            self._has_listeners.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
                self._thread.start()
        try:
            async with asyncio.timeout(_PATIENCE):
                await listener.joined
        except TimeoutError as error:
            self.leave(listener)
            raise Unavailable from error
        except asyncio.CancelledError:
            self.leave(listener)
            raise

    def leave(self, listener: Listener) -> None:
        """Remove a listener. Idempotent."""
        with self._lock:
            if listener in self._new:
                self._new.remove(listener)
            theirs = self._listeners.get(listener.org, set())
            theirs.discard(listener)
            if not theirs:
                self._listeners.pop(listener.org, None)
            if not self._listeners and not self._new:
                self._has_listeners.clear()

    def ensure_room(self, org: UUID) -> None:
        """Refuse another listener of an organisation that has as many as it may.

        Raises:
            TooManyRequests: it has.
        """
        most = settings().max_streams_organisation
        if len(self._of(org)) >= most:
            raise TooManyRequests(f"This organisation has {most} streams open on this server. Close some.")

    def ensure_room_for_visitor(self, org: UUID, visitor: UUID) -> None:
        """Refuse another listener of a visitor. Visitors get half of an organisation's streams: the others stay free
        for its own people.

        Raises:
            TooManyRequests: the visitor, or all visitors together, have as many as they may.
        """
        self.ensure_room(org)
        of_visitors = [one.audience.visitor for one in self._of(org) if one.audience.visitor is not None]
        if of_visitors.count(visitor) >= _MOST_OF_A_VISITOR:
            raise TooManyRequests(f"You have {_MOST_OF_A_VISITOR} streams open. Close some.")
        if len(of_visitors) >= max(1, settings().max_streams_organisation // 2):
            raise TooManyRequests("Too many people follow this chat now. Try again later.")

    def _of(self, org: UUID) -> list[Listener]:
        with self._lock:
            return [*self._listeners.get(org, ()), *(listener for listener in self._new if listener.org == org)]

    @property
    def size(self) -> int:
        """The number of listeners."""
        with self._lock:
            return len(self._new) + sum(map(len, self._listeners.values()))

    # ── the thread ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._has_listeners.wait()
            try:
                with dedicated_connection(SYSTEM) as connection:
                    self._read_while_needed(engine_on(connection), pause)
            except (psycopg.Error, DBAPIError) as error:
                log.warning("the feed of events cannot be read", error=str(error))
                pause.wait(_AFTER_A_FAILURE)

    def _read_while_needed(self, engine: Engine, pause: threading.Event) -> None:
        """Read events until there is no listener. Who listens already may have missed some: the connection is new."""
        with engine.connect() as connection:
            with transaction_on(connection):
                position = events.horizon(connection, None).end
            self._all_fall_behind()
            while self._has_listeners.is_set():
                with transaction_on(connection):
                    position = self._read(connection, position)
                pause.wait(_EVERY)

    def _read(self, connection: Connection, position: Cursor) -> Cursor:
        """Give listeners the events after `position`, and return the new position."""
        self._admit()
        with self._lock:
            orgs = list(self._listeners)
        horizon = events.horizon(connection, None)
        if horizon.latest < position.xid:  # another database, whose transactions begin anew
            self._all_fall_behind()
            return horizon.end
        while True:
            found = events.page_of_many(connection, orgs, position)
            self._hand_out(found)
            position = found[-1].cursor if found else position
            if len(found) < events.PORTION:
                return max(position, horizon.end)

    def _admit(self) -> None:
        """Let new listeners in. From the next reading on, the feed reads for their organisations."""
        with self._lock:
            for listener in self._new:
                self._listeners.setdefault(listener.org, set()).add(listener)
            new, self._new = self._new, []
        _call_each([(listener,) for listener in new], _mark_joined)

    def _hand_out(self, found: Iterable[Event]) -> None:
        """Give each listener the events of its organisation or, if it follows one, of its task or conversation."""
        offers: dict[object, list[Event]] = defaultdict(list)
        for event in found:
            for key in (event.org_id, event.task_id, event.conversation_id):
                if key is not None:
                    offers[key].append(event)
        with self._lock:
            listeners = [one for org, theirs in self._listeners.items() if org in offers for one in theirs]
        pairs = [(one, offers.get(one.audience.task or one.audience.conversation or one.org)) for one in listeners]
        _call_each([(one, events) for one, events in pairs if events], Listener.offer_all)

    def _all_fall_behind(self) -> None:
        with self._lock:
            everyone = [listener for theirs in self._listeners.values() for listener in theirs]
        _call_each([(listener,) for listener in everyone], Listener.fall_behind)


def _mark_joined(listener: Listener) -> None:
    if not listener.joined.done():
        listener.joined.set_result(None)


def _call_each(calls: Iterable[tuple[Any, ...]], call: Callable[..., None]) -> None:
    """Call something for each listener, with what stands behind it, on its event loop: the loops are woken once for all
    their listeners.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Any, ...]]] = defaultdict(list)
    for listener, *arguments in calls:
        by_loop[listener.loop].append((listener, *arguments))
    for loop, theirs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop has ended, and its listeners with it
            loop.call_soon_threadsafe(_each, theirs, call)


def _each(calls: Iterable[tuple[Any, ...]], call: Callable[..., None]) -> None:
    for arguments in calls:
        call(*arguments)


feed = Feed()
"""this process's feed"""
