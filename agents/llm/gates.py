"""Delay calls to a model as its pace requires, and record what their outcomes say about the provider.

The paces are stored in Postgres, shared by all worker processes (`domain/pacing`). A call to a model without a pace
costs one dictionary look-up. A process learns of paces that other processes made through its heartbeat.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy.exc import DBAPIError

from agents.interrupt import Interrupt
from agents.llm.errors import OUTAGE, ModelError
from agents.llm.limits import forget_answer, limits_of_answer
from core.clock import Stopwatch
from core.db import system_transaction
from core.errors import RotaError
from core.logging import get_logger
from domain.pacing import rules
from domain.pacing import service as pacing
from domain.pacing.schemas import AlertKind, Cause, Known, Route
from domain.pacing.service import Turn

log = get_logger(__name__)

_PATIENCE = timedelta(seconds=10)
"""the longest that a thread waits for its call's turn; otherwise the task goes back to the queue"""
_EVIDENCE = 3
"""failures in a row that count as an outage if calls have succeeded recently"""
_LATELY = 10.0  # seconds
_SHORT_TIMEOUT = timedelta(seconds=20)
"""the time-out of a call that had less time than this says more about its agent than about the provider"""
_FIRST_COOL_DOWN = 1.0  # seconds at most
_DOUBLING, _ALL_OF_THEM = 0.1, 10  # seconds; providers refuse within one doubling, and ten of them allow 1,024 calls
_LOOK_EVERY = 0.02
_NEWS_AGE = 3.0  # seconds until the heartbeat must have read a pace that was made here

_ALERTS: dict[str, AlertKind] = {"quota": "quota", "authentication": "authentication"}


class CoolingDown(RotaError):
    """The call may not begin now: its provider limits us, or is down."""

    def __init__(self, route: Route, cause: Cause, wait: timedelta) -> None:
        self.cause: Cause = cause
        self.wait = wait
        why = "limits how often it is called" if cause == "limit" else "is down"
        super().__init__(f"{route.provider} {why}; {route.model} may be called in {wait.total_seconds():.1f} s.")


@dataclass
class _Record:
    """The outcomes of this process's calls to one model."""

    failures: int = 0
    """in a row"""
    succeeded_at: float | None = None
    asked_at: float | None = None
    """when the first call was made"""
    asked: int = 0
    """calls made since, during the slow start"""
    has_begun: bool = False
    """whether the slow start is over"""
    held_until: float = 0.0
    """no call begins before, because the model's first pace is being written"""


@dataclass
class Passage:
    """A call in progress."""

    turn: Turn | None = None
    """None if the model has no pace"""
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    tokens: int = 0
    """the number it used; set by the caller"""


