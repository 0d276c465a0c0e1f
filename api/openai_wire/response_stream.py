"""The events of a response, in order and numbered. Pure.

A client names the number of the last event that it got, and gets those after it, so the numbers and what they stand for
must come out the same whenever a response is told again. Text is therefore cut at fixed places, not where it happened
to arrive. A step that begins anew (its worker died, or the model's stream broke) continues with higher numbers: the
number of an event is its place in the response plus a million for each try that was given up before.
"""

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from api.openai_wire.parts import Segment, Spoken
from api.openai_wire.responses import call_item, empty_response, message_id, message_item, output_text, response
from domain.conversations.schemas import Answer
from domain.events.schemas import Cursor, Event, Reset
from domain.tasks.client_calls import WAITING, ClientCall
from domain.tasks.schemas import Task, TaskDetail
from web.following import Encoding, Position
from web.said import Piece

_CELL = 16
"""characters of a delta"""
_EPOCH = 1_000_000
_MOST_ATTEMPTS = 64
_ENDS = {"completed": "response.completed", "incomplete": "response.incomplete"}


@dataclass
class _Item:
    """What is being said in a step."""

    step: int
    claim: int
    attempt: int
    epoch: int
    id: str
    begins: int
    """the place of its first event"""
    index: int
    """its place among the response's items"""
    text: str = ""
    told: int = 0
    """characters that were told"""
    is_open: bool = True


@dataclass
class ResponseEvents:
    """The events of one response, as far as they are known."""

    answer: Answer
    task: TaskDetail
    first: int
    """the first step"""
    claim: int
    """the claim in which it begins"""
    after: int = -1
    """events up to this number were told before, on another connection"""
    _place: int = 0
    _epoch: int = 0
    _items: list[dict[str, Any]] = field(default_factory=list)
    """the items that are done"""
    _given_up: int = 0
    """items that were begun and given up"""
    _item: _Item | None = None
    _decided: int = -1
    _is_in_progress: bool = False

    def begin(self) -> list[dict[str, Any]]:
        """Return the events of the beginning."""
        begun = empty_response(self.answer, self.task, self.first)
        events = self._event("response.created", response=begun)
        if begun["status"] == "queued":
            events += self._event("response.queued", response=begun)
        return events

    def start(self) -> list[dict[str, Any]]:
        """Return the event of a worker's start, unless it was told."""
        if self._is_in_progress:
            return []
        self._is_in_progress = True
        begun = empty_response(self.answer, self.task, self.first) | {"status": "in_progress"}
        return self._event("response.in_progress", response=begun)

    def say(self, step: int, claim: int, attempt: int, text: str) -> list[dict[str, Any]]:
        """Return the events of a piece of what is said in a step."""
        if step < self.first or step <= self._decided:
            return []
        events = self.start()
        item = self._item
        if item is None or item.step != step:
            events += self._open(step, claim, attempt)
            item = self._item
        assert item is not None  # noqa: S101  for the type checker: it was opened
        item.text += text
        return events + self._tell(item, is_whole=False)

    def give_up(self, step: int, claim: int, attempt: int) -> list[dict[str, Any]]:
        """Return the events of a step that begins anew: what was said of it ends as incomplete."""
        item = self._item
        if item is None or item.step != step:
            return []
        events = self._close(item, "incomplete")
        self._given_up += 1
        self._place = item.begins
        return events + self._open(step, claim, attempt)

    def decide(self, spoken: Spoken) -> list[dict[str, Any]]:
        """Return the events that complete what was said in a step: nothing for what was told already."""
        if spoken.step < self.first or spoken.step <= self._decided:
            return []
        events = self.start()
        item = self._item
        if item is not None and item.step == spoken.step and not spoken.text.startswith(item.text):
            events += self.give_up(spoken.step, max(spoken.claim, item.claim), item.attempt + 1)
            item = self._item
        if item is None or item.step != spoken.step:
            events += self._open(spoken.step, spoken.claim, spoken.attempt)
            item = self._item
        assert item is not None  # noqa: S101  as above
        item.text = spoken.text
        status = "completed" if spoken.is_whole else "incomplete"
        events += self._tell(item, is_whole=True) + self._close(item, status)
        self._items.append(message_item(item.id, item.text, status))
        self._decided, self._item, self.claim = spoken.step, None, item.claim
        return events

    def wait(self, waiting_for: str) -> list[dict[str, Any]]:
        """Return the event that the task waits: for a person, say."""
        begun = empty_response(self.answer, self.task, self.first)
        told = {"status": "in_progress", "rota": begun["rota"] | {"waiting_for": waiting_for}}
        # Not in the journal, so it must not shift the numbers after it: it has that of the event before.
        number = self._epoch * _EPOCH + self._place - 1
        return [{"type": "response.in_progress", "sequence_number": number, "response": begun | told}]

    def finish(self, task: TaskDetail, segment: Segment) -> list[dict[str, Any]]:
        """Return all events that are still to come, of a segment that is closed."""
        events = self.start()
        for spoken in segment.spoken:
            events += self.decide(spoken)
        if self._item is not None:
            events += self._close(self._item, "incomplete")
            self._item = None
        for call in segment.calls:
            events += self._call(call)
        whole = response(self.answer, task, segment, self._items)
        return events + self._event(_ENDS.get(whole["status"], "response.failed"), response=whole)

    # ── items ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, step: int, claim: int, attempt: int) -> list[dict[str, Any]]:
        before = self._item
        if before is not None and before.step == step:
            self._epoch += (claim - before.claim) * _MOST_ATTEMPTS + attempt - before.attempt
        else:
            self._epoch += max(0, claim - self.claim) * _MOST_ATTEMPTS + max(attempt, 1) - 1
        if self._was_given_up_before():
            self._given_up += 1
        index = len(self._items) + self._given_up
        item_id = message_id(self.answer.id, step, self._epoch)
        self._item = _Item(step, claim, max(attempt, 1), self._epoch, item_id, self._place, index)
        begun = message_item(item_id, "", "in_progress") | {"content": []}
        part = {"item_id": item_id, "output_index": index, "content_index": 0, "part": output_text("")}
        return self._event("response.output_item.added", output_index=index, item=begun) + self._event(
            "response.content_part.added", **part
        )

    def _was_given_up_before(self) -> bool:
        """Whether the client was told of a try of this step that was given up since, on another connection."""
        epoch, place = divmod(self.after, _EPOCH)
        return self.after >= 0 and epoch < self._epoch and place >= self._place and self._given_up == 0

    def _tell(self, item: _Item, *, is_whole: bool) -> list[dict[str, Any]]:
        """Return the deltas of an item's text: whole cells, and at its end the rest."""
        events = []
        while (left := len(item.text) - item.told) >= _CELL or (is_whole and left > 0):
            delta = item.text[item.told : item.told + _CELL]
            item.told += len(delta)
            events += self._event("response.output_text.delta", **self._at(item), delta=delta, logprobs=[])
        return events

    def _close(self, item: _Item, status: str) -> list[dict[str, Any]]:
        if not item.is_open:
            return []
        item.is_open = False
        text = item.text[: item.told]
        return (
            self._event("response.output_text.done", **self._at(item), text=text, logprobs=[])
            + self._event("response.content_part.done", **self._at(item), part=output_text(text))
            + self._event(
                "response.output_item.done", output_index=item.index, item=message_item(item.id, text, status)
            )
        )

    def _at(self, item: _Item) -> dict[str, Any]:
        return {"item_id": item.id, "output_index": item.index, "content_index": 0}

    def _call(self, call: ClientCall) -> list[dict[str, Any]]:
        whole = call_item(call)
        at = {"item_id": whole["id"], "output_index": len(self._items) + self._given_up}
        index = at["output_index"]
        self._items.append(whole)
        return (
            self._event("response.output_item.added", output_index=index, item=call_item(call, "", "in_progress"))
            + self._event("response.function_call_arguments.delta", **at, delta=call.text)
            + self._event("response.function_call_arguments.done", **at, name=call.tool, arguments=call.text)
            + self._event("response.output_item.done", output_index=index, item=whole)
        )

    def _event(self, kind: str, **told: Any) -> list[dict[str, Any]]:
        number = self._epoch * _EPOCH + self._place
        self._place += 1
        return [{"type": kind, "sequence_number": number} | told] if number > self.after else []


