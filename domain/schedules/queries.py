"""All SQL about schedules.

A schedule's row is the lock: every transaction that starts, skips or ends one of its runs holds that row. A time
therefore comes due once under any concurrency, and the unique index on a run's time enforces it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.json_text import dump_json
from core.rows import fetch_all, fetch_one, fetch_optional
from domain.schedules.schemas import OpenRun, RunStatus, ScheduleRun, StoredSchedule, UpcomingSchedule


@dataclass(frozen=True, slots=True)
class EndedRun:
    """How a run ended, and when."""

    schedule_id: UUID
    status: RunStatus
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Spending:
    """What the ended runs of a schedule have cost this month, and the tasks of its running runs."""

    schedule_id: UUID
    spent: Decimal
    running: list[UUID] | None


@dataclass(frozen=True, slots=True)
class StoppedScheduler:
    """Since when the scheduler is stopped, and why."""

    stopped_at: datetime
    note: str | None


@dataclass(frozen=True, slots=True)
class ScheduleCounts:
    """The number of schedules in each state, the longest delay and the next due time."""

    active: int
    paused: int
    finished: int
    overdue: int
    oldest_overdue_seconds: float | None
    next_at: datetime | None


_FIELDS = (
    "slug, name, times, task, starts_at, ends_at, jitter, overlap, catch_up, pause_after_failures, remaining_runs, "
    "monthly_budget, user_id"
)
_SCHEDULE = f"""
    SELECT s.id, {_FIELDS}, scopes, is_paused, note, failures_in_a_row, next_at, due_at, created_at, changed_at,
           EXISTS (SELECT FROM schedulers) AS is_stopped,
           (SELECT time_zone FROM organisations o WHERE o.id = s.org_id) AS time_zone
      FROM schedules s
"""  # noqa: S608
_NOW = text("SELECT rota_now()")


def now(connection: Connection) -> datetime:
    """Return the database's time."""
    found: datetime = connection.execute(_NOW).scalar_one()
    return found


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def schedules(connection: Connection, *, after: str, limit: int) -> list[StoredSchedule]:
    """Return the schedules whose slug sorts after `after`, in slug order."""
    statement = text(f"{_SCHEDULE} WHERE slug > :after ORDER BY slug LIMIT :limit")
    return fetch_all(connection.execute(statement, {"after": after, "limit": limit}), StoredSchedule)


def schedule(connection: Connection, slug: str, *, locked: bool = False) -> StoredSchedule | None:
    """Return the schedule called `slug`, or None; with `locked`, lock its row."""
    statement = text(f"{_SCHEDULE} WHERE slug = :slug {'FOR UPDATE OF s' if locked else ''}")
    return fetch_optional(connection.execute(statement, {"slug": slug}), StoredSchedule)


def slugs(connection: Connection, limit: int) -> list[str]:
    """Return the first `limit` slugs."""
    return list(connection.execute(text("SELECT slug FROM schedules ORDER BY slug LIMIT :n"), {"n": limit}).scalars())


_RUN = """
    SELECT r.id, s.slug AS schedule, kind, scheduled_for, status, reason, missed, r.task_id, r.billed_cost,
           r.created_at, r.ended_at
      FROM schedule_runs r JOIN schedules s ON s.id = r.schedule_id
"""


def runs(connection: Connection, schedule_id: UUID, *, before: UUID | None, limit: int) -> list[ScheduleRun]:
    """Return the runs of a schedule that were recorded before the run `before`, latest first."""
    older = "AND r.id < :before" if before else ""
    statement = text(f"{_RUN} WHERE r.schedule_id = :schedule {older} ORDER BY r.id DESC LIMIT :limit")
    values = {"schedule": schedule_id, "before": before, "limit": limit}
    return fetch_all(connection.execute(statement, values), ScheduleRun)


def runs_by_id(connection: Connection, ids: Iterable[UUID]) -> list[ScheduleRun]:
    """Return these runs, ordered by their scheduled times."""
    statement = text(f"{_RUN} WHERE r.id = ANY(:ids) ORDER BY scheduled_for, r.id")
    return fetch_all(connection.execute(statement, {"ids": list(ids)}), ScheduleRun)


