"""A task being worked on: its journal, its limits, and the one way in which a step comes to be."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from agents.interrupt import Interrupt, Stopped
from agents.llm.models import Models
from agents.sink import Sink
from core.clock import Stopwatch
from core.db import transaction
from core.errors import RotaError
from domain.agents import service as agents
from domain.agents.schemas import Agent
from domain.tasks import service as tasks
from domain.tasks.schemas import Bill, Claimed, Step, StepRecord
from domain.tenants import service as tenants
from domain.tenants.schemas import Organisation

_PARALLEL_CALLS = 8


class LimitReached(RotaError):
    """The agent reached one of its limits."""


@dataclass(frozen=True)
class Workplace:
    """What a worker process brings to every task: its models, and the threads for parallel tool calls."""

    models: Models
    helpers: ThreadPoolExecutor

    @classmethod
    def open(cls, models: Models, *, helpers: int = 2 * _PARALLEL_CALLS) -> "Workplace":
        """A workplace of its own for one process."""
        return cls(models, ThreadPoolExecutor(helpers, thread_name_prefix="tool"))


class Work:
    """One task in hand."""

    def __init__(self, task: Claimed, workplace: Workplace, interrupt: Interrupt, sink: Sink) -> None:
        self.task = task
        self.workplace = workplace
        self.interrupt = interrupt
        self.sink = sink
        self._stopwatch = Stopwatch()
        with transaction(task.org_id) as connection:
            self.organisation: Organisation = tenants.get_organisation(connection, task.org_id)
            self.agent: Agent = agents.agent_of_task(connection, task.agent_id)
            self._journal = tasks.journal(connection, task.id)
            self._tokens, self._cost = tasks.spent_on(connection, task.id)
            self.now = tasks.now(connection)

    @property
    def zone(self) -> ZoneInfo:
        """The organisation's time zone."""
        return ZoneInfo(self.organisation.time_zone)

    def finished(self, seq: int) -> Step | None:
        """The step `seq`, if an earlier attempt, or this one, has finished it."""
        return self._journal.get(seq)

    def journal(self) -> list[Step]:
        """The finished steps in order."""
        return [self._journal[seq] for seq in sorted(self._journal)]

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

    def record(self, record: StepRecord) -> Step:
        """Write a step into the journal; a finished one is never done again."""
        with transaction(self.task.org_id) as connection:
            step = tasks.record_step(connection, self.task, record)
        return self._keep(step)

    def record_with(self, run: Callable[[Connection], StepRecord]) -> Step:
        """Run `run` and record what it made in one transaction that holds the claim: both happen, or neither."""
        with transaction(self.task.org_id) as connection:
            tasks.hold(connection, self.task)
            step = tasks.record_step(connection, self.task, run(connection))
        return self._keep(step)

    def _keep(self, step: Step) -> Step:
        self._tokens += step.input_tokens + step.output_tokens
        self._cost += step.billed_cost
        if step.status == "done":
            self._journal[step.seq] = step
        return step


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
