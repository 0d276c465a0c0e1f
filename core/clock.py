"""Time. Between machines only the database's clock decides, through SQL's `rota_now()`; in a process, monotonic time.

`rota_now()` is `now()` plus the one row of the table `clock`, zero outside tests, so that a month can be lived in one.
`now()` is when the transaction began; what must carry the moment itself, as a claim must, is stamped by `rota_clock()`.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime
from sqlalchemy import Connection, text

_NOW = text("SELECT rota_now()")


def _refuse_beyond_time(value: datetime) -> datetime:
    try:
        value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("it lies outside the years 1 to 9999 (UTC)") from error
    return value


Moment = Annotated[AwareDatetime, AfterValidator(_refuse_beyond_time)]
"""a moment that can be stored, and read again, in any time zone that it is given in"""


def database_time(connection: Connection) -> datetime:
    """The time by the database's clock."""
    found: datetime = connection.execute(_NOW).scalar_one()
    return found


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
