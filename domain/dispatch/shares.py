"""Count the workers' slots, and those that `low` tasks leave to more urgent ones. Pure functions."""

from collections.abc import Iterable, Mapping

from domain.dispatch.schemas import Crew
from domain.tasks.schemas import PRIORITIES, Priority

BULK: Priority = "low"
_KEPT = 8
"""one slot in this many is kept free of `low` tasks"""
_FEWEST = 16


def slots_by_queue(crews: Iterable[Crew]) -> dict[str, int]:
    """Return the number of tasks that the live workers of each queue can run at once."""
    slots: dict[str, int] = {}
    for crew in crews:
        for queue in crew.queues:
            slots[queue] = slots.get(queue, 0) + crew.slots
    return slots


def bounds_for(slots: Mapping[str, int], ceiling: int) -> dict[Priority, int]:
    """Return how many unclaimed messages each queue may hold: as many as its workers have slots, at least 16, at most
    `ceiling`, and 0 without live workers. Short queues matter because turns cannot reorder published tasks.
    """
    return {queue: min(ceiling, max(_FEWEST, slots[queue])) if slots.get(queue) else 0 for queue in PRIORITIES}


def most_in_flight(crews: Iterable[Crew]) -> dict[Priority, int]:
    """Return how many `low` tasks may be in flight. One slot in eight, at least one, is kept free on the workers that
    also serve a more urgent queue, so that an urgent task never waits for long `low` tasks to end. A single slot is
    not divided: it serves whatever is next. Without workers for `low` there is no limit.
    """
    slots, shared = 0, 0
    for crew in crews:
        if BULK in crew.queues:
            slots += crew.slots
            shared += crew.slots if set(crew.queues) & set(PRIORITIES) - {BULK} else 0
    kept = max(1, shared // _KEPT) if shared > 1 else 0
    return {BULK: slots - kept} if slots else {}
