"""Start the runs of schedules (due, manual, backfilled or on an event) and record how they end.

Every transaction here locks the schedule's row and writes a run together with its task. A time therefore has one run
and a run one task, under any concurrency and after a crash at any point.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import Connection

from core.db import transaction
from core.ids import new_id
from domain.claims import service as claims
from domain.schedules import queries, timing
from domain.schedules.schemas import (
    Checked,
    OpenRun,
    Overlap,
    RunKind,
    RunStatus,
    StoredSchedule,
    Times,
    UpcomingSchedule,
    Work,
)
from domain.tasks import service as tasks
from domain.tasks.schemas import NewTask, SubmissionContext, TaskSubmission

PORTION = 500
"""schedules that one transaction handles"""
_TIMES: TypeAdapter[Any] = TypeAdapter(Times)
_NO_AGENT = "its agent is switched off or deleted, or the user for whom it runs is shut out"
_TOO_LATE = "it was found later than its catch-up window allows"
_NO_BUDGET = "its budget for this month is spent"


def calendar_of(row: StoredSchedule | UpcomingSchedule) -> timing.Calendar:
    """Return the calendar of a stored schedule."""
    return timing.Calendar(_TIMES.validate_python(row.times), row.starts_at, row.ends_at)


def is_within(row: StoredSchedule, moment: datetime) -> bool:
    """Whether `moment` lies between a schedule's start and end."""
    return (row.starts_at is None or row.starts_at <= moment) and (row.ends_at is None or moment <= row.ends_at)


def step(row: StoredSchedule, next_at: datetime | None, remaining: int | None) -> dict[str, Any]:
    """Return the step for `queries.advance`: the schedule is due next at `next_at`, with `remaining` runs left."""
    if remaining == 0:
        next_at = None
    due_at = timing.delayed(row.id, next_at, row.jitter) if next_at else None
    return {
        "id": str(row.id),
        "next_at": next_at.isoformat() if next_at else None,
        "due_at": due_at.isoformat() if due_at else None,
        "remaining_runs": remaining,
    }


def sweep(org: UUID) -> Checked:
    """Do all due work of an organisation, one portion per transaction. Return the totals."""
    total = Checked()
    while True:
        with transaction(org) as connection:
            found = attend(connection, org)
        total = Checked(**{name: value + getattr(found, name) for name, value in total})
        if found.attended == 0:
            return total


# ── one portion of the sweep ─────────────────────────────────────────────────────────────────────────────────────────


def attend(connection: Connection, org: UUID) -> Checked:
    """Handle one portion: record which runs have ended, start the runs buffered behind them, and start what is due.
    Needs a transaction of its own; call it again until it finds nothing.
    """
    ended = note_ended(connection)
    due = queries.lock_due(connection, PORTION)
    return _fire(connection, org, due).model_copy(update={"ended": ended, "attended": ended + len(due)})


def bring_up_to_date(connection: Connection, org: UUID, slug: str) -> None:
    """Start all due runs of one schedule, before its times are changed."""
    while True:
        row = queries.schedule(connection, slug)
        if row is None or row.due_at is None or row.due_at > queries.now(connection):
            return
        _fire(connection, org, [row])


def _fire(connection: Connection, org: UUID, due: Sequence[StoredSchedule]) -> Checked:
    if not due:
        return Checked()
    now = queries.now(connection)
    found = [(row, _come_due(row, now)) for row in due]
    missed = [_missed(row, came.missed_from, came.missed, _TOO_LATE) for row, came in found if came.missed_from]
    queries.insert_runs(connection, org, missed)
    wanted = [Wanted(row, "due", at, row.overlap) for row, came in found for at in came.due]
    starting = _Starting(connection, org, wanted)
    starting.carry_out()
    left = {row.id: row.remaining_runs for row in due} | starting.remaining  # of those with nothing to start, as before
    queries.advance(connection, [step(row, came.next_at, left[row.id]) for row, came in found])
    missed_count = sum(came.missed for _, came in found)
    return Checked(started=len(starting.accepted), skipped=starting.skipped, missed=missed_count)


def _come_due(row: StoredSchedule, now: datetime) -> timing.ComeDue:
    def delay(due: datetime) -> datetime:
        return timing.delayed(row.id, due, row.jitter)

    return timing.come_due(calendar_of(row), row.next_at, now, row.catch_up, delay, row.jitter)


def note_left_behind(connection: Connection, org: UUID, row: StoredSchedule) -> None:
    """Record as missed what came due while the scheduler was stopped: its times change, so it is not caught up on."""
    now = queries.now(connection)
    if row.is_paused or not row.is_stopped or row.next_at is None or row.next_at > now:
        return
    came = _come_due(row, now)
    count = came.missed + len(came.due)
    queries.insert_runs(connection, org, [_missed(row, row.next_at, count, "its times were changed while stopped")])


