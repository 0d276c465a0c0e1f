"""Verbs on tasks: what people and programs do with them, and what a worker does with the one it holds."""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from core.errors import Conflict, InvalidInput, NotFound, RotaError
from core.ids import new_id
from domain.agents import service as agents
from domain.tasks import queries
from domain.tasks.schemas import (
    ENDED,
    AgentStatistics,
    Attempt,
    Claimed,
    Departure,
    Due,
    QueueStatistics,
    Step,
    StepRecord,
    Task,
    TaskDetail,
    TaskFilter,
    TaskPage,
    TaskSubmission,
    WorkerRow,
)


class ClaimLost(RotaError):
    """Another worker owns this task now, or it has ended: nothing of this try may be written."""


# ── people and programs ──────────────────────────────────────────────────────────────────────────────────────────────


def submit(connection: Connection, submission: TaskSubmission, *, idempotency_key: str | None = None) -> Task:
    """Accept a task: it exists when the transaction commits.

    The same `idempotency_key` with the same submission returns the task that is there already.

    Raises:
        NotFound: there is no such agent.
        Conflict: the agent is switched off, or the key was used for a different submission.
    """
    digest = hashlib.sha256(submission.model_dump_json().encode()).digest() if idempotency_key else None
    row = queries.insert_task(
        connection,
        {
            "id": new_id(),
            "agent": submission.agent,
            "priority": submission.priority,
            "input": submission.input.model_dump(mode="json"),
            "run_after": submission.run_after,
            "deadline": submission.deadline,
            "expires_at": submission.expires_at,
            "idempotency_key": idempotency_key,
            "request_digest": digest,
            "origin_id": None,
        },
    )
    return Task(**row) if row else _earlier_or_refusal(connection, submission.agent, idempotency_key, digest)


def _earlier_or_refusal(connection: Connection, agent: str, key: str | None, digest: bytes | None) -> Task:
    earlier = queries.task_by_idempotency_key(connection, key) if key else None
    if earlier is None:
        agents.get_agent(connection, agent)
        raise Conflict(f"The agent {agent!r} is switched off. Enable it, or choose another.")
    if bytes(earlier["request_digest"]) != digest:
        raise Conflict(
            "This idempotency key was used for a different task. Use a new key for a new task.",
            task_id=str(earlier["id"]),
        )
    return Task(**earlier)


def get_task(connection: Connection, task_id: UUID) -> Task:
    """The task with this id.

    Raises:
        NotFound: there is none, or it was cleaned up.
    """
    row = queries.task_by_id(connection, task_id)
    if row is None:
        raise NotFound(f"There is no task {task_id}.")
    return Task(**row)


def get_task_detail(connection: Connection, task_id: UUID) -> TaskDetail:
    """The task with its journal and attempts. While it runs, tokens and cost are those recorded so far.

    Raises:
        NotFound: there is none, or it was cleaned up.
    """
    task = get_task(connection, task_id)
    steps = [Step(**row) for row in queries.steps_of(connection, task_id)]
    attempts = [Attempt(**row) for row in queries.attempts_of(connection, task_id)]
    billed = [step for step in steps if step.model is not None]
    spent: dict[str, Any] = (
        {
            "model_calls": len(billed),
            "input_tokens": sum(step.input_tokens for step in billed),
            "output_tokens": sum(step.output_tokens for step in billed),
            "billed_cost": sum((step.billed_cost for step in billed), start=task.billed_cost * 0),
        }
        if not task.has_ended
        else {}
    )
    return TaskDetail(**task.model_dump() | spent, steps=steps, attempt_history=attempts)


def list_tasks(connection: Connection, wanted: TaskFilter, *, cursor: str | None, limit: int) -> TaskPage:
    """A page of tasks, newest first.

    Raises:
        InvalidInput: the cursor is not one of ours.
    """
    before = _read_cursor(cursor) if cursor else None
    rows = queries.tasks_page(connection, wanted, before=before, limit=limit + 1)
    page = [Task(**row) for row in rows[:limit]]
    return TaskPage(tasks=page, next_cursor=_cursor(page[-1].id) if len(rows) > limit else None)


def _cursor(task_id: UUID) -> str:
    return base64.urlsafe_b64encode(task_id.bytes).decode().rstrip("=")