_OF_EVENT = text("""
    SELECT schedule_id, id FROM schedule_runs
     WHERE schedule_id IN (SELECT id FROM schedules WHERE event = :event) AND event_key = :key
""")


def runs_of_event(connection: Connection, event: str, key: str) -> dict[UUID, UUID]:
    """Return the ids of the runs that an event of this name and key started, by schedule."""
    return {row.schedule_id: row.id for row in connection.execute(_OF_EVENT, {"event": event, "key": key})}


def upcoming(connection: Connection, limit: int) -> list[UpcomingSchedule]:
    """Return the schedules that come due next, each with its first due time."""
    statement = text(
        "SELECT slug, name, times, starts_at, ends_at, remaining_runs, next_at FROM schedules "
        "WHERE due_at IS NOT NULL ORDER BY due_at, slug LIMIT :limit"
    )
    return fetch_all(connection.execute(statement, {"limit": limit}), UpcomingSchedule)


# ── changing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_PUT = text("""
    INSERT INTO schedules (id, org_id, slug, name, times, task, starts_at, ends_at, jitter, overlap, catch_up,
                           pause_after_failures, remaining_runs, monthly_budget, next_at, due_at, event, user_id,
                           scopes)
    VALUES (:id, :org, :slug, :name, CAST(:times AS jsonb), CAST(:task AS jsonb), :starts_at, :ends_at, :jitter,
            :overlap, :catch_up, :pause_after_failures, :remaining_runs, :monthly_budget, :next_at, :due_at, :event,
            :user, CAST(:scopes AS text[]))
    ON CONFLICT (org_id, slug) DO UPDATE
       SET name = excluded.name, times = excluded.times, task = excluded.task, starts_at = excluded.starts_at,
           ends_at = excluded.ends_at, jitter = excluded.jitter, overlap = excluded.overlap,
           catch_up = excluded.catch_up, pause_after_failures = excluded.pause_after_failures,
           remaining_runs = excluded.remaining_runs, monthly_budget = excluded.monthly_budget,
           next_at = excluded.next_at, due_at = CASE WHEN schedules.is_paused THEN NULL ELSE excluded.due_at END,
           event = excluded.event, user_id = excluded.user_id, scopes = excluded.scopes, changed_at = rota_now()
""")


def put_schedule(connection: Connection, row: dict[str, Any]) -> None:
    """Insert or update a schedule."""
    connection.execute(_PUT, row | {name: dump_json(row[name]) for name in ("times", "task")})


def delete_schedule(connection: Connection, slug: str) -> bool:
    """Delete a schedule and its runs; their tasks stay. Return whether it existed."""
    return connection.execute(text("DELETE FROM schedules WHERE slug = :slug"), {"slug": slug}).rowcount == 1


def pause(connection: Connection, schedule_id: UUID, note: str | None) -> None:
    """Pause a schedule: it no longer comes due."""
    statement = text(
        "UPDATE schedules SET is_paused = true, due_at = NULL, note = :note, changed_at = rota_now() WHERE id = :id"
    )
    connection.execute(statement, {"id": schedule_id, "note": note})


_RESUME = text("""
    UPDATE schedules SET is_paused = false, note = :note, failures_in_a_row = 0, next_at = :next_at, due_at = :due_at,
                         changed_at = rota_now()
     WHERE id = :id
""")


def resume(
    connection: Connection, schedule_id: UUID, note: str | None, next_at: datetime | None, due_at: datetime | None
) -> None:
    """Resume a schedule: it comes due again, first at `next_at`."""
    connection.execute(_RESUME, {"id": schedule_id, "note": note, "next_at": next_at, "due_at": due_at})


# ── the sweep ────────────────────────────────────────────────────────────────────────────────────────────────────────

_ORGANISATIONS_IN_NEED = text("""
    (SELECT DISTINCT org_id FROM schedules WHERE due_at <= rota_now())
    UNION
    (SELECT DISTINCT r.org_id FROM schedule_runs r
      WHERE r.status = 'running'
        AND NOT EXISTS (SELECT FROM tasks t WHERE t.id = r.task_id AND t.status IN ('queued', 'running', 'waiting')))
