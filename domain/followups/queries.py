"""All SQL about follow-ups. What finds subjects, and tells how it stands with them, is in `triggers.py`.

A follow-up's row is the lock: whoever starts, sends, stops or ends it holds that row.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from core.db import dump_json
from domain.followups.triggers import Trigger

_NOW = text("SELECT rota_now()")
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('follow-ups ' || CAST(:org AS text), 0))")


def now(connection: Connection) -> datetime:
    """The database's time."""
    found: datetime = connection.execute(_NOW).scalar_one()
    return found


def one_at_a_time(connection: Connection, org: UUID) -> None:
    """Wait until nobody else attends to this organisation's follow-ups: caps are counted over all of them."""
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
# What is planned moves with the rule: each step to its new delay.
_MOVE = text("""
    UPDATE follow_ups f SET wanted_at = f.begun_at + s.after, due_at = f.begun_at + s.after
      FROM jsonb_to_recordset(CAST(:steps AS jsonb)) AS s (step int, after interval)
     WHERE f.rule = :rule AND f.step = s.step AND f.status = 'planned' AND f.wanted_at <> f.begun_at + s.after
""")


def rules(connection: Connection) -> list[RowMapping]:
    """The rules that are stored."""
    return list(connection.execute(text(f"{_RULE} ORDER BY slug")).mappings())


def rule(connection: Connection, slug: str) -> RowMapping | None:
    """The stored rule called `slug`."""
    return connection.execute(text(f"{_RULE} WHERE slug = :slug"), {"slug": slug}).mappings().one_or_none()


def put_rule(connection: Connection, row: dict[str, Any]) -> None:
    """Add or change a rule. Whether it is on stays."""
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
    """Stop what a rule has planned. Returns the choices that were made for it."""
    return set(connection.execute(_STOP_PLANNED, {"rule": slug, "reason": reason}).scalars()) - {None}


def move_planned(connection: Connection, slug: str, delays: Sequence[timedelta]) -> None:
    """Let what is planned by a rule come due by these delays."""
    connection.execute(_MOVE, {"rule": slug, "steps": _numbered(delays)})


def delete_rule(connection: Connection, slug: str) -> bool:
    """Take a stored rule away."""
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
    """Organisations that have a rule switched on, or a follow-up of which something is still to come."""
    return list(connection.execute(_WITH_RULES).scalars())


def organisations_in_need(connection: Connection) -> list[UUID]:
    """Where a follow-up is due or under way, or was stopped while it was being written."""
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


