"""Operations on claims: what a worker does with the task that it has claimed. Every write names the claim, and is
refused once another worker has the task.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from core.errors import RotaError
from core.ids import new_id
from core.prepared import SingleStatement
from domain.audit.schemas import Actor, AuditEvent
from domain.claims import queries
from domain.claims.schemas import Claimed, ClaimOutcome, JournalLine, Spell, Spent, StepRecord
from domain.tasks.schemas import ENDED, Status, Step
from domain.wallet.schemas import Payment


class ClaimLost(RotaError):
    """Another worker owns this task now, or it has ended: nothing of this attempt may be written."""


def claim(
    at: Connection | SingleStatement, task_id: UUID, number: int, worker: str, *, tokens: int = 0
) -> Claimed | None:
    """Claim the task that a message names and increment its claim number. Return None if the message is out of date.

    With `tokens`, the same statement also reserves that many tokens of the organisation's wallet in the task's hold, if
    the wallet has them.
    """
    return queries.claim_task(at, task_id, number, worker, tokens)


def decline(connection: Connection, task_id: UUID, number: int) -> None:
    """Unpublish a task that this worker will not claim. No-op if it has been claimed since."""
    queries.undo_dispatch(connection, task_id, number)


def journal(connection: Connection, task_id: UUID) -> dict[int, Step]:
    """Return the steps that are done, and those that were begun but have no recorded outcome, by sequence number."""
    return {step.seq: step for step in queries.standing_steps(connection, task_id)}


def spent_on(connection: Connection, task_id: UUID) -> Spent:
    """Return the tokens used and dollars billed for a task so far, including failed attempts."""
    return queries.spent_on(connection, task_id)


def spell(connection: Connection, task: Claimed, outages: Iterable[str]) -> Spell:
    """Return the outages of a task since its last progress. `outages` are the error kinds that mean that its provider
    is down.
    """
    return queries.spell(connection, task.id, outages)


def lock_shared(connection: Connection, task: Claimed) -> None:
    """Lock the claim in share mode until this transaction ends.

    Raises:
        ClaimLost: another worker has the task, or it has ended.
    """
    if not queries.lock_shared(connection, task.id, task.claim):
        raise ClaimLost


def written_step(connection: Connection, step_id: UUID) -> Step | None:
    """Return the step with this id, or None if it was not written."""
    return queries.step_by_id(connection, step_id)


def has_finished(connection: Connection, task: Claimed, record: StepRecord) -> bool:
    """Whether the journal has the step of `record`, under this claim, with the record's status and output."""
    step = queries.step_under_claim(connection, task.id, record.seq, task.claim)
    return step is not None and step.status == record.status and step.output == record.output


def record_steps(
    connection: Connection, task: Claimed, lines: Sequence[JournalLine], payments: Sequence[Payment] = ()
) -> bool:
    """Write steps, each under its own id, with a usage row for each that called a model and an audit event for each
    that read, and pay for them from the task's hold. Return False if the hold does not have enough: then the steps are
    written and nothing is paid.

    Raises:
        ClaimLost: another worker has the task, or it has ended; nothing is written.
    """
    rows = [_row_of(line) for line in lines]
    is_paid = queries.insert_steps(connection, _named(task), rows, payments, _reads(task, lines))
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
    """Write the last steps and end the task as succeeded, with its hold. Return False and write nothing if that is not
    possible in one statement: the caller then ends the task step by step, which raises the error, if any.
    """
    return queries.finish_task(at, _named(task), [_row_of(line) for line in lines], payments, result)


def _reads(task: Claimed, lines: Sequence[JournalLine]) -> list[tuple[Actor, AuditEvent]]:
    """Return what the steps read, for the audit log."""
    return [
        (Actor(task.org_id, task.user_id, agent=task.agent, task_id=task.id, seq=line.record.seq), line.record.read)
        for line in lines
        if line.record.read is not None
    ]


def _named(task: Claimed) -> dict[str, Any]:
    return {"task": task.id, "claim": task.claim}


