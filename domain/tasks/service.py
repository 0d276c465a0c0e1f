"""Operations on tasks: for people and programs, for waking waiting tasks, and for upkeep."""

import base64
import binascii
import functools
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from core.errors import Conflict, InvalidInput, NotFound, RotaError
from core.json_text import dump_json
from core.prepared import SingleStatement
from domain.agents import service as agents
from domain.feedback import service as feedback
from domain.feedback.schemas import Feedback, NewFeedback
from domain.tasks import queries
from domain.tasks.client_calls import WAITING, client_calls
from domain.tasks.schemas import (
    ENDED,
    AgentState,
    AgentStatistics,
    AttachedInput,
    BulkOutcome,
    BulkReplay,
    BulkRequest,
    BulkRetry,
    Failures,
    Lineage,
    NewTask,
    OpenCall,
    Original,
    QueueStatistics,
    Replay,
    Settlement,
    Status,
    SubmissionContext,
    Task,
    TaskDetail,
    TaskFilter,
    TaskInput,
    TaskPage,
    TaskSubmission,
)
from domain.tenants import service as tenants
from domain.wallet import service as wallet

# ── people and programs ──────────────────────────────────────────────────────────────────────────────────────────────


def submit(
    connection: Connection,
    submission: TaskSubmission,
    context: SubmissionContext,
    *,
    idempotency_key: str | None = None,
) -> Task:
    """Submit a task: it exists when the transaction commits.

    Repeating the same submission with the same `idempotency_key` returns the existing task.

    Raises:
        NotFound: there is no such agent.
        Conflict: the agent is switched off, the user is disabled, or the key was used for a different submission.
        InvalidInput: its deadline or expiry has passed.
    """
    new = NewTask(submission, context, idempotency_key)
    (found,) = submit_many(connection, [new])
    return found or earlier_or_refusal(connection, new)


def submit_many(at: Connection | SingleStatement, new: Sequence[NewTask]) -> list[Task | None]:
    """Submit many tasks of one organisation in one statement; an error inserts none of them. The result has None for a
    task that was not inserted: it exists already or is refused, and `earlier_or_refusal` tells which.
    """
    if not new:
        return []
    rows = [_row(one) for one in new]
    inserted = {task.id: task for task in queries.insert_tasks(at, rows)}
    return [inserted.get(row["id"]) for row in rows]


def _digest(new: NewTask) -> bytes:
    asked = f"{new.context.user_id} {new.submission.model_dump_json(exclude_none=True)}"
    return hashlib.sha256(asked.encode()).digest()


def _row(new: NewTask) -> dict[str, Any]:
    submission = new.submission
    return {
        "id": new.id,
        "agent": submission.agent,
        "priority": submission.priority,
        "input": submission.input.model_dump(mode="json"),
        "run_after": submission.run_after,
        "deadline": submission.deadline,
        "expires_at": submission.expires_at,
        "idempotency_key": new.idempotency_key,
        "request_digest": _digest(new).hex() if new.idempotency_key else None,
        "concurrency_key": submission.concurrency_key,
        "contact": submission.contact,
        "notify": submission.notify,
        **new.context.model_dump(),
    }


def earlier_or_refusal(connection: Connection, new: NewTask) -> Task:
    """Return the task that was submitted before under the same idempotency key, for a task that was not inserted.

    Raises:
        NotFound, Conflict, InvalidInput: there is none; as `submit` does, saying why the task was refused.
    """
    submission, key = new.submission, new.idempotency_key
    earlier = queries.task_by_idempotency_key(connection, key) if key else None
    if earlier is None:
        _refuse_past(submission, queries.now(connection))
        if not agents.get_agent(connection, submission.agent).enabled:
            raise Conflict(f"The agent {submission.agent!r} is switched off. Enable it, or choose another.")
        if tenants.get_user(connection, new.context.user_id).disabled_at is not None:
            raise Conflict(_SHUT_OUT)
        raise Conflict("Its agent or its user was switched off until a moment ago. Submit it again.")
    if earlier.request_digest != _digest(new):
        raise Conflict(
            "This idempotency key was used for a different task. Use a new key for a new task.",
            task_id=str(earlier.task.id),
        )
    return earlier.task


_SHUT_OUT = "The user for whom it is to be done is shut out. Let them in again, or have it done for another."


