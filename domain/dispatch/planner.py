"""Decide which tasks are dispatched next, from lanes, limits and room. Pure.

Priorities are served in order. Within a priority, organisations take turns by weight (stride scheduling: Waldspurger
and Weihl, "Stride Scheduling: Deterministic Proportional-Share Resource Management", 1995), and within an organisation
its agents take turns. A task moves up one priority for every `ageing` that it has waited. Aged tasks get one turn for
seven of the others and an eighth of a queue's room, so that many old tasks cannot crowd out urgent ones.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypeVar
from uuid import UUID

from domain.dispatch.allowance import Allowance
from domain.dispatch.schemas import Block, Counts, Lane, Pick, Unclaimed
from domain.tasks.schemas import PRIORITIES, Priority

Who = TypeVar("Who", bound=Hashable)

_SHARE_OF_THE_AGED = 8
_TURN, _TURN_OF_THE_AGED = 1.0, 7.0
"""what a turn costs: seven ordinary turns cost as much as one of an aged task"""


def effective_queue(
    priority: Priority, waited: float, ageing: timedelta, served: Collection[Priority] = PRIORITIES
) -> Priority:
    """Return the queue for a task that has waited `waited` seconds: the highest queue that workers serve, at most one
    above its priority for every `ageing`; its own priority when workers serve none of the higher ones.
    """
    own = PRIORITIES.index(priority)
    highest = max(0, own - int(waited / ageing.total_seconds()))
    return next((queue for queue in PRIORITIES[highest:own] if queue in served), priority)


def room_for_aged(bound: int, promoted: int) -> int:
    """Return how many more aged tasks a queue may take when it already holds `promoted` of them."""
    return max(1, bound // _SHARE_OF_THE_AGED) - promoted


@dataclass
class Turns(Generic[Who]):
    """Turns by stride scheduling, kept from one plan to the next."""

    virtual_time: float = 0.0
    passes: dict[Who, float] = field(default_factory=dict)

    def of(self, who: Who) -> float:
        """Return the virtual time of the next turn of `who`. It is never in the past: idle time saves up no turns."""
        return max(self.virtual_time, self.passes.get(who, 0.0))

    def serve(self, who: Who, cost: float) -> None:
        """Give `who` a turn; its next one comes `cost` later in virtual time."""
        self.virtual_time = self.of(who)
        self.passes[who] = self.virtual_time + cost

    def forget_idle(self) -> None:
        """Drop entries whose turn lies in the past: they would start at the present anyway."""
        self.passes = {who: at for who, at in self.passes.items() if at > self.virtual_time}


class _Line:
    """The lanes that wait for one queue, by organisation: either those of that priority or the aged ones. Kept from one
    plan to the next because it holds the turns.
    """

    def __init__(self) -> None:
        self._organisations: Turns[UUID] = Turns()
        self._agents: dict[UUID, Turns[UUID]] = defaultdict(Turns)
        self._waiting: dict[UUID, list[Lane]] = {}
        self._order: list[tuple[float, UUID]] = []

    def open(self, lanes: Iterable[Lane]) -> None:
        """Start a plan with these waiting lanes."""
        self._waiting = defaultdict(list)
        for lane in lanes:
            self._waiting[lane.org_id].append(lane)
        self._order = [(self._organisations.of(org), org) for org in self._waiting]
        heapq.heapify(self._order)

    def take(self, left: dict[Lane, int], allowance: Allowance) -> Lane | None:
        """Take one task of the lane whose turn it is among those that no limit blocks. Return the lane, or None."""
        while self._order:
            _, org = heapq.heappop(self._order)
            lane = self._next_of(org, left, allowance)
            if lane is None:
                continue
            allowance.take(lane)
            left[lane] -= 1
            self._organisations.serve(org, 1 / lane.weight)
            self._agents[org].serve(lane.agent_id, 1)
            heapq.heappush(self._order, (self._organisations.of(org), org))
            return lane
        return None

    def _next_of(self, org: UUID, left: Mapping[Lane, int], allowance: Allowance) -> Lane | None:
        """Return the organisation's next lane: by the turns of its agents, then the longest waiting."""
        free = [lane for lane in self._waiting[org] if left[lane] > 0 and allowance.block(lane) is None]
        self._waiting[org] = free
        turns = self._agents[org]
        return min(free, key=lambda lane: (turns.of(lane.agent_id), -lane.waited), default=None)

    def close(self, waiting: Collection[UUID]) -> None:
        """End a plan: drop the turns of idle organisations and agents. `waiting` are the organisations that are not."""
        self._organisations.forget_idle()
        self._agents = defaultdict(Turns, {org: turns for org, turns in self._agents.items() if org in waiting})
        for turns in self._agents.values():
            turns.forget_idle()