""")


def organisations_in_need(connection: Connection) -> list[UUID]:
    """Return the organisations with due schedules, or with ended runs that are still recorded as running."""
    return list(connection.execute(_ORGANISATIONS_IN_NEED).scalars())


_ENDED = text("""
    SELECT r.id, r.schedule_id FROM schedule_runs r
     WHERE r.status = 'running'
       AND NOT EXISTS (SELECT FROM tasks t WHERE t.id = r.task_id AND t.status IN ('queued', 'running', 'waiting'))
     ORDER BY r.schedule_id LIMIT :limit
""")


def runs_that_ended(connection: Connection, limit: int) -> dict[UUID, UUID]:
    """Return runs recorded as running whose task ended or was deleted by the cleanup, each with its schedule."""
    return dict(connection.execute(_ENDED, {"limit": limit}).all())


def lock(connection: Connection, ids: Iterable[UUID]) -> list[StoredSchedule]:
    """Lock these schedules and return them."""
    statement = text(f"{_SCHEDULE} WHERE s.id = ANY(:ids) ORDER BY s.id FOR UPDATE OF s")
    return fetch_all(connection.execute(statement, {"ids": list(ids)}), StoredSchedule)


def lock_due(connection: Connection, limit: int) -> list[StoredSchedule]:
    """Lock and return up to `limit` due schedules, longest overdue first; skip rows that are locked already."""
    statement = text(f"{_SCHEDULE} WHERE due_at <= rota_now() ORDER BY due_at LIMIT :limit FOR UPDATE OF s SKIP LOCKED")
    return fetch_all(connection.execute(statement, {"limit": limit}), StoredSchedule)


def lock_for_event(connection: Connection, event: str) -> list[StoredSchedule]:
    """Lock and return the schedules that an event of this name may start."""
    statement = text(f"{_SCHEDULE} WHERE event = :event AND NOT is_paused ORDER BY s.id FOR UPDATE OF s")
    return fetch_all(connection.execute(statement, {"event": event}), StoredSchedule)


_END = text("""
    UPDATE schedule_runs r
       SET status = coalesce(t.status::text, 'succeeded'), billed_cost = t.billed_cost,
           reason = CASE WHEN t.id IS NULL THEN 'its task was cleaned up before its end was noted' END,
           ended_at = coalesce(t.finished_at, rota_now())
      FROM schedule_runs o LEFT JOIN tasks t ON t.id = o.task_id
     WHERE o.id = r.id AND r.id = ANY(:ids) AND r.status = 'running'
    RETURNING r.schedule_id, r.status, r.ended_at
""")


def end_runs(connection: Connection, ids: Iterable[UUID]) -> list[EndedRun]:
    """Record how the tasks of these runs ended. Return the runs that were changed."""
    return fetch_all(connection.execute(_END, {"ids": list(ids)}), EndedRun)


_OPEN = text("""
    SELECT id, schedule_id, kind, scheduled_for, status, task_id, payload FROM schedule_runs
     WHERE schedule_id = ANY(:schedules) AND status IN ('buffered', 'running')
     ORDER BY scheduled_for, id
""")


def open_runs(connection: Connection, schedules: Iterable[UUID]) -> list[OpenRun]:
    """Return the running and buffered runs of these schedules, earliest first."""
    return fetch_all(connection.execute(_OPEN, {"schedules": list(schedules)}), OpenRun)


_SPENT = text("""
    SELECT r.schedule_id, coalesce(sum(r.billed_cost), 0) AS spent,
           array_remove(array_agg(r.task_id) FILTER (WHERE r.status = 'running'), NULL) AS running
      FROM schedule_runs r
     WHERE r.schedule_id = ANY(:schedules)
       AND r.created_at >= rota_month_begins(r.org_id, rota_month(r.org_id, rota_now()))
     GROUP BY r.schedule_id
