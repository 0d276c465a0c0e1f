"""Following the events of an organisation or a task: what was missed from the database, then what comes from the feed.

Whatever happens to the connection, a reader that comes back with the cursor of the last event that it got misses
nothing and gets nothing twice.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar
from uuid import UUID

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection

from core.db import transaction
from core.errors import InvalidInput, NotPermitted
from core.words import Typing
from domain.conversations import service as conversations
from domain.events import service as events
from domain.events.schemas import BEGINNING, INVALID_CURSOR, Cursor, Event, Reset, Wanted, sse_message
from domain.tasks import service as tasks
from domain.tasks.schemas import Task
from domain.tenants.permissions import Reach
from web.audience import Audience
from web.feed import Listener, feed
from web.said import Piece, Place, Said, data_of
from web.spoken import Heard, Spoken
from web.streams import HEARTBEAT, Write

_HEARTBEAT_EVERY = 15.0
_LOOK_AGAIN_EVERY = 4.0
_PORTION = 200
_MOST_CONVERSATIONS = 200
_COURSE = frozenset({"task.accepted", "task.queued", "task.started", "task.waiting", "task.ended"})


class Reader(Protocol):
    """Who follows events: a principal, or a visitor."""

    @property
    def org_id(self) -> UUID: ...

    @property
    def user_id(self) -> UUID | None: ...

    def reach_of(self, permission: str) -> Reach: ...


_Reader = TypeVar("_Reader", bound=Reader)
_Checked_co = TypeVar("_Checked_co", bound=Reader, covariant=True)


class Checks(Protocol[_Checked_co]):
    """What authenticates the caller of a response that is still being sent."""

    async def again(self, request: Request) -> _Checked_co: ...


class Position(NamedTuple):
    """Where a reader of a stream is: after an event and, where words follow it, within those of a task."""

    cursor: Cursor
    place: Place | None = None
    task: UUID | None = None

    def __str__(self) -> str:
        if self.place is None or self.task is None:
            return str(self.cursor)
        return f"{self.cursor}_{self.place}_{self.task.hex}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the position that the `id` of a message is.

        Raises:
            InvalidInput: it is none.
        """
        cursor, underscore, rest = text.partition("_")
        if not underscore:
            return cls(Cursor.parse(cursor))
        place, _, task = rest.partition("_")
        try:
            return cls(Cursor.parse(cursor), Place.parse(place), UUID(task))
        except ValueError as error:
            raise InvalidInput(INVALID_CURSOR) from error


@dataclass(frozen=True)
class Portion:
    """Events read from the database, and where to go on."""

    events: list[Event]
    begin: Cursor
    next: Cursor
    is_last: bool
    reset: Reset | None = None


def read(caller: Reader, who: Audience, after: Cursor, limit: int = _PORTION) -> Portion:
    """Return the next events that the audience hears: up to `limit` are looked at. A cursor after which events were
    deleted gets a reset, and the portion begins with the oldest event that is kept.
    """
    with transaction(caller.org_id) as connection:
        horizon = events.horizon(connection, caller.org_id)
        is_lost = after != BEGINNING and horizon.has_lost(after)
        if is_lost:
            after = min(horizon.deleted, horizon.end)
        wanted = Wanted(caller.org_id, sorted(who.kinds), who.agent, who.task, who.conversation, who.session)
        found, position = events.page(connection, wanted, after, limit)
    reset = _reset(caller, who) if is_lost else None
    heard = [event for event in found if who.hears(event)]
    return Portion(heard, after, position, is_last=len(found) < limit, reset=reset)


def _reset(caller: Reader, who: Audience) -> Reset:
    """Return the state that the caller may see."""
    reach = caller.reach_of("tasks:read")
    if reach.is_nowhere:
        return Reset(reason=events.TOO_OLD, tasks=[], has_more_tasks=False)
    with transaction(caller.org_id, () if reach.everywhere else reach.locations) as connection:
        return events.reset(connection, who.task)