def found(connection: Connection, org: UUID, trigger: Trigger, values: dict[str, Any]) -> list[RowMapping]:
    """What a trigger finds that began at `since` or later and has fewer than `steps` follow-ups by the rule: `limit` at
    most, the earliest first.
    """
    statement = text(f"""
        SELECT found.* FROM ({trigger.found}) AS found
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
    return list(connection.execute(statement, values | {"org": org}).mappings())


def insert_follow_ups(connection: Connection, org: UUID, rule: str, rows: list[dict[str, Any]]) -> int:
    """Plan follow-ups. Returns how many were not planned before."""
    return connection.execute(_INSERT, {"org": org, "rule": rule, "rows": dump_json(rows)}).rowcount


# ── attending ────────────────────────────────────────────────────────────────────────────────────────────────────────

_FOLLOW_UP = """
    SELECT id, rule, step, subject, contact, begun_at, facts, channel, variant, choice_id, status, reason, wanted_at,
           due_at, task_id, message_id, sent_at, answered_at, converted_at, revenue, currency, created_at, ended_at
      FROM follow_ups
"""
_DUE = text(f"{_FOLLOW_UP} WHERE due_at <= rota_now() ORDER BY due_at, id LIMIT :limit FOR UPDATE")
_OPEN = text(f"""
    {_FOLLOW_UP} WHERE status IN ('planned', 'writing', 'queued') AND id > :after ORDER BY id LIMIT :limit FOR UPDATE
""")
_OPEN_OF = text(f"""
    {_FOLLOW_UP} WHERE contact = :contact AND status IN ('planned', 'writing', 'queued') ORDER BY id FOR UPDATE
""")
_BY_TASK = text(f"{_FOLLOW_UP} WHERE task_id = :task FOR UPDATE")
_LOCK_UNDER_WAY = text("""
    SELECT id FROM follow_ups WHERE status IN ('writing', 'queued') ORDER BY id FOR UPDATE
""")
_UNDER_WAY = text("""
    SELECT f.id, f.status, f.rule, f.contact, f.choice_id, f.task_id, f.message_id, f.wanted_at,
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


def lock_due(connection: Connection, limit: int) -> list[RowMapping]:
    """What is due, the earliest first, kept for this transaction."""
    return list(connection.execute(_DUE, {"limit": limit}).mappings())


def lock_open(connection: Connection, after: UUID, limit: int) -> list[RowMapping]:
    """What is open, from the one after `after`, kept for this transaction."""
    return list(connection.execute(_OPEN, {"after": after, "limit": limit}).mappings())


def lock_open_of(connection: Connection, contact: UUID) -> list[RowMapping]:
    """What is open for a contact, kept for this transaction."""
    return list(connection.execute(_OPEN_OF, {"contact": contact}).mappings())


def lock_of_task(connection: Connection, task: UUID) -> RowMapping | None:
    """The follow-up that a task writes, kept for this transaction."""
    return connection.execute(_BY_TASK, {"task": task}).mappings().one_or_none()


def lock_one(connection: Connection, row_id: UUID) -> RowMapping | None:
    """One follow-up, kept for this transaction."""
    statement = text(f"{_FOLLOW_UP} WHERE id = :id FOR UPDATE")
    return connection.execute(statement, {"id": row_id}).mappings().one_or_none()


def under_way(connection: Connection) -> list[RowMapping]:
    """What is being written or has a message queued, with how its task and its message stand; kept for this
    transaction.
    """
    # Two statements: one that had waited for a row would show that as it is now, and what is joined as it was before.
    connection.execute(_LOCK_UNDER_WAY)
    return list(connection.execute(_UNDER_WAY).mappings())


def end(connection: Connection, ends: Iterable[dict[str, Any]]) -> int:
    """Note how follow-ups ended: id, status, reason, sent_at. Of those that have ended nothing changes."""
    listed = list(ends)
    return connection.execute(_END, {"ends": dump_json(listed)}).rowcount if listed else 0


def put_off(connection: Connection, row: dict[str, Any]) -> None:
    """Let a planned follow-up come due later, in the variant that was chosen."""
    connection.execute(_PUT_OFF, row)


def start(connection: Connection, row: dict[str, Any]) -> None:
    """Note which task writes a follow-up, for which channel and in which variant."""
    connection.execute(_START, row)


def note_queued(connection: Connection, row_id: UUID, message: UUID) -> None:
    """Note the message of a follow-up that was being written."""
    connection.execute(_QUEUED, {"id": row_id, "message": message})


# ── what is to be heeded ─────────────────────────────────────────────────────────────────────────────────────────────

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
    connection: Connection, trigger: Trigger, asked: Iterable[RowMapping], values: dict[str, Any]
) -> list[RowMapping]:
    """How it stands with the subjects of these follow-ups."""
    listed = {(row["subject"], row["begun_at"]): row["contact"] for row in asked}
    rows = [
        {"subject": str(subject), "contact": str(contact), "begun_at": begun_at.isoformat()}
        for (subject, begun_at), contact in listed.items()
    ]
    statement = text(f"""
        WITH asked AS (SELECT * FROM jsonb_to_recordset(CAST(:asked AS jsonb))
                                  AS a (subject uuid, contact uuid, begun_at timestamptz))
        {trigger.standing}
    """)  # noqa: S608
    return list(connection.execute(statement, values | {"asked": dump_json(rows)}).mappings())


