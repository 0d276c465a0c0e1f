"""All SQL about follow-ups. The SQL that finds subjects and reads their state is part of the triggers (`triggers.py`).

A follow-up's row is the lock: starting, sending, stopping and ending it all lock that row first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.json_text import dump_json
from core.rows import fetch_all, fetch_optional
from domain.followups.schemas import (
    Effect,
    Ending,
    FollowUp,
    FollowUpUnderWay,
    Found,
    LockedFollowUp,
    SentFollowUp,
    Standing,
    StartedFollowUp,
    StoredRule,
)
from domain.followups.triggers import Trigger

_NOW = text("SELECT rota_now()")
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('follow-ups ' || CAST(:org AS text), 0))")


def now(connection: Connection) -> datetime:
    """Return the database's time."""
    found: datetime = connection.execute(_NOW).scalar_one()
    return found


def one_at_a_time(connection: Connection, org: UUID) -> None:
    """Lock this organisation's follow-ups until the transaction ends: caps are counted over all of them."""
    connection.execute(_ONE_AT_A_TIME, {"org": org})


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_RULE = "SELECT slug, fields, is_on, on_since, user_id, scopes, changed_at FROM follow_up_rules"
_PUT_RULE = text("""
    INSERT INTO follow_up_rules AS r (org_id, slug, fields, user_id, scopes)
    VALUES (:org, :slug, CAST(:fields AS jsonb), :user, :scopes)
    ON CONFLICT (org_id, slug) DO UPDATE
       SET fields = excluded.fields, user_id = excluded.user_id, scopes = excluded.scopes, changed_at = rota_now()
""")
_SWITCH = text("""
    UPDATE follow_up_rules
       SET is_on = :is_on, user_id = :user, scopes = :scopes, changed_at = rota_now(),
           on_since = CASE WHEN :is_on THEN CASE WHEN is_on THEN on_since ELSE rota_now() END END
     WHERE slug = :slug
""")
# Planned follow-ups move with the rule: each step to its new delay.
_MOVE = text("""
    UPDATE follow_ups f SET wanted_at = f.begun_at + s.after, due_at = f.begun_at + s.after
      FROM jsonb_to_recordset(CAST(:steps AS jsonb)) AS s (step int, after interval)
     WHERE f.rule = :rule AND f.step = s.step AND f.status = 'planned' AND f.wanted_at <> f.begun_at + s.after
""")


def rules(connection: Connection) -> list[StoredRule]:
    """Return the stored rules."""
    return fetch_all(connection.execute(text(f"{_RULE} ORDER BY slug")), StoredRule)


def rule(connection: Connection, slug: str) -> StoredRule | None:
    """Return the stored rule called `slug`."""
    return fetch_optional(connection.execute(text(f"{_RULE} WHERE slug = :slug"), {"slug": slug}), StoredRule)


def put_rule(connection: Connection, row: dict[str, Any]) -> None:
    """Add or change a rule, without switching it on or off."""
    connection.execute(_PUT_RULE, row | {"fields": dump_json(row["fields"])})


def switch(connection: Connection, row: dict[str, Any]) -> None:
    """Switch a stored rule on or off."""
    connection.execute(_SWITCH, row)


_STOP_PLANNED = text("""
    UPDATE follow_ups SET status = 'stopped', reason = :reason, due_at = NULL, ended_at = rota_now(), is_settled = true
     WHERE rule = :rule AND status = 'planned'
    RETURNING choice_id
""")


def stop_planned(connection: Connection, slug: str, reason: str) -> set[UUID]:
    """Stop the planned follow-ups of a rule. Returns the ids of the choices made for them."""
    return set(connection.execute(_STOP_PLANNED, {"rule": slug, "reason": reason}).scalars()) - {None}


def move_planned(connection: Connection, slug: str, delays: Sequence[timedelta]) -> None:
    """Move the planned follow-ups of a rule to these delays, one for each step."""
    connection.execute(_MOVE, {"rule": slug, "steps": _numbered(delays)})


def delete_rule(connection: Connection, slug: str) -> bool:
    """Delete a stored rule. Return whether there was one."""
    return connection.execute(text("DELETE FROM follow_up_rules WHERE slug = :slug"), {"slug": slug}).rowcount == 1