def _missed(row: StoredSchedule, since: datetime, count: int, reason: str) -> dict[str, Any]:
    return {
        "id": str(new_id()),
        "schedule_id": str(row.id),
        "kind": "due",
        "scheduled_for": since.isoformat(),
        "status": "missed",
        "overlap": row.overlap,
        "reason": reason,
        "missed": count,
    }


# ── starting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Wanted:
    """A requested run of a schedule whose row is locked."""

    schedule: StoredSchedule
    kind: RunKind
    scheduled_for: datetime
    overlap: Overlap
    payload: dict[str, Any] | None = None
    event_key: str | None = None
    id: UUID = field(default_factory=new_id)


def start(connection: Connection, org: UUID, wanted: Sequence[Wanted]) -> list[UUID]:
    """Start, buffer or skip these runs by their overlap policies. Return the ids of those that did not exist before."""
    starting = _Starting(connection, org, wanted)
    starting.carry_out()
    queries.advance(
        connection,
        [
            step(row, row.next_at, starting.remaining[row.id])
            for row in {one.schedule.id: one.schedule for one in wanted if one.kind == "event"}.values()
            if row.remaining_runs is not None
        ],
    )
    return starting.made


class _Starting:
    """A batch of requested runs: decided one by one, written in a few statements."""

    def __init__(self, connection: Connection, org: UUID, wanted: Sequence[Wanted]) -> None:
        self._connection = connection
        self._org = org
        self._wanted = wanted
        schedules = {one.schedule.id: one.schedule for one in wanted}
        self.remaining = {key: row.remaining_runs for key, row in schedules.items()}
        self._running: dict[UUID, list[UUID]] = defaultdict(list)
        self._buffered: dict[UUID, list[UUID]] = defaultdict(list)
        for run in queries.open_runs(connection, schedules):
            if run.status == "buffered":
                self._buffered[run.schedule_id].append(run.id)
            elif run.task_id is not None:
                self._running[run.schedule_id].append(run.task_id)
        self._over_budget = over_budget(connection, schedules.values())
        self._runs: dict[UUID, dict[str, Any]] = {}
        self._new_tasks: dict[UUID, NewTask] = {}
        self._to_cancel: list[UUID] = []
        self._replaced: list[UUID] = []
        self.made: list[UUID] = []
        self.accepted: set[UUID] = set()
        self.skipped = 0

    def carry_out(self) -> None:
        """Decide on every run and write the decisions."""
        for one in self._wanted:
            self._decide(one)
        noted = queries.insert_runs(self._connection, self._org, list(self._runs.values()))
        self.made = [run for run in self._runs if run in noted]
        submitted = {run: made for run, made in self._new_tasks.items() if run in noted}
        self.accepted = _submit(self._connection, submitted.values())
        refused = [run for run, new in submitted.items() if new.id not in self.accepted]
        if refused:
            queries.skip_runs(self._connection, refused, _NO_AGENT)
            queries.skip_buffered(self._connection, {self._runs[run]["schedule_id"] for run in refused}, _NO_AGENT)
        if self._replaced:
            queries.skip_runs(self._connection, self._replaced, "a later run took its place")
        tasks.cancel_unended(self._connection, self._to_cancel)
        self.skipped += len(refused)

    def _decide(self, one: Wanted) -> None:
        key = one.schedule.id
        left = self.remaining[key]
        if left == 0 and one.kind in {"due", "event"}:
            return
        if key in self._over_budget:
            self._note(one, "skipped", _NO_BUDGET)
            return
        choice = timing.choose(one.overlap, running=len(self._running[key]), buffered=len(self._buffered[key]))
        if choice == "skip":
            self._note(one, "skipped", "an earlier run has not ended")
            return
        if left is not None and one.kind in {"due", "event"}:
            self.remaining[key] = left - 1
        if choice == "start":
            new = new_task_of(one.schedule, one.kind, one.scheduled_for, one.payload)
            self._new_tasks[one.id] = new
            self._running[key].append(new.id)
            self._note(one, "running", None, new.id)
            return
        if choice == "replace":
            self._replace(key)
        self._buffered[key].append(one.id)
        self._note(one, "buffered", None)

    def _replace(self, key: UUID) -> None:
        for waiting in self._buffered[key]:
            if waiting in self._runs:
                self._runs[waiting] |= {"status": "skipped", "reason": "a later run took its place"}
            else:
                self._replaced.append(waiting)
        self._buffered[key] = []
        self._to_cancel += [task for task in self._running[key] if task not in self._to_cancel]

    def _note(self, one: Wanted, status: str, reason: str | None, task: UUID | None = None) -> None:
        self.skipped += status == "skipped"
        self._runs[one.id] = {
            "id": str(one.id),
            "schedule_id": str(one.schedule.id),
            "kind": one.kind,
            "scheduled_for": one.scheduled_for.isoformat(),
            "status": status,
            "overlap": one.overlap,
            "reason": reason,
            "payload": one.payload,
            "event_key": one.event_key,
            "task_id": str(task) if task else None,
        }


