"""All SQL of dispatch. Only the leading dispatcher may call the functions that mark and publish tasks.

Every dispatch pass runs the prepared queries, so their records are dataclasses with slots, which are not validated.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.prepared import PreparedQuery
from core.rows import fetch_all, fetch_one, fetch_optional
from domain.dispatch.schemas import (
    AgedTask,
    Crew,
    InFlight,
    KeyHead,
    Lane,
    Pause,
    PauseKind,
    PublishedTask,
    StoredLane,
    StoredLimits,
    StoredProviderLimit,
    TaskStanding,
    Unclaimed,
)
from domain.pacing import service as pacing
from domain.providers import service as providers
from domain.tasks.schemas import Due

_SERVING, _PACES = providers.SERVING, pacing.STANDINGS

# ── due tasks, limits and workers ────────────────────────────────────────────────────────────────────────────────────

# The task `t` is not past its expiry (which counts until it is started), not past its deadline, and not of a disabled
# user. (The backlog of such a user is already held back; this covers tasks that are queued afterwards.)
_MAY_START = """
    (t.expires_at IS NULL OR t.expires_at > {now} OR t.started_at IS NOT NULL)
    AND (t.deadline IS NULL OR t.deadline > {now})
    AND t.user_id <> ALL ({shut_out})
"""
# Read once per statement: a join would cost more per task than everything else in the statement.
_SHUT_OUT = "ARRAY(SELECT id FROM users WHERE disabled_at IS NOT NULL)"

# A loose index scan: one probe into `tasks_due` per lane, regardless of the number of tasks in it.
_LANES = PreparedQuery(f"""
    WITH RECURSIVE lane AS (
        (SELECT t.priority, t.org_id, t.agent_id FROM tasks t
          WHERE t.status = 'queued' AND t.dispatched_at IS NULL AND NOT t.parked
          ORDER BY t.priority, t.org_id, t.agent_id LIMIT 1)
        UNION ALL
        SELECT following.* FROM lane CROSS JOIN LATERAL (
            SELECT t.priority, t.org_id, t.agent_id FROM tasks t
             WHERE t.status = 'queued' AND t.dispatched_at IS NULL AND NOT t.parked
               AND (t.priority, t.org_id, t.agent_id) > (lane.priority, lane.org_id, lane.agent_id)
             ORDER BY t.priority, t.org_id, t.agent_id LIMIT 1) AS following
    ), present AS MATERIALIZED (SELECT rota_now() AS now, {_SHUT_OUT} AS shut_out)
    SELECT lane.priority, lane.org_id, lane.agent_id, a.slug AS agent, a.model, a.fallback_model,
           p.provider AS own_provider, o.slug || '/' || {_SERVING.column("name")} AS own_endpoint, a.max_in_flight,
           NOT a.enabled AS is_off, o.weight, o.max_in_flight AS org_max_in_flight, o.starts_per_minute,
           due.tasks AS due, extract(epoch FROM present.now - head.run_after)::float AS waited
      FROM present CROSS JOIN lane
     CROSS JOIN LATERAL (
        SELECT t.run_after FROM tasks t
         WHERE t.status = 'queued' AND t.dispatched_at IS NULL AND NOT t.parked
           AND t.priority = lane.priority AND t.org_id = lane.org_id AND t.agent_id = lane.agent_id
           AND {_MAY_START.format(now="present.now", shut_out="present.shut_out")}
         ORDER BY t.run_after, t.id LIMIT 1) AS head
     CROSS JOIN LATERAL (
        SELECT count(*) AS tasks FROM (
            SELECT FROM tasks t
             WHERE t.status = 'queued' AND t.dispatched_at IS NULL AND NOT t.parked
               AND t.priority = lane.priority AND t.org_id = lane.org_id AND t.agent_id = lane.agent_id
               AND t.run_after <= present.now
               AND {_MAY_START.format(now="present.now", shut_out="present.shut_out")}
             LIMIT :most) AS counted) AS due
      JOIN agents a ON a.id = lane.agent_id
      JOIN organisations o ON o.id = lane.org_id
      LEFT JOIN prices p ON p.org_id = lane.org_id AND p.model = a.model
      LEFT JOIN LATERAL ({_SERVING.fill(org="lane.org_id", model="a.model")}) {_SERVING.name} ON true
