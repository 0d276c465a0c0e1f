"""Schedules, the scheduler as a whole, and events that start schedules."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query

from core.wakeup import wakeup
from domain.schedules import service as schedules
from domain.schedules import sweep
from domain.schedules.schemas import (
    Answer,
    Backfill,
    BackfillOutcome,
    Checked,
    EventOutcome,
    NewEvent,
    Pause,
    Question,
    RunNow,
    Schedule,
    ScheduleDetail,
    ScheduleFields,
    SchedulerStatus,
    ScheduleRun,
    Upcoming,
)
from web.auth import Needs, Principal
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["schedules"])

Reads = Annotated[Principal, Depends(Needs("schedules:read"))]
Writes = Annotated[Principal, Depends(Needs("schedules:write"))]
Runs = Annotated[Principal, Depends(Needs("schedules:run"))]
Posts = Annotated[Principal, Depends(Needs("events:write"))]
SlugPath = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", examples=["morning-report"])]
Limit = Annotated[int, Query(ge=1, le=200)]


@router.post("/schedules/validate", responses=describes(401, 403, 422))
def validate_schedule(question: Question, caller: Reads) -> Answer:
    """Check a cron expression: say what is wrong with it, or what it means in words and when it is due next (UTC)."""
    with caller.reading() as connection:
        return schedules.validate(connection, caller.org_id, question)


@router.get("/schedules", responses=describes(401, 403, 422))
def list_schedules(
    caller: Reads,
    after: Annotated[str, Query(max_length=63, description="the last slug of the page before")] = "",
    limit: Limit = 200,
) -> list[Schedule]:
    """List schedules, by slug."""
    with caller.reading() as connection:
        return schedules.list_schedules(connection, after=after, limit=limit)


@router.put("/schedules/{slug}", responses=describes(401, 403, 404, 422))
def put_schedule(slug: SlugPath, fields: ScheduleFields, caller: Writes) -> ScheduleDetail:
    """Add or change a schedule. Its tasks run for you as the user. Runs that are due by the old times are started
    first. If the times do not change, neither does the next due time: no run is lost, none is repeated.
    """
    with caller.writing() as connection:
        made = schedules.put_schedule(connection, caller.org_id, slug, fields, caller.user_id, caller.scopes)
    wakeup.hint()
    return made


@router.get("/schedules/{slug}", responses=describes(401, 403, 404, 422))
def get_schedule(slug: SlugPath, caller: Reads) -> ScheduleDetail:
    """Return a schedule, with its times in words and its next five due times."""
    with caller.reading() as connection:
        return schedules.get_schedule(connection, slug)


@router.delete("/schedules/{slug}", status_code=204, responses=describes(401, 403, 404, 422))
def remove_schedule(slug: SlugPath, caller: Writes) -> None:
    """Remove a schedule and the records of its runs. Tasks that it started go on."""
    with caller.writing() as connection:
        schedules.remove_schedule(connection, slug)


@router.get("/schedules/{slug}/runs", responses=describes(401, 403, 404, 422))
def list_schedule_runs(
    slug: SlugPath, caller: Reads, before: UUID | None = None, limit: Limit = 50
) -> list[ScheduleRun]:
    """List the due times of a schedule, the latest first, each with its task or the reason why there is none."""
    with caller.reading() as connection:
        return schedules.list_runs(connection, slug, before=before, limit=limit)


@router.post("/schedules/{slug}/pause", responses=describes(401, 403, 404, 422))
def pause_schedule(slug: SlugPath, caller: Writes, given: Pause = Pause()) -> ScheduleDetail:
    """Stop a schedule from starting runs by itself. Runs that come due meanwhile are left out; buffered runs wait."""
    with caller.writing(note=given.note) as connection:
        return schedules.pause(connection, slug, given.note)


@router.post("/schedules/{slug}/resume", responses=describes(401, 403, 404, 422))
def resume_schedule(slug: SlugPath, caller: Writes, given: Pause = Pause()) -> ScheduleDetail:
    """Resume a schedule, beginning with the first due time that is still to come."""
    with caller.writing(note=given.note) as connection:
        resumed = schedules.resume(connection, slug, given.note)
    wakeup.hint()
    return resumed


@router.post("/schedules/{slug}/run", status_code=202, responses=describes(401, 403, 404, 409, 422))
def run_schedule(slug: SlugPath, caller: Runs, given: RunNow = RunNow()) -> ScheduleRun:
    """Run a schedule now, paused or not. The run does not count against `remaining_runs`."""
    with caller.writing() as connection:
        run = schedules.run_now(connection, caller.org_id, slug, given.overlap)
    wakeup.hint()
    return run


@router.post("/schedules/{slug}/backfill", status_code=202, responses=describes(401, 403, 404, 422))
def backfill_schedule(slug: SlugPath, wanted: Backfill, caller: Runs) -> BackfillOutcome:
    """Start the runs of a period that has passed; with `preview`, only say how many runs there are and what they would
    cost.
    """
    with caller.writing(start=wanted.start.isoformat(), end=wanted.end.isoformat()) as connection:
        outcome = schedules.backfill(connection, caller.org_id, slug, wanted)
    wakeup.hint()
    return outcome


@router.post("/events", status_code=202, responses=describes(401, 403, 409, 422))
def post_event(
    event: NewEvent,
    caller: Posts,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=150)] = None,
) -> EventOutcome:
    """Post an event: each schedule that follows events of this name, and whose filter the payload fits, runs once. With
    an `Idempotency-Key`, posting the event again starts nothing more.
    """
    with caller.writing(event=event.name) as connection:
        outcome = schedules.post_event(connection, caller.org_id, event, idempotency_key)
    wakeup.hint()
    return outcome


# ── the scheduler as a whole ─────────────────────────────────────────────────────────────────────────────────────────


@router.get("/scheduler", responses=describes(401, 403))
def scheduler_status(caller: Reads) -> SchedulerStatus:
    """Report the state of the scheduler: what is active, paused and overdue, and the results of the last day."""
    with caller.reading() as connection:
        return schedules.scheduler_status(connection)


@router.get("/scheduler/upcoming", responses=describes(401, 403, 422))
def upcoming_runs(caller: Reads, limit: Limit = 20) -> list[Upcoming]:
    """List the next due times over all schedules, the soonest first, without jitter."""
    with caller.reading() as connection:
        return schedules.upcoming(connection, limit)


@router.post("/scheduler/stop", responses=describes(401, 403, 422))
def stop_scheduler(caller: Writes, given: Pause = Pause()) -> SchedulerStatus:
    """Stop the scheduler: nothing comes due until it is started again. Schedules can still be run by hand."""
    with caller.writing(note=given.note) as connection:
        return schedules.stop(connection, caller.org_id, given.note)


@router.post("/scheduler/start", responses=describes(401, 403))
def start_scheduler(caller: Writes) -> SchedulerStatus:
    """Start the scheduler again. Runs that came due meanwhile are started within each schedule's catch-up window."""
    with caller.writing() as connection:
        return schedules.start(connection)


@router.post("/scheduler/check", responses=describes(401, 403))
def check_scheduler(caller: Runs) -> Checked:
    """Start what is due now, instead of within a second."""
    found = sweep.sweep(caller.org_id)
    with caller.reading() as connection:
        caller.note(connection, started=found.started)
    wakeup.hint()
    return found
