"""Explain in one sentence what a task is waiting for, by the same rules that dispatch applies."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection

from core.errors import NotFound
from domain.dispatch import queries
from domain.dispatch import service as dispatch
from domain.dispatch.allowance import Allowance, switched_off
from domain.dispatch.facts import Row, lane_of, read_counts, read_rules
from domain.dispatch.schemas import Crew, Why
from domain.dispatch.shares import most_in_flight, slots_by_queue

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
    row = queries.standing(connection, org, task_id)
    if row is None:
        raise NotFound(f"There is no task {task_id}.")
    word, sentence = _why(connection, row, task_id, lease, usable)
    return Why(status=row["status"], waiting_for=word, why=sentence)


def _why(connection: Connection, row: Row, task_id: UUID, lease: timedelta, usable: Collection[str]) -> Answer:
    if row["status"] == "queued":
        return _why_queued(connection, row, task_id, lease, usable)
    if row["status"] == "running":
        stopping = "; it was asked to stop" if row["is_stopping"] else ""
        return None, f"It is running on {row['worker']}{stopping}."
    if row["status"] == "waiting":
        return row["waiting_for"], _WAITING.get(row["waiting_for"], f"It waits for {row['waiting_for']}.")
    verb = "was" if row["status"] == "cancelled" else "has"
    because = f" {row['error']}" if row["status"] in {"cancelled", "expired"} and row["error"] else ""
    return None, f"It {verb} {row['status']}, and waits for nothing.{because}"


def _why_queued(connection: Connection, row: Row, task_id: UUID, lease: timedelta, usable: Collection[str]) -> Answer:
    if answer := _why_it_may_not_start(row, usable):
        return answer
    if row["parked"]:
        return _why_parked(connection, row)
    if row["waited"] < 0:
        again = f" after an error ({row['error']})" if row["error"] else ""
        return "time", f"Its time comes in {_span(-row['waited'])}{again}."
    crews = dispatch.crews(connection, lease)
    if row["is_published"]:
        return _why_unclaimed(row, slots_by_queue(crews))
    return _why_undispatched(connection, row, task_id, crews, lease, usable)


def _why_it_may_not_start(row: Row, usable: Collection[str]) -> Answer | None:
    """Return what keeps a queued task from starting at any place in the queue; None when nothing does."""
    if row["is_expired"]:
        return "time", "It was not started in time and is about to be marked as expired."
    if row["is_late"]:
        return "time", "Its deadline has passed; it is about to be ended as expired."
    if row["is_shut_out"]:
        return "user", _WAITING["user"]
    block = switched_off(lane_of(dict(row) | {"due": 1}, usable))
    return (block.by, block.why) if block else None


def _why_parked(connection: Connection, row: Row) -> Answer:
    key = row["concurrency_key"]
    head = queries.head_of_key(connection, row["org_id"], key)
    before = queries.number_before_in_key(connection, row["org_id"], key, row["key_position"])
    if head is None or not before:
        return "key", f"It is next with the key {key!r} and is about to be let go."
    waits = f", waiting for {head['waiting_for']}" if head["waiting_for"] else ""
    others = f" and {before - 1} more" if before > 1 else ""
    return (
        "key",
        f"Tasks with the key {key!r} run one after the other: {head['id']} ({head['status']}{waits}){others} first.",
    )


def _why_unclaimed(row: Row, slots: Mapping[str, int]) -> Answer:
    if not slots.get(row["queue"]):
        return "worker", f"No living worker serves the queue {row['queue']}: start one with `rota worker`."
    return "worker", (
        f"It has been on the queue {row['queue']} for {_span(row['published_for'])}; "
        f"the {slots[row['queue']]} slots of its workers are taken, or one is about to take it."
    )


def _why_undispatched(
    connection: Connection,
    row: Row,
    task_id: UUID,
    crews: list[Crew],
    lease: timedelta,
    usable: Collection[str],
) -> Answer:
    if not slots_by_queue(crews).get(row["priority"]):
        return "worker", f"No living worker serves the queue {row['priority']}: start one with `rota worker`."
    lane = lane_of(dict(row) | {"due": 1}, usable)
    allowance = Allowance(read_rules(connection, [row], most_in_flight(crews)), read_counts(connection))
    if block := allowance.block(lane):
        return block.by, block.why
    ahead = queries.number_ahead(connection, row["org_id"], task_id, priority=lane.priority, agent=lane.agent_id)
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