""")  # noqa: S608


def lanes(connection: Connection, most: int) -> list[StoredLane]:
    """Return the lanes with queued tasks: the number due (counted up to `most`) and how long the first has been."""
    return [StoredLane(**row) for row in _LANES.run(connection, {"most": most}).all]


_IN_FLIGHT = PreparedQuery("""
    SELECT org_id, agent_id, provider, model, priority, queue, true AS is_unclaimed, queue < priority AS is_promoted,
           count(*) AS tasks
      FROM tasks WHERE status = 'queued' AND dispatched_at IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6
     UNION ALL
    SELECT org_id, agent_id, provider, model, priority, NULL, false, false, count(*)
      FROM tasks WHERE status = 'running' GROUP BY 1, 2, 3, 4, 5
""")


def in_flight(connection: Connection) -> list[InFlight]:
    """Count the published and the running tasks by everything that a limit may apply to."""
    return [InFlight(**row) for row in _IN_FLIGHT.run(connection, {}).all]


_STARTS = PreparedQuery("""
    SELECT o.org_id, (
        SELECT count(*) FROM (
            SELECT FROM attempts a WHERE a.org_id = o.org_id AND a.started_at > rota_now() - interval '60 seconds'
             LIMIT o.most) AS counted) AS started
      FROM unnest(CAST(:orgs AS uuid[]), CAST(:most AS int[])) AS o (org_id, most)
""")


def started_last_minute(connection: Connection, most: dict[UUID, int]) -> dict[UUID, int]:
    """Return how many tasks each organisation started in the last 60 seconds, counted up to the number in `most`."""
    found = _STARTS.run(connection, {"orgs": list(most), "most": list(most.values())}).all
    return {row["org_id"]: row["started"] for row in found}


_PROVIDERS = PreparedQuery(f"""
    SELECT provider, model, l.max_in_flight, l.starts_per_minute,
           {_PACES.column("cause")}, {_PACES.column("rate")}, {_PACES.column("held_until")},
           coalesce({_PACES.column("held_for")}, 0) AS held_for, {_PACES.column("ahead")},
           CASE WHEN l.starts_per_minute IS NULL THEN 0 ELSE (
               SELECT count(*) FROM attempts a
                WHERE a.provider = l.provider AND (l.model = '' OR a.model = l.model)
                  AND a.started_at > rota_now() - interval '60 seconds') END AS started
      FROM provider_limits l FULL JOIN ({_PACES.sql}) {_PACES.name} USING (provider, model) ORDER BY provider, model
""")  # noqa: S608


def provider_limits(connection: Connection) -> list[StoredProviderLimit]:
    """Return the limits and paces of providers and models, and the starts of the last 60 seconds."""
    return [StoredProviderLimit(**row) for row in _PROVIDERS.run(connection, {}).all]


_PAUSES = PreparedQuery("""
    SELECT org_id, kind, CASE WHEN kind = 'organisation' THEN '' ELSE name END AS name, reason FROM pauses
""")


def paused(connection: Connection) -> dict[tuple[UUID, PauseKind, str], str]:
    """Return the reason, which may be empty, of each pause that this connection may see, by (organisation, kind,
    name). The name of a paused organisation is empty.
    """
    found = _PAUSES.run(connection, {}).all
    return {(row["org_id"], row["kind"], row["name"]): row["reason"] or "" for row in found}


_CREWS = PreparedQuery("""
    SELECT queues, sum(concurrency) AS slots FROM workers
     WHERE stopped_at IS NULL AND draining_because IS NULL AND last_seen_at > rota_now() - CAST(:lease AS interval)
     GROUP BY queues
