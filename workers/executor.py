"""Execution of one task by a worker: claim it, run it, and end the claim. A message is only a hint that it is due."""

import contextlib
import random
import time
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from agents.interrupt import Interrupt, Stopped
from agents.journal import Journal
from agents.llm.errors import OUTAGE
from agents.llm.gates import CoolingDown
from agents.pipeline import run_pipeline
from agents.sink import Sink
from agents.work import OutcomeUnknown, Parked, Workplace
from core.clock import Stopwatch
from core.db import transaction
from core.errors import RotaError, Unavailable
from core.failpoints import failpoint
from core.logging import get_logger
from core.prepared import SingleStatement
from core.settings import settings
from core.wakeup import wakeup
from domain.agents import service as agents
from domain.agents.schemas import RetryPolicy
from domain.billing.service import BudgetExhausted
from domain.claims import service as claims
from domain.claims.schemas import Claimed, ClaimOutcome, Spell
from domain.tasks.schemas import Status, TaskError
from domain.wallet.schemas import InsufficientFunds
from workers import retry
from workers.presence import Presence

log = get_logger(__name__)

_NOT_RECORDED = "not_recorded"
_PAUSE_OF_THE_SILENT = 1.0


class Executor:
    """Carries out the tasks that messages name."""

    def __init__(self, presence: Presence, workplace: Workplace, sink: Sink) -> None:
        self._presence = presence
        self._workplace = workplace
        self._sink = sink
        self._dice = random.Random()  # noqa: S311  jitter, not secrets

    def execute(self, org: UUID, task_id: UUID, claim: int) -> None:
        """Execute the task if the message is still valid: the task is due, unclaimed, and at this claim number."""
        if not self._presence.is_fresh:
            time.sleep(_PAUSE_OF_THE_SILENT)  # or this worker would take all messages from the healthy
        if self._presence.is_draining or not self._presence.is_fresh:
            self._decline(org, task_id, claim)
            return
        failpoint("before-claim")
        try:
            # If a crash of the server loses this claim, the task is claimed again, and writes under the lost claim are
            # refused.
            at = SingleStatement(org, durable=False)
            tokens = self._workplace.reference.first_hold() if claim == 0 else 0
            task = claims.claim(at, task_id, claim, self._presence.id, tokens=tokens)
        except (Unavailable, DBAPIError) as error:
            log.warning("cannot claim; the message will be missed and published again", error=str(error))
            return
        if task is None:
            return
        failpoint("after-claim")
        # Registered only after the claim is committed: the heartbeat stops every task that is registered here and that
        # the database does not list.
        with (
            self._presence.holding(task) as interrupt,
            structlog.contextvars.bound_contextvars(task=str(task.id), agent=task.agent, claim=task.claim),
        ):
            self._carry_through(task, interrupt)
        wakeup.hint()

    def _decline(self, org: UUID, task_id: UUID, claim: int) -> None:
        """Leave a task to other workers. If that cannot be written, the dispatcher detects that its message is gone."""
        with contextlib.suppress(RotaError), transaction(org) as connection:
            claims.decline(connection, task_id, claim)
        wakeup.hint()

    def _carry_through(self, task: Claimed, interrupt: Interrupt) -> None:
        stopwatch = Stopwatch()
        journal = self._workplace.journal(task, interrupt)
        outcome = self._work(task, journal, interrupt, stopwatch)
        if outcome is not None and (status := self._end_claim(journal, outcome)) is not None:
            log.info("task left", outcome=outcome.outcome, status=status, ms=stopwatch.milliseconds())

    def _work(self, task: Claimed, journal: Journal, interrupt: Interrupt, stopwatch: Stopwatch) -> ClaimOutcome | None:
        """Run the task and return how the claim ends; None if another worker has the task."""
        try:
            result = run_pipeline(task, journal, self._workplace, interrupt, self._sink)
        except claims.ClaimLost:
            log.warning("another worker has the task; what this try would have written was refused")
            return None
        except Stopped as stopped:
            return retry.after_stop(stopped)
        except OutcomeUnknown as doubt:
            return retry.after_doubt(doubt)
        except (Parked, InsufficientFunds, BudgetExhausted) as reason:
            return retry.after_parking(reason)
        except BaseException as error:  # noqa: BLE001  foreign code may raise anything, and the claim must still end
            return self._after_error(task, error, stopwatch)
        return ClaimOutcome(
            status="succeeded", outcome="succeeded", counted=True, result=result.model_dump(mode="json")
        )

    def _after_error(self, task: Claimed, error: BaseException, stopwatch: Stopwatch) -> ClaimOutcome:
        if isinstance(error, CoolingDown):
            log.info("cooling down", why=error.message)
            return retry.after_cool_down(error, remaining=_left(task, stopwatch), dice=self._dice)
        failure = retry.failure_of(error)
        log.warning("try failed", kind=failure.kind, error=failure.message, exc_info=failure.kind == "tool_failed")
        policy, spell = self._policy(task), self._spell(task)
        patience = timedelta(seconds=settings().provider_patience) if policy.patience is None else policy.patience
        return retry.after_failure(
            failure,
            attempts=task.attempts,
            tries=task.claim,
            max_attempts=task.max_attempts,
            policy=policy,
            remaining=_left(task, stopwatch),
            dice=self._dice,
            spell=spell,
            patience=patience,
        )

    def _policy(self, task: Claimed) -> RetryPolicy:
        try:
            with transaction(task.org_id) as connection:
                return agents.agent_of_task(connection, task.agent_id).retry
        except Exception:  # noqa: BLE001  loading the agent may be what failed, and the claim must still end
            return RetryPolicy()

    def _spell(self, task: Claimed) -> Spell:
        try:
            with transaction(task.org_id) as connection:
                return claims.spell(connection, task, OUTAGE)
        except (RotaError, DBAPIError):
            return Spell()

    def _end_claim(self, journal: Journal, outcome: ClaimOutcome) -> Status | None:
        """End the claim and return the task's status; None if it could not be written: then the heartbeat or the reaper
        hands the task back.
        """
        while True:
            try:
                return journal.end_claim(outcome)
            except claims.ClaimLost:
                log.warning("another worker has the task; the end of this try was refused")
                return None
            except Unavailable:
                log.exception("the end of the try was not written; the heartbeat will hand the task back")
                return None
            except InsufficientFunds as reason:
                journal.discard_deferred()  # these steps are run again when they can be paid for
                outcome = retry.after_parking(reason)
            except Exception as error:
                log.exception("the end of the try was refused by the database", outcome=outcome.outcome)
                if outcome.error and outcome.error.kind == _NOT_RECORDED:
                    return None
                journal.discard_deferred()
                message = f"The outcome could not be written: {retry.failure_of(error).message}"
                last = TaskError(kind=_NOT_RECORDED, message=message)
                outcome = ClaimOutcome(status="failed", outcome="failed", counted=True, error=last)


def _left(task: Claimed, stopwatch: Stopwatch) -> timedelta | None:
    """Return the time until a task's deadline; None if it has none."""
    return None if task.remaining is None else task.remaining - stopwatch.elapsed()