def answered(connection: Connection, rows: Iterable[RowMapping]) -> set[UUID]:
    """Those of these follow-ups whose contact has written since the sequence began or was planned."""
    asked = [
        {
            "id": str(row["id"]),
            "contact": str(row["contact"]),
            "since": min(row["begun_at"], row["created_at"]).isoformat(),
        }
        for row in rows
    ]
    return set(connection.execute(_ANSWERED, {"asked": dump_json(asked)}).scalars())


def recent(connection: Connection, contact: UUID, since: datetime) -> list[datetime]:
    """When follow-ups were sent to a contact after `since`; what is on its way counts as sent now."""
    return list(connection.execute(_OTHERS, {"contact": contact, "since": since}).scalars())


def on_their_way(connection: Connection, rule: str) -> dict[tuple[UUID, datetime], int]:
    """The earliest step that is on its way, of each sequence of a rule."""
    rows = connection.execute(_EARLIER, {"rule": rule})
    return {(row.subject, row.begun_at): row.step for row in rows}


# ── what came of them ────────────────────────────────────────────────────────────────────────────────────────────────

_STOPPED = text("SELECT id, task_id FROM follow_ups WHERE status = 'stopped' AND NOT is_settled")
_LAST_SENT = text(f"""
    {_FOLLOW_UP} WHERE contact = :contact AND sent_at <= :at ORDER BY sent_at DESC, id DESC LIMIT 1 FOR UPDATE
""")
# All of a contact together and the latest first: a purchase counts for that.
_UNSETTLED = text(f"""
    {_FOLLOW_UP} WHERE sent_at IS NOT NULL AND NOT is_settled
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


def stopped(connection: Connection) -> list[RowMapping]:
    """What was stopped while a task was writing it."""
    return list(connection.execute(_STOPPED).mappings())


def last_sent(connection: Connection, contact: UUID, at: datetime) -> RowMapping | None:
    """The last follow-up that a contact was sent before a moment."""
    return connection.execute(_LAST_SENT, {"contact": contact, "at": at}).mappings().one_or_none()


def note_answered(connection: Connection, row_id: UUID, at: datetime) -> None:
    """Note when a follow-up was first answered."""
    statement = text("UPDATE follow_ups SET answered_at = :at WHERE id = :id AND answered_at IS NULL")
    connection.execute(statement, {"id": row_id, "at": at})


def lock_unsettled(connection: Connection, after: UUID, limit: int) -> list[RowMapping]:
    """What was sent and may still lead to something, of `limit` contacts from the one after `after`; kept for this
    transaction.
    """
    return list(connection.execute(_UNSETTLED, {"after": after, "limit": limit}).mappings())


def note_converted(connection: Connection, row: dict[str, Any]) -> bool:
    """Note what a follow-up led to. False where that counts for another one already."""
    return connection.execute(_CONVERT, row).rowcount == 1


def settle(connection: Connection, ids: list[UUID]) -> None:
    """Note that nothing more is to come of these."""
    connection.execute(text("UPDATE follow_ups SET is_settled = true WHERE id = ANY(:ids)"), {"ids": ids})


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────

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


def follow_ups(connection: Connection, wanted: dict[str, Any], limit: int) -> list[RowMapping]:
    """Follow-ups that match, the latest planned first."""
    conditions = [_FILTERS[name] for name, value in wanted.items() if value is not None]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = text(f"{_FOLLOW_UP} {where} ORDER BY id DESC LIMIT :limit")
    return list(connection.execute(statement, wanted | {"limit": limit}).mappings())


def follow_up(connection: Connection, row_id: UUID) -> RowMapping | None:
    """One follow-up."""
    return connection.execute(text(f"{_FOLLOW_UP} WHERE id = :id"), {"id": row_id}).mappings().one_or_none()


def effects(connection: Connection, since: datetime) -> list[RowMapping]:
    """What was done by each rule's step, channel and variant, of what was wanted since a moment."""
    return list(connection.execute(_EFFECTS, {"since": since}).mappings())