""")


def crews(connection: Connection, lease: timedelta) -> list[Crew]:
    """Return the number of tasks that the live workers can run at once, by the queues that they serve."""
    return [Crew(**row) for row in _CREWS.run(connection, {"lease": lease}).all]


# ── marking as dispatched ────────────────────────────────────────────────────────────────────────────────────────────

_TAKE = PreparedQuery(f"""
    WITH lanes AS (
        SELECT * FROM unnest(CAST(:priority AS task_priority[]), CAST(:org AS uuid[]), CAST(:agent AS uuid[]),
                             CAST(:provider AS text[]), CAST(:model AS text[]), CAST(:number AS int[]))
            WITH ORDINALITY AS l (priority, org_id, agent_id, provider, model, number, lane)
    ), due AS MATERIALIZED (
        SELECT l.lane, l.provider, l.model, head.id,
               row_number() OVER (PARTITION BY l.lane ORDER BY head.run_after, head.id) AS place
          FROM lanes l
         CROSS JOIN LATERAL (
            SELECT t.id, t.run_after FROM tasks t
             WHERE t.status = 'queued' AND t.dispatched_at IS NULL AND NOT t.parked
               AND t.priority = l.priority AND t.org_id = l.org_id AND t.agent_id = l.agent_id
               AND t.run_after <= rota_now()
               AND {_MAY_START.format(now="rota_now()", shut_out=_SHUT_OUT)}
             ORDER BY t.run_after, t.id
             LIMIT l.number
               FOR UPDATE SKIP LOCKED
         ) AS head
    ), picks AS (
        SELECT * FROM unnest(CAST(:lanes AS int[]), CAST(:places AS int[]), CAST(:queues AS task_priority[]))
            WITH ORDINALITY AS p (lane, place, queue, turn)
    ), taken AS (
        UPDATE tasks t
           SET dispatched_at = rota_now(), queue = picks.queue, provider = due.provider, model = due.model
          FROM due JOIN picks USING (lane, place) WHERE t.id = due.id
        RETURNING t.id, t.org_id, t.claim, t.queue, t.agent, picks.turn
    )
    SELECT id, org_id, claim, queue, agent FROM taken ORDER BY turn
""")  # noqa: S608


def mark_as_dispatched(
    connection: Connection, numbers: Mapping[Lane, int], picks: Sequence[tuple[int, int, str]]
) -> list[Due]:
    """Mark the first due tasks of each lane as dispatched, as many as `numbers` has for it. Each of `picks` is (lane,
    place in the lane, queue), with lane and place counted from 1. Returns the tasks in the order of the picks.
    """
    values = {
        "priority": [lane.priority for lane in numbers],
        "org": [lane.org_id for lane in numbers],
        "agent": [lane.agent_id for lane in numbers],
        "provider": [lane.provider for lane in numbers],
        "model": [lane.model for lane in numbers],
        "number": list(numbers.values()),
        "lanes": [lane for lane, _, _ in picks],
        "places": [place for _, place, _ in picks],
        "queues": [queue for _, _, queue in picks],
    }
    return [Due(**row) for row in _TAKE.run(connection, values).all]


_OLD = text("""
    SELECT id, priority, queue, extract(epoch FROM rota_now() - run_after)::float AS waited
      FROM tasks
     WHERE status = 'queued' AND dispatched_at IS NOT NULL AND queue > 'critical'
       AND run_after < rota_now() - CAST(:ageing AS interval)
     ORDER BY run_after
""")


def old_and_published(connection: Connection, ageing: timedelta) -> list[AgedTask]:
    """Return the published tasks that have been due for longer than `ageing`, the oldest first."""
    return fetch_all(connection.execute(_OLD, {"ageing": ageing}), AgedTask)


_MOVE = text("""
    WITH moved AS (
        SELECT t.id, m.queue FROM tasks t
          JOIN unnest(CAST(:ids AS uuid[]), CAST(:queues AS task_priority[])) AS m (id, queue) USING (id)
         WHERE t.status = 'queued' AND t.dispatched_at IS NOT NULL FOR UPDATE OF t SKIP LOCKED
    )
    UPDATE tasks t SET queue = moved.queue, dispatched_at = rota_now() FROM moved WHERE t.id = moved.id
    RETURNING t.id, t.org_id, t.claim, t.queue, t.agent
