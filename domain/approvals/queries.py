"""All SQL about policies, approvals and votes."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.json_text import dump_json
from core.rows import fetch_all, fetch_one, fetch_optional
from domain.approvals.schemas import Approval, Count, Done, Performance, Policy, WithdrawnApproval

_POLICY = text("SELECT rules, asks, caps FROM policies WHERE org_id = :org")


def policy(connection: Connection, org: UUID) -> Policy | None:
    """Return the organisation's own policy, or None if it has none. A part that it does not set has its default."""
    row = connection.execute(_POLICY, {"org": org}).mappings().one_or_none()
    return Policy(**{name: value for name, value in row.items() if value is not None}) if row else None


def put_policy(connection: Connection, org: UUID, rules: str, asks: str, caps: str) -> None:
    """Set the organisation's policy."""
    statement = text("""
        INSERT INTO policies (org_id, rules, asks, caps)
        VALUES (:org, CAST(:rules AS jsonb), CAST(:asks AS jsonb), CAST(:caps AS jsonb))
        ON CONFLICT (org_id) DO UPDATE
           SET rules = excluded.rules, asks = excluded.asks, caps = excluded.caps, changed_at = rota_now()
    """)
    connection.execute(statement, {"org": org, "rules": rules, "asks": asks, "caps": caps})


_INSERT = text("""
    INSERT INTO approvals (id, org_id, task_id, seq, kind, agent, user_id, location_id, tool, arguments, proposed,
                           digest, decision, asks, needed, expires_at)
    VALUES (:id, :org, :task_id, :seq, :kind, :agent, :user_id, :location_id, :tool, CAST(:arguments AS json),
            CAST(:arguments AS json), :digest, CAST(:decision AS jsonb), CAST(:asks AS jsonb), :needed,
            rota_now() + CAST(:within AS interval))
    ON CONFLICT (task_id, seq) DO UPDATE
       SET status = 'open', kind = excluded.kind, arguments = excluded.arguments, proposed = excluded.proposed,
           digest = excluded.digest, decision = excluded.decision, asks = excluded.asks, needed = excluded.needed,
           expires_at = excluded.expires_at, edits = '[]', stage = 0, decided_at = NULL,
           decided_by = NULL, reason = NULL
     WHERE approvals.status = 'withdrawn'
    RETURNING id
""")


def insert_approval(connection: Connection, row: dict[str, Any]) -> UUID | None:
    """Add an approval, or reopen the step's withdrawn one and delete its votes. Return None if the step has another."""
    prepared = row | {name: dump_json(row[name]) for name in ("arguments", "decision", "asks")}
    found: UUID | None = connection.execute(_INSERT, prepared).scalar()
    if found is not None:
        connection.execute(text("DELETE FROM votes WHERE approval_id = :id"), {"id": found})
    return found


_SELECT = """
    SELECT a.id, a.task_id, a.seq, a.kind, a.status, a.agent, a.user_id, a.location_id, a.tool, a.arguments, a.proposed,
           encode(a.digest, 'hex') AS digest, a.decision, a.asks, a.stage, a.needed, a.expires_at, a.created_at,
           a.decided_at, u.email AS decided_by, a.reason, a.used_at, a.used_by_task, a.used_by_seq, a.linked_task,
           a.edits, a.status = 'open' AND a.expires_at <= rota_now() AS is_overdue,
           coalesce((SELECT jsonb_agg(jsonb_build_object(
                                'user', v.email, 'verdict', vote.verdict, 'words', vote.words,
                                'voted_at', vote.voted_at,
                                'counts', vote.digest = a.digest AND vote.stage = a.stage) ORDER BY vote.voted_at)
                       FROM votes vote JOIN users v ON v.id = vote.user_id
                      WHERE vote.approval_id = a.id), '[]') AS votes
      FROM approvals a LEFT JOIN users u ON u.id = a.decided_by
"""
_OF_TASK = text(f"{_SELECT} WHERE a.task_id = :task ORDER BY a.seq")
_ONE = text(f"{_SELECT} WHERE a.id = :id")
_LOCK = text("SELECT FROM approvals WHERE id = :id FOR UPDATE")


_USED_IN = text(f"{_SELECT} WHERE a.used_by_task = :task AND a.used_by_seq = :seq")


def approval_used_in(connection: Connection, task: UUID, seq: int) -> Approval | None:
    """Return the approval that a step has used."""
    return fetch_optional(connection.execute(_USED_IN, {"task": task, "seq": seq}), Approval)


def approvals_of_task(connection: Connection, task: UUID) -> list[Approval]:
    """Return the approvals of a task, ordered by step."""
    return fetch_all(connection.execute(_OF_TASK, {"task": task}), Approval)