def _read_cursor(text: str) -> UUID:
    try:
        return UUID(bytes=base64.urlsafe_b64decode(text + "=="))
    except (ValueError, binascii.Error) as error:
        raise InvalidInput("This cursor is not valid. Use `next_cursor` of the page before, as it stands.") from error


def cancel(connection: Connection, task_id: UUID) -> Task:
    """Cancel a task. One that runs is asked to stop and is `cancelled` when its worker has. Cancelling twice is fine.

    Raises:
        NotFound: there is no such task.
        Conflict: it has ended otherwise.
    """
    row = queries.request_cancel(connection, task_id)
    if row is not None:
        return Task(**row)
    task = get_task(connection, task_id)
    if task.status != "cancelled":
        raise Conflict(f"This task has {task.status} already; there is nothing to cancel.")
    return task


def retry(connection: Connection, task_id: UUID) -> Task:
    """Queue a task again that failed, expired or was cancelled. It goes on after the last step that is done.

    Raises:
        NotFound: there is no such task.
        Conflict: it succeeded, or has not ended.
    """
    row = queries.requeue_ended(connection, task_id)
    if row is not None:
        return Task(**row)
    task = get_task(connection, task_id)
    raise Conflict(
        "This task succeeded; submit a new one to do it again."
        if task.status == "succeeded"
        else f"This task is {task.status}; it can be retried when it has ended."
    )


def queue_statistics(connection: Connection) -> list[QueueStatistics]:
    """How each queue stands."""
    return [QueueStatistics(**row) for row in queries.queue_statistics(connection)]


def agent_statistics(connection: Connection) -> list[AgentStatistics]:
    """What each agent did in the last 30 days."""
    return [
        AgentStatistics(**row, success_rate=_rate(row["succeeded"], row["succeeded"] + row["failed"]))
        for row in queries.agent_statistics(connection)
    ]


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def list_workers(connection: Connection, lease: timedelta) -> list[WorkerRow]:
    """The workers known of, newest first."""
    return [WorkerRow(**row) for row in queries.workers(connection, lease)]


# ── the dispatcher and its helpers ───────────────────────────────────────────────────────────────────────────────────


def take_due(connection: Connection, *, bound: int, priorities: Iterable[str]) -> list[Due]:
    """Mark due tasks as dispatched, so many that no queue holds more than `bound` unclaimed messages."""
    unclaimed = queries.unclaimed_by_priority(connection)
    rooms = {name: bound - unclaimed.get(name, 0) for name in priorities}
    rooms = {name: room for name, room in rooms.items() if room > 0}
    if not rooms:
        return []
    rows = queries.mark_due_as_dispatched(connection, rooms)
    return sorted((Due(**row) for row in rows), key=lambda due: due.id)


def take_back_lost(connection: Connection, published: set[tuple[UUID, int]], patience: timedelta) -> int:
    """Make due again what was published longer than `patience` ago, is unclaimed, and is not among `published`."""
    waiting = queries.long_unclaimed(connection, patience)
    lost = [row["id"] for row in waiting if (row["id"], row["claim"]) not in published]
    return queries.take_back_unclaimed(connection, lost) if lost else 0


def has_long_unclaimed(connection: Connection, patience: timedelta) -> bool:
    """Whether anything was published longer than `patience` ago and is unclaimed."""
    return bool(queries.long_unclaimed(connection, patience))


def take_back_everything_published(connection: Connection) -> int:
    """Make every published and unclaimed task due again: the broker has lost its memory."""
    return queries.take_back_unclaimed(connection, None)


def seconds_to_next_due(connection: Connection) -> float | None:
    """Seconds until the next scheduled task is due; None when nothing is scheduled."""
    return queries.seconds_to_next_due(connection)


def take_back_orphaned(connection: Connection, lease: timedelta) -> tuple[int, int]:
    """Take the tasks of silent workers. Returns how many were queued again and how many had no attempt left."""
    message = f"The worker went silent for more than {lease.total_seconds():g} s while it had this task."
    rows = queries.take_back_orphaned(connection, lease, message)
    queued = sum(row["status"] == "queued" for row in rows)
    return queued, len(rows) - queued


# ── the worker that holds a task ─────────────────────────────────────────────────────────────────────────────────────