class ResponseLines(Encoding):
    """A task's stream as events of a response. `begin` and `finish` write its ends."""

    def __init__(self, events: ResponseEvents) -> None:
        self._events = events
        self._decided = -1

    def begin(self) -> bytes:
        """Return the beginning."""
        return _lines(self._events.begin())

    def ready(self, cursor: Cursor) -> bytes:  # noqa: ARG002  a task's stream begins with its first event
        """Nothing."""
        return b""

    def reset(self, reset: Reset, cursor: Cursor) -> bytes:  # noqa: ARG002
        """Nothing: the end is read from the journal, and has all of it."""
        return b""

    def event(self, event: Event, position: Position) -> bytes:  # noqa: ARG002
        """Return that the task was started or waits, and what was said in a step that is done."""
        told, events = event.told, self._events
        if event.kind == "task.started" and told["claim"] >= events.claim:
            return _lines(events.start())
        if event.kind == "decision.made":
            self._decided = told["step"]
            text = told.get("text")
            spoken = Spoken(told["step"], told["claim"], told.get("attempt") or 1, text or "")
            return _lines(events.decide(spoken)) if text else b""
        if event.kind == "task.ended":
            self.is_over = True
        elif event.kind == "task.waiting" and self._decided >= events.first:
            self.is_over = told["waiting_for"] == WAITING
            return b"" if self.is_over else _lines(events.wait(told["waiting_for"]))
        return b""

    def piece(self, task: UUID, piece: Piece, position: Position) -> bytes:  # noqa: ARG002
        """Return a piece of what a model says."""
        place = piece.place
        if piece.text is None:
            return _lines(self._events.give_up(place.step, place.claim, place.attempt))
        return _lines(self._events.say(place.step, place.claim, place.attempt, piece.text))

    def ended(self, task: Task, cursor: Cursor) -> bytes:  # noqa: ARG002
        """Nothing: `finish` writes the end."""
        return b""

    def finish(self, task: TaskDetail, segment: Segment) -> bytes:
        """Return all that is still to come, of a segment that is closed."""
        return _lines(self._events.finish(task, segment))


def _lines(events: list[dict[str, Any]]) -> bytes:
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
        for event in events
    )