def approval(connection: Connection, approval_id: UUID, *, locked: bool = False) -> Approval | None:
    """Return one approval; with `locked`, lock its row until this transaction ends."""
    if locked:
        connection.execute(_LOCK, {"id": approval_id})
    return fetch_optional(connection.execute(_ONE, {"id": approval_id}), Approval)


# Whether a user is asked at the current stage: by role (held everywhere, or at the task's location) or by e-mail. A
# suggestion is offered to the user whom its task is for.
_IN_STAGE = """
    (a.kind = 'suggestion' AND a.user_id = {user})
    OR EXISTS (SELECT FROM users me WHERE me.id = {user} AND me.disabled_at IS NULL
                  AND a.asks -> a.stage -> 'users' @> to_jsonb(me.email))
    OR EXISTS (SELECT FROM grants g JOIN users me ON me.id = g.user_id AND me.disabled_at IS NULL
                WHERE g.user_id = {user} AND a.asks -> a.stage -> 'roles' @> to_jsonb(g.role)
                  AND (g.location_id IS NULL OR g.location_id = a.location_id))
"""
# In a stage with `four_eyes`, the user whom the task is for does not count.
_ASKED = f"""
    (({_IN_STAGE}) AND NOT (a.user_id = {{user}} AND a.kind <> 'suggestion'
                         AND coalesce(CAST(a.asks -> a.stage ->> 'four_eyes' AS boolean), false)))
"""
_IS_ASKED = _ASKED.format(user=":user")
_PAGE = text(f"""{_SELECT}
     WHERE (CAST(:status AS text) IS NULL OR a.status = :status) AND (CAST(:kind AS text) IS NULL OR a.kind = :kind)
       AND (CAST(:before AS uuid) IS NULL OR a.id < :before) AND (CAST(:task AS uuid) IS NULL OR a.task_id = :task)
       AND (NOT :mine OR {_IS_ASKED})
       AND (a.status <> 'open' OR a.kind = 'suggestion'
            OR EXISTS (SELECT FROM tasks t WHERE t.id = a.task_id AND t.finished_at IS NULL))
     ORDER BY a.id DESC LIMIT :limit
""")
_MAY_DECIDE = text(f"SELECT {_IS_ASKED} FROM approvals a WHERE a.id = :id")  # noqa: S608


def page(connection: Connection, wanted: dict[str, Any]) -> list[Approval]:
    """Return the approvals that match, newest first. Open ones are left out once their task has ended, except
    suggestions.
    """
    return fetch_all(connection.execute(_PAGE, wanted), Approval)


def is_asked(connection: Connection, approval_id: UUID, user: UUID) -> bool:
    """Whether the user is asked at the current stage."""
    return bool(connection.execute(_MAY_DECIDE, {"id": approval_id, "user": user}).scalar())


_VOTE = text("""
    INSERT INTO votes (approval_id, org_id, user_id, stage, verdict, digest, words)
    VALUES (:id, :org, :user, :stage, :verdict, :digest, :words)
    ON CONFLICT (approval_id, user_id) DO UPDATE
       SET verdict = excluded.verdict, stage = excluded.stage, digest = excluded.digest, words = excluded.words,
           voted_at = rota_now()
     WHERE votes.digest <> excluded.digest OR votes.stage <> excluded.stage
""")


def insert_vote(connection: Connection, row: dict[str, Any]) -> bool:
    """Record a vote. Return False if the user has already voted on these arguments at this stage."""
    return connection.execute(_VOTE, row).rowcount == 1


_YESES = text(f"""
    SELECT count(*) FROM votes v JOIN approvals a ON a.id = v.approval_id
     WHERE a.id = :id AND v.verdict = 'approve' AND v.digest = a.digest AND v.stage = a.stage
       AND ({_ASKED.format(user="v.user_id")})
""")  # noqa: S608


def number_of_yeses(connection: Connection, approval_id: UUID) -> int:
    """Return how many of the users asked at the current stage have approved the current arguments."""
    found: int = connection.execute(_YESES, {"id": approval_id}).scalar_one()
    return found


_EDIT = text("""
    UPDATE approvals
       SET arguments = CAST(:arguments AS json), digest = :digest,
           edits = CAST((CAST(edits AS jsonb) || jsonb_build_object(
               'digest', encode(approvals.digest, 'hex'), 'arguments', arguments, 'edited_by', CAST(:by AS text),
               'edited_at', rota_now())) AS json)
     WHERE id = :id AND status = 'open'
""")