""")


def move_published(connection: Connection, queues: dict[UUID, str]) -> list[Due]:
    """Move published tasks to other queues, and return them for publishing there."""
    return fetch_all(connection.execute(_MOVE, {"ids": list(queues), "queues": list(queues.values())}), Due)


# ── concurrency keys ─────────────────────────────────────────────────────────────────────────────────────────────────

# A head that is locked by another transaction is skipped, and its change stays for the next pass: the dispatcher never
# waits for a row lock.
_ADVANCE = PreparedQuery("""
    WITH heads AS (
        SELECT c.org_id, c.key, head.* FROM (SELECT DISTINCT org_id, key FROM key_changes) AS c
          LEFT JOIN LATERAL (
            SELECT t.id, t.parked, t.key_position FROM tasks t
             WHERE t.org_id = c.org_id AND t.concurrency_key = c.key AND t.status IN ('queued', 'running', 'waiting')
             ORDER BY t.key_position LIMIT 1) AS head ON true
    ), free AS (
        SELECT t.id FROM tasks t JOIN heads h ON h.id = t.id AND h.key_position = t.key_position
         WHERE t.parked AND t.status = 'queued' FOR UPDATE OF t SKIP LOCKED
    ), seen AS (
        DELETE FROM key_changes k USING heads h
         WHERE k.org_id = h.org_id AND k.key = h.key
           AND (h.id IS NULL OR NOT h.parked OR h.id IN (SELECT id FROM free))
    )
    UPDATE tasks t SET parked = false FROM free WHERE t.id = free.id
""")


def advance_keys(connection: Connection) -> int:
    """Unpark the first unfinished task of every concurrency key with a change. Returns how many."""
    return _ADVANCE.run(connection, {}).count


# ── published tasks ──────────────────────────────────────────────────────────────────────────────────────────────────

_LONG_UNCLAIMED = text("""
    SELECT id, claim, queue FROM tasks
     WHERE status = 'queued' AND dispatched_at < rota_now() - CAST(:patience AS interval)
""")


def long_unclaimed(connection: Connection, patience: timedelta) -> list[PublishedTask]:
    """Return the tasks that were published longer than `patience` ago and are unclaimed."""
    return fetch_all(connection.execute(_LONG_UNCLAIMED, {"patience": patience}), PublishedTask)


_UNPUBLISH_UNCLAIMED = text("""
    WITH free AS (
        SELECT id FROM tasks
         WHERE status = 'queued' AND dispatched_at IS NOT NULL AND (CAST(:ids AS uuid[]) IS NULL OR id = ANY(:ids))
           FOR UPDATE SKIP LOCKED
    )
    UPDATE tasks t SET dispatched_at = NULL FROM free WHERE t.id = free.id
""")


def unpublish_unclaimed(connection: Connection, ids: list[UUID] | None) -> int:
    """Make published tasks due again, so that they are published again: those in `ids`, or all. Returns how many."""
    return connection.execute(_UNPUBLISH_UNCLAIMED, {"ids": ids}).rowcount


_UNWANTED = PreparedQuery(f"""
    SELECT t.id FROM tasks t
     WHERE t.status = 'queued' AND t.dispatched_at IS NOT NULL
       AND (NOT t.queue = ANY(CAST(:served AS task_priority[]))
            OR t.agent_id = ANY(ARRAY(SELECT id FROM agents WHERE NOT enabled)) OR t.user_id = ANY({_SHUT_OUT})
            OR EXISTS (SELECT FROM pauses p WHERE p.org_id = t.org_id
                        AND (p.kind = 'organisation' OR (p.kind = 'queue' AND p.name = t.priority::text)
                             OR (p.kind = 'agent' AND p.name = t.agent))))