""")


def spent_this_month(connection: Connection, schedules: Iterable[UUID]) -> list[Spending]:
    """Return, per schedule, what its ended runs have cost since the organisation's month began, and the tasks of its
    running runs.
    """
    return fetch_all(connection.execute(_SPENT, {"schedules": list(schedules)}), Spending)


_INSERT_RUNS = text("""
    INSERT INTO schedule_runs (id, org_id, schedule_id, kind, scheduled_for, status, overlap, reason, missed, event_key,
                               payload, task_id, ended_at)
    SELECT id, :org, schedule_id, kind, scheduled_for, status, overlap, reason, missed, event_key, payload, task_id,
           CASE WHEN status IN ('skipped', 'missed') THEN rota_now() END
      FROM jsonb_to_recordset(CAST(:runs AS jsonb))
        AS run (id uuid, schedule_id uuid, kind text, scheduled_for timestamptz, status text, overlap text, reason text,
                missed integer, event_key text, payload jsonb, task_id uuid)
    ON CONFLICT DO NOTHING
    RETURNING id
""")


def insert_runs(connection: Connection, org: UUID, runs: list[dict[str, Any]]) -> set[UUID]:
    """Insert runs. Return the ids of those that did not exist before."""
    return set(connection.execute(_INSERT_RUNS, {"org": org, "runs": dump_json(runs)}).scalars())


_START = text("""
    UPDATE schedule_runs r SET status = 'running', task_id = start.task_id
      FROM jsonb_to_recordset(CAST(:starts AS jsonb)) AS start (id uuid, task_id uuid)
     WHERE r.id = start.id AND r.status = 'buffered'
""")


def start_buffered(connection: Connection, starts: dict[UUID, UUID]) -> None:
    """Mark buffered runs as running, each with the task that was started for it."""
    listed = [{"id": str(run), "task_id": str(task)} for run, task in starts.items()]
    connection.execute(_START, {"starts": dump_json(listed)})


_SKIP = text("""
    UPDATE schedule_runs SET status = 'skipped', reason = :reason, task_id = NULL, ended_at = rota_now()
     WHERE id = ANY(:ids) AND status IN ('buffered', 'running')
""")


def skip_runs(connection: Connection, ids: Iterable[UUID], reason: str) -> None:
    """Mark runs as skipped that are buffered, or whose task could not be submitted."""
    connection.execute(_SKIP, {"ids": list(ids), "reason": reason})


_SKIP_BUFFERED = text("""
    UPDATE schedule_runs SET status = 'skipped', reason = :reason, ended_at = rota_now()
     WHERE schedule_id = ANY(:schedules) AND status = 'buffered'
""")


def skip_buffered(connection: Connection, schedules: Iterable[UUID], reason: str) -> None:
    """Mark all buffered runs of these schedules as skipped."""
    connection.execute(_SKIP_BUFFERED, {"schedules": list(schedules), "reason": reason})


_SKIP_BUFFERED_EVENTS = text("""
    UPDATE schedule_runs SET status = 'skipped', reason = :reason, ended_at = rota_now()
     WHERE schedule_id = :schedule AND status = 'buffered' AND kind = 'event'
""")


def skip_buffered_events(connection: Connection, schedule: UUID, reason: str) -> None:
    """Mark the buffered runs of a schedule that an event started as skipped."""
    connection.execute(_SKIP_BUFFERED_EVENTS, {"schedule": schedule, "reason": reason})


_ADVANCE = text("""
    UPDATE schedules s
       SET next_at = step.next_at, due_at = CASE WHEN s.is_paused THEN NULL ELSE step.due_at END,
           remaining_runs = step.remaining_runs
      FROM jsonb_to_recordset(CAST(:steps AS jsonb))
        AS step (id uuid, next_at timestamptz, due_at timestamptz, remaining_runs integer)
     WHERE s.id = step.id