class Encoding:
    """How a stream is written: as server-sent events with our own names. Derive from it for another wire."""

    is_over = False
    """set once nothing more is to be written: the stream ends"""

    def ready(self, cursor: Cursor) -> bytes:
        """Return what tells that an organisation's stream begins."""
        return sse_message("ready", {}, cursor)

    def reset(self, reset: Reset, cursor: Cursor) -> bytes:
        """Return what tells that events are missing."""
        return sse_message("reset", reset.model_dump(mode="json"), cursor)

    def event(self, event: Event, position: Position) -> bytes:
        """Return an event."""
        return event.lines if position.place is None else event.lines_at(position)

    def piece(self, task: UUID, piece: Piece, position: Position) -> bytes:
        """Return a piece of what a model says."""
        name = "message.superseded" if piece.text is None else "message.delta"
        return sse_message(name, {"task_id": str(task)} | data_of(piece), position)

    def typing(self, typing: Typing, position: Position) -> bytes:
        """Return what tells that a user is typing."""
        return sse_message("user.typing", data_of_typing(typing), position)

    def broken(self) -> bytes:
        """Return what tells that the stream ends before its time. Nothing: the reader comes back with its cursor."""
        return b""

    def ended(self, task: Task, cursor: Cursor) -> bytes:
        """Return what tells that a task has ended whose events were deleted."""
        told = {"task_id": str(task.id), "agent": task.agent, "status": task.status}
        return sse_message("task.ended", told, cursor)


