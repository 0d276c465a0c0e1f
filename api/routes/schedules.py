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
    """Validate a cron expression: return its errors, or its meaning in words and its next due times (UTC)."""
    with caller.reading() as connection:
        return schedules.validate(connection, caller.org_id, question)


@router.get("/schedules", responses=describes(401, 403, 422))
def list_schedules(
    caller: Reads,
    after: Annotated[str, Query(max_length=63, description="last slug of the previous page")] = "",
    limit: Limit = 200,
) -> list[Schedule]:
    """List schedules by slug."""
    with caller.reading() as connection:
        return schedules.list_schedules(connection, after=after, limit=limit)


@router.put("/schedules/{slug}", responses=describes(401, 403, 404, 422))
def put_schedule(slug: SlugPath, fields: ScheduleFields, caller: Writes) -> ScheduleDetail:
    """Add or change a schedule. You become the user of its tasks. Runs that are due by the old times are started first.
    If the times do not change, the next due time does not change either: no run is lost or repeated.
    """
    with caller.writing() as connection:
        made = schedules.put_schedule(connection, caller.org_id, slug, fields, caller.user_id, caller.scopes)
    wakeup.hint()
    return made


@router.get("/schedules/{slug}", responses=describes(401, 403, 404, 422))
def get_schedule(slug: SlugPath, caller: Reads) -> ScheduleDetail:
    """Return a schedule with its times in words and its next five due times."""
    with caller.reading() as connection:
        return schedules.get_schedule(connection, slug)


@router.delete("/schedules/{slug}", status_code=204, responses=describes(401, 403, 404, 422))
def remove_schedule(slug: SlugPath, caller: Writes) -> None:
    """Remove a schedule and the records of its runs. Its tasks continue."""
    with caller.writing() as connection:
        schedules.remove_schedule(connection, slug)


@router.get("/schedules/{slug}/runs", responses=describes(401, 403, 404, 422))
def list_schedule_runs(
    slug: SlugPath, caller: Reads, before: UUID | None = None, limit: Limit = 50
) -> list[ScheduleRun]:
    """List the runs of a schedule, latest first, each with its task or the reason why it has none."""
    with caller.reading() as connection:
        return schedules.list_runs(connection, slug, before=before, limit=limit)


@router.post("/schedules/{slug}/pause", responses=describes(401, 403, 404, 422))
def pause_schedule(slug: SlugPath, caller: Writes, given: Pause = Pause()) -> ScheduleDetail:
    """Pause a schedule. Runs that come due during the pause are skipped; buffered runs wait."""
    with caller.writing(note=given.note) as connection:
        return schedules.pause(connection, slug, given.note)


@router.post("/schedules/{slug}/resume", responses=describes(401, 403, 404, 422))
def resume_schedule(slug: SlugPath, caller: Writes, given: Pause = Pause()) -> ScheduleDetail:
    """Resume a schedule from its next due time on."""
    with caller.writing(note=given.note) as connection:
        resumed = schedules.resume(connection, slug, given.note)
    wakeup.hint()
    return resumed


@router.post("/schedules/{slug}/run", status_code=202, responses=describes(401, 403, 404, 409, 422))
def run_schedule(slug: SlugPath, caller: Runs, given: RunNow = RunNow()) -> ScheduleRun:
    """Start a run now, even if the schedule is paused. The run does not count against `remaining_runs`."""
    with caller.writing() as connection:
        run = schedules.run_now(connection, caller.org_id, slug, given.overlap)
    wakeup.hint()
    return run


@router.post("/schedules/{slug}/backfill", status_code=202, responses=describes(401, 403, 404, 422))
def backfill_schedule(slug: SlugPath, wanted: Backfill, caller: Runs) -> BackfillOutcome:
    """Start the runs of a past period. With `preview`, only return their number and estimated cost."""
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
    """Post an event. Each schedule for this event whose filter matches the payload runs once. Idempotent with an
    `Idempotency-Key`.
    """
    with caller.writing(event=event.name) as connection:
        outcome = schedules.post_event(connection, caller.org_id, event, idempotency_key)
    wakeup.hint()
    return outcome


# ── the scheduler as a whole ─────────────────────────────────────────────────────────────────────────────────────────


@router.get("/scheduler", responses=describes(401, 403))
def scheduler_status(caller: Reads) -> SchedulerStatus:
    """Return the state of the scheduler: active, paused and overdue schedules, and the runs of the last 24 hours."""
    with caller.reading() as connection:
        return schedules.scheduler_status(connection)


@router.get("/scheduler/upcoming", responses=describes(401, 403, 422))
def upcoming_runs(caller: Reads, limit: Limit = 20) -> list[Upcoming]:
    """List the next due times of all schedules, soonest first, without jitter."""
    with caller.reading() as connection:
        return schedules.upcoming(connection, limit)


@router.post("/scheduler/stop", responses=describes(401, 403, 422))
def stop_scheduler(caller: Writes, given: Pause = Pause()) -> SchedulerStatus:
    """Stop the scheduler: no schedule comes due until it is started again. Manual runs are still possible."""
    with caller.writing(note=given.note) as connection:
        return schedules.stop(connection, caller.org_id, given.note)


@router.post("/scheduler/start", responses=describes(401, 403))
def start_scheduler(caller: Writes) -> SchedulerStatus:
    """Start the scheduler again. Missed runs are started within each schedule's catch-up window."""
    with caller.writing() as connection:
        return schedules.start(connection)


@router.post("/scheduler/check", responses=describes(401, 403))
def check_scheduler(caller: Runs) -> Checked:
    """Start due runs now, instead of at the next periodic check."""
    found = sweep.sweep(caller.org_id)
    with caller.reading() as connection:
        caller.note(connection, started=found.started)
    wakeup.hint()
    return found