_WITH_RULES = text("""
    SELECT org_id FROM follow_up_rules WHERE is_on
     UNION SELECT org_id FROM follow_ups WHERE status IN ('planned', 'writing', 'queued')
     UNION SELECT org_id FROM follow_ups WHERE sent_at IS NOT NULL AND NOT is_settled
""")
_IN_NEED = text("""
    SELECT org_id FROM follow_ups WHERE due_at <= rota_now()
     UNION SELECT org_id FROM follow_ups WHERE status IN ('writing', 'queued')
     UNION SELECT org_id FROM follow_ups WHERE status = 'stopped' AND NOT is_settled
""")


def organisations_with_rules(connection: Connection) -> list[UUID]:
    """Return the organisations with a rule switched on or with an open or unsettled follow-up."""
    return list(connection.execute(_WITH_RULES).scalars())


def organisations_in_need(connection: Connection) -> list[UUID]:
    """Return the organisations where a follow-up is due or under way, or was stopped while being written."""
    return list(connection.execute(_IN_NEED).scalars())


# ── planning ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_INSERT = text("""
    INSERT INTO follow_ups (id, org_id, rule, step, subject, contact, begun_at, facts, wanted_at, due_at)
    SELECT id, :org, :rule, step, subject, contact, begun_at, facts, wanted_at, wanted_at
      FROM jsonb_to_recordset(CAST(:rows AS jsonb))
           AS r (id uuid, step int, subject uuid, contact uuid, begun_at timestamptz, facts jsonb,
                 wanted_at timestamptz)
    ON CONFLICT (org_id, rule, subject, begun_at, step) DO NOTHING
""")


def _numbered(delays: Sequence[timedelta]) -> str:
    return dump_json([{"step": n, "after": f"{delay.total_seconds()} seconds"} for n, delay in enumerate(delays, 1)])


def found(connection: Connection, org: UUID, trigger: Trigger, values: dict[str, Any]) -> list[Found]:
    """Return what a trigger finds that began at `since` or later and has fewer than `steps` follow-ups by the rule:
    `limit` rows at most, the earliest first.
    """
    statement = text(f"""
        SELECT found.subject, found.contact, found.begun_at, found.facts FROM ({trigger.found}) AS found
         WHERE found.begun_at >= :since
           AND (found.not_after IS NULL
                OR NOT EXISTS (SELECT FROM follow_ups f
                                WHERE f.org_id = :org AND f.rule = :rule AND f.subject = found.subject
                                  AND f.begun_at > found.not_after AND f.begun_at <> found.begun_at))
           AND (SELECT count(*) FROM follow_ups f
                 WHERE f.org_id = :org AND f.rule = :rule AND f.subject = found.subject AND f.begun_at = found.begun_at)
               < :steps
         ORDER BY found.begun_at, found.subject LIMIT :limit
    """)  # noqa: S608
    return fetch_all(connection.execute(statement, values | {"org": org}), Found)


def insert_follow_ups(connection: Connection, org: UUID, rule: str, rows: list[dict[str, Any]]) -> int:
    """Insert planned follow-ups. Existing ones are skipped. Returns how many were inserted."""
    return connection.execute(_INSERT, {"org": org, "rule": rule, "rows": dump_json(rows)}).rowcount


# ── starting and ending ──────────────────────────────────────────────────────────────────────────────────────────────

_COLUMNS = """
    id, rule, step, subject, contact, begun_at, facts, channel, variant, choice_id, status, reason, wanted_at,
    message_id, created_at
"""
_LOCKED = f"SELECT {_COLUMNS} FROM follow_ups"  # noqa: S608
_DUE = text(f"{_LOCKED} WHERE due_at <= rota_now() ORDER BY due_at, id LIMIT :limit FOR UPDATE")
_OPEN = text(f"""
    {_LOCKED} WHERE status IN ('planned', 'writing', 'queued') AND id > :after ORDER BY id LIMIT :limit FOR UPDATE
""")
_OPEN_OF = text(f"""
    {_LOCKED} WHERE contact = :contact AND status IN ('planned', 'writing', 'queued') ORDER BY id FOR UPDATE
