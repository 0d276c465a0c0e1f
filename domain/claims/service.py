"""Verbs on claims: what a worker does with the task it holds. Every write names the claim, and is refused once another
worker has the task.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Connection

from core.db import SingleStatement
from core.errors import RotaError
from core.ids import new_id
from domain.claims import queries
from domain.claims.schemas import Claimed, ClaimOutcome, JournalLine, Spell, StepRecord
from domain.tasks.schemas import ENDED, Status, Step
from domain.wallet.schemas import Payment


class ClaimLost(RotaError):
    """Another worker owns this task now, or it has ended: nothing of this try may be written."""


def claim(
    at: Connection | SingleStatement, task_id: UUID, number: int, worker: str, *, tokens: int = 0
) -> Claimed | None:
    """Take the task that a message names, unless the message is out of date. The claim number grows by one.

    With `tokens`, it is promised so many of its organisation's wallet in the same statement, where they are there.
    """
    row = queries.claim_task(at, task_id, number, worker, tokens)
    return Claimed(**row) if row else None


def decline(connection: Connection, task_id: UUID, number: int) -> None:
    """Make a published task due again that this worker will not take; nothing happens where it is somebody's by now."""
    queries.undo_dispatch(connection, task_id, number)


def journal(connection: Connection, task_id: UUID) -> dict[int, Step]:
    """The steps that are done, and those that were begun and never recorded, by sequence number."""
    return {row["seq"]: Step(**row) for row in queries.standing_steps(connection, task_id)}


def spent_on(connection: Connection, task_id: UUID) -> tuple[int, Decimal]:
    """Tokens used and dollars billed for a task so far, by failed tries too."""
    row = queries.spent_on(connection, task_id)
    return row["tokens"], row["cost"]


def spell(connection: Connection, task: Claimed, outages: Iterable[str]) -> Spell:
    """How a task fared since its last progress. `outages` are the kinds of errors that mean its provider is down."""
    return Spell(**queries.spell(connection, task.id, outages))


def lock_claim(connection: Connection, task: Claimed) -> None:
    """Keep the claim until this transaction ends.

    Raises:
        ClaimLost: somebody else has it.
    """
    if not queries.lock_shared(connection, task.id, task.claim):
        raise ClaimLost


def written_step(connection: Connection, step_id: UUID) -> Step | None:
    """The step with this id, if it was written."""
    row = queries.step_by_id(connection, step_id)
    return Step(**row) if row else None


def has_finished(connection: Connection, task: Claimed, record: StepRecord) -> bool:
    """Whether what this claim began in the record's step stands as the record says."""
    row = queries.step_under_claim(connection, task.id, record.seq, task.claim)
    return row is not None and row["status"] == record.status and row["output"] == record.output


def record_step(connection: Connection, task: Claimed, record: StepRecord, step_id: UUID) -> Step:
    """Write a step into the journal, with its usage row where a model was called: charged exactly when recorded.

    Raises:
        ClaimLost: somebody else has the task; nothing is written.
    """
    record_steps(connection, task, [JournalLine(record, step_id)])
    return as_step(task, record)


def record_steps(
    connection: Connection, task: Claimed, lines: Sequence[JournalLine], payments: Sequence[Payment] = ()
) -> bool:
    """Write steps, each under its own id, with a usage row for each that called a model, and what the task's hold pays
    for them. Returns whether the hold had enough; where not, the steps are written and nothing is paid.

    Raises:
        ClaimLost: somebody else has the task; nothing is written.
    """
    is_paid = queries.insert_steps(connection, _named(task), [_row_of(line) for line in lines], payments)
    if is_paid is None:
        raise ClaimLost
    return is_paid or not payments


def finish(
    at: Connection | SingleStatement,
    task: Claimed,
    lines: Sequence[JournalLine],
    payments: Sequence[Payment],
    result: dict[str, Any],
) -> bool:
    """Write the last steps and end the task, which has succeeded, and its hold. False, and nothing, where that is not
    all there is to its end: then it is left step by step, and whatever stands in the way says so.
    """
    return queries.finish_task(at, _named(task), [_row_of(line) for line in lines], payments, result)


def _named(task: Claimed) -> dict[str, Any]:
    return {"task": task.id, "claim": task.claim}