""")  # noqa: S608


def published_in_vain(connection: Connection, served: list[str]) -> list[UUID]:
    """Return the published tasks that must not be claimed now (paused since, or their agent or user was disabled) or
    cannot be (no worker serves the queue).
    """
    return [row["id"] for row in _UNWANTED.run(connection, {"served": served}).all]


# Tasks published within the last half second are left out: they are about to be claimed.
_UNCLAIMED = text("""
    SELECT id, org_id, agent_id, provider, model, queue FROM tasks
     WHERE status = 'queued' AND dispatched_at < rota_now() - interval '0.5 seconds' ORDER BY run_after DESC
""")


def unclaimed(connection: Connection) -> list[Unclaimed]:
    """Return the published tasks that have been unclaimed for a while, the latest due first."""
    return fetch_all(connection.execute(_UNCLAIMED), Unclaimed)


# ── pauses, limits ──────────────────────────────────────────────────────────────────────────────────────────────────

_PAUSE = text("""
    INSERT INTO pauses (org_id, kind, name, reason) VALUES (:org, :kind, :name, :reason)
    ON CONFLICT (org_id, kind, name) DO UPDATE SET reason = coalesce(excluded.reason, pauses.reason)
    RETURNING kind, name, reason, paused_at
""")


def insert_pause(connection: Connection, org: UUID, kind: str, name: str, reason: str | None) -> Pause:
    """Insert a pause, or change the reason of an existing one if a new reason is given."""
    values = {"org": org, "kind": kind, "name": name, "reason": reason}
    return fetch_one(connection.execute(_PAUSE, values), Pause)


def delete_pause(connection: Connection, kind: str, name: str) -> bool:
    """Delete a pause. Return whether there was one."""
    statement = text("DELETE FROM pauses WHERE kind = :kind AND name = :name")
    return connection.execute(statement, {"kind": kind, "name": name}).rowcount > 0


def pauses(connection: Connection) -> list[Pause]:
    """Return this organisation's pauses."""
    statement = text("SELECT kind, name, reason, paused_at FROM pauses ORDER BY kind, name")
    return fetch_all(connection.execute(statement), Pause)


_LIMITS = text("SELECT weight, max_in_flight, starts_per_minute FROM organisations WHERE id = :org")
_LOCK_LIMITS = text(
    "SELECT weight, max_in_flight, starts_per_minute FROM organisations WHERE id = :org FOR NO KEY UPDATE"
)


def organisation_limits(connection: Connection, org: UUID) -> StoredLimits:
    """Return the organisation's weight and limits."""
    return fetch_one(connection.execute(_LIMITS, {"org": org}), StoredLimits)


def lock_organisation_limits(connection: Connection, org: UUID) -> StoredLimits:
    """Return the organisation's weight and limits, and lock its row until this transaction ends."""
    return fetch_one(connection.execute(_LOCK_LIMITS, {"org": org}), StoredLimits)


_SET_LIMITS = text("""
    UPDATE organisations
       SET weight = :weight, max_in_flight = :max_in_flight, starts_per_minute = :starts_per_minute WHERE id = :org
""")


def set_organisation_limits(connection: Connection, org: UUID, values: dict[str, Any]) -> None:
    """Set the organisation's weight and limits."""
    connection.execute(_SET_LIMITS, values | {"org": org})


_SET_PROVIDER_LIMITS = text("""
    INSERT INTO provider_limits (provider, model, max_in_flight, starts_per_minute)
    VALUES (:provider, :model, :max_in_flight, :starts_per_minute)
    ON CONFLICT (provider, model) DO UPDATE
       SET max_in_flight = excluded.max_in_flight, starts_per_minute = excluded.starts_per_minute
""")


def set_provider_limits(connection: Connection, values: dict[str, Any]) -> None:
    """Set the limits of a provider or of one of its models."""
    connection.execute(_SET_PROVIDER_LIMITS, values)


# ── why a task waits ─────────────────────────────────────────────────────────────────────────────────────────────────