def edit(connection: Connection, approval_id: UUID, arguments: dict[str, Any], digest: bytes, by: str) -> None:
    """Replace the arguments and append the old ones to `edits`. Votes on the old arguments no longer count."""
    values = {"id": approval_id, "arguments": dump_json(arguments), "digest": digest, "by": by}
    connection.execute(_EDIT, values)


_DECIDE = text("""
    UPDATE approvals SET status = :status, decided_at = rota_now(), decided_by = :user, reason = :reason
     WHERE id = :id AND status = 'open'
""")


def decide(connection: Connection, approval_id: UUID, status: str, *, user: UUID | None, reason: str | None) -> bool:
    """Close an approval. Return False if it is already closed."""
    values = {"id": approval_id, "status": status, "user": user, "reason": reason}
    return connection.execute(_DECIDE, values).rowcount == 1


_USE = text("""
    UPDATE approvals SET used_at = coalesce(used_at, rota_now()), used_by_task = :task, used_by_seq = :seq
     WHERE id = :id AND status = 'approved' AND (used_at IS NULL OR (used_by_task = :task AND used_by_seq = :seq))
""")


def use(connection: Connection, approval_id: UUID, task: UUID, seq: int) -> bool:
    """Mark an approval as used by one step of one task; the same step may do so again. Return False if it is not
    approved, or if another step used it.
    """
    return connection.execute(_USE, {"id": approval_id, "task": task, "seq": seq}).rowcount == 1


def link(connection: Connection, approval_id: UUID, task: UUID) -> None:
    """Record which task carries out an accepted suggestion."""
    connection.execute(
        text("UPDATE approvals SET linked_task = :task WHERE id = :id"), {"id": approval_id, "task": task}
    )


_OVERDUE = "status = 'open' AND expires_at <= rota_now()"
_ALL_OVERDUE = text(f"SELECT id FROM approvals WHERE {_OVERDUE} ORDER BY expires_at LIMIT :batch")  # noqa: S608
_LOCK_OVERDUE = text(
    f"SELECT org_id FROM approvals WHERE id = :id AND {_OVERDUE} FOR UPDATE SKIP LOCKED"  # noqa: S608
)


def overdue(connection: Connection, batch: int) -> list[UUID]:
    """Return up to `batch` overdue approvals, the longest overdue first."""
    return list(connection.execute(_ALL_OVERDUE, {"batch": batch}).scalars())


def lock_overdue(connection: Connection, approval_id: UUID) -> UUID | None:
    """Lock an overdue approval until this transaction ends and return its organisation. Return None if it is not
    overdue any more, or if another transaction holds the lock.
    """
    found: UUID | None = connection.execute(_LOCK_OVERDUE, {"id": approval_id}).scalar()
    return found


def escalate(connection: Connection, approval_id: UUID, stage: int, needed: int, within: timedelta) -> None:
    """Move an approval to the next stage."""
    statement = text(
        "UPDATE approvals SET stage = :stage, needed = :needed, expires_at = rota_now() + CAST(:within AS interval) "
        "WHERE id = :id"
    )
    connection.execute(statement, {"id": approval_id, "stage": stage, "needed": needed, "within": within})


_WITHDRAW = text("""
    UPDATE approvals a SET status = 'withdrawn', decided_at = rota_now(), reason = 'Its task has ended.'
     WHERE a.status = 'open' AND a.kind <> 'suggestion'
       AND NOT EXISTS (SELECT FROM tasks t WHERE t.id = a.task_id AND t.finished_at IS NULL)
    RETURNING a.id, a.org_id, a.task_id, a.seq, a.kind, a.agent, a.tool
""")


_WITHDRAW_ONE = text("""
    UPDATE approvals SET status = 'withdrawn', decided_at = rota_now(), decided_by = NULL, reason = :reason
     WHERE id = :id AND status IN ('open', 'approved') AND used_at IS NULL
""")


def withdraw(connection: Connection, approval_id: UUID, reason: str) -> None:
    """Withdraw an approval that is open, or that is approved and was not used."""
    connection.execute(_WITHDRAW_ONE, {"id": approval_id, "reason": reason})


def withdraw_ended(connection: Connection) -> list[WithdrawnApproval]:
    """Withdraw the open approvals of tasks that have ended, except suggestions. Return the approvals withdrawn."""
    return fetch_all(connection.execute(_WITHDRAW), WithdrawnApproval)


_WAITING_FOR_NOTHING = text("""
    SELECT t.id FROM tasks t
     WHERE t.status = 'waiting' AND t.waiting_for IN ('approval', 'advice')
       AND NOT EXISTS (SELECT FROM approvals a WHERE a.task_id = t.id AND a.status = 'open' AND a.kind <> 'suggestion')
     ORDER BY t.waiting_for, t.org_id, t.run_after LIMIT 100  -- as their index has them
""")