def claim(connection: Connection, task_id: UUID, number: int, worker: str) -> Claimed | None:
    """Take the task that a message names, unless the message is out of date. The claim number grows by one."""
    row = queries.claim_task(connection, task_id, number, worker)
    return Claimed(**row) if row else None


def journal(connection: Connection, task_id: UUID) -> dict[int, Step]:
    """The steps that are done, by sequence number."""
    return {row["seq"]: Step(**row) for row in queries.finished_steps(connection, task_id)}


def spent_on(connection: Connection, task_id: UUID) -> tuple[int, Decimal]:
    """Tokens used and dollars billed for a task so far, by failed tries too."""
    row = queries.spent_on(connection, task_id)
    return row["tokens"], row["cost"]


def now(connection: Connection) -> datetime:
    """The database's time, by which everything between machines goes."""
    return queries.now(connection)


def hold(connection: Connection, task: Claimed) -> None:
    """Keep the claim until this transaction ends.

    Raises:
        ClaimLost: somebody else has it.
    """
    if not queries.holds_claim(connection, task.id, task.claim):
        raise ClaimLost


def record_step(connection: Connection, task: Claimed, record: StepRecord) -> Step:
    """Write a step into the journal, with its usage row where a model was called: charged exactly when recorded.

    Raises:
        ClaimLost: somebody else has the task; nothing is written.
    """
    row = {
        "step": new_id(),
        "task": task.id,
        "claim": task.claim,
        **record.model_dump(exclude={"bill"}),
        "model": None,
        "input_tokens": 0,
        "output_tokens": 0,
        "billed_cost": 0,
    }
    if bill := record.bill:
        row |= {
            "usage_id": new_id(),
            "provider": bill.provider,
            "model": bill.model,
            "input_tokens": bill.tokens.input,
            "cached_tokens": bill.tokens.cached,
            "cache_write_tokens": bill.tokens.cache_write,
            "output_tokens": bill.tokens.output,
            "base_cost": bill.cost.base,
            "markup": bill.cost.markup,
            "billed_cost": bill.cost.billed,
            "price": bill.cost.price,
            "is_rehearsal": bill.is_rehearsal,
        }
    if not queries.insert_step(connection, row):
        raise ClaimLost
    return Step(
        **record.model_dump(exclude={"bill"}),
        claim=task.claim,
        model=row["model"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        billed_cost=row["billed_cost"],
    )


def leave(connection: Connection, task: Claimed, departure: Departure) -> None:
    """End the claim: the task gets its next status, the attempt its outcome.

    Raises:
        ClaimLost: somebody else has the task; nothing is written.
    """
    values = {
        "task": task.id,
        "claim": task.claim,
        "ended": departure.status in ENDED,
        **departure.model_dump(exclude={"error"}),
        "error": departure.error.model_dump() if departure.error else None,
    }
    if not queries.leave_task(connection, values):
        raise ClaimLost


# ── upkeep ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_BATCH = 1_000


def expire_overdue(connection: Connection) -> int:
    """End the tasks whose time to start has passed; at most a thousand at a call. Returns how many."""
    return queries.expire_overdue(connection, _BATCH)


def clean_up(connection: Connection, *, keep_succeeded: timedelta, keep_failed: timedelta) -> int:
    """Delete tasks that ended long ago, with their journal; at most a thousand at a call. What was billed stays."""
    return queries.delete_finished(connection, succeeded=keep_succeeded, failed=keep_failed, batch=_BATCH)


def register_worker(connection: Connection, row: dict[str, Any]) -> None:
    """Note a worker process as alive: id, name, hostname, pid, queues, concurrency."""
    queries.register_worker(connection, row)


def mark_worker_stopped(connection: Connection, worker: str) -> None:
    """Note that a worker left in good order."""
    queries.mark_worker_stopped(connection, worker)


def forget_workers(connection: Connection, age: timedelta) -> int:
    """Delete the rows of workers gone for longer than `age`."""
    return queries.forget_workers(connection, age)


HEARTBEAT = queries.HEARTBEAT
"""One statement: keep the worker alive, and learn which tasks the database says it holds."""

RELEASE_STRAY = queries.RELEASE_STRAY
"""One statement: hand back a task that a worker is said to hold and does not."""
