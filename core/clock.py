"""Time. Between machines only the database's clock decides, through SQL's `rota_now()`; in a process, monotonic time.

`rota_now()` is `now()` plus the one row of the table `clock`, zero outside tests, so that a month can be lived in one.
`now()` is when the transaction began; what must carry the moment itself, as a claim must, is stamped by `rota_clock()`.
"""

import time
from datetime import timedelta


class Stopwatch:
    """Elapsed time from its making, on the monotonic clock."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def elapsed(self) -> timedelta:
        """Time since this stopwatch was made."""
        return timedelta(seconds=time.monotonic() - self._started)

    def milliseconds(self) -> int:
        """Whole milliseconds since this stopwatch was made."""
        return round((time.monotonic() - self._started) * 1000)
