"""The database's clock, moved: between machines it alone decides what time it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import text

from core import db, engines


class Clock:
    """Where `rota_now()` stands, and a hand to move it."""

    def now(self) -> datetime:
        """The database's time."""
        with db.system_transaction() as connection:
            found: datetime = connection.execute(text("SELECT rota_now()")).scalar_one()
            return found

    def move(self, by: timedelta) -> None:
        """Set it forward, or back."""
        self._set(text("UPDATE clock SET ahead = ahead + :by"), by)

    def move_to(self, moment: datetime) -> None:
        """Set it to `moment`; it goes on from there."""
        self.move(moment - self.now())

    def reset(self) -> None:
        """Set it right again."""
        self._set(text("UPDATE clock SET ahead = :by"), timedelta(0))

    @staticmethod
    def _set(statement: object, by: timedelta) -> None:
        with engines.engine(engines.OWNER).begin() as connection:
            connection.execute(statement, {"by": by})  # type: ignore[call-overload]  # a text, either way


@contextmanager
def movable_clock() -> Iterator[Clock]:
    """The clock, set right again afterwards."""
    clock = Clock()
    try:
        yield clock
    finally:
        clock.reset()
