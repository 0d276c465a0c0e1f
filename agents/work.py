"""A task being worked on: its journal, its limits, and the one way in which a step comes to be."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Protocol, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from agents.interrupt import Interrupt, Stopped
from agents.llm.base import Message
from agents.llm.gates import Gates
from agents.llm.models import Models
from agents.purse import Ask, Books, Purse
from agents.sink import Sink
from agents.threads import ToolThreads
from core.clock import Stopwatch
from core.db import Alone, transaction
from core.errors import Conflict, RotaError, Unavailable
from core.failpoints import failpoint
from core.ids import new_id
from core.settings import settings
from domain.agents.schemas import MODES, Agent, Mode
from domain.billing import service as billing
from domain.tasks import service as tasks
from domain.tasks.schemas import Bill, Claimed, Departure, Line, Status, Step, StepRecord
from domain.tenants.schemas import Organisation
from domain.wallet import service as wallet
from domain.wallet.schemas import Payment, PriceItem

_PARALLEL_CALLS = 8
# As long as the database may be away, a step waits to be written.
_PATIENCE, _PAUSE = timedelta(seconds=60), 0.2

T_co = TypeVar("T_co", covariant=True)


class _Write(Protocol[T_co]):
    """Something that is written in a transaction; `is_again` where an earlier one may have been committed."""

    def __call__(self, connection: Connection, *, is_again: bool) -> T_co: ...


Also = Callable[[Connection], None]
"""what is written in the same transaction as a step"""


def _nothing_else(_: Connection) -> None:
    """The step alone."""


class LimitReached(RotaError):
    """The agent reached one of its limits."""


class OutcomeUnknown(RotaError):
    """An action was begun and its outcome was never recorded: a person must say whether it happened."""


class Parked(RotaError):
    """An action waits for a person's word; the task goes on when it comes."""

    def __init__(self, waiting_for: str) -> None:
        super().__init__()
        self.waiting_for = waiting_for


@dataclass(frozen=True)
class Workplace:
    """What a worker process brings to every task: its models, and the threads for parallel tool calls."""

    models: Models
    threads: ToolThreads
    books: Books = field(default_factory=Books)
    gates: Gates = field(default_factory=Gates)

    @classmethod
    def open(cls, models: Models, *, threads: int = 2 * _PARALLEL_CALLS) -> "Workplace":
        """A workplace of its own for one process."""
        return cls(models, ToolThreads(threads, share=_PARALLEL_CALLS))


