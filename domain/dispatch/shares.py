"""How many slots the workers have, and how many of them bulk leaves to what is more urgent. Pure counting."""

from collections.abc import Iterable, Mapping

from domain.dispatch.schemas import Crew
from domain.tasks.schemas import PRIORITIES, Priority

BULK: Priority = "low"
_KEPT = 8
"""one slot in so many"""
_FEWEST = 16


def slots_by_queue(crews: Iterable[Crew]) -> dict[str, int]:
    """How many tasks the living workers of each queue can have in hand."""
    slots: dict[str, int] = {}
    for crew in crews:
        for queue in crew.queues:
            slots[queue] = slots.get(queue, 0) + crew.slots
    return slots


def bounds_for(slots: Mapping[str, int], ceiling: int) -> dict[Priority, int]:
    """How many unclaimed messages each queue may hold: as many as its workers have slots, so that nobody waits behind a
    long queue that no turn can shorten; some at least; never more than `ceiling`; none where no worker lives.
    """
    return {queue: min(ceiling, max(_FEWEST, slots[queue])) if slots.get(queue) else 0 for queue in PRIORITIES}


def most_in_flight(crews: Iterable[Crew]) -> dict[Priority, int]:
    """How many `low` tasks may be in flight: all slots but one in eight, and one at least, of the workers that serve a
    more urgent queue too. So a task that takes long never waits for bulk to end. A single slot cannot be divided: it
    serves whatever is next. Without workers for `low` there is nothing to limit.
    """
    slots, shared = 0, 0
    for crew in crews:
        if BULK in crew.queues:
            slots += crew.slots
            shared += crew.slots if set(crew.queues) & set(PRIORITIES) - {BULK} else 0
    kept = max(1, shared // _KEPT) if shared > 1 else 0
    return {BULK: slots - kept} if slots else {}