def _row_of(line: JournalLine) -> dict[str, Any]:
    """What a step and its bill are written as."""
    record = line.record
    row: dict[str, Any] = {
        "id": line.id, "seq": record.seq, "stage": record.stage, "name": record.name, "status": record.status,
        "input": record.input, "output": record.output, "duration_ms": record.duration_ms, "age_ms": line.age_ms,
    }  # fmt: skip
    if bill := record.bill:
        tokens, cost = bill.tokens, bill.cost
        row |= {
            "usage_id": new_id(), "provider": bill.provider, "model": bill.model, "input_tokens": tokens.input,
            "cached_tokens": tokens.cached, "cache_write_tokens": tokens.cache_write, "output_tokens": tokens.output,
            "base_cost": cost.base, "markup": cost.markup, "billed_cost": cost.billed, "price": cost.price,
            "is_rehearsal": bill.is_rehearsal, "is_estimated": tokens.is_estimated, "is_unpriced": cost.is_unpriced,
        }  # fmt: skip
    return row


def as_step(task: Claimed, record: StepRecord) -> Step:
    """The step that a record makes in the task's journal."""
    bill = record.bill
    return Step.model_construct(  # nothing in it is from outside
        seq=record.seq,
        stage=record.stage,
        name=record.name,
        status=record.status,
        claim=task.claim,
        input=record.input,
        output=record.output,
        duration_ms=record.duration_ms,
        model=bill.model if bill else None,
        input_tokens=bill.tokens.input if bill else 0,
        output_tokens=bill.tokens.output if bill else 0,
        billed_cost=bill.cost.billed if bill else Decimal(0),
    )


def finish_begun_step(connection: Connection, task: Claimed, record: StepRecord) -> None:
    """Record what came of a step that this claim began.

    Raises:
        ClaimLost: somebody else has the task; nothing is written.
    """
    row = {
        "task": task.id,
        "claim": task.claim,
        **record.model_dump(include={"seq", "status", "output", "duration_ms"}),
    }
    if not queries.finish_begun_step(connection, row):
        raise ClaimLost


def leave(connection: Connection, task: Claimed, outcome: ClaimOutcome) -> Status:
    """End the claim: the task gets its next status, which is returned, and the attempt its outcome.

    A task that was asked to stop is cancelled, and one that leaves an effect of unknown outcome waits for a person,
    whatever else was planned for it. One that would wait for what has come since it was claimed is queued instead.

    Raises:
        ClaimLost: somebody else has the task; nothing is written.
    """
    lock(connection, task)
    return leave_locked(connection, task, outcome)


def lock(connection: Connection, task: Claimed) -> None:
    """Keep the claim, and everybody else from the task, until this transaction ends.

    Raises:
        ClaimLost: somebody else has it.
    """
    if not queries.lock_exclusively(connection, task.id, task.claim):
        raise ClaimLost


def leave_locked(connection: Connection, task: Claimed, outcome: ClaimOutcome) -> Status:
    """The same as `leave`, where `lock` was called before."""
    return _leave(connection, task.id, task.claim, outcome, task.wakes)


def release_stray(connection: Connection, task_id: UUID, claim: int) -> None:
    """Hand back a task that a worker is said to hold and does not. Nothing happens where that is no longer said."""
    if queries.lock_exclusively(connection, task_id, claim):
        _leave(connection, task_id, claim, ClaimOutcome(status="queued", outcome="released", delay=timedelta(0)))


def _leave(
    connection: Connection, task_id: UUID, claim: int, outcome: ClaimOutcome, wakes: int | None = None
) -> Status:
    values = {
        "wakes": wakes,
        "task": task_id,
        "claim": claim,
        "ended": outcome.status in ENDED,
        **outcome.model_dump(exclude={"error"}),
        "error": outcome.error.model_dump() if outcome.error else None,
    }
    status: Any = queries.leave_task(connection, values)
    if status is None:
        raise ClaimLost
    return cast("Status", status)


def reap_orphaned(connection: Connection, lease: timedelta) -> dict[str, int]:
    """Take the tasks of silent workers. Returns how many came to which status: queued again, waiting for a person where
    an effect was under way, cancelled where that was asked for, failed where no attempt was left.
    """
    message = f"The worker went silent for more than {lease.total_seconds():g} s while it had this task."
    return dict(Counter(row["status"] for row in queries.reap_orphaned(connection, lease, message)))