class Work:
    """One task in hand."""

    def __init__(self, task: Claimed, workplace: Workplace, interrupt: Interrupt, sink: Sink) -> None:
        self.task = task
        self.workplace = workplace
        self.interrupt = interrupt
        self.sink = sink
        self.purse = Purse(task, workplace.books)
        self.now = task.now
        self.messages: dict[int, Message] = {}
        """what was said in steps that are done, as far as it was read"""
        self._stopwatch = Stopwatch()
        self._journal: dict[int, Step] = {}
        self._deferred: list[tuple[StepRecord, UUID, Stopwatch]] = []
        self._tokens, self._cost = 0, Decimal(0)
        workplace.books.claimed(task)
        with self.asking() as ask:
            self.organisation: Organisation = workplace.books.organisation(ask, task)
            self.purse.is_prepaid = self.organisation.is_prepaid
            self.agent: Agent = workplace.books.agent(ask, task)
            if task.claim > 1:  # before the first there is nothing
                self._journal = tasks.journal(ask(), task.id)
                self._tokens, self._cost = tasks.spent_on(ask(), task.id)

    @property
    def fallback_kinds(self) -> set[str]:
        """The kinds of errors, beside outages, after which the fallback model is asked."""
        own = self.agent.retry.fallback_on
        return set(settings().fallback_on if own is None else own)

    @property
    def zone(self) -> ZoneInfo:
        """The organisation's time zone."""
        return ZoneInfo(self.organisation.time_zone)

    @property
    def root_id(self) -> UUID:
        """The task at the beginning of all that led to this one."""
        return self.task.root_id or self.task.id

    @property
    def agents(self) -> list[str]:
        """The slugs of the agents that led to this task, its own last: the rules for each of them hold."""
        return [*(self.task.bounds.agents if self.task.bounds else ()), self.agent.slug]

    @property
    def mode(self) -> Mode:
        """The agent's mode, or a stricter one of the agents that led to this task."""
        return min(self.agent.mode, self.task.bounds.mode, key=MODES.index) if self.task.bounds else self.agent.mode

    def may_use(self, tool: str) -> bool:
        """Whether the agent has a tool now, and so had the agents that led to this task."""
        return tool in self.agent.tools and (self.task.bounds is None or tool in self.task.bounds.tools)

    def finished(self, seq: int) -> Step | None:
        """The step `seq`, if an earlier attempt, or this one, has finished it."""
        step = self._journal.get(seq)
        return step if step and step.status == "done" else None

    def is_in_doubt(self, seq: int) -> bool:
        """Whether the action of step `seq` was begun and nobody knows what became of it."""
        step = self._journal.get(seq)
        return step is not None and step.status != "done"

    def journal(self) -> list[Step]:
        """The finished steps in order."""
        return [step for _, step in sorted(self._journal.items()) if step.status == "done"]

    @contextlib.contextmanager
    def doing(self, what: str, limit: timedelta | None = None) -> Iterator[None]:
        """Within, the watchdog knows what is being done, and from when on it takes too long."""
        with self.interrupt.doing(what, limit or self.agent.limits.step_timeout):
            yield

    def check(self) -> None:
        """Before every step: go on only when nobody asked for a stop and time and limits allow it.

        Raises:
            Stopped: cancelled, draining, the claim is lost, or the deadline has passed.
            LimitReached: of time, tokens or cost.
        """
        self.check_stopped()
        elapsed = self._stopwatch.elapsed()
        limits = self.agent.limits
        if elapsed >= limits.max_duration:
            raise LimitReached(f"The agent worked for its limit of {limits.max_duration.total_seconds():g} s.")
        if self.tokens_used() >= limits.max_tokens:
            raise LimitReached(f"The agent used its limit of {limits.max_tokens} tokens.")
        if self.cost() >= limits.max_cost:
            raise LimitReached(f"The agent spent its limit of ${limits.max_cost}.")

    def check_stopped(self) -> None:
        """Before a step that costs nothing: raise `Stopped` when somebody asked for it or the deadline has passed."""
        self.interrupt.check()
        if self.task.remaining is not None and self._stopwatch.elapsed() >= self.task.remaining:
            raise Stopped("deadline")

    def time_for_a_call(self) -> timedelta:
        """How long a model call may take: the agent's step time-out, or what is left until the deadline."""
        left = self.agent.limits.max_duration - self._stopwatch.elapsed()
        if self.task.remaining is not None:
            left = min(left, self.task.remaining - self._stopwatch.elapsed())
        return max(timedelta(milliseconds=100), min(self.agent.limits.step_timeout, left))

    def tokens_used(self) -> int:
        """Tokens of all model calls so far, failed tries included."""
        return self._tokens

    def cost(self) -> Decimal:
        """Dollars billed so far, failed tries included."""
        return self._cost

    @contextlib.contextmanager
    def asking(self) -> Iterator[Ask]:
        """Within, a connection for whoever asks for one, in one transaction; none is taken where nobody does. What was
        deferred is written with it. It need not be durable: what is promised here is promised again where it is lost.
        """
        taken: list[Connection] = []
        with contextlib.ExitStack() as stack:

            def ask() -> Connection:
                if not taken:
                    taken.append(stack.enter_context(transaction(self.task.org_id, durable=False)))
                    self._write_lines(taken[0], self._lines())
                return taken[0]

            yield ask
        if taken:
            self._deferred.clear()

    def defer(self, record: StepRecord) -> None:
        """Have a step written with what comes next, at once: a step that called nobody and changed nothing, a decision
        that leads to one look at our own records, the last ones before the task's end.
        """
        self._deferred.append((record, new_id(), Stopwatch()))
        self._keep(tasks.as_step(self.task, record))

    def keep_what_was_deferred(self) -> None:
        """Before a try ends otherwise than with the task's end: write what is not written yet."""

        def nothing_more(connection: Connection, *, is_again: bool) -> None:  # noqa: ARG001  it may be so at any time
            self._write_lines(connection, self._unwritten(connection))

        if self._deferred:
            self._insist(nothing_more)
            self._deferred.clear()

    def _lines(self) -> list[Line]:
        return [Line(record, step_id, made.milliseconds()) for record, step_id, made in self._deferred]

    def finish(self, result: dict[str, Any]) -> None:
        """End the task with a result: what was deferred and the task's end are written in one transaction.

        Raises:
            ClaimLost: somebody else has the task; nothing is written.
        """
        departure = Departure(status="succeeded", outcome="succeeded", counted=True, result=result)

        def end(connection: Connection, *, is_again: bool) -> None:  # noqa: ARG001  it may be so at any time
            tasks.lock(connection, self.task)
            self._write_lines(connection, self._unwritten(connection))
            tasks.leave_locked(connection, self.task, departure)
            _release(connection, self.task, has_reserves=self.purse.has_reserved)

        failpoint("before-leave")
        if not self._finish_at_once(result):
            self._insist(end)
        self._deferred.clear()
        failpoint("after-leave")

    def _finish_at_once(self, result: dict[str, Any]) -> bool:
        """The same in one statement, for the end that nearly every task has. False where it did not come to that, or
        nobody knows whether it did.
        """
        if self.purse.has_reserved:
            return False
        org = self.task.org_id
        try:
            with contextlib.ExitStack() as stack:
                lines = self._lines()
                payments = self._payments(lambda: stack.enter_context(transaction(org)), lines)
            return tasks.finish(Alone(org), self.task, lines, payments, result)
        except (Unavailable, DBAPIError):  # whatever stands in the way says so again
            return False

    def _unwritten(self, connection: Connection) -> list[Line]:
        """What was deferred and is not written: a try whose answer was lost may have been committed."""
        return [line for line in self._lines() if not tasks.written_step(connection, line.id)]

    def _write_lines(self, connection: Connection, lines: list[Line]) -> None:
        """Write steps, with what is billed for them and what they are paid with."""
        if not lines:
            return
        payments = self._payments(lambda: connection, lines)
        self.purse.spent(*payments)
        if not tasks.record_steps(connection, self.task, lines, payments):
            for payment in payments:
                self.purse.pay_anew(connection, payment)
        for line in lines:
            if line.record.bill is not None:
                self.purse.draw(connection, line.record.bill.cost.billed)

    def _payments(self, ask: Ask, lines: list[Line]) -> list[Payment]:
        """What is paid for model calls; an answer that is of no use costs no token."""
        called = [record.seq for record, _, _ in lines if record.bill is not None and record.status == "done"]
        made = [self.purse.payment(ask, seq, "internal_llm_call") for seq in called]
        return [payment for payment in made if payment is not None]

    def record(self, record: StepRecord, also: Also = _nothing_else) -> Step:
        """Write a step into the journal, and what `also` writes with it; a finished one is never done again."""

        def make(connection: Connection) -> StepRecord:
            if also is not _nothing_else:
                tasks.hold(connection, self.task)  # the task's row before any other: so nobody blocks anybody for good
                also(connection)
            return record

        failpoint("before-step")
        return self._keep(self._write(make))

    def record_with(self, run: Callable[[Connection], StepRecord]) -> Step:
        """Run `run` and record what it made in one transaction that holds the claim: both happen, or neither."""

        def held(connection: Connection) -> StepRecord:
            tasks.hold(connection, self.task)
            return run(connection)

        return self._keep(self._write(held, is_paid_for=False))

    def record_reading(self, run: Callable[[Connection], StepRecord]) -> Step:
        """The same for what only reads: there is nothing to hold, or to undo, and it can be read again."""
        has_cost = any(record.bill is not None for record, _, _ in self._deferred)
        return self._keep(self._write(run, is_paid_for=False, durable=has_cost))

    def begin(self, record: StepRecord, also: Also = _nothing_else) -> None:
        """Write down the intent of an effect that must not happen twice. Until it is finished, its outcome is in
        doubt.
        """

        def make(connection: Connection) -> StepRecord:
            tasks.hold(connection, self.task)
            also(connection)
            return record.model_copy(update={"status": "begun"})

        failpoint("before-intent")
        self._keep(self._write(make))

    def finish_begun(self, record: StepRecord, also: Also = _nothing_else) -> None:
        """Record what came of a step that was begun."""

        def finish(connection: Connection, *, is_again: bool) -> None:
            if not (is_again and tasks.has_finished(connection, self.task, record)):
                tasks.hold(connection, self.task)
                tasks.finish_begun_step(connection, self.task, record)
                also(connection)

        self._insist(finish)
        begun = self._journal.pop(record.seq)
        if record.status == "done":
            self._journal[record.seq] = begun.model_copy(update=record.model_dump(include={"status", "output"}))

    def ensure_paid(self, ask: Ask, item: PriceItem, *, dollars: Callable[[], Decimal]) -> None:
        """Before a model call: see to it that its token and its highest possible cost are there, and stay there.

        Raises:
            InsufficientFunds, BudgetExhausted: the task must wait until they are.
            LimitReached: the tasks that stem from the same root have cost as much as they may.
        """
        if self.task.bounds is not None:
            try:
                tasks.ensure_tree_affordable(ask(), self.root_id, self.task.bounds.tree.max_cost)
            except Conflict as error:
                raise LimitReached(error.message) from error
        self.purse.ensure(ask, item)
        self.purse.reserve(ask, dollars)

    def _write(
        self, make: Callable[[Connection], StepRecord], *, is_paid_for: bool = True, durable: bool = True
    ) -> Step:
        step_id = new_id()

        def write(connection: Connection, *, is_again: bool) -> Step:
            written = tasks.written_step(connection, step_id) if is_again else None
            if written is not None:  # and with it what was deferred
                return written
            record = make(connection)
            self._write_lines(connection, [*self._lines(), Line(record, step_id)])
            return tasks.as_step(self.task, record)

        step = self._insist(write, is_paid_for=is_paid_for, durable=durable)
        if self._deferred:  # and nobody works beside us: before several tools do, something was written
            self._deferred.clear()
        return step

    def _insist(self, write: "_Write[T_co]", *, is_paid_for: bool = True, durable: bool = True) -> T_co:
        """What was paid for, or done to the world, is written down as soon as the database is back. Whether a commit
        whose answer was lost took place is looked up before it is tried again.
        """
        stopwatch, is_again = Stopwatch(), False
        while True:
            try:
                with transaction(self.task.org_id, durable=durable) as connection:
                    return write(connection, is_again=is_again)
            except Unavailable:
                if stopwatch.elapsed() > _PATIENCE or self.interrupt.reason == "claim_lost":
                    raise
                if not is_paid_for:
                    self.interrupt.check()
                is_again = True
                time.sleep(_PAUSE)

    def _keep(self, step: Step) -> Step:
        failpoint("after-step")
        self._tokens += step.input_tokens + step.output_tokens
        self._cost += step.billed_cost
        if step.status != "failed":
            self._journal[step.seq] = step
        return step


def leave(connection: Connection, task: Claimed, departure: Departure) -> Status:
    """End a worker's claim on a task, and what was promised to it meanwhile. Returns the task's status.

    Raises:
        ClaimLost: somebody else has the task; nothing is written.
    """
    status = tasks.leave(connection, task, departure)
    _release(connection, task, has_reserves=True)
    return status


def _release(connection: Connection, task: Claimed, *, has_reserves: bool) -> None:
    """End what was promised to a task."""
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
    bill: Bill | None = None,
    status: Any = "done",
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
        bill=bill,
    )
