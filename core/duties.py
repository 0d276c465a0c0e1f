"""The definition of a duty, and two helpers with which duties process many items."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from core.errors import RotaError
from core.logging import get_logger

log = get_logger(__name__)
Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Duty:
    """Periodic work. `run` must be safe when it is called twice, late, or by two workers at once.

    `name` is unique and made of words joined by hyphens; `why` says what would go wrong without the duty.
    """

    name: str
    every: timedelta
    why: str
    run: Callable[[], None]

    @property
    def task(self) -> str:
        """The name of the duty's Celery task."""
        return "rota." + self.name.replace("-", "_")


def for_each(items: Iterable[Item], trouble: str, handle: Callable[[Item], Done]) -> list[Done]:
    """Call `handle` for each item and return the results. A failure for one item is logged as `trouble` and must not
    block the rest.
    """
    done = []
    for item in items:
        try:
            done.append(handle(item))
        except (RotaError, DBAPIError):
            log.exception(trouble, item=str(item))
    return done


def in_batches(what: str, batch: Callable[[], int]) -> int:
    """Call `batch` until it finds nothing more, and return the total. Each batch is a short transaction, so that other
    writers wait for its locks only briefly.
    """
    total = 0
    while done := batch():
        total += done
    if total:
        log.info(what, count=total)
    return total