def _row_of(line: JournalLine) -> dict[str, Any]:
    """Return the row of a step and its usage row."""
    record = line.record
    row: dict[str, Any] = {
        "id": line.id, "seq": record.seq, "stage": record.stage, "name": record.name, "status": record.status,
        "input": record.input, "output": record.output, "duration_ms": record.duration_ms, "age_ms": line.age_ms,
    }  # fmt: skip
    if charge := record.charge:
        tokens, cost = charge.tokens, charge.cost
        row |= {
            "usage_id": new_id(), "provider": charge.provider, "model": charge.model, "input_tokens": tokens.input,
            "cached_tokens": tokens.cached, "cache_write_tokens": tokens.cache_write, "output_tokens": tokens.output,
            "base_cost": cost.base, "markup": cost.markup, "billed_cost": cost.billed, "price": cost.price,
            "is_rehearsal": charge.is_rehearsal, "is_estimated": tokens.is_estimated, "is_unpriced": cost.is_unpriced,
        }  # fmt: skip
    return row


def as_step(task: Claimed, record: StepRecord) -> Step:
    """Return `record` as a step of the task's journal."""
    charge = record.charge
    return Step.model_construct(  # no validation: nothing in it comes from outside
        seq=record.seq,
        stage=record.stage,
        name=record.name,
        status=record.status,
        claim=task.claim,
        input=record.input,
        output=record.output,
        duration_ms=record.duration_ms,
        model=charge.model if charge else None,
        input_tokens=charge.tokens.input if charge else 0,
        output_tokens=charge.tokens.output if charge else 0,
        billed_cost=charge.cost.billed if charge else Decimal(0),
    )


def finish_begun_step(connection: Connection, task: Claimed, record: StepRecord) -> None:
    """Record the outcome of a step that this claim began.

    Raises:
        ClaimLost: another worker has the task, or it has ended; nothing is written.
    """
    row = {
        "task": task.id,
        "claim": task.claim,
        **record.model_dump(include={"seq", "status", "output", "duration_ms"}),
    }
    if not queries.finish_begun_step(connection, row):
        raise ClaimLost


def end(connection: Connection, task: Claimed, outcome: ClaimOutcome) -> Status:
    """End the claim: set the task's next status and the attempt's outcome. Return the status.

    `outcome` gives the status, with three exceptions. A task with a request to cancel is cancelled, unless it has
    ended. A task that leaves an effect of unknown outcome waits for a person. A task that would wait is queued if
    something that tasks wait for has arrived since it was claimed.

    Raises:
        ClaimLost: another worker has the task, or it has ended; nothing is written.
    """
    lock_exclusively(connection, task)
    return end_locked(connection, task, outcome)


def lock_exclusively(connection: Connection, task: Claimed) -> None:
    """Lock the task exclusively under its claim until this transaction ends.

    Raises:
        ClaimLost: another worker has the task, or it has ended.
    """
    if not queries.lock_exclusively(connection, task.id, task.claim):
        raise ClaimLost


def end_locked(connection: Connection, task: Claimed, outcome: ClaimOutcome) -> Status:
    """End the claim as `end` does. The caller must have called `lock_exclusively` in this transaction."""
    return _end(connection, task.id, task.claim, outcome, task.wakes)


def release_stray(connection: Connection, task_id: UUID, claim: int) -> None:
    """Release a claim that the database records for a worker but the worker does not have. No-op if the claim has
    changed since.
    """
    if queries.lock_exclusively(connection, task_id, claim):
        _end(connection, task_id, claim, ClaimOutcome(status="queued", outcome="released", delay=timedelta(0)))


def _end(connection: Connection, task_id: UUID, claim: int, outcome: ClaimOutcome, wakes: int | None = None) -> Status:
    values = {
        "wakes": wakes,
        "task": task_id,
        "claim": claim,
        "ended": outcome.status in ENDED,
        **outcome.model_dump(exclude={"error"}),
        "error": outcome.error.model_dump() if outcome.error else None,
    }
    status = queries.end_claim(connection, values)
    if status is None:
        raise ClaimLost
    return status


def reap_orphaned(connection: Connection, lease: timedelta) -> dict[str, int]:
    """Reap the tasks of silent workers. Return how many got which status: queued again, waiting for a person if an
    effect was under way, cancelled if that was requested, failed if no attempt was left.
    """
    message = f"The worker went silent for more than {lease.total_seconds():g} s while it had this task."
    return dict(Counter(queries.reap_orphaned(connection, lease, message)))
