"""How far one reader has heard what a task's models say. Pure.

Words come twice: as deltas while they are said, which may be late, doubled, lost, or of an attempt that failed; and in
the journal once the step is done. Whatever comes, the pieces that a reader gets of a step, put together, are the text
in the journal.
"""

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from core.words import Delta

_MOST_HELD = 10_000


class Place(NamedTuple):
    """How far a reader has heard the step that is under way."""

    step: int
    claim: int
    attempt: int
    offset: int

    def __str__(self) -> str:
        return ".".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the place that `text` is.

        Raises:
            ValueError: it is none.
        """
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9}){3}", text):
            raise ValueError(f"{text!r} is no place in a text")
        parts = text.split(".")
        return cls(*map(int, parts))


class Piece(NamedTuple):
    """What the reader gets: text to append, or the news that the step begins anew; and where it is then."""

    place: Place
    offset: int
    text: str | None
    """None: drop the step's text so far"""


@dataclass
class Said:
    """What one reader has heard of a task."""

    decided: int = -1
    """the step of the last decision that the reader was told of"""
    place: Place | None = None
    """None where nothing of the step under way was heard"""
    _held: list[Delta] = field(default_factory=list)

    def hear(self, delta: Delta) -> list[Piece]:
        """Take a delta, and return what the reader gets of it."""
        if delta.step <= self.decided:
            return []
        if delta.previous > self.decided:  # the decision before is not told yet: first things first
            if len(self._held) < _MOST_HELD:
                self._held.append(delta)
            return []
        return self._advance(delta.step, delta.claim, delta.attempt, delta.offset, delta.text)

    def complete(self, step: int, claim: int, attempt: int | None, text: str) -> list[Piece]:
        """Take the text of a step that is done, and return what the reader has not heard of it. Call `told` after the
        reader was told of the decision.
        """
        if step <= self.decided:
            return []
        heard, attempt = self.place, attempt or 0  # 0: it was not streamed
        if heard is not None and (claim, attempt) < (heard.claim, heard.attempt):
            # A worker that had lost the task was heard, or one that did not stream to the end: the journal counts.
            claim, attempt = max(claim, heard.claim), heard.attempt + 1
        return self._advance(step, claim, attempt, 0, text)

    def told(self, step: int) -> list[Piece]:
        """Note that the reader was told of the decision of a step, and return what it gets of the next one."""
        self.decided, self.place = max(step, self.decided), None
        held, self._held = self._held, []
        return [piece for delta in held for piece in self.hear(delta)]

    def _advance(self, step: int, claim: int, attempt: int, offset: int, text: str) -> list[Piece]:
        pieces = []
        heard = self.place if self.place is not None and self.place.step == step else None
        if heard is not None and (claim, attempt) < (heard.claim, heard.attempt):
            return []
        if heard is None or (claim, attempt) > (heard.claim, heard.attempt):
            if offset > 0:  # its beginning was lost: the journal will have it
                return []
            was_heard = heard is not None and heard.offset > 0
            self.place = heard = Place(step, claim, attempt, 0)
            if was_heard:
                pieces.append(Piece(heard, 0, None))
        new = text[heard.offset - offset :] if offset <= heard.offset else ""
        if new:
            self.place = Place(step, claim, attempt, heard.offset + len(new))
            pieces.append(Piece(self.place, heard.offset, new))
        return pieces


def data_of(piece: Piece) -> dict[str, Any]:
    """Return what an event tells of a piece."""
    place = piece.place
    told: dict[str, Any] = {"step": place.step, "claim": place.claim, "attempt": place.attempt}
    return told if piece.text is None else told | {"offset": piece.offset, "text": piece.text}
