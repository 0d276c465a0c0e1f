"""What models say in the tasks that one stream tells of: a task's stream tells of one, a conversation's of each that
answers in it. And who is typing in the conversations that it tells of.
"""

from collections.abc import Iterable
from uuid import UUID

from core.words import Delta
from domain.events.schemas import Event
from web.feed import Listener
from web.said import Piece, Place, Said
from web.words import Source, words

_MOST_ENDED = 100
Heard = tuple[UUID, Piece]
"""what a reader gets of the words of a task"""


class Spoken:
    """How far one reader has heard each task."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._tasks: dict[UUID, Said] = {}
        self._ended: dict[UUID, Said] = {}
        self._watched: set[UUID] = set()

    def begin(self, task: UUID, said: Said | None = None) -> None:
        """Listen to a task from now on, and to what was said of it already. No-op if that is so."""
        if task not in self._tasks:
            # One that is retried goes on where it was: its earlier decisions were told.
            self._tasks[task] = said or self._ended.pop(task, None) or Said()
            words.join(Source(task), self._listener)

    def end(self, task: UUID) -> None:
        """Listen to a task no more: it has ended. No-op if that is so."""
        if (said := self._tasks.pop(task, None)) is not None:
            words.leave(Source(task), self._listener)
            self._ended[task] = Said(said.decided)
            while len(self._ended) > _MOST_ENDED:
                del self._ended[next(iter(self._ended))]

    def watch(self, conversation: UUID) -> None:
        """Hear who is typing in a conversation from now on. No-op if that is so."""
        if conversation not in self._watched:
            self._watched.add(conversation)
            words.join(Source(conversation, is_typing=True), self._listener)

    def close(self) -> None:
        """Listen no more."""
        for task in [*self._tasks]:
            self.end(task)
        for conversation in self._watched:
            words.leave(Source(conversation, is_typing=True), self._listener)
        self._watched.clear()

    def follow(self, event: Event) -> None:
        """Listen to the tasks that begin, and no more to those that ended."""
        if event.task_id is None:
            return
        if event.kind in {"task.accepted", "task.queued", "task.started"}:
            self.begin(event.task_id)
        elif event.kind == "task.ended":
            self.end(event.task_id)

    @property
    def place(self) -> tuple[Place, UUID] | None:
        """How far the task is heard that is speaking, and which it is."""
        return next(((said.place, task) for task, said in self._tasks.items() if said.place is not None), None)

    def hear(self, deltas: Iterable[tuple[UUID, Delta]]) -> list[Heard]:
        """Take words, and return what the reader gets of them."""
        heard = []
        for task, delta in deltas:
            if (said := self._tasks.get(task)) is not None:
                heard += [(task, piece) for piece in said.hear(delta)]
        return heard

    def complete(self, event: Event) -> list[Heard]:
        """Return what the reader has not heard of the words of a decision. Call `told` after it was told of it."""
        told, (task, said) = event.told, self._said(event)
        rest = said.complete(told["step"], told["claim"], told.get("attempt"), told.get("text") or "")
        return [(task, piece) for piece in rest]

    def told(self, event: Event) -> list[Heard]:
        """Note that the reader was told of a decision, and return what it gets of the next step."""
        task, said = self._said(event)
        return [(task, piece) for piece in said.told(event.told["step"])]

    def _said(self, event: Event) -> tuple[UUID, Said]:
        assert event.task_id is not None  # noqa: S101  for the type checker: a decision is a task's
        # A task that is not listened to has ended: its decisions come one after the other, each whole.
        return event.task_id, self._tasks.get(event.task_id, Said())
