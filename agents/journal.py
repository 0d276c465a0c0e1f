"""The journal of a task in hand: which steps are done, and the only way in which one is written.

A step is written in a transaction with what it costs and what it changed. A step that called no tool with effects
may be deferred: it is written together with the next one, or with the end of the claim.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from agents.funds import TaskFunds
from agents.interrupt import Interrupt
from agents.reference import LazyConnection
from core.clock import Stopwatch
from core.db import transaction
from core.errors import Unavailable
from core.failpoints import failpoint
from core.ids import new_id
from core.prepared import SingleStatement
from domain.audit.schemas import AuditEvent
from domain.billing import service as billing
from domain.claims import service as claims
from domain.claims.schemas import Charge, Claimed, ClaimOutcome, JournalLine, StepRecord
from domain.tasks.schemas import Status, Step
from domain.wallet import service as wallet
from domain.wallet.schemas import Payment

# For so long a write is tried again while the database is unavailable.
_PATIENCE, _PAUSE = timedelta(seconds=60), 0.2

T_co = TypeVar("T_co", covariant=True)


class _Write(Protocol[T_co]):
    """Something to write in a transaction. `may_be_committed`: the answer of an earlier try was lost, so look first."""

    def __call__(self, connection: Connection, *, may_be_committed: bool) -> T_co: ...


Also = Callable[[Connection], None]
"""what is written in the same transaction as a step"""


def _nothing_else(_: Connection) -> None:
    """The step alone."""


class Journal:
    """The steps of one claim on a task."""

    def __init__(self, task: Claimed, funds: TaskFunds, interrupt: Interrupt) -> None:
        self.funds = funds
        self.tokens = 0
        """tokens of all model calls so far, failed tries included"""
        self.cost = Decimal(0)
        """dollars billed so far, failed tries included"""
        self._task = task
        self._interrupt = interrupt
        self._steps: dict[int, Step] = {}
        self._deferred: list[tuple[StepRecord, UUID, Stopwatch]] = []

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def load(self, connection: Connection) -> None:
        """Read what earlier claims wrote."""
        self._steps = claims.journal(connection, self._task.id)
        spent = claims.spent_on(connection, self._task.id)
        self.tokens, self.cost = spent.tokens, spent.cost

    def finished(self, seq: int) -> Step | None:
        """The step `seq`, if this claim or an earlier one has finished it."""
        step = self._steps.get(seq)
        return step if step and step.status == "done" else None

    def is_in_doubt(self, seq: int) -> bool:
        """Whether the action of step `seq` was begun and its outcome was never recorded."""
        step = self._steps.get(seq)
        return step is not None and step.status != "done"

    def steps(self) -> list[Step]:
        """The finished steps in order."""
        return [step for _, step in sorted(self._steps.items()) if step.status == "done"]

    def last_decision(self) -> int:
        """The step of the last decision that is done, -1 if there is none."""
        return max((step.seq for step in self._steps.values() if step.stage == "decide"), default=-1)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def defer(self, record: StepRecord) -> None:
        """Write a step with what comes next: one that cost nothing, or a decision that the next write follows at once
        (an answer, or a single look at our own records).
        """
        self._deferred.append((record, new_id(), Stopwatch()))
        self._keep(claims.as_step(self._task, record))

    def discard_deferred(self) -> None:
        """Forget the steps that were deferred: the next claim does them again."""
        self._deferred.clear()

    @contextlib.contextmanager
    def lazy_transaction(self) -> Iterator[LazyConnection]:
        """Within, a transaction that is opened at the first call of what this yields, and the steps that were deferred
        are written first. It is not durable: a hold that is made here is made again if it was lost.
        """
        opened: list[Connection] = []
        with contextlib.ExitStack() as stack:

            def connect() -> Connection:
                if not opened:
                    opened.append(stack.enter_context(transaction(self._task.org_id, durable=False)))
                    self._write_lines(opened[0], self._lines())
                return opened[0]

            yield connect
        if opened:
            self._deferred.clear()

    def record(self, record: StepRecord, also: Also = _nothing_else) -> Step:
        """Write a step, and what `also` writes with it. A step that is done is never done again."""

        def make(connection: Connection) -> StepRecord:
            if also is not _nothing_else:
                claims.lock_shared(connection, self._task)  # the task's row is locked first, so no two can deadlock
                also(connection)
            return record

        failpoint("before-step")
        return self._keep(self._write(make))

    def record_with(self, run: Callable[[Connection], StepRecord]) -> Step:
        """Call `run` and write the step it returns in one transaction that locks the claim: both happen, or neither."""

        def locked(connection: Connection) -> StepRecord:
            claims.lock_shared(connection, self._task)
            return run(connection)

        return self._keep(self._write(locked, is_paid_for=False))

    def record_reading(self, run: Callable[[Connection], StepRecord]) -> Step:
        """Call `run`, which only reads, and write the step it returns. The task is locked only for the write: what was
        read can be read again.
        """
        has_cost = any(record.charge is not None for record, _, _ in self._deferred)
        return self._keep(self._write(run, is_paid_for=False, durable=has_cost))

    def begin(self, record: StepRecord, also: Also = _nothing_else) -> None:
        """Write the intent of an effect that must not happen twice. Until it is finished, its outcome is in doubt."""

        def make(connection: Connection) -> StepRecord:
            claims.lock_shared(connection, self._task)
            also(connection)
            return record.model_copy(update={"status": "begun"})

        failpoint("before-intent")
        self._keep(self._write(make))

    def finish_begun(self, record: StepRecord, also: Also = _nothing_else) -> None:
        """Write the outcome of a step that was begun."""

        def finish(connection: Connection, *, may_be_committed: bool) -> None:
            if not (may_be_committed and claims.has_finished(connection, self._task, record)):
                claims.lock_shared(connection, self._task)
                claims.finish_begun_step(connection, self._task, record)
                also(connection)

        self._insist(finish)
        begun = self._steps.pop(record.seq)
        if record.status == "done":
            self._steps[record.seq] = begun.model_copy(update=record.model_dump(include={"status", "output"}))

    def end_claim(self, outcome: ClaimOutcome) -> Status:
        """End the claim: write the deferred steps and the task's next state, and release what it reserved, in one
        transaction. Returns the task's status.

        Raises:
            ClaimLost: the claim is no longer ours; nothing is written.
            InsufficientFunds: a deferred step cannot be paid for; nothing is written.
            Unavailable: the database did not answer for a minute.
        """

        def end(connection: Connection, *, may_be_committed: bool) -> Status:  # noqa: ARG001  a lost claim says so
            claims.lock_exclusively(connection, self._task)
            self._write_lines(connection, self._unwritten(connection))
            status = claims.end_locked(connection, self._task, outcome)
            _release(connection, self._task, has_reserves=self.funds.has_reserved)
            return status

        failpoint("before-end")
        is_over = outcome.result is not None and self._succeed_at_once(outcome.result)
        status: Status = "succeeded" if is_over else self._insist(end)
        self._deferred.clear()
        failpoint("after-end")
        return status

    def _succeed_at_once(self, result: dict[str, Any]) -> bool:
        """End a task that succeeded in one statement, as nearly every task ends. False if it has reserves in budgets,
        where the statement does not apply, or where its answer was lost: then `end_claim` writes what is missing.
        """
        if self.funds.has_reserved:
            return False
        org = self._task.org_id
        try:
            with contextlib.ExitStack() as stack:
                lines = self._lines()
                payments = self._payments(lambda: stack.enter_context(transaction(org)), lines)
            return claims.finish(SingleStatement(org), self._task, lines, payments, result)
        except (Unavailable, DBAPIError):  # the longer way raises it again, if it is not over
            return False

    # ── how it is written ────────────────────────────────────────────────────────────────────────────────────────────

    def _lines(self) -> list[JournalLine]:
        return [JournalLine(record, step_id, made.milliseconds()) for record, step_id, made in self._deferred]

    def _unwritten(self, connection: Connection) -> list[JournalLine]:
        """The deferred steps that are not in the database. An earlier try may have committed them."""
        return [line for line in self._lines() if not claims.written_step(connection, line.id)]

    def _write_lines(self, connection: Connection, lines: list[JournalLine]) -> None:
        """Write steps with their charges and payments."""
        if not lines:
            return
        payments = self._payments(lambda: connection, lines)
        self.funds.spent(*payments)
        if not claims.record_steps(connection, self._task, lines, payments):
            for payment in payments:
                self.funds.pay_anew(connection, payment)
        for line in lines:
            if line.record.charge is not None:
                self.funds.draw(connection, line.record.charge.cost.billed)

    def _payments(self, connect: LazyConnection, lines: list[JournalLine]) -> list[Payment]:
        """The payments for model calls. An answer that cannot be used costs no token."""
        called = [record.seq for record, _, _ in lines if record.charge is not None and record.status == "done"]
        made = [self.funds.payment(connect, seq, "internal_llm_call") for seq in called]
        return [payment for payment in made if payment is not None]

    def _write(
        self, make: Callable[[Connection], StepRecord], *, is_paid_for: bool = True, durable: bool = True
    ) -> Step:
        step_id = new_id()

        def write(connection: Connection, *, may_be_committed: bool) -> Step:
            written = claims.written_step(connection, step_id) if may_be_committed else None
            if written is not None:  # and the deferred steps with it
                return written
            record = make(connection)
            self._write_lines(connection, [*self._lines(), JournalLine(record, step_id)])
            return claims.as_step(self._task, record)

        step = self._insist(write, is_paid_for=is_paid_for, durable=durable)
        if self._deferred:  # only this thread defers: before tools run side by side, a step was written
            self._deferred.clear()
        return step

    def _insist(self, write: "_Write[T_co]", *, is_paid_for: bool = True, durable: bool = True) -> T_co:
        """Write, and try again while the database is unavailable: what was paid for, or done to the world, must not be
        lost. A write that is not paid for gives up when a stop is asked for.
        """
        stopwatch, may_be_committed = Stopwatch(), False
        while True:
            try:
                with transaction(self._task.org_id, durable=durable) as connection:
                    return write(connection, may_be_committed=may_be_committed)
            except Unavailable:
                if stopwatch.elapsed() > _PATIENCE or self._interrupt.reason == "claim_lost":
                    raise
                if not is_paid_for:
                    self._interrupt.check()
                may_be_committed = True
                time.sleep(_PAUSE)

    def _keep(self, step: Step) -> Step:
        failpoint("after-step")
        self.tokens += step.input_tokens + step.output_tokens
        self.cost += step.billed_cost
        if step.status != "failed":
            self._steps[step.seq] = step
        return step


def end_claim(connection: Connection, task: Claimed, outcome: ClaimOutcome) -> Status:
    """End a claim whose journal is out of reach, such as that of a stuck thread, and release what it reserved. Returns
    the task's status.

    Raises:
        ClaimLost: the claim is no longer ours; nothing is written.
    """
    status = claims.end(connection, task, outcome)
    _release(connection, task, has_reserves=True)
    return status


def _release(connection: Connection, task: Claimed, *, has_reserves: bool) -> None:
    """Release the task's hold on the wallet and its reserves in budgets."""
    wallet.release(connection, task.id)
    if has_reserves:
        billing.release_reserves(connection, task.id)


def make_record(
    seq: int,
    stage: Any,
    name: str,
    stopwatch: Stopwatch,
    *,
    output: dict[str, Any],
    given: dict[str, Any] | None = None,
    charge: Charge | None = None,
    status: Any = "done",
    read: AuditEvent | None = None,
) -> StepRecord:
    """A step's record, timed by `stopwatch`."""
    return StepRecord(
        seq=seq,
        stage=stage,
        name=name,
        status=status,
        input=given or {},
        output=output,
        duration_ms=stopwatch.milliseconds(),
        charge=charge,
        read=read,
    )