def _refuse_past(submission: TaskSubmission, now: datetime) -> None:
    for name in ("deadline", "expires_at"):
        limit = getattr(submission, name)
        if limit is not None and limit <= now:
            raise InvalidInput(
                f"{name} has passed: {limit.isoformat()}; it is now {now.isoformat(timespec='seconds')}. "
                "Give a later time, or leave it out."
            )


def get_task(connection: Connection, task_id: UUID) -> Task:
    """Return the task with this id.

    Raises:
        NotFound: there is no such task, or it was cleaned up.
    """
    task = queries.task_by_id(connection, task_id)
    if task is None:
        raise NotFound(f"There is no task {task_id}.")
    return task


def find_task(connection: Connection, task_id: UUID) -> Task | None:
    """Return the task with this id, or None if it does not exist any more."""
    return queries.task_by_id(connection, task_id)


def find_with_key(connection: Connection, key: str) -> Task | None:
    """Return the task that was submitted with an idempotency key; None if there is none."""
    earlier = queries.task_by_idempotency_key(connection, key)
    return earlier.task if earlier else None


def scopes_of(connection: Connection, task_id: UUID) -> list[str] | None:
    """Return the scopes of the API key with which a task was submitted; None for all."""
    return queries.scopes_of(connection, task_id)


def lineage_of(connection: Connection, task_id: UUID) -> Lineage:
    """Return a task's root, depth and bounds; those of a task that a person submits if the task is gone."""
    return queries.lineage_of(connection, task_id) or Lineage()


def reserve_in_tree(
    connection: Connection, org: UUID, context: SubmissionContext, more: int, *, max_children: int
) -> None:
    """Count `more` tasks that the task `context.origin_id` is about to start in `context`. Call it in the transaction
    that submits them, before they are submitted.

    Raises:
        Conflict: this would exceed a limit of the tree; the message is for the model.
    """
    root, bounds, origin = context.root_id, context.bounds, context.origin_id
    if root is None or bounds is None or origin is None:
        raise RotaError("A task that an agent starts has a root, an origin and bounds.")
    limits = bounds.tree
    if context.depth > limits.max_depth:
        raise Conflict(
            f"Nothing was started: this task stems from {context.depth - 1} others already, and the limit of depth is "
            f"{limits.max_depth}. Do it yourself, or tell a person."
        )
    descendants = queries.grow_tree(connection, org, root, more)
    children = queries.number_of_children(connection, root, origin)
    if children + more > max_children:
        raise Conflict(
            f"Nothing was started: this task has started {children}, and the limit is {max_children} for one task."
        )
    if descendants > limits.max_descendants:
        raise Conflict(
            f"Nothing was started: {descendants - more} tasks stem from the same task already, and the limit is "
            f"{limits.max_descendants}."
        )
    ensure_tree_affordable(connection, root, limits.max_cost)


def ensure_tree_affordable(connection: Connection, root: UUID, limit: Decimal) -> None:
    """Check that a root task and all its descendants have cost less than `limit`, in US dollars.

    Raises:
        Conflict: they have cost that much or more.
    """
    spent = queries.spent_by_tree(connection, root)
    if spent >= limit:
        raise Conflict(f"The first task and all that stem from it have cost ${spent:f}; the limit is ${limit:f}.")


def get_task_detail(connection: Connection, task_id: UUID) -> TaskDetail:
    """Return the task with its journal and attempts. Until it ends, tokens and cost are those recorded so far.

    Raises:
        NotFound: there is no such task, or it was cleaned up.
    """
    task = get_task(connection, task_id)
    steps = queries.steps_of(connection, task_id)
    attempts = queries.attempts_of(connection, task_id)
    billed = [step for step in steps if step.model is not None]
    spent: dict[str, Any] = (
        {
            "model_calls": len(billed),
            "input_tokens": sum(step.input_tokens for step in billed),
            "output_tokens": sum(step.output_tokens for step in billed),
            "billed_cost": sum((step.billed_cost for step in billed), start=Decimal(0)),
        }
        if not task.has_ended
        else {}
    )
    calls = client_calls(task_id, task.input, steps) if task.waiting_for == WAITING else []
    return TaskDetail(
        **task.model_dump() | spent,
        steps=steps,
        attempt_history=attempts,
        open_calls=[
            OpenCall(call_id=call.id, tool=call.tool, arguments=call.arguments) for call in calls if not call.is_done
        ],
        feedback=feedback.of_task(connection, task_id),
    )