@dataclass
class Planner:
    """Plans one batch after another. It keeps only turns, so nothing is lost when another dispatcher takes over."""

    ageing: timedelta
    _own: dict[Priority, _Line] = field(default_factory=lambda: defaultdict(_Line))
    _aged: dict[Priority, _Line] = field(default_factory=lambda: defaultdict(_Line))
    _ages: Turns[bool] = field(default_factory=Turns)
    """turns between aged tasks (True) and all others (False), across all queues"""

    def plan(
        self, lanes: Iterable[Lane], allowance: Allowance, counts: Counts, bounds: Mapping[Priority, int]
    ) -> list[Pick]:
        """Return the tasks to take, in order, so that no queue holds more unclaimed tasks than `bounds` allows. A bound
        of 0 means that no worker serves the queue.
        """
        left = {lane: lane.due for lane in lanes}
        served = [queue for queue in PRIORITIES if bounds[queue] > 0]
        room = {queue: bounds[queue] - counts.on_queue.get(queue, 0) for queue in served}
        by_age = {queue: room_for_aged(bounds[queue], counts.promoted.get(queue, 0)) for queue in served}
        picks: list[Pick] = []
        for queue in served:
            self._own[queue].open(lane for lane in left if lane.priority == queue)
            self._aged[queue].open(lane for lane in left if self._is_lifted_to(lane, queue, served))
            while room[queue] > 0:
                is_aged = by_age[queue] > 0 and self._is_turn_of_aged
                lane = self._take(queue, left, allowance, is_aged=is_aged)
                if lane is None and is_aged:
                    lane = self._take(queue, left, allowance, is_aged=False)
                    is_aged = False
                if lane is None:
                    break
                picks.append(Pick(lane, queue))
                room[queue] -= 1
                by_age[queue] -= is_aged
        picks += self._leftovers(left, allowance, served, room, by_age)
        waiting = {lane.org_id for lane in left}
        for line in (*self._own.values(), *self._aged.values()):
            line.close(waiting)
        return picks

    def _leftovers(
        self,
        left: dict[Lane, int],
        allowance: Allowance,
        served: list[Priority],
        room: dict[Priority, int],
        by_age: dict[Priority, int],
    ) -> list[Pick]:
        """Return picks of aged tasks out of turn, if nothing more urgent than their own priority can be dispatched."""
        picks: list[Pick] = []
        for queue in served:
            waiting = [lane for lane in left if lane.priority in served and left[lane] > 0]
            free = [PRIORITIES.index(lane.priority) for lane in waiting if allowance.block(lane) is None]
            highest = min(free, default=len(PRIORITIES))
            self._aged[queue].open(
                lane
                for lane in left
                if self._is_lifted_to(lane, queue, served) and PRIORITIES.index(lane.priority) <= highest
            )
            while min(room[queue], by_age[queue]) > 0:
                lane = self._take(queue, left, allowance, is_aged=True)
                if lane is None:
                    break
                picks.append(Pick(lane, queue))
                room[queue] -= 1
                by_age[queue] -= 1
        return picks

    @property
    def _is_turn_of_aged(self) -> bool:
        return self._ages.of(True) < self._ages.of(False)

    def lift(self) -> bool:
        """Return whether a published task may move to a higher queue now. If so, this uses up a turn of the aged
        tasks.
        """
        if is_turn := self._is_turn_of_aged:
            self._ages.serve(True, _TURN_OF_THE_AGED)
        return is_turn

    def _is_lifted_to(self, lane: Lane, queue: Priority, served: list[Priority]) -> bool:
        return lane.priority != queue and effective_queue(lane.priority, lane.waited, self.ageing, served) == queue

    def _take(self, queue: Priority, left: dict[Lane, int], allowance: Allowance, *, is_aged: bool) -> Lane | None:
        lane = (self._aged if is_aged else self._own)[queue].take(left, allowance)
        if lane is not None:
            self._ages.serve(is_aged, _TURN_OF_THE_AGED if is_aged else _TURN)
        return lane


def make_way(
    lanes: Iterable[Lane],
    picks: Iterable[Pick],
    unclaimed: Iterable[Unclaimed],
    allowance: Allowance,
    room: Mapping[Priority, int],
) -> list[UUID]:
    """Return the published tasks to unpublish because they use up a limit that more urgent tasks need, and only where
    that is enough to unblock the more urgent task. `room` is the space left on each queue.
    """
    taken = Counter(pick.lane for pick in picks)
    # The least urgent first.
    candidates = sorted(unclaimed, key=lambda task: -PRIORITIES.index(task.queue))
    found: list[UUID] = []
    for lane in sorted(lanes, key=lambda lane: PRIORITIES.index(lane.priority)):
        if lane.due <= taken[lane] or room.get(lane.priority, 0) <= 0 or allowance.block(lane) is None:
            continue
        given: list[Unclaimed] = []
        for task in candidates:
            block = allowance.block(lane)
            if block is None:
                break
            is_less_urgent = PRIORITIES.index(task.queue) > PRIORITIES.index(lane.priority)
            if is_less_urgent and task.id not in found and _shares(task, lane, block):
                allowance.give_back(task)
                given.append(task)
        if allowance.block(lane) is None:
            found += [task.id for task in given]
            allowance.take(lane)
        else:
            for task in given:
                allowance.keep(task)
    return found


def _shares(task: Unclaimed, lane: Lane, block: Block) -> bool:
    """Whether a published task counts against the limit that blocks a lane."""
    match block.by:
        case "organisation" | "rate":
            return task.org_id == lane.org_id
        case "agent":
            return task.agent_id == lane.agent_id
        case "provider" | "provider_rate":
            return task.provider == lane.provider and (not block.model or task.model == block.model)
    return False