def waiting_for_nothing(connection: Connection) -> list[UUID]:
    """Return up to 100 tasks that wait for a decision although none is open."""
    return list(connection.execute(_WAITING_FOR_NOTHING).scalars())


def has_ended(connection: Connection, task: UUID) -> bool:
    """Whether the task has ended or does not exist."""
    statement = text("SELECT FROM tasks WHERE id = :task AND finished_at IS NULL")
    return connection.execute(statement, {"task": task}).first() is None


# ── what was done without a person ───────────────────────────────────────────────────────────────────────────────────

_LOCK_CAPS = text("SELECT pg_advisory_xact_lock(hashtextextended('caps:' || :org, 0))")
_TALLY = text("""
    SELECT rule,
           count(*) FILTER (WHERE root_id = :root) AS task_times,
           coalesce(sum(amount) FILTER (WHERE root_id = :root), 0) AS task_amount,
           count(*) FILTER (WHERE is_recent AND contacts && CAST(:contacts AS text[])) AS contact_times,
           coalesce(sum(amount) FILTER (WHERE is_recent AND contacts && CAST(:contacts AS text[])), 0)
               AS contact_amount,
           count(*) FILTER (WHERE is_recent) AS day_times,
           coalesce(sum(amount) FILTER (WHERE is_recent), 0) AS day_amount
      FROM (SELECT *, at > rota_now() - interval '24 hours' AS is_recent FROM unattended_actions
             WHERE org_id = :org AND (at > rota_now() - interval '24 hours' OR root_id = :root)
               AND NOT (task_id = :task AND seq = :seq)) AS done
     GROUP BY rule
""")
_NOTE = text("""
    INSERT INTO unattended_actions (org_id, task_id, seq, root_id, rule, contacts, amount)
    VALUES (:org, :task, :seq, :root, :rule, :contacts, :amount) ON CONFLICT (task_id, seq) DO NOTHING
""")
_FORGET_UNATTENDED = text("""
    DELETE FROM unattended_actions u WHERE at < rota_now() - interval '30 days'
       AND NOT EXISTS (SELECT FROM tasks t WHERE t.root_id = u.root_id OR t.id = u.root_id)
""")


@dataclass(frozen=True, slots=True)
class RuleDone:
    """What one rule let pass: times and amounts of the task's tree, towards the contact, and of the day."""

    rule: str
    task_times: int
    task_amount: Decimal
    contact_times: int
    contact_amount: Decimal
    day_times: int
    day_amount: Decimal


def tally(connection: Connection, org: UUID, values: dict[str, Any]) -> dict[str, Done]:
    """Return what agents have done without a person, by rule, excluding the step that asks. Take the organisation's
    lock on caps until this transaction ends: other tallies of the organisation wait.
    """
    connection.execute(_LOCK_CAPS, {"org": str(org)})
    found = fetch_all(connection.execute(_TALLY, values | {"org": org}), RuleDone)
    return {
        one.rule: Done(
            Count(one.task_times, one.task_amount),
            Count(one.contact_times, one.contact_amount),
            Count(one.day_times, one.day_amount),
        )
        for one in found
    }


def note_unattended(connection: Connection, row: dict[str, Any]) -> None:
    """Count an action that is done without a person. Idempotent: a step is counted once."""
    connection.execute(_NOTE, row)


def forget_unattended(connection: Connection) -> int:
    """Delete the counts that no cap needs any more. Return how many."""
    return connection.execute(_FORGET_UNATTENDED).rowcount


_PERFORMANCE = text("""
    SELECT (SELECT count(*) FROM audit_log WHERE org_id = :org AND subject = :subject AND agent = :agent
               AND verb = 'acted' AND at > rota_now() - interval '30 days') AS done,
           (SELECT count(*) FROM audit_log WHERE org_id = :org AND subject = :subject AND agent = :agent
               AND verb = 'was refused' AND at > rota_now() - interval '30 days') AS refused,
           count(*) FILTER (WHERE status = 'approved') AS approved,
           count(*) FILTER (WHERE status IN ('rejected', 'denied', 'expired')) AS rejected
      FROM approvals WHERE org_id = :org AND tool = :tool AND agent = :agent
       AND created_at > rota_now() - interval '30 days'
""")


def performance(connection: Connection, org: UUID, agent: str, tool: str) -> Performance:
    """Return what became of an agent's calls of a tool in the last 30 days."""
    values = {"org": org, "agent": agent, "tool": tool, "subject": f"tool/{tool}"}
    return fetch_one(connection.execute(_PERFORMANCE, values), Performance)
