"""Operations on schedules that people call. `sweep.py` starts the runs."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from core.errors import Conflict, InvalidInput, NotFound
from core.ids import new_id
from domain.agents import service as agents
from domain.events import service as events
from domain.schedules import cron, queries, sweep, timing, words
from domain.schedules.schemas import (
    Answer,
    Backfill,
    BackfillOutcome,
    CronTimes,
    EventOutcome,
    Interval,
    NewEvent,
    OnEvent,
    Overlap,
    Question,
    Schedule,
    ScheduleDetail,
    ScheduleFields,
    SchedulerStatus,
    ScheduleRun,
    State,
    StoredSchedule,
    Times,
    Upcoming,
    Work,
    Zone,
)
from domain.tasks import service as tasks
from domain.tenants import service as tenants

_SHOWN = 5
_MOST_BACKFILLED = 5_000
_ZONE = TypeAdapter(Zone)
_NO_ZONE: dict[cron.Language, str] = {
    "en": "{!r} is no time zone; write an IANA name such as Europe/Madrid",
    "es": "{!r} no es una zona horaria; escribe un nombre IANA como Europe/Madrid",
}


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def validate(connection: Connection, org: UUID, question: Question) -> Answer:
    """Validate a cron expression: return its errors, or its meaning and its next due times."""
    problems: list[cron.Problem] = []
    read: cron.Cron | None = None
    try:
        read = cron.parse(question.cron, question.language)
    except cron.Refused as refused:
        problems += refused.problems
    zone = tenants.get_organisation(connection, org).time_zone if question.timezone is None else question.timezone
    try:
        _ZONE.validate_python(zone)
    except ValidationError:
        problems.append(cron.Problem("timezone", _NO_ZONE[question.language].format(zone)))
    if read is None or problems:
        return Answer(valid=False, errors=problems, description=None, next_runs=[])
    after = question.after or queries.now(connection)
    return Answer(
        valid=True,
        errors=[],
        description=words.describe_cron(read, zone, question.language),
        next_runs=list(islice(cron.upcoming(read, ZoneInfo(zone), after), question.count)),
    )


def list_schedules(connection: Connection, *, after: str = "", limit: int = 200) -> list[Schedule]:
    """Return the schedules whose slug sorts after `after`, in slug order."""
    return [_shown(row) for row in queries.schedules(connection, after=after, limit=limit)]


def get_schedule(connection: Connection, slug: str) -> ScheduleDetail:
    """Return the schedule called `slug`, with its next due times.

    Raises:
        NotFound: there is no such schedule.
    """
    row = _found(connection, slug)
    upcoming = sweep.calendar_of(row).after(queries.now(connection)) if row.remaining_runs != 0 else iter(())
    number = _SHOWN if row.remaining_runs is None else min(_SHOWN, row.remaining_runs)
    return ScheduleDetail(**_shown(row).model_dump(), next_runs=list(islice(upcoming, number)))


def _found(connection: Connection, slug: str, *, locked: bool = False) -> StoredSchedule:
    row = queries.schedule(connection, slug, locked=locked)
    if row is None:
        known = ", ".join(queries.slugs(connection, 20)) or "none yet"
        raise NotFound(f"There is no schedule called {slug!r}. There are: {known}.")
    return row


def _shown(row: StoredSchedule) -> Schedule:
    times = sweep.calendar_of(row).times
    descriptions = words.describe_in_each(times, row.time_zone)
    return Schedule(
        id=row.id,
        slug=row.slug,
        name=row.name,
        times=times,
        task=Work.model_validate(row.task),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        jitter=row.jitter,
        overlap=row.overlap,
        catch_up=row.catch_up,
        pause_after_failures=row.pause_after_failures,
        remaining_runs=row.remaining_runs,
        monthly_budget=row.monthly_budget,
        state=_state(row),
        note=row.note,
        failures_in_a_row=row.failures_in_a_row,
        next_at=row.next_at if _state(row) == "active" else None,
        user_id=row.user_id,
        created_at=row.created_at,
        changed_at=row.changed_at,
        description=descriptions["en"],
        descriptions=descriptions,
    )


def _state(row: StoredSchedule) -> State:
    if row.is_paused:
        return "paused"
    if row.remaining_runs == 0 or (row.next_at is None and row.times["kind"] != "event"):
        return "finished"
    return "stopped" if row.is_stopped else "active"


def list_runs(connection: Connection, slug: str, *, before: UUID | None = None, limit: int = 50) -> list[ScheduleRun]:
    """Return the runs of a schedule, latest first.

    Raises:
        NotFound: there is no such schedule.
    """
    schedule_id = _found(connection, slug).id
    return queries.runs(connection, schedule_id, before=before, limit=limit)


# ── changing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def put_schedule(
    connection: Connection, org: UUID, slug: str, fields: ScheduleFields, user_id: UUID, scopes: list[str] | None
) -> ScheduleDetail:
    """Add or change a schedule. From now on its tasks run for `user_id` and within `scopes`.

    Runs that are due by the old times are started before the new times apply. If the times do not change, the next due
    time does not either.

    Raises:
        NotFound: there is no such agent.
        InvalidInput: the times never come due.
    """
    agents.get_agent(connection, fields.task.agent)
    if queries.schedule(connection, slug, locked=True) is not None:
        sweep.bring_up_to_date(connection, org, slug)
    old = queries.schedule(connection, slug)
    now = queries.now(connection)
    times = _settled(connection, org, fields, old, now)
    settled = fields.model_copy(update={"times": times})
    next_at = _next_at(settled, old, now)
    if old is not None and next_at != old.next_at:
        sweep.note_left_behind(connection, org, old)
    schedule_id = old.id if old else new_id()
    row = {
        **settled.model_dump(exclude={"times", "task"}),
        "times": times.model_dump(mode="json"),
        "task": fields.task.model_dump(mode="json"),
        "id": schedule_id,
        "org": org,
        "slug": slug,
        "next_at": next_at,
        "due_at": _due_at(connection, schedule_id, next_at, fields.jitter),
        "event": times.event if isinstance(times, OnEvent) else None,
        "user": user_id,
        "scopes": scopes,
    }
    queries.put_schedule(connection, row)
    if old is not None and row["event"] not in {None, old.times.get("event")}:  # they wait with the other's payload
        queries.skip_buffered_events(connection, old.id, "the schedule follows another event now")
    return get_schedule(connection, slug)


def _settled(
    connection: Connection, org: UUID, fields: ScheduleFields, old: StoredSchedule | None, now: datetime
) -> Times:
    """Return the times with omitted values filled in: an interval's anchor, a cron expression's time zone."""
    times = fields.times
    if isinstance(times, CronTimes) and times.timezone is None:
        return times.model_copy(update={"timezone": tenants.get_organisation(connection, org).time_zone})
    if isinstance(times, Interval) and times.anchor is None:
        before = sweep.calendar_of(old).times if old else None
        kept = before.anchor if isinstance(before, Interval) and before.every == times.every else None
        return times.model_copy(update={"anchor": kept or now})
    return times


def _next_at(fields: ScheduleFields, old: StoredSchedule | None, now: datetime) -> datetime | None:
    if isinstance(fields.times, OnEvent):
        if fields.ends_at is not None and fields.ends_at <= now and (old is None or old.ends_at != fields.ends_at):
            raise InvalidInput(f"ends_at has passed; it is now {now.isoformat(timespec='seconds')}. Give a later time.")
        return None
    if fields.remaining_runs == 0:
        return None
    wanted = timing.Calendar(fields.times, fields.starts_at, fields.ends_at)
    if old is not None and sweep.calendar_of(old) == wanted and old.next_at is not None:
        return old.next_at
    found = wanted.next(now)
    if found is None and not (old is not None and sweep.calendar_of(old) == wanted):
        raise InvalidInput("These times never come: they are over, or lie outside starts_at and ends_at.")
    return found


def _due_at(connection: Connection, schedule_id: UUID, next_at: datetime | None, jitter: timedelta) -> datetime | None:
    if next_at is None or queries.stopped(connection) is not None:
        return None
    return timing.delayed(schedule_id, next_at, jitter)


def remove_schedule(connection: Connection, slug: str) -> None:
    """Delete a schedule and the records of its runs. Tasks that it started go on.

    Raises:
        NotFound: there is no such schedule.
    """
    _found(connection, slug)
    queries.delete_schedule(connection, slug)


def pause(connection: Connection, slug: str, note: str | None) -> ScheduleDetail:
    """Pause a schedule. Times that would come due during the pause are dropped; buffered runs wait. Pausing a paused
    schedule changes the note.

    Raises:
        NotFound: there is no such schedule.
    """
    queries.pause(connection, _found(connection, slug, locked=True).id, note)
    return get_schedule(connection, slug)


def resume(connection: Connection, slug: str, note: str | None) -> ScheduleDetail:
    """Resume a paused schedule; it is next due at the first time that lies ahead.

    Raises:
        NotFound: there is no such schedule.
    """
    row = _found(connection, slug, locked=True)
    if row.is_paused:
        next_at = sweep.calendar_of(row).next(queries.now(connection)) if row.remaining_runs != 0 else None
        queries.resume(connection, row.id, note, next_at, _due_at(connection, row.id, next_at, row.jitter))
        sweep.release(connection, [row.id])
    return get_schedule(connection, slug)


# ── running ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_now(connection: Connection, org: UUID, slug: str, overlap: Overlap | None) -> ScheduleRun:
    """Start a manual run of a schedule, paused or not. The run does not count against `remaining_runs`.

    Raises:
        NotFound: there is no such schedule.
        Conflict: an earlier run has not ended and the overlap policy is to skip, or the schedule's budget is spent.
    """
    row = _found(connection, slug, locked=True)
    wanted = sweep.Wanted(row, "manual", queries.now(connection), overlap or row.overlap)
    (made,) = sweep.start(connection, org, [wanted])
    (run,) = queries.runs_by_id(connection, [made])
    if run.status == "skipped":
        raise Conflict(f"It was not started: {run.reason}.")
    return run


def backfill(connection: Connection, org: UUID, slug: str, wanted: Backfill) -> BackfillOutcome:
    """Make up the runs of a past time range or, for a preview, return how many there would be.

    Raises:
        NotFound: there is no such schedule.
        InvalidInput: the range is not in the past, the schedule follows events, or the range has more than 5,000 runs.
    """
    row = _found(connection, slug, locked=not wanted.preview)
    if row.times["kind"] == "event":
        raise InvalidInput("This schedule follows events; there are no times to make up.")
    if wanted.end > queries.now(connection):
        raise InvalidInput("The range must lie in the past; what is to come comes due by itself.")
    due = _within(row, wanted)
    made: Sequence[UUID] = ()
    if not wanted.preview:
        made = sweep.start(connection, org, [sweep.Wanted(row, "backfill", at, wanted.overlap) for at in due])
    cost = queries.usual_cost(connection, row.id)
    if cost is None:
        cost = _usual_cost_of(connection, row.task["agent"])
    return BackfillOutcome(
        runs=len(due),
        first=due[0] if due else None,
        last=due[-1] if due else None,
        estimated_cost=None if cost is None else cost * len(due),
        made=len(made),
    )


def _within(row: StoredSchedule, wanted: Backfill) -> list[datetime]:
    found: list[datetime] = []
    for due in sweep.calendar_of(row).from_(wanted.start):
        if due > wanted.end:
            break
        if len(found) == _MOST_BACKFILLED:
            raise InvalidInput(f"More than {_MOST_BACKFILLED} runs lie in this range; take it in parts.")
        found.append(due)
    return found


def _usual_cost_of(connection: Connection, agent: str) -> Decimal | None:
    found = next((one for one in tasks.agent_statistics(connection) if one.agent == agent), None)
    return found.billed_cost / found.tasks if found and found.tasks else None


def post_event(connection: Connection, org: UUID, event: NewEvent, key: str | None) -> EventOutcome:
    """Tell the readers of the feed of an event, and start the schedules that wait for it. Idempotent for a `key`."""
    told = {"name": event.name, "payload": event.payload}
    events.record(connection, org, "event.raised", told, once=f"{event.name} {key}" if key else None)
    rows = queries.lock_for_event(connection, event.name)
    before = queries.runs_of_event(connection, event.name, key) if key is not None else {}
    now = queries.now(connection)
    wanted = [
        sweep.Wanted(row, "event", now, row.overlap, payload=event.payload, event_key=key)
        for row in rows
        if row.id not in before and _follows(row, event, now)
    ]
    made = sweep.start(connection, org, wanted)
    return EventOutcome(runs=queries.runs_by_id(connection, [*before.values(), *made]))


def _follows(row: StoredSchedule, event: NewEvent, now: datetime) -> bool:
    """Whether an event starts a schedule that waits for events of its name."""
    is_open = not row.is_stopped and row.remaining_runs != 0 and sweep.is_within(row, now)
    return is_open and timing.fits(row.times["filter"], event.payload)


# ── the scheduler as a whole ─────────────────────────────────────────────────────────────────────────────────────────


def scheduler_status(connection: Connection) -> SchedulerStatus:
    """Return the state of this organisation's scheduler."""
    stopped, counts = queries.stopped(connection), queries.status(connection)
    return SchedulerStatus(
        is_running=stopped is None,
        stopped_at=stopped.stopped_at if stopped else None,
        note=stopped.note if stopped else None,
        active=counts.active,
        paused=counts.paused,
        finished=counts.finished,
        overdue=counts.overdue,
        oldest_overdue_seconds=counts.oldest_overdue_seconds,
        open_runs=queries.open_run_count(connection),
        runs_today=queries.runs_of_a_day(connection),
        next_at=counts.next_at,
    )