""")
_BY_TASK = text(f"{_LOCKED} WHERE task_id = :task FOR UPDATE")
_LOCK_UNDER_WAY = text("""
    SELECT id FROM follow_ups WHERE status IN ('writing', 'queued') ORDER BY id FOR UPDATE
""")
_UNDER_WAY = text("""
    SELECT f.id, f.status, f.rule, f.contact, f.choice_id, f.message_id, f.wanted_at,
           t.status AS task_status, t.error ->> 'message' AS task_error,
           m.status AS message_status, m.send_after, m.sent_at AS left_at, m.error AS message_error
      FROM follow_ups f LEFT JOIN tasks t ON t.id = f.task_id LEFT JOIN outbox m ON m.id = f.message_id
     WHERE f.status IN ('writing', 'queued') ORDER BY f.id
""")
_END = text("""
    UPDATE follow_ups f
       SET status = e.status, reason = e.reason, due_at = NULL, sent_at = e.sent_at,
           ended_at = coalesce(e.sent_at, rota_now()),
           is_settled = e.status <> 'sent' AND (f.status <> 'writing' OR e.status <> 'stopped')
      FROM jsonb_to_recordset(CAST(:ends AS jsonb)) AS e (id uuid, status text, reason text, sent_at timestamptz)
     WHERE f.id = e.id AND f.status IN ('planned', 'writing', 'queued')
""")
_PUT_OFF = text("""
    UPDATE follow_ups SET due_at = :due_at, reason = :reason, channel = :channel, variant = :variant,
           choice_id = :choice_id WHERE id = :id
""")
_START = text("""
    UPDATE follow_ups SET status = 'writing', due_at = NULL, reason = NULL, channel = :channel, variant = :variant,
           choice_id = :choice_id, task_id = :task_id WHERE id = :id
""")
_QUEUED = text("UPDATE follow_ups SET status = 'queued', message_id = :message WHERE id = :id AND status = 'writing'")


def lock_due(connection: Connection, limit: int) -> list[LockedFollowUp]:
    """Lock and return up to `limit` due follow-ups, the earliest first."""
    return fetch_all(connection.execute(_DUE, {"limit": limit}), LockedFollowUp)


def lock_open(connection: Connection, after: UUID, limit: int) -> list[LockedFollowUp]:
    """Lock and return up to `limit` open follow-ups with ids greater than `after`."""
    return fetch_all(connection.execute(_OPEN, {"after": after, "limit": limit}), LockedFollowUp)


def lock_open_of(connection: Connection, contact: UUID) -> list[LockedFollowUp]:
    """Lock and return the open follow-ups of a contact."""
    return fetch_all(connection.execute(_OPEN_OF, {"contact": contact}), LockedFollowUp)


def lock_of_task(connection: Connection, task: UUID) -> StartedFollowUp | None:
    """Lock and return the follow-up that a task writes."""
    return fetch_optional(connection.execute(_BY_TASK, {"task": task}), StartedFollowUp)


def lock_one(connection: Connection, row_id: UUID) -> LockedFollowUp | None:
    """Lock and return one follow-up."""
    statement = text(f"{_LOCKED} WHERE id = :id FOR UPDATE")
    return fetch_optional(connection.execute(statement, {"id": row_id}), LockedFollowUp)


def under_way(connection: Connection) -> list[FollowUpUnderWay]:
    """Lock and return the follow-ups that are being written or have a message queued, with the state of their task and
    message.
    """
    # Two statements: after waiting for a row lock, a single one would return the new row with older joined rows.
    connection.execute(_LOCK_UNDER_WAY)
    return fetch_all(connection.execute(_UNDER_WAY), FollowUpUnderWay)


def end(connection: Connection, ends: Iterable[Ending]) -> int:
    """Record how follow-ups ended. Those that have ended already are left unchanged."""
    listed = [asdict(one) for one in ends]
    return connection.execute(_END, {"ends": dump_json(listed)}).rowcount if listed else 0


def put_off(connection: Connection, row: dict[str, Any]) -> None:
    """Postpone a planned follow-up, and keep the variant chosen for it."""
    connection.execute(_PUT_OFF, row)


def start(connection: Connection, row: dict[str, Any]) -> None:
    """Record which task writes a follow-up, for which channel and in which variant."""
    connection.execute(_START, row)


def note_queued(connection: Connection, row_id: UUID, message: UUID) -> None:
    """Record the queued message of a follow-up that was being written."""
    connection.execute(_QUEUED, {"id": row_id, "message": message})


# ── checks before sending ────────────────────────────────────────────────────────────────────────────────────────────

_ANSWERED = text("""
    SELECT a.id FROM jsonb_to_recordset(CAST(:asked AS jsonb)) AS a (id uuid, contact uuid, since timestamptz)
     WHERE EXISTS (SELECT FROM inbox i WHERE i.contact = a.contact AND i.kind = 'words' AND i.received_at >= a.since)
