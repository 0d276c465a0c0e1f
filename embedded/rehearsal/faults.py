"""Faults on request, as real providers have them: for tests, benchmarks and rehearsing outages.

A fault is written as words: `status=429 retry-after=1`, `status=500`, `status=529`, `slow=2` (seconds, then the
answer), `hang` (no answer ever), `cut` (the connection breaks in the middle), `refuse` (the model declines),
`truncate` (the answer stops at the limit). Faults are given in a header (`x-rehearsal: slow=2`), in the model's name
(`gpt-4o-mini;slow=2`), or by a script, one per call (`POST /rehearsal/script`).
"""

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One fault. The default is a normal answer."""

    status: int = 200
    retry_after: str | None = None
    slow: float = 0
    hang: bool = False
    cut: bool = False
    refuse: bool = False
    truncate: bool = False

    @property
    def is_fatal(self) -> bool:
        """Whether the fault leaves no usable answer."""
        return self.status != 200 or self.hang or self.cut  # noqa: PLR2004


GOOD = Fault()


def parse_fault(text: str) -> Fault:
    """Return the fault that `text` describes.

    Raises:
        ValueError: a word is unknown, or a number cannot be read.
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
    """A queue of faults, one per call. Each applies to calls whose message contains its `match` (empty: any)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: list[tuple[str, Fault]] = []

    def extend(self, faults: list[str], match: str = "") -> None:
        """Add faults to the end."""
        parsed = [(match, parse_fault(text)) for text in faults]
        with self._lock:
            self._lines += parsed

    def next_for(self, message: str) -> Fault | None:
        """Remove and return the first fault that applies to a call with this message; None if there is none."""
        with self._lock:
            for index, (match, fault) in enumerate(self._lines):
                if match in message:
                    del self._lines[index]
                    return fault
        return None