_STANDING = text(f"""
    SELECT t.id, t.status, t.priority, t.org_id, t.agent_id, t.agent, t.parked, t.concurrency_key, t.key_position,
           t.queue, t.waiting_for, t.worker, t.error ->> 'message' AS error,
           t.cancel_requested_at IS NOT NULL AS is_stopping,
           t.expires_at <= rota_now() AND t.started_at IS NULL AS is_expired, t.deadline <= rota_now() AS is_late,
           extract(epoch FROM rota_now() - t.run_after)::float AS waited,
           extract(epoch FROM rota_now() - t.dispatched_at)::float AS published_for,
           a.model, a.fallback_model, a.max_in_flight, NOT a.enabled AS is_off, p.provider AS own_provider,
           o.slug || '/' || {_SERVING.column("name")} AS own_endpoint, o.weight,
           EXISTS (SELECT FROM users u WHERE u.id = t.user_id AND u.disabled_at IS NOT NULL) AS is_shut_out,
           o.max_in_flight AS org_max_in_flight, o.starts_per_minute
      FROM tasks t
      JOIN agents a ON a.id = t.agent_id
      JOIN organisations o ON o.id = t.org_id
      LEFT JOIN prices p ON p.org_id = t.org_id AND p.model = a.model
      LEFT JOIN LATERAL ({_SERVING.fill(org="t.org_id", model="a.model")}) {_SERVING.name} ON true
     WHERE t.id = :task AND t.org_id = :org
""")  # noqa: S608


def standing(connection: Connection, org: UUID, task_id: UUID) -> TaskStanding | None:
    """Return the state of a task of organisation `org`, with everything that decides when it may be dispatched."""
    return fetch_optional(connection.execute(_STANDING, {"org": org, "task": task_id}), TaskStanding)


_LEADING = text("""
    SELECT true FROM leaders WHERE duty = 'dispatcher' AND last_seen_at > rota_now() - CAST(:lease AS interval)
""")


def has_leading_dispatcher(connection: Connection, lease: timedelta) -> bool:
    """Whether a dispatcher has sent a heartbeat within `lease`."""
    return connection.execute(_LEADING, {"lease": lease}).scalar() is not None


_HEAD_OF_KEY = text("""
    SELECT id, status, waiting_for FROM tasks
     WHERE org_id = :org AND concurrency_key = :key AND status IN ('queued', 'running', 'waiting')
     ORDER BY key_position LIMIT 1
""")
_BEFORE_IN_KEY = text("""
    SELECT count(*) FROM tasks
     WHERE org_id = :org AND concurrency_key = :key AND status IN ('queued', 'running', 'waiting')
       AND key_position < :position
""")


def head_of_key(connection: Connection, org: UUID, key: str) -> KeyHead | None:
    """Return the task that all others with this concurrency key wait for."""
    return fetch_optional(connection.execute(_HEAD_OF_KEY, {"org": org, "key": key}), KeyHead)


def number_before_in_key(connection: Connection, org: UUID, key: str, position: int) -> int:
    """Return how many tasks with this key must end before the one at `position`."""
    values = {"org": org, "key": key, "position": position}
    found: int = connection.execute(_BEFORE_IN_KEY, values).scalar_one()
    return found


_AHEAD = text("""
    SELECT count(*) FROM (
        SELECT FROM tasks t
         WHERE t.status = 'queued' AND t.dispatched_at IS NULL AND NOT t.parked AND t.priority = :priority
           AND t.org_id = :org AND t.agent_id = :agent
           AND (t.run_after, t.id) < (SELECT run_after, id FROM tasks WHERE id = :task)
         LIMIT 10000) AS counted
""")


def number_ahead(connection: Connection, org: UUID, task_id: UUID, *, priority: str, agent: UUID) -> int:
    """Return how many tasks of the same agent and priority are before this one, counted up to ten thousand."""
    values = {"org": org, "task": task_id, "priority": priority, "agent": agent}
    found: int = connection.execute(_AHEAD, values).scalar_one()
    return found