""")
_OTHERS = text("""
    SELECT coalesce(sent_at, rota_now()) FROM follow_ups
     WHERE contact = :contact AND (sent_at > :since OR status IN ('writing', 'queued'))
""")
_EARLIER = text("""
    SELECT subject, begun_at, min(step) AS step FROM follow_ups
     WHERE rule = :rule AND status IN ('writing', 'queued') GROUP BY subject, begun_at
""")


def standings(
    connection: Connection, trigger: Trigger, asked: Iterable[LockedFollowUp], values: dict[str, Any]
) -> list[Standing]:
    """Return the state of these follow-ups' subjects."""
    listed = {(row.subject, row.begun_at): row.contact for row in asked}
    rows = [
        {"subject": str(subject), "contact": str(contact), "begun_at": begun_at.isoformat()}
        for (subject, begun_at), contact in listed.items()
    ]
    statement = text(f"""
        WITH asked AS (SELECT * FROM jsonb_to_recordset(CAST(:asked AS jsonb))
                                  AS a (subject uuid, contact uuid, begun_at timestamptz))
        {trigger.standing}
    """)  # noqa: S608
    return fetch_all(connection.execute(statement, values | {"asked": dump_json(rows)}), Standing)


def answered(connection: Connection, rows: Iterable[LockedFollowUp]) -> set[UUID]:
    """Return the ids of those follow-ups whose contact has written since the sequence began or was planned."""
    asked = [
        {"id": str(row.id), "contact": str(row.contact), "since": min(row.begun_at, row.created_at).isoformat()}
        for row in rows
    ]
    return set(connection.execute(_ANSWERED, {"asked": dump_json(asked)}).scalars())


def recent(connection: Connection, contact: UUID, since: datetime) -> list[datetime]:
    """Return the times of follow-ups sent to a contact after `since`. Those being written or queued count as now."""
    return list(connection.execute(_OTHERS, {"contact": contact, "since": since}).scalars())


def on_their_way(connection: Connection, rule: str) -> dict[tuple[UUID, datetime], int]:
    """Return the earliest step being written or queued, for each sequence of a rule."""
    rows = connection.execute(_EARLIER, {"rule": rule})
    return {(row.subject, row.begun_at): row.step for row in rows}


# ── outcomes ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_STOPPED = text("SELECT id, task_id FROM follow_ups WHERE status = 'stopped' AND NOT is_settled")
_SENT = f"SELECT {_COLUMNS}, sent_at, answered_at FROM follow_ups"  # noqa: S608
_LAST_SENT = text(f"""
    {_SENT} WHERE contact = :contact AND sent_at <= :at ORDER BY sent_at DESC, id DESC LIMIT 1 FOR UPDATE
""")
# All follow-ups of a contact in one batch, the latest first: a purchase counts for the latest.
_UNSETTLED = text(f"""
    {_SENT} WHERE sent_at IS NOT NULL AND NOT is_settled
        AND contact IN (SELECT DISTINCT contact FROM follow_ups
                         WHERE sent_at IS NOT NULL AND NOT is_settled AND contact > :after
                         ORDER BY contact LIMIT :limit)
     ORDER BY contact, sent_at DESC, id DESC FOR UPDATE
""")  # noqa: S608
# A purchase counts once, for the last follow-up before it that was about it.
_CONVERT = text("""
    UPDATE follow_ups f SET converted_at = :converted_at, revenue = :revenue, currency = :currency, is_settled = true
     WHERE f.id = :id AND NOT EXISTS (SELECT FROM follow_ups o
                                       WHERE o.contact = :contact AND o.converted_at = :converted_at)
""")