class Follower(Generic[_Reader]):
    """One stream of events: its caller, what it asked for, and how far it got."""

    def __init__(
        self,
        request: Request,
        needs: Checks[_Reader],
        caller: _Reader,
        make_audience: Callable[[_Reader], Audience],
        after: Position | None,
        encoding: Encoding | None = None,
    ) -> None:
        """Without `after`, an organisation's stream begins now, and a task's with its first event."""
        self._request = request
        self._needs = needs
        self._caller = caller
        self._make_audience = make_audience
        self._who = make_audience(caller)
        self._encoding = encoding or Encoding()
        self._looked = time.monotonic()
        self._begin = after
        self._after = after.cursor if after else None
        self._is_under_way = False
        """whether the last that was heard of a task's course is not its end"""

    async def follow(self, write: Write) -> None:
        """Write events until the stream ends: a task's with the task, others never by themselves.

        Raises:
            NotAuthenticated, NotPermitted: the caller may not read on.
            Unavailable: the database does not answer.
        """
        listener = Listener(self._caller.org_id, self._who)
        self._spoken = Spoken(listener)
        try:
            await feed.join(listener)
            if self._after is None and self._who.task is None:
                self._after = await run_in_threadpool(_now, self._caller.org_id)
                await write(self._encoding.ready(self._after))
            if self._who.wants_words:
                await self._begin_to_hear()
            if self._who.wants_typing:
                for conversation in await run_in_threadpool(_watched, self._caller.org_id, self._who):
                    self._spoken.watch(conversation)
            if await self._catch_up(listener, write):
                await self._live(listener, write)
        except (Exception, asyncio.CancelledError):
            if last := self._encoding.broken():
                with contextlib.suppress(OSError):
                    await write(last)
            raise
        finally:
            feed.leave(listener)
            self._spoken.close()

    async def _begin_to_hear(self) -> None:
        """Listen to the tasks that may be speaking now, each from where the reader has heard it."""
        begin = self._begin or Position(self._after or BEGINNING)
        decided = await run_in_threadpool(_decided, self._caller.org_id, self._who, begin)
        for task, step in decided.items():
            self._spoken.begin(task, Said(step, begin.place if begin.task == task else None))

    async def _catch_up(self, listener: Listener, write: Write) -> bool:
        """Write what the database has after the reader's cursor. Return whether more may come."""
        listener.catch_up()
        is_last = False
        while not is_last:
            portion = await run_in_threadpool(read, self._caller, self._who, self._after or BEGINNING)
            if portion.reset is not None:
                self._is_under_way = False  # the event of its end may be among those that were deleted
                await write(self._encoding.reset(portion.reset, portion.begin))
            await self._write(portion.events, write)
            if self._encoding.is_over:
                return False
            self._after, is_last = portion.next, portion.is_last
            await self._look_again()
        # What is under way here has its end behind the cursor, and the feed brings it.
        return self._is_under_way or not await self._is_over(write)

    async def _live(self, listener: Listener, write: Write) -> None:
        """Write what comes from the feed, and what is being said."""
        beaten = time.monotonic()
        while True:
            await listener.wait(_LOOK_AGAIN_EVERY)
            now = time.monotonic()
            await self._look_again()
            if listener.is_behind:
                if not await self._catch_up(listener, write):
                    return
                continue
            after = self._after or BEGINNING
            news = [event for event in listener.take() if event.cursor > after]
            said, typing = listener.take_words(), listener.take_typing()
            if news or said or typing:
                beaten = now
                await self._write(news, write)
                await self._write_pieces(self._spoken.hear(said), write)
                await self._write_typing(typing, write)
                if self._encoding.is_over:
                    return
                if any(event.kind == "task.ended" for event in news) and await self._is_over(write):
                    return
            elif now - beaten >= _HEARTBEAT_EVERY:
                await write(HEARTBEAT)
                beaten = now

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _write(self, news: Sequence[Event], write: Write) -> None:
        """Write events in order. What was not heard of a step's words comes before its decision."""
        lines: list[bytes] = []
        for event in news:
            # Of a task that was cleaned up, the journal is gone: its decisions have no words any more.
            if self._who.wants_words and event.kind == "decision.made" and "step" in event.told:
                lines += self._lines_of_decision(event)
                continue
            self._after = event.cursor
            if event.kind in _COURSE:
                self._is_under_way = event.kind != "task.ended"
            if self._who.wants_words:
                self._spoken.follow(event)
            if event.conversation_id is not None and self._who.hears_typing_after(event):
                self._spoken.watch(event.conversation_id)
            if event.kind not in self._who.quiet:
                heard = self._spoken.place or ()
                lines.append(self._encoding.event(event, Position(event.cursor, *heard)))
        if chunk := b"".join(lines):
            await write(chunk)

    def _lines_of_decision(self, event: Event) -> list[bytes]:
        before = self._lines_of(self._spoken.complete(event))
        self._after = event.cursor
        its_own = [] if event.kind in self._who.quiet else [self._encoding.event(event, Position(event.cursor))]
        return [*before, *its_own, *self._lines_of(self._spoken.told(event))]

    async def _write_pieces(self, pieces: Sequence[Heard], write: Write) -> None:
        if chunk := b"".join(self._lines_of(pieces)):
            await write(chunk)

    async def _write_typing(self, typing: Sequence[Typing], write: Write) -> None:
        """Tell which other users are typing. It moves no cursor: nothing of it is kept."""
        position = Position(self._after or BEGINNING, *(self._spoken.place or ()))
        others = [one for one in typing if one.user != self._caller.user_id]
        if chunk := b"".join(self._encoding.typing(one, position) for one in others):
            await write(chunk)

    def _lines_of(self, pieces: Sequence[Heard]) -> list[bytes]:
        cursor = self._after or BEGINNING
        return [self._encoding.piece(task, piece, Position(cursor, piece.place, task)) for task, piece in pieces]

    async def _look_again(self) -> None:
        """Every few seconds, take what the caller may read now. If that changed, the stream ends: another begins with
        what it may.

        Raises:
            NotAuthenticated, NotPermitted: the caller may not read on.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK_AGAIN_EVERY:
            return
        self._looked = now
        self._caller = await self._needs.again(self._request)
        if self._make_audience(self._caller) != self._who:
            raise NotPermitted("What this key may read has changed. Connect again.")

    async def _is_over(self, write: Write) -> bool:
        """Whether the task has ended and its end was written. If the event of its end was deleted, write one."""
        if self._who.task is None:
            return False
        end = await run_in_threadpool(end_of, self._caller.org_id, self._who.task, self._who.reach("task.ended"))
        if end.has_ended and end.event is None and end.task is not None:
            await write(self._encoding.ended(end.task, self._after or BEGINNING))
            return True
        return end.has_ended and (end.event is None or end.event.cursor <= (self._after or BEGINNING))


async def until_ended(
    request: Request, org: UUID, task_id: UUID, seconds: float, *, or_waits_for: str | None = None
) -> None:
    """Wait until a task has ended or waits for what is named, at most so long, and no longer than the client waits."""
    everywhere = Reach(everywhere=True)  # the caller may read the task, and gets no event
    kinds = ["task.ended", "task.waiting"] if or_waits_for else ["task.ended"]
    listener = Listener(org, Audience(dict.fromkeys(kinds, everywhere), task=task_id))
    deadline = time.monotonic() + seconds
    try:
        await feed.join(listener)
        while True:
            end = await run_in_threadpool(end_of, org, task_id, everywhere)
            if end.has_ended or (end.task is not None and or_waits_for and end.task.waiting_for == or_waits_for):
                return
            left = deadline - time.monotonic()
            if left <= 0 or await request.is_disconnected():
                return
            await listener.wait(min(left, _LOOK_AGAIN_EVERY))
            listener.catch_up()
            listener.take()
    finally:
        feed.leave(listener)


@dataclass(frozen=True)
class End:
    """Whether a task has ended, and the event that told of it, unless that was deleted."""

    has_ended: bool
    event: Event | None
    task: Task | None


def end_of(org: UUID, task_id: UUID, reach: Reach) -> End:
    """Return whether a task has ended; one that was deleted, or that lies beyond `reach`, has."""
    with transaction(org, () if reach.everywhere else reach.locations) as connection:
        task = tasks.find_task(connection, task_id)
        if task is not None and not task.has_ended:
            return End(False, None, task)
        # Read second: the event is written in the transaction that ends the task.
        return End(True, events.last_ending(connection, org, task_id), task)


def _decided(org: UUID, who: Audience, begin: Position) -> dict[UUID, int]:
    """Return the tasks of which a reader at `begin` has words to hear: those that have not ended, and the one of which
    it has heard a part; each with the last decision that it was told of.
    """
    reach = who.reach("message.delta")
    with transaction(org, () if reach.everywhere else reach.locations) as connection:
        talks = _conversations(connection, who)
        wanted = {begin.task} if begin.task else set()
        wanted |= {who.task} if who.task else set()
        wanted |= {task for talk in talks for task in conversations.unended_tasks(connection, talk)}
        # What the reader names is looked up, within its locations: words are not filtered any more.
        found = [task for one in wanted if (task := tasks.find_task(connection, one)) is not None]
        speaking = [task.id for task in found if task.id == who.task or task.conversation_id in talks]
        return {task: events.last_decision(connection, task, begin.cursor) for task in speaking}


def _conversations(connection: Connection, who: Audience) -> set[UUID]:
    """Return the conversations that an audience hears, of a session the latest."""
    if who.session is None:
        return {who.conversation} if who.conversation else set()
    found = conversations.list_conversations(connection, session=who.session, limit=_MOST_CONVERSATIONS)
    return {conversation.id for conversation in found.conversations}


def _watched(org: UUID, who: Audience) -> set[UUID]:
    """Return the conversations of which an audience hears who is typing."""
    reach = who.reach("user.typing")
    with transaction(org, () if reach.everywhere else reach.locations) as connection:
        return _conversations(connection, who)


def data_of_typing(typing: Typing) -> dict[str, Any]:
    """Return what an event tells of a user who is typing."""
    told = {"conversation_id": typing.conversation, "user_id": typing.user}
    return {name: str(value) for name, value in told.items()} | {"until": typing.until.isoformat()}


def _now(org: UUID) -> Cursor:
    with transaction(org) as connection:
        return events.horizon(connection, org).end
