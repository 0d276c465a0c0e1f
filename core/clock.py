"""Time. Across machines only the database's clock counts, through SQL's `rota_now()`; in a process, monotonic time.

`rota_now()` is `now()` plus the offset in the single row of the table `clock`. The offset is zero outside tests; a test
moves it to simulate a month, and a trigger then writes the function anew, with the offset in it. `now()` is the start
of the transaction; what needs the actual moment, such as a claim, is stamped with `rota_clock()`.
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
"""a time with a time zone that lies within the years 1 to 9999 in UTC, so that it can be stored and read back"""


def database_time(connection: Connection) -> datetime:
    """Return the time by the database's clock."""
    found: datetime = connection.execute(_NOW).scalar_one()
    return found


class Stopwatch:
    """Measures the time since its creation, on the monotonic clock."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def elapsed(self) -> timedelta:
        """Return the time since this stopwatch was created."""
        return timedelta(seconds=time.monotonic() - self._started)

    def milliseconds(self) -> int:
        """Return the whole milliseconds since this stopwatch was created."""
        return round((time.monotonic() - self._started) * 1000)