def stopped(connection: Connection) -> dict[UUID, UUID]:
    """Return the follow-ups that were stopped while a task was writing them: the task of each, by follow-up."""
    return {row.id: row.task_id for row in connection.execute(_STOPPED)}


def last_sent(connection: Connection, contact: UUID, at: datetime) -> SentFollowUp | None:
    """Lock and return the last follow-up sent to a contact up to a moment."""
    return fetch_optional(connection.execute(_LAST_SENT, {"contact": contact, "at": at}), SentFollowUp)


def note_answered(connection: Connection, row_id: UUID, at: datetime) -> None:
    """Record when a follow-up was first answered."""
    statement = text("UPDATE follow_ups SET answered_at = :at WHERE id = :id AND answered_at IS NULL")
    connection.execute(statement, {"id": row_id, "at": at})


def lock_unsettled(connection: Connection, after: UUID, limit: int) -> list[SentFollowUp]:
    """Lock and return the sent follow-ups that are not settled, of up to `limit` contacts with ids above `after`."""
    return fetch_all(connection.execute(_UNSETTLED, {"after": after, "limit": limit}), SentFollowUp)


def note_converted(connection: Connection, row: dict[str, Any]) -> bool:
    """Record the conversion that a follow-up led to. Return False if it already counts for another follow-up."""
    return connection.execute(_CONVERT, row).rowcount == 1


def settle(connection: Connection, ids: list[UUID]) -> None:
    """Record that no further outcome of these follow-ups is expected."""
    connection.execute(text("UPDATE follow_ups SET is_settled = true WHERE id = ANY(:ids)"), {"ids": ids})


# ── views ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_FOLLOW_UP = f"""
    SELECT {_COLUMNS}, due_at, task_id, sent_at, answered_at, converted_at, revenue, currency, ended_at FROM follow_ups
"""  # noqa: S608
_FILTERS = {
    "rule": "rule = :rule",
    "status": "status = :status",
    "contact": "contact = :contact",
    "before": "id < :before",
}
_EFFECTS = text("""
    WITH counted AS (
        SELECT rule, step, channel, variant, count(*) AS planned, count(sent_at) AS sent,
               count(*) FILTER (WHERE status = 'stopped') AS stopped,
               count(*) FILTER (WHERE status = 'skipped') AS skipped,
               count(*) FILTER (WHERE status = 'failed') AS failed,
               count(answered_at) AS answered, count(converted_at) AS converted
          FROM follow_ups WHERE wanted_at >= :since GROUP BY rule, step, channel, variant
    ), earned AS (
        SELECT rule, step, channel, variant, jsonb_object_agg(currency, total) AS revenue
          FROM (SELECT rule, step, channel, variant, currency, sum(revenue) AS total FROM follow_ups
                 WHERE wanted_at >= :since AND revenue IS NOT NULL
                 GROUP BY rule, step, channel, variant, currency) AS sums
         GROUP BY rule, step, channel, variant
    )
    SELECT c.*, coalesce(e.revenue, '{}') AS revenue
      FROM counted c LEFT JOIN earned e
           ON (e.rule, e.step) = (c.rule, c.step) AND e.channel IS NOT DISTINCT FROM c.channel
          AND e.variant IS NOT DISTINCT FROM c.variant
     ORDER BY c.rule, c.step, c.channel, c.variant
""")


def follow_ups(connection: Connection, wanted: dict[str, Any], limit: int) -> list[FollowUp]:
    """Return follow-ups that match, the latest planned first."""
    conditions = [_FILTERS[name] for name, value in wanted.items() if value is not None]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = text(f"{_FOLLOW_UP} {where} ORDER BY id DESC LIMIT :limit")
    return fetch_all(connection.execute(statement, wanted | {"limit": limit}), FollowUp)


def follow_up(connection: Connection, row_id: UUID) -> FollowUp | None:
    """Return one follow-up."""
    return fetch_optional(connection.execute(text(f"{_FOLLOW_UP} WHERE id = :id"), {"id": row_id}), FollowUp)


def effects(connection: Connection, since: datetime) -> list[Effect]:
    """Return the results by rule, step, channel and variant, for follow-ups wanted since a moment."""
    return fetch_all(connection.execute(_EFFECTS, {"since": since}), Effect)