def rate(connection: Connection, org: UUID, task_id: UUID, user: UUID, wanted: NewFeedback) -> Feedback:
    """Keep what a user thinks of the answer of a task, in place of what they thought before.

    Raises:
        NotFound: there is no such task.
        Conflict: it has not ended yet.
    """
    task = get_task(connection, task_id)
    if not task.has_ended:
        raise Conflict(f"The task is {task.status}. Rate its answer when it has one.")
    return feedback.give(
        connection, org, user, wanted, task=task_id, agent=task.agent, location=task.location_id,
        conversation=task.conversation_id,
    )  # fmt: skip


def list_tasks(connection: Connection, wanted: TaskFilter, *, cursor: str | None, limit: int) -> TaskPage:
    """Return a page of tasks, newest first.

    Raises:
        InvalidInput: the cursor is invalid.
    """
    before = _read_cursor(cursor) if cursor else None
    found = queries.tasks_page(connection, wanted, before=before, limit=limit + 1)
    page = found[:limit]
    return TaskPage(tasks=page, next_cursor=_cursor(page[-1].id) if len(found) > limit else None)


def _cursor(task_id: UUID) -> str:
    return base64.urlsafe_b64encode(task_id.bytes).decode().rstrip("=")


def _read_cursor(text: str) -> UUID:
    try:
        return UUID(bytes=base64.urlsafe_b64decode(text + "=="))
    except (ValueError, binascii.Error) as error:
        raise InvalidInput("This cursor is not valid. Use `next_cursor` of the page before, as it stands.") from error


def cancel(connection: Connection, task_id: UUID) -> Task:
    """Cancel a task. A running one is requested to stop, and is `cancelled` once its worker has stopped. Idempotent.

    Raises:
        NotFound: there is no such task.
        Conflict: it has ended with another status.
    """
    is_asked = bool(queries.request_cancel(connection, [task_id]))
    task = get_task(connection, task_id)
    if not is_asked and task.status != "cancelled":
        raise Conflict(f"This task has {task.status} already; there is nothing to cancel.")
    return task


def cancel_unended(connection: Connection, ids: list[UUID]) -> None:
    """Cancel these tasks, except those that have ended."""
    if ids:
        queries.request_cancel(connection, ids)


def block_tasks_of(connection: Connection, user: UUID) -> None:
    """Hold the queued tasks of a disabled user until the user is enabled. Running ones stop at their next heartbeat."""
    queries.block_tasks_of(connection, user)


def unblock_tasks_of(connection: Connection, user: UUID) -> None:
    """Requeue the held tasks of a user who is enabled again."""
    queries.unblock_tasks_of(connection, user)


def cancel_of_deleted(connection: Connection) -> int:
    """Cancel the unfinished tasks of agents that were deleted in the last hour. Return how many."""
    return queries.cancel_of_deleted(connection)


def retry(connection: Connection, task_id: UUID, *, now: bool = False) -> Task:
    """Requeue a task that failed, expired or was cancelled. It resumes after its last done step. A `run_after` that
    lies ahead is kept, unless `now`.

    Raises:
        NotFound: there is no such task.
        Conflict: it succeeded, or has not ended; or its agent is deleted or switched off, or its user disabled.
    """
    is_queued = bool(queries.requeue_ended(connection, [task_id], now=now))
    task = get_task(connection, task_id)
    if is_queued:
        return task
    if task.status in _ENDED_BADLY:
        raise Conflict(_why_off(task, queries.agent_state(connection, task_id)))
    raise Conflict(
        "This task succeeded; replay it, or submit a new one, to do it again."
        if task.status == "succeeded"
        else f"This task is {task.status}; it can be retried when it has ended."
    )


def _why_off(task: Task, agent: AgentState) -> str:
    if agent.is_deleted:
        return f"Its agent {task.agent!r} was deleted. Replay it with another agent."
    if agent.is_switched_off:
        return f"Its agent {task.agent!r} is switched off. Enable it, or replay the task with another."
    return _SHUT_OUT


def replay(
    connection: Connection, task_id: UUID, changes: Replay, by: SubmissionContext, *, idempotency_key: str | None = None
) -> Task:
    """Replay a task: submit a new task with an empty journal, linked to the old one by `origin_id`, for the user and
    within the scopes in `by`. Times of the old task that lie ahead are kept.

    Raises:
        NotFound: there is no such task, or no such agent.
        Conflict: the agent is switched off.
    """
    get_task(connection, task_id)
    (original,) = queries.originals(connection, [task_id])
    return _replay(connection, original, changes, by, idempotency_key)