class Gates:
    """This process's knowledge of paces and alerts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paced: dict[Route, float] = {}
        """models with a pace, and when this process learned of it"""
        self._alerted: dict[tuple[str, str], float] = {}
        """accounts (provider, key) with an alert, and when this process learned of it"""
        self._records: dict[Route, _Record] = {}

    def learn(self, known: Known) -> None:
        """Adopt what the heartbeat read. Keep entries made here within `_NEWS_AGE`: it may have read before them."""
        now = time.monotonic()
        told = [Route(*one) for one in known.paced]
        with self._lock:
            new = {route: at for route, at in self._paced.items() if now - at < _NEWS_AGE}
            self._paced = {route: self._paced.get(route, 0.0) for route in told} | new
            raised = {account: at for account, at in self._alerted.items() if now - at < _NEWS_AGE}
            self._alerted = {account: self._alerted.get(account, 0.0) for account in known.alerts} | raised

    @contextlib.contextmanager
    def passing(self, route: Route, interrupt: Interrupt, limit: timedelta) -> Iterator[Passage]:
        """Enclose a call to a model, which may take `limit`: wait until it may begin, and record its outcome.

        Raises:
            CoolingDown: its turn is too far away.
            Stopped: a stop was requested while it waited.
        """
        record = self._record(route)
        if not record.has_begun:
            self._begin_slowly(route, record)
        passage = Passage(self._wait_for_turn(route, interrupt) if route in self._paced else None)
        forget_answer()
        try:
            yield passage
        except ModelError as error:
            if interrupt.reason is None:  # otherwise the call failed because it was stopped
                self._note_error(route, passage, error, limit)
            raise
        self._note_success(route, passage)

    def _begin_slowly(self, route: Route, record: _Record) -> None:
        """Slow start: allow one call to a model at first, and twice as many with every `_DOUBLING`. Otherwise a process
        that begins with a hundred tasks would learn of a limit by a hundred refusals. Once the model has a pace, the
        pace replaces this.
        """
        while not record.has_begun and route not in self._paced:
            with self._lock:
                now = time.monotonic()
                record.asked_at = record.asked_at or now
                doublings = (now - record.asked_at) / _DOUBLING
                record.has_begun = doublings >= _ALL_OF_THEM
                if record.has_begun or record.asked < int(2**doublings):
                    record.asked += 1
                    return
            time.sleep(_LOOK_EVERY)

    def _wait_for_turn(self, route: Route, interrupt: Interrupt) -> Turn | None:
        """Wait until the model may be called. Return None if it has no pace, or the pace cannot be read."""
        while True:
            try:
                with system_transaction(durable=False) as connection:
                    turn = pacing.reserve(connection, route, _PATIENCE)
            except (RotaError, DBAPIError) as error:  # recording the call will wait for the database
                log.warning("pace not read", error=str(error))
                return None
            if turn is None:
                left = self._record(route).held_until - time.monotonic()
                if left > 0:  # its first pace is being written
                    raise CoolingDown(route, "limit", timedelta(seconds=left))
                self._paced.pop(route, None)
                return None
            if turn.wait is None:
                raise CoolingDown(route, turn.pace.cause, turn.opens)
            if not turn.wait:
                return turn
            interrupt.wait(turn.wait)
            if self._is_still(route, turn):
                return turn

    @staticmethod
    def _is_still(route: Route, turn: Turn) -> bool:
        try:
            with system_transaction(durable=False) as connection:
                return pacing.is_still(connection, route, turn)
        except (RotaError, DBAPIError):
            return True

    def _note_success(self, route: Route, passage: Passage) -> None:
        record = self._record(route)
        record.failures, record.succeeded_at = 0, time.monotonic()
        with _as_far_as_possible():
            if route in self._paced:
                with system_transaction(durable=False) as connection:
                    has_waited = passage.turn is not None and bool(passage.turn.wait)
                    pacing.succeeded(connection, route, passage.stopwatch.elapsed(), has_waited=has_waited)
            else:
                self._look_ahead(route, passage.tokens)
            if (route.provider, route.key) in self._alerted:
                with system_transaction() as connection:
                    pacing.end_alerts(connection, route.account)
                with self._lock:
                    self._alerted.pop((route.provider, route.key), None)

    def _look_ahead(self, route: Route, tokens: int) -> None:
        """Make a pace before the provider refuses, if the response's headers say that a limit is nearly exhausted."""
        limits = limits_of_answer(datetime.now(UTC))
        if limits is not None and rules.foreseen(limits, 0.0, tokens=tokens):
            with system_transaction(durable=False) as connection:
                pacing.foresee(connection, route, limits, tokens)
            self._note_pace(route)

    def _note_error(self, route: Route, passage: Passage, error: ModelError, limit: timedelta) -> None:
        with _as_far_as_possible():
            if error.kind == "rate_limited":
                self._cool_down(route)
                with system_transaction(durable=False) as connection:
                    pacing.refused(
                        connection,
                        route,
                        passage.stopwatch.elapsed(),
                        number=passage.turn.number if passage.turn else None,
                        asked=error.retry_after,
                        limits=limits_of_answer(datetime.now(UTC)),
                    )
            elif error.kind in _ALERTS and not route.is_own:  # operators are not alerted to an organisation's own key
                with system_transaction() as connection:
                    pacing.raise_alert(connection, route.account, _ALERTS[error.kind], error.message)
                with self._lock:
                    self._alerted[route.provider, route.key] = time.monotonic()
            elif error.kind in OUTAGE and self._is_outage(route, passage, error, limit):
                self._cool_down(route)
                with system_transaction(durable=False) as connection:
                    pacing.failed(connection, route, passage.stopwatch.elapsed(), asked=error.retry_after)

    def _is_outage(self, route: Route, passage: Passage, error: ModelError, limit: timedelta) -> bool:
        """Whether a failed call means that others would fail too. Of many calls, some fail without an outage."""
        is_own = error.kind == "timeout" and limit < _SHORT_TIMEOUT and passage.stopwatch.elapsed() >= 0.9 * limit
        if is_own:
            return False
        record = self._record(route)
        record.failures += 1
        at = record.succeeded_at
        has_worked_lately = at is not None and time.monotonic() - at < _LATELY
        return route in self._paced or record.failures >= _EVIDENCE or not has_worked_lately

    def _cool_down(self, route: Route) -> None:
        """Let no call of this process to the model begin until its first pace is stored, which takes a moment."""
        if route not in self._paced:
            self._record(route).held_until = time.monotonic() + _FIRST_COOL_DOWN
        self._note_pace(route)

    def _note_pace(self, route: Route) -> None:
        with self._lock:
            self._paced[route] = time.monotonic()

    def _record(self, route: Route) -> _Record:
        return self._records.setdefault(route, _Record())


@contextlib.contextmanager
def _as_far_as_possible() -> Iterator[None]:
    """Log an outage of the database instead of raising it: what was not noted is noted after the next call."""
    try:
        yield
    except (RotaError, DBAPIError) as error:
        log.warning("pace not noted", error=str(error))
