"""Act: carry out what was decided, independent calls side by side, each with its own step in the journal."""

import contextvars
import functools

from agents.call import Call, resolve
from agents.client_results import take_results
from agents.decision import Decision
from agents.interrupt import Stopped
from agents.invocation import Invoker, refuse_beyond_limit
from agents.perceive import Perception
from agents.screening import screen
from agents.work import OutcomeUnknown, Parked, Work
from core.logging import get_logger
from core.text import described
from domain.claims.service import ClaimLost
from domain.wallet.schemas import InsufficientFunds

log = get_logger(__name__)


def act(work: Work, perception: Perception, decision: Decision) -> int:
    """Carry out the decision's calls that are not done yet. Return the sequence number of the step after them.

    Raises:
        Parked: some wait for a person's decision, or for results of the client's tools; all others are done.
        OutcomeUnknown: it was never recorded whether some of them happened.
    """
    all_calls, most = resolve(work, perception, decision), work.agent.limits.max_calls
    calls = [call for call in all_calls if not call.is_client]
    missing = [call for call in calls[:most] if _is_missing(work, call)]
    waiting: str | None = None
    if missing:
        work.check()
        invoker = Invoker(work, perception, decision)
        screening = screen(work, decision, missing, invoker)
        _carry_out_all(work, invoker, screening.to_do)
        waiting = screening.waiting
    for call in calls[most:]:
        if work.journal.finished(call.seq) is None:
            refuse_beyond_limit(work, call, most, len(calls))
    if doubtful := [call.name for call in calls if work.journal.is_in_doubt(call.seq)]:
        raise OutcomeUnknown(f"Nobody can tell whether this happened: {', '.join(doubtful)}.")
    waiting = take_results(work, [call for call in all_calls if call.is_client and _is_missing(work, call)]) or waiting
    if waiting:
        raise Parked(waiting)
    return decision.seq + 1 + len(all_calls)


def _is_missing(work: Work, call: Call) -> bool:
    return work.journal.finished(call.seq) is None and not work.journal.is_in_doubt(call.seq)


def _carry_out_all(work: Work, invoker: Invoker, to_do: list[Call]) -> None:
    if len(to_do) == 1:
        invoker.carry_out(to_do[0])
        return
    errors = work.workplace.threads.carry_out(
        functools.partial(contextvars.copy_context().run, invoker.carry_out, call) for call in to_do
    )
    if errors:
        raise _most_severe(errors)


def _most_severe(errors: list[BaseException]) -> BaseException:
    """Return the error that decides what becomes of the task, whichever call failed first. The others are logged."""
    first, *others = sorted(errors, key=_severity)
    for error in others:
        log.warning("another call of the decision failed", error=described(error))
    return first


def _severity(error: BaseException) -> int:
    """Return 0 for the most severe: the claim is lost, a stop, a failure, and last what the task can wait for."""
    if isinstance(error, ClaimLost):
        return 0
    if isinstance(error, Stopped):
        return 1
    return 3 if isinstance(error, InsufficientFunds) else 2