""")


def advance(connection: Connection, steps: list[dict[str, Any]]) -> None:
    """Set the next due time and the remaining runs of each schedule from its step."""
    connection.execute(_ADVANCE, {"steps": dump_json(steps)})


def set_failures(connection: Connection, schedule_id: UUID, failures: int) -> None:
    """Set the number of runs of a schedule that failed in a row."""
    statement = text("UPDATE schedules SET failures_in_a_row = :n WHERE id = :id AND failures_in_a_row <> :n")
    connection.execute(statement, {"id": schedule_id, "n": failures})


_COSTS = text("""
    SELECT avg(billed_cost) FROM (
        SELECT billed_cost FROM schedule_runs
         WHERE schedule_id = :schedule AND billed_cost IS NOT NULL ORDER BY id DESC LIMIT 100) AS latest
""")


def usual_cost(connection: Connection, schedule_id: UUID) -> Decimal | None:
    """Return the average cost of the latest 100 ended runs; None if no run has ended."""
    found: Decimal | None = connection.execute(_COSTS, {"schedule": schedule_id}).scalar()
    return found


_FORGET = text("""
    DELETE FROM schedule_runs WHERE id IN (
        SELECT id FROM schedule_runs
         WHERE created_at < rota_now() - make_interval(days => :days) AND status NOT IN ('buffered', 'running')
         LIMIT :limit)
""")


def forget_runs(connection: Connection, days: int, limit: int) -> int:
    """Delete up to `limit` ended runs that were created more than `days` ago."""
    return connection.execute(_FORGET, {"days": days, "limit": limit}).rowcount


# ── the scheduler ────────────────────────────────────────────────────────────────────────────────────────────────────


def stopped(connection: Connection) -> StoppedScheduler | None:
    """Return since when the scheduler is stopped, and why; None if it is running."""
    return fetch_optional(connection.execute(text("SELECT stopped_at, note FROM schedulers")), StoppedScheduler)


def stop(connection: Connection, org: UUID, note: str | None) -> None:
    """Stop the scheduler: no schedule comes due."""
    statement = text(
        "INSERT INTO schedulers (org_id, note) VALUES (:org, :note) ON CONFLICT (org_id) DO UPDATE SET note = :note"
    )
    connection.execute(statement, {"org": org, "note": note})
    connection.execute(text("UPDATE schedules SET due_at = NULL WHERE due_at IS NOT NULL"))


def start(connection: Connection) -> None:
    """Start the scheduler again."""
    connection.execute(text("DELETE FROM schedulers"))


def lock_startable(connection: Connection) -> list[StoredSchedule]:
    """Lock and return the schedules that would come due if the scheduler were running."""
    statement = text(f"{_SCHEDULE} WHERE NOT is_paused AND next_at IS NOT NULL ORDER BY s.id FOR UPDATE OF s")
    return fetch_all(connection.execute(statement), StoredSchedule)


_STATUS = text("""
    SELECT count(*) FILTER (WHERE NOT is_paused AND NOT is_finished) AS active,
           count(*) FILTER (WHERE is_paused) AS paused,
           count(*) FILTER (WHERE NOT is_paused AND is_finished) AS finished,
           count(*) FILTER (WHERE due_at <= rota_now()) AS overdue,
           CAST(extract(epoch FROM rota_now() - min(due_at) FILTER (WHERE due_at <= rota_now())) AS float)
               AS oldest_overdue_seconds,
           min(due_at) AS next_at
      FROM (SELECT is_paused, due_at,
                   coalesce(remaining_runs = 0, false) OR (next_at IS NULL AND event IS NULL) AS is_finished
              FROM schedules) AS s
""")


def status(connection: Connection) -> ScheduleCounts:
    """Count the schedules by state, and return the longest delay and the next due time."""
    return fetch_one(connection.execute(_STATUS), ScheduleCounts)


def open_run_count(connection: Connection) -> int:
    """Count the running and buffered runs."""
    statement = text("SELECT count(*) FROM schedule_runs WHERE status IN ('buffered', 'running')")
    found: int = connection.execute(statement).scalar_one()
    return found


def runs_of_a_day(connection: Connection) -> dict[str, int]:
    """Count the runs of the last 24 hours by status."""
    statement = text(
        "SELECT status, count(*) FROM schedule_runs WHERE created_at > rota_now() - interval '1 day' GROUP BY status"
    )
    return {row[0]: row[1] for row in connection.execute(statement)}