def upcoming(connection: Connection, limit: int) -> list[Upcoming]:
    """Return the next due times across all schedules, soonest first."""
    found = [
        Upcoming(schedule=row.slug, name=row.name, at=at)
        for row in queries.upcoming(connection, limit)
        for at in islice(sweep.calendar_of(row).from_(row.next_at), min(limit, row.remaining_runs or limit))
    ]
    return sorted(found, key=lambda one: (one.at, one.schedule))[:limit]


def stop(connection: Connection, org: UUID, note: str | None) -> SchedulerStatus:
    """Stop the scheduler: nothing comes due until it is started. Manual runs stay possible."""
    queries.stop(connection, org, note)
    return scheduler_status(connection)


def start(connection: Connection) -> SchedulerStatus:
    """Start the scheduler again. Times that came due meanwhile are made up within each schedule's catch-up window."""
    if queries.stopped(connection) is not None:
        queries.start(connection)
        queries.advance(
            connection,
            [
                sweep.step(row, row.next_at, row.remaining_runs)
                for row in queries.lock_startable(connection)
                if row.remaining_runs != 0
            ],
        )
    return scheduler_status(connection)


def forget_runs(connection: Connection, days: int) -> int:
    """Delete ended runs that were created more than `days` ago; at most 1,000 per call."""
    return queries.forget_runs(connection, days, 1_000)


def organisations_in_need(connection: Connection) -> list[UUID]:
    """Return the organisations that have work for the sweep."""
    return queries.organisations_in_need(connection)