def _replay(
    connection: Connection,
    original: Original,
    changes: Replay,
    by: SubmissionContext,
    idempotency_key: str | None = None,
) -> Task:
    submission = TaskSubmission(
        agent=changes.agent or original.agent,
        input=changes.input or _input_of(original),
        priority=changes.priority or original.priority,
        concurrency_key=changes.concurrency_key or _own_key(original),
        contact=original.contact,
        run_after=None if changes.now else original.run_after,
        deadline=original.deadline,
        expires_at=original.expires_at,
    )
    context = SubmissionContext(
        user_id=by.user_id,
        location_id=original.location_id,
        origin_id=original.id,
        action=original.action,
        scopes=by.scopes,
        root_id=original.root_id,
        depth=original.depth,
        bounds=original.bounds,
    )
    return submit(connection, submission, context, idempotency_key=idempotency_key)


def _own_key(original: Original) -> str | None:
    """Return the key of the original. The replay of an answer takes no turn in its conversation."""
    return None if original.conversation_id is not None else original.concurrency_key


def settle(connection: Connection, task_id: UUID, seq: int, settlement: Settlement) -> Task:
    """Record the outcome of the action in step `seq`, which a crash left unknown. After the last one the task goes on.

    Raises:
        NotFound: there is no such task.
        Conflict: the outcome of that step is not unknown.
    """
    step = queries.lock_unknown_step(connection, task_id, seq)
    if step is None:
        task = get_task(connection, task_id)
        raise Conflict(f"The outcome of step {seq} is not in question; the task is {task.status}.")
    settled = {"settled": settlement.model_dump(exclude_none=True)}
    if settlement.outcome == "happened":
        content = {"done": True, "confirmed_by": "a person", "note": settlement.note or "Its own answer was lost."}
        answer = {"call_id": step.call_id, "content": dump_json(content), "is_error": False}
        output = settled | {"message": answer, "ok": True}
        queries.resolve_step(connection, task_id, seq, status="done", output=output)
    else:
        queries.resolve_step(connection, task_id, seq, status="failed", output=settled)
        wallet.refund(connection, step.org_id, task_id, seq, "the action did not happen")
    return get_task(connection, task_id)


# ── many at once ─────────────────────────────────────────────────────────────────────────────────────────────────────

_SAMPLE = 5
_ENDED_BADLY: tuple[Status, ...] = ("failed", "cancelled", "expired")
_UNENDED: tuple[Status, ...] = ("queued", "waiting", "running")


def cancel_many(connection: Connection, request: BulkRequest) -> BulkOutcome:
    """Cancel matching tasks that have not ended and have no request to cancel yet.

    Raises:
        InvalidInput: the filter is empty.
    """
    return _do_to_many(connection, request, _UNENDED, queries.request_cancel, unasked=True)


def retry_many(connection: Connection, request: BulkRetry) -> BulkOutcome:
    """Requeue matching tasks that failed, expired or were cancelled.

    Raises:
        InvalidInput: the filter is empty.
    """
    requeue = functools.partial(queries.requeue_ended, now=request.now)
    return _do_to_many(connection, request, _ENDED_BADLY, requeue)


def _input_of(original: Original) -> TaskInput:
    """Return what was asked. Attachments stay those of the original, and are read for as long as it is kept."""
    asked = AttachedInput.model_validate(original.input)
    return asked if asked.has_attachments else asked.without_attachments()


def replay_many(
    connection: Connection, request: BulkReplay, by: SubmissionContext, *, idempotency_key: str | None = None
) -> BulkOutcome:
    """Replay matching tasks that have ended, each as a new task linked to the old one. With an `idempotency_key`, each
    is replayed once.

    Raises:
        InvalidInput: the filter is empty.
        Conflict: an agent is switched off or deleted; then no task is replayed.
    """

    def replay_all(connection: Connection, ids: list[UUID]) -> list[UUID]:
        changes = Replay(priority=request.priority, now=request.now)
        return [
            _replay(
                connection,
                original,
                changes,
                by,
                f"{idempotency_key}:{original.id}" if idempotency_key else None,
            ).id
            for original in queries.originals(connection, ids)
        ]

    return _do_to_many(connection, request, ENDED, replay_all)


