"""Trouble to order, as real providers make it: for tests, benchmarks and rehearsing for bad days.

A fault is written as words: `status=429 retry-after=1`, `status=500`, `status=529`, `slow=2` (seconds, then the
answer), `hang` (no answer ever), `cut` (the connection breaks in the middle), `refuse` (the model declines),
`truncate` (the answer stops at the limit). They come in a header (`x-rehearsal: slow=2`), in the model's name
(`gpt-4o-mini;slow=2`), or in turn from a script (`POST /rehearsal/script`).
"""

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One kind of trouble; all of it off is a good answer."""

    status: int = 200
    retry_after: str | None = None
    slow: float = 0
    hang: bool = False
    cut: bool = False
    refuse: bool = False
    truncate: bool = False

    @property
    def is_fatal(self) -> bool:
        """Whether no usable answer comes of it."""
        return self.status != 200 or self.hang or self.cut  # noqa: PLR2004


GOOD = Fault()


def parse_fault(text: str) -> Fault:
    """The fault that `text` describes.

    Raises:
        ValueError: a word of it is not known.
    """
    values: dict[str, object] = {}
    for word in text.split():
        name, _, value = word.partition("=")
        match name:
            case "status":
                values["status"] = int(value)
            case "retry-after":
                values["retry_after"] = value
            case "slow":
                values["slow"] = float(value)
            case "hang" | "cut" | "refuse" | "truncate":
                values[name] = True
            case "ok":
                pass
            case _:
                raise ValueError(f"{word!r} is no fault; known: status, retry-after, slow, hang, cut, refuse, truncate")
    return Fault(**values)  # type: ignore[arg-type]


class Script:
    """Faults to come, one a call, each for calls whose message holds its `match` (empty: any)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: list[tuple[str, Fault]] = []

    def extend(self, faults: list[str], match: str = "") -> None:
        """Add faults to the end."""
        parsed = [(match, parse_fault(text)) for text in faults]
        with self._lock:
            self._lines += parsed

    def next_for(self, message: str) -> Fault | None:
        """Take the first fault meant for a call with this message."""
        with self._lock:
            for index, (match, fault) in enumerate(self._lines):
                if match in message:
                    del self._lines[index]
                    return fault
        return None
