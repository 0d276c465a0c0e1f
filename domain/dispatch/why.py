"""Explain in one sentence what a task is waiting for, by the same rules that dispatch applies."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection

from core.errors import NotFound
from domain.dispatch import queries
from domain.dispatch import service as dispatch
from domain.dispatch.allowance import Allowance, switched_off
from domain.dispatch.facts import lane_of, read_counts, read_rules
from domain.dispatch.schemas import Crew, TaskStanding, Why
from domain.dispatch.shares import most_in_flight, slots_by_queue
from domain.tasks.schemas import Priority

Answer = tuple[str | None, str]
"""(stable word, sentence)"""

_MOST_COUNTED = 10_000

_WAITING = {
    "outcome": "A crash fell between an action and the record of it: a person must say whether it happened "
    "(rota show tells what was attempted, rota settle says it).",
    "approval": "A person must decide on an action that it proposes: rota approvals.",
    "advice": "A coordinator was asked for advice on an action that it proposes: rota approvals.",
    "funds": "The wallet cannot pay for its next step; it goes on by itself after a top-up (rota wallet).",
    "user": "The user for whom it is done is shut out; it goes on when they are let in again (rota users change "
    "… --enable).",
    "budget": "The month's budget does not cover its next model call; it goes on when the budget is raised (rota "
    "budgets) or next month.",
}


def why(connection: Connection, org: UUID, task_id: UUID, lease: timedelta, usable: Collection[str] = ()) -> Why:
    """Return what a task of organisation `org` is waiting for. Reads across organisations, as dispatch does. `usable`
    lists the providers that can be called.

    Raises:
        NotFound: the organisation has no such task.
    """
    task = queries.standing(connection, org, task_id)
    if task is None:
        raise NotFound(f"There is no task {task_id}.")
    word, sentence = _why(connection, task, lease, usable)
    return Why(status=task.status, waiting_for=word, why=sentence)


def _why(connection: Connection, task: TaskStanding, lease: timedelta, usable: Collection[str]) -> Answer:
    if task.status == "queued":
        return _why_queued(connection, task, lease, usable)
    if task.status == "running":
        stopping = "; it was asked to stop" if task.is_stopping else ""
        return None, f"It is running on {task.worker}{stopping}."
    if task.status == "waiting":
        return task.waiting_for, _WAITING.get(task.waiting_for or "", f"It waits for {task.waiting_for}.")
    verb = "was" if task.status == "cancelled" else "has"
    because = f" {task.error}" if task.status in {"cancelled", "expired"} and task.error else ""
    return None, f"It {verb} {task.status}, and waits for nothing.{because}"


def _why_queued(connection: Connection, task: TaskStanding, lease: timedelta, usable: Collection[str]) -> Answer:
    if answer := _why_it_may_not_start(task, usable):
        return answer
    if task.parked and task.concurrency_key is not None and task.key_position is not None:
        return _why_parked(connection, task.org_id, task.concurrency_key, task.key_position)
    if task.waited < 0:
        again = f" after an error ({task.error})" if task.error else ""
        return "time", f"Its time comes in {_span(-task.waited)}{again}."
    crews = dispatch.crews(connection, lease)
    if task.published_for is not None:
        return _why_unclaimed(task.queue, task.published_for, slots_by_queue(crews))
    return _why_undispatched(connection, task, crews, lease, usable)


def _why_it_may_not_start(task: TaskStanding, usable: Collection[str]) -> Answer | None:
    """Return what keeps a queued task from starting at any place in the queue; None when nothing does."""
    if task.is_expired:
        return "time", "It was not started in time and is about to be marked as expired."
    if task.is_late:
        return "time", "Its deadline has passed; it is about to be ended as expired."
    if task.is_shut_out:
        return "user", _WAITING["user"]
    block = switched_off(lane_of(task, usable))
    return (block.by, block.why) if block else None


def _why_parked(connection: Connection, org: UUID, key: str, position: int) -> Answer:
    head = queries.head_of_key(connection, org, key)
    before = queries.number_before_in_key(connection, org, key, position)
    if head is None or not before:
        return "key", f"It is next with the key {key!r} and is about to be let go."
    waits = f", waiting for {head.waiting_for}" if head.waiting_for else ""
    others = f" and {before - 1} more" if before > 1 else ""
    return (
        "key",
        f"Tasks with the key {key!r} run one after the other: {head.id} ({head.status}{waits}){others} first.",
    )


def _why_unclaimed(queue: Priority | None, published_for: float, slots: Mapping[str, int]) -> Answer:
    if queue is None or not slots.get(queue):
        return "worker", f"No living worker serves the queue {queue}: start one with `rota worker`."
    return "worker", (
        f"It has been on the queue {queue} for {_span(published_for)}; "
        f"the {slots[queue]} slots of its workers are taken, or one is about to take it."
    )


def _why_undispatched(
    connection: Connection,
    task: TaskStanding,
    crews: list[Crew],
    lease: timedelta,
    usable: Collection[str],
) -> Answer:
    if not slots_by_queue(crews).get(task.priority):
        return "worker", f"No living worker serves the queue {task.priority}: start one with `rota worker`."
    lane = lane_of(task, usable)
    allowance = Allowance(read_rules(connection, [task], most_in_flight(crews)), read_counts(connection))
    if block := allowance.block(lane):
        return block.by, block.why
    ahead = queries.number_ahead(connection, task.org_id, task.id, priority=lane.priority, agent=lane.agent_id)
    if ahead:
        many = f"{ahead} or more" if ahead >= _MOST_COUNTED else str(ahead)
        return "turn", f"{many} tasks of {lane.agent} with priority {lane.priority} are before it."
    if not queries.has_leading_dispatcher(connection, lease):
        return "dispatcher", "No dispatcher is at work: start one with `rota dispatcher`."
    return "dispatcher", "It is due and next in its line; the dispatcher takes it as soon as its queue has room."


def _span(seconds: float) -> str:
    """Format a duration in hours, minutes or seconds."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"