def _do_to_many(
    connection: Connection,
    request: BulkRequest,
    statuses: tuple[Status, ...],
    verb: Callable[[Connection, list[UUID]], list[UUID]],
    *,
    unasked: bool = False,
) -> BulkOutcome:
    wanted = request.filter
    if wanted.is_empty:
        raise InvalidInput("An empty filter would mean every task. Say which, for example by status.")
    matching = queries.number_of_tasks(connection, wanted, statuses, after=request.after, unasked=unasked)
    limit = _SAMPLE if request.preview else request.limit
    chosen = queries.matching(
        connection,
        wanted,
        statuses,
        after=request.after,
        unasked=unasked,
        limit=limit,
        locked=not request.preview,
    )
    changed = [] if request.preview else verb(connection, chosen)
    shown = TaskFilter(ids=(chosen if request.preview else changed)[:_SAMPLE] or [UUID(int=0)])
    sample = queries.tasks_page(connection, shown, before=None, limit=_SAMPLE)
    return BulkOutcome(
        matching=matching,
        changed=len(changed),
        last=max(chosen, default=None),
        as_of=queries.now(connection),
        sample=sample,
    )


def failures(connection: Connection) -> list[Failures]:
    """Return the failed tasks grouped by the fingerprint of their error, most frequent first."""
    return queries.failures(connection)


_LATELY = timedelta(minutes=15)


def queue_statistics(connection: Connection) -> list[QueueStatistics]:
    """Return the current state of each queue, and figures of the last 15 minutes."""
    return queries.queue_statistics(connection, _LATELY)


def agent_statistics(connection: Connection) -> list[AgentStatistics]:
    """Return the statistics of each agent over the last 30 days."""
    return queries.agent_statistics(connection)


# ── waking ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def now(connection: Connection) -> datetime:
    """Return the database's time, which all machines use as their common clock."""
    return queries.now(connection)


def wake(connection: Connection, task_id: UUID, *what: str) -> None:
    """Wake a task that may wait for one of `what`: it resumes where it stopped."""
    queries.wake_task(connection, task_id, list(what))


def wake_what_fits(
    connection: Connection,
    org: UUID,
    what: str,
    amount: Decimal | None = None,
    *,
    agent: str | None = None,
    except_for: Sequence[str] = (),
) -> list[Decimal]:
    """Wake an organisation's (or one agent's) tasks that wait for `what`, money, and together need no more than
    `amount`: longest waiting first, all if `amount` is None. Agents in `except_for` are left out. Return the amount
    that each woken task needs.

    Use a transaction of its own: this locks tasks, and tasks must be locked before a wallet.
    """
    values = {"org": org, "what": [what], "amount": amount, "agent": agent, "except_for": list(except_for)}
    return queries.wake_what_fits(connection, values)


def organisations_waiting(connection: Connection, *what: str) -> list[UUID]:
    """Return the organisations with tasks that wait for one of `what`."""
    return queries.organisations_waiting(connection, list(what))


# ── upkeep ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_BATCH = 1_000


def lock(connection: Connection, task_id: UUID) -> None:
    """Lock a task until the transaction ends."""
    queries.lock_task(connection, task_id)


def expire_abandoned(connection: Connection, patience: timedelta) -> int:
    """Expire the tasks that have waited longer than `patience` for the results of client tools. Return how many."""
    return queries.expire_abandoned(connection, patience, _BATCH)


def expire_overdue(connection: Connection) -> int:
    """End tasks that expired before they were started, and tasks whose deadline passed while they were queued or
    waiting; at most 1,000 of each per call. Return how many.
    """
    return queries.expire_unstarted(connection, _BATCH) + queries.expire_late(connection, _BATCH)


def forget_unused_keys(connection: Connection) -> int:
    """Delete concurrency keys that no task uses any more; at most 1,000 per call. Return how many."""
    return queries.delete_unused_keys(connection, _BATCH)


def forget_unused_trees(connection: Connection) -> int:
    """Delete the descendant counts of trees that have no task left; at most 1,000 per call. Return how many."""
    return queries.delete_unused_trees(connection, _BATCH)


def clean_up(connection: Connection, *, keep_succeeded: timedelta, keep_failed: timedelta) -> int:
    """Delete tasks past their retention, with their journal; at most 1,000 per call. Usage rows stay."""
    return queries.delete_finished(connection, succeeded=keep_succeeded, failed=keep_failed, batch=_BATCH)
