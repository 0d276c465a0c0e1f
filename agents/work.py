"""One task being worked on: what its steps need to know, and the limits that hold for it."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from agents.funds import TaskFunds
from agents.interrupt import Interrupt, Stopped
from agents.journal import Journal
from agents.llm.base import Message, UserMessage
from agents.llm.gates import Gates
from agents.llm.models import Models
from agents.reference import LazyConnection, ReferenceCache
from agents.sink import Sink
from agents.threads import ToolThreads
from core.clock import Stopwatch
from core.errors import Conflict, RotaError
from core.settings import settings
from domain.agents.schemas import MODES, Agent, Mode
from domain.claims.schemas import Claimed
from domain.tasks import service as tasks
from domain.tenants.schemas import Organisation
from domain.wallet.schemas import PriceItem

_PARALLEL_CALLS = 8


class LimitReached(RotaError):
    """The agent reached one of its limits."""


class OutcomeUnknown(RotaError):
    """An action was begun and its outcome was never recorded: a person must say whether it happened."""


class Parked(RotaError):
    """An action waits for a person's decision; the task goes on when it is made."""

    def __init__(self, waiting_for: str) -> None:
        super().__init__()
        self.waiting_for = waiting_for


@dataclass(frozen=True)
class Workplace:
    """What a worker process brings to every task: its models, and the threads for parallel tool calls."""

    models: Models
    threads: ToolThreads
    reference: ReferenceCache = field(default_factory=ReferenceCache)
    gates: Gates = field(default_factory=Gates)

    @classmethod
    def open(cls, models: Models, *, threads: int = 2 * _PARALLEL_CALLS) -> "Workplace":
        """The workplace of one process."""
        return cls(models, ToolThreads(threads, share=_PARALLEL_CALLS))

    def journal(self, task: Claimed, interrupt: Interrupt) -> Journal:
        """The journal of a task that was claimed just now."""
        self.reference.claimed(task)
        return Journal(task, TaskFunds(task, self.reference), interrupt)


class Work:
    """One task in hand."""

    def __init__(self, task: Claimed, journal: Journal, workplace: Workplace, interrupt: Interrupt, sink: Sink) -> None:
        self.task = task
        self.journal = journal
        self.funds = journal.funds
        self.workplace = workplace
        self.interrupt = interrupt
        self.sink = sink
        self.now = task.now
        self.messages: dict[int, Message] = {}
        """what was said in steps that are done, as far as it was read"""
        self.history: tuple[Message, ...] = ()
        """what was said before in the conversation in which the task answers"""
        self.has_untrusted_history = False
        self.asked: UserMessage | None = None
        """the message of the task with its attachments, if it has any"""
        self._stopwatch = Stopwatch()
        with journal.lazy_transaction() as connect:
            self.organisation: Organisation = workplace.reference.organisation(connect, task)
            self.funds.is_prepaid = self.organisation.is_prepaid
            self.agent: Agent = workplace.reference.agent(connect, task)
            if task.claim > 1:  # the first claim finds an empty journal
                journal.load(connect())

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

    @contextlib.contextmanager
    def doing(self, what: str, limit: timedelta | None = None) -> Iterator[None]:
        """Within, the watchdog knows what is being done, and when it has taken too long."""
        with self.interrupt.doing(what, limit or self.agent.limits.step_timeout):
            yield

    def check(self) -> None:
        """Before every step: go on only if no stop was asked for and time and limits allow it.

        Raises:
            Stopped: cancelled, draining, the claim is lost, or the deadline has passed.
            LimitReached: of time, tokens or cost.
        """
        self.check_stopped()
        limits = self.agent.limits
        if self._stopwatch.elapsed() >= limits.max_duration:
            raise LimitReached(f"The agent worked for its limit of {limits.max_duration.total_seconds():g} s.")
        if self.journal.tokens >= limits.max_tokens:
            raise LimitReached(f"The agent used its limit of {limits.max_tokens} tokens.")
        if self.journal.cost >= limits.max_cost:
            raise LimitReached(f"The agent spent its limit of ${limits.max_cost}.")

    def check_stopped(self) -> None:
        """Before a step that costs nothing: raise `Stopped` if a stop was asked for or the deadline has passed."""
        self.interrupt.check()
        if self.task.remaining is not None and self._stopwatch.elapsed() >= self.task.remaining:
            raise Stopped("deadline")

    def time_for_a_call(self) -> timedelta:
        """How long a model call may take: the agent's step time-out, or what is left until the deadline."""
        left = self.agent.limits.max_duration - self._stopwatch.elapsed()
        if self.task.remaining is not None:
            left = min(left, self.task.remaining - self._stopwatch.elapsed())
        return max(timedelta(milliseconds=100), min(self.agent.limits.step_timeout, left))

    def ensure_paid(self, connect: LazyConnection, item: PriceItem, *, dollars: Callable[[], Decimal]) -> None:
        """Before a model call: reserve its token and its highest possible cost.

        Raises:
            InsufficientFunds, BudgetExhausted: the task must wait until they are there.
            LimitReached: the tasks that stem from the same root have cost as much as they may.
        """
        if self.task.bounds is not None:
            try:
                tasks.ensure_tree_affordable(connect(), self.root_id, self.task.bounds.tree.max_cost)
            except Conflict as error:
                raise LimitReached(error.message) from error
        self.funds.ensure(connect, item)
        self.funds.reserve(connect, dollars)