def new_task_of(
    schedule: StoredSchedule, kind: RunKind, scheduled_for: datetime, payload: dict[str, Any] | None
) -> NewTask:
    """Return the task of a run."""
    work = Work.model_validate(schedule.task)
    told = {"schedule": schedule.slug, "scheduled_for": scheduled_for.isoformat(), "kind": kind}
    more: dict[str, Any] = {"context": work.input.context | {"run": told}}
    if payload is not None:  # the payload of an event may contain text that strangers wrote
        event = {"name": schedule.times.get("event"), "payload": payload}  # no name if its times were changed since
        more = {"context": more["context"] | {"event": event}, "has_outside_context": True}
    asked = work.input.model_copy(update=more)
    submission = TaskSubmission(agent=work.agent, input=asked, priority=work.priority, contact=work.contact)
    return NewTask(submission, SubmissionContext(user_id=schedule.user_id, scopes=schedule.scopes))


def _submit(connection: Connection, new: Iterable[NewTask]) -> set[UUID]:
    """Submit the tasks of runs. Return the ids of those that were not refused."""
    return {task.id for task in tasks.submit_many(connection, list(new)) if task is not None}


def over_budget(connection: Connection, schedules: Iterable[StoredSchedule]) -> set[UUID]:
    """Return the schedules that have spent their budget for the organisation's month, counting their running tasks."""
    limits = {row.id: row.monthly_budget for row in schedules if row.monthly_budget is not None}
    if not limits:
        return set()
    spent: dict[UUID, Decimal] = {}
    for row in queries.spent_this_month(connection, limits):
        running = sum((claims.spent_on(connection, task).cost for task in row.running or ()), start=Decimal(0))
        spent[row.schedule_id] = row.spent + running
    return {key for key, limit in limits.items() if spent.get(key, Decimal(0)) >= limit}


# ── ending ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def note_ended(connection: Connection) -> int:
    """Record how runs ended, pause schedules that failed too often, and start buffered runs. Return how many ended."""
    found = queries.runs_that_ended(connection, PORTION)
    if not found:
        return 0
    schedules = {row.id: row for row in queries.lock(connection, set(found.values()))}
    ended = queries.end_runs(connection, [run for run, schedule_id in found.items() if schedule_id in schedules])
    by_schedule: dict[UUID, list[RunStatus]] = defaultdict(list)
    for run in sorted(ended, key=lambda run: run.ended_at):
        by_schedule[run.schedule_id].append(run.status)
    for key, statuses in by_schedule.items():
        _count_failures(connection, schedules[key], statuses)
    release(connection, by_schedule)
    return len(ended)


def _count_failures(connection: Connection, schedule: StoredSchedule, statuses: list[RunStatus]) -> None:
    failures, limit = schedule.failures_in_a_row, schedule.pause_after_failures
    for status in statuses:
        failures = failures + 1 if status in {"failed", "expired"} else 0 if status == "succeeded" else failures
        if limit is not None and failures >= limit and not schedule.is_paused:
            queries.pause(connection, schedule.id, f"paused itself: {failures} runs failed in a row")
            break  # what ended after them was started before the pause
    queries.set_failures(connection, schedule.id, failures)


def release(connection: Connection, schedules: Iterable[UUID]) -> None:
    """Start runs that were buffered behind ended ones: the earliest of each schedule that is not paused."""
    held = {row.id: row for row in queries.lock(connection, schedules) if not row.is_paused}
    running = set()
    first: dict[UUID, OpenRun] = {}
    for run in queries.open_runs(connection, held):
        if run.status == "running":
            running.add(run.schedule_id)
        else:
            first.setdefault(run.schedule_id, run)
    ready = {key: run for key, run in first.items() if key not in running}
    poor = over_budget(connection, [held[key] for key in ready])
    if poor:
        queries.skip_buffered(connection, poor, _NO_BUDGET)
    starting = {
        run.id: (key, new_task_of(held[key], run.kind, run.scheduled_for, run.payload))
        for key, run in ready.items()
        if key not in poor
    }
    accepted = _submit(connection, (new for _, new in starting.values()))
    queries.start_buffered(connection, {run: new.id for run, (_, new) in starting.items() if new.id in accepted})
    refused = [key for key, new in starting.values() if new.id not in accepted]
    if refused:
        queries.skip_buffered(connection, refused, _NO_AGENT)
