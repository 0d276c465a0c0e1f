"""Operations on approvals: request, vote, decide, escalate, use, withdraw."""

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from core import canonical
from core.errors import Conflict, InvalidInput, NotFound, NotPermitted, PreconditionRequired
from core.ids import new_id
from core.json_text import dump_json
from domain.approvals import queries
from domain.approvals.schemas import (
    DEFAULT_POLICY,
    Approval,
    ApprovalPage,
    ApprovalStatus,
    Ask,
    Count,
    CountedStep,
    Done,
    Kind,
    Performance,
    Policy,
    Proposal,
    Tally,
    Verdict,
)
from domain.audit import service as audit
from domain.audit.schemas import Actor, AuditEvent
from domain.channels import service as channels
from domain.channels.schemas import Notice
from domain.tasks import service as tasks
from domain.tenants import service as tenants

DECIDE = "approvals:decide"
_BATCH = 100

# ── policies ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def policy(connection: Connection, org: UUID) -> Policy:
    """Return the organisation's policy, or the default policy if it has none of its own."""
    return queries.policy(connection, org) or DEFAULT_POLICY


def set_policy(connection: Connection, org: UUID, wanted: Policy) -> Policy:
    """Replace the organisation's policy. Approvals that were already requested do not change.

    Raises:
        InvalidInput: the policy names a role or a user that does not exist.
    """
    _refuse_strangers(connection, org, wanted)
    body = json.loads(wanted.model_dump_json())
    queries.put_policy(connection, org, *(dump_json(body[part]) for part in ("rules", "asks", "caps")))
    return policy(connection, org)


def _refuse_strangers(connection: Connection, org: UUID, wanted: Policy) -> None:
    roles = {role.name for role in tenants.list_roles(connection)}
    for ask in [*wanted.asks, *(ask for rule in wanted.rules for ask in rule.ask or [])]:
        if unknown := sorted(set(ask.roles) - roles):
            raise InvalidInput(f"There is no role called {', '.join(unknown)}.")
        for email in ask.users:
            if tenants.find_user(connection, org, email) is None:
                raise InvalidInput(f"There is no user with the address {email}.")


def performance(connection: Connection, org: UUID, agent: str, tool: str) -> Performance:
    """Return what became of an agent's calls of a tool in the last 30 days."""
    return queries.performance(connection, org, agent, tool)


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def digest(tool: str, arguments: dict[str, Any]) -> bytes:
    """Return the digest that an approval is bound to: SHA-256 of the tool and its arguments as canonical JSON."""
    return canonical.digest([tool, arguments])


def propose(connection: Connection, org: UUID, proposal: Proposal) -> UUID | None:
    """Request a decision on an action and notify the users asked. Return None if the step has already requested one."""
    first = proposal.asks[0]
    row = proposal.model_dump(mode="json", include={"task_id", "seq", "kind", "agent", "tool", "arguments", "decision"})
    approval_id = queries.insert_approval(
        connection,
        row
        | {
            "id": new_id(),
            "org": org,
            "user_id": proposal.user_id,
            "location_id": proposal.location_id,
            "asks": [json.loads(ask.model_dump_json()) for ask in proposal.asks],
            "digest": digest(proposal.tool, proposal.arguments),
            "needed": first.needed,
            "within": first.within,
        },
    )
    if approval_id is None:
        return None
    _tell_the_asked(connection, org, approval_id, first)
    return approval_id


def _tell_the_asked(connection: Connection, org: UUID, approval_id: UUID, ask: Ask) -> None:
    asked = get(connection, approval_id)
    people = [asked.user_id] if asked.kind == "suggestion" else _people_of(connection, org, ask, asked.location_id)
    verb = {"approval": "asks for approval", "advice": "asks for advice", "suggestion": "suggests"}[asked.kind]
    given = "\n".join(f"  {name}: {value}" for name, value in asked.arguments.items())
    notice = Notice(
        kind=f"{asked.kind}.requested",
        title=f"{asked.agent} {verb}: {asked.tool}",
        body=f"{asked.decision.why or asked.decision.reasoning}\n\n{asked.tool}\n{given}\n\n"
        f"Decide until {asked.expires_at:%Y-%m-%d %H:%M} UTC: rota approvals show {asked.id}",
        data={
            "approval_id": str(asked.id),
            "task_id": str(asked.task_id),
            "tool": asked.tool,
            "agent": asked.agent,
            "digest": asked.digest,
        },
        is_told=True,
    )
    channels.tell(connection, org, people, notice, written_by=asked.task_id)


def tell_coordinators(
    connection: Connection, org: UUID, ask: Ask, location: UUID | None, notice: Notice, task: UUID
) -> None:
    """Notify the people of `ask` of an action that a task did without asking them."""
    channels.tell(connection, org, _people_of(connection, org, ask, location), notice, written_by=task)


def _people_of(connection: Connection, org: UUID, ask: Ask, location: UUID | None) -> list[UUID]:
    """Return the users whom a stage asks: those with its roles at the location, and those it names."""
    people = [person.id for person in tenants.holders_of(connection, org, ask.roles, location)]
    people += [user.id for email in ask.users if (user := tenants.find_user(connection, org, email))]
    return people


# ── deciding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def get(connection: Connection, approval_id: UUID) -> Approval:
    """Return an approval.

    Raises:
        NotFound: there is none.
    """
    return _read(queries.approval(connection, approval_id), approval_id)


def get_locked(connection: Connection, approval_id: UUID) -> Approval:
    """Return an approval and lock it until this transaction ends.

    Raises:
        NotFound: there is none.
    """
    return _read(queries.approval(connection, approval_id, locked=True), approval_id)


def _read(found: Approval | None, approval_id: UUID) -> Approval:
    if found is None:
        raise NotFound(f"There is no approval {approval_id}.")
    return found


def of_task(connection: Connection, task: UUID) -> dict[int, Approval]:
    """Return the approvals of a task, by step."""
    return {one.seq: one for one in queries.approvals_of_task(connection, task)}


def listed(
    connection: Connection,
    *,
    user: UUID,
    mine: bool = False,
    status: str | None = "open",
    kind: Kind | None = None,
    task: UUID | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> ApprovalPage:
    """Return a page of approvals, newest first; with `mine`, only those that `user` is asked for now."""
    wanted = {
        "user": user, "mine": mine, "status": status, "kind": kind, "task": task, "before": before, "limit": limit,
    }  # fmt: skip
    found = queries.page(connection, wanted)
    return ApprovalPage(approvals=found, next_before=found[-1].id if len(found) == limit else None)


def vote(
    connection: Connection, org: UUID, approval: Approval, voter: UUID, verdict: Verdict, words: str | None
) -> Approval:
    """Record a vote on an approval that was read with `get_locked`. The last approval needed, or any rejection,
    decides.

    Repeating a vote is harmless. `ensure_seen` checks that the voter saw the current arguments.

    Raises:
        NotPermitted: the voter is not asked, or may not decide at the task's location.
        AlreadySo: the voter decided it in the same way before.
        Conflict: it is already decided, it is overdue, or its task has ended.
    """
    _refuse_closed(connection, approval, voter, verdict)
    _refuse_uninvited(connection, approval, voter)
    row = {
        "id": approval.id,
        "org": org,
        "user": voter,
        "verdict": verdict,
        "stage": approval.stage,
        "digest": bytes.fromhex(approval.digest),
        "words": words,
    }
    queries.insert_vote(connection, row)
    if verdict == "reject":
        _decide(connection, org, approval, "rejected", words, user=voter)
    elif queries.number_of_yeses(connection, approval.id) >= approval.needed:
        _decide(connection, org, approval, "approved", words, user=voter)
    else:
        _note(connection, org, approval, "voted for", words, user=voter)
        return get(connection, approval.id)
    return get(connection, approval.id)


def _decide(
    connection: Connection,
    org: UUID,
    approval: Approval,
    status: ApprovalStatus,
    reason: str | None,
    *,
    user: UUID | None = None,
) -> None:
    """Close an approval, record the decision in the audit log, and wake its task unless it is a suggestion."""
    if queries.decide(connection, approval.id, status, user=user, reason=reason):
        _note(connection, org, approval, status, reason, user=user)
    if approval.kind != "suggestion":
        tasks.wake(connection, approval.task_id, "approval", "advice")


def _note(
    connection: Connection, org: UUID, approval: Approval, verb: str, reason: str | None, *, user: UUID | None
) -> None:
    actor = Actor(org_id=org, user_id=user, agent=approval.agent, task_id=approval.task_id, seq=approval.seq)
    details = {"approval": approval.id, "kind": approval.kind, "digest": approval.digest, "reason": reason}
    audit.record(connection, actor, AuditEvent(verb, f"tool/{approval.tool}", details))


def ensure_seen(approval: Approval, seen: str | None) -> None:
    """Refuse a vote on other than the current arguments. `seen` is the digest that the voter sent.

    Raises:
        PreconditionRequired: the vote has no digest.
        Conflict: the digest is unknown, or the arguments were edited since; then the error lists the changes.
    """
    if seen is None:
        raise PreconditionRequired(
            "Say what you vote on: send the approval's `digest`, as you saw it, in the body or as If-Match."
        )
    if seen == approval.digest:
        return
    before = next((edit for edit in approval.edits if edit.digest == seen), None)
    if before is None:
        raise Conflict(
            f"This digest is of no version of the approval {approval.id}. Read it again, then vote.",
            digest=approval.digest,
        )
    changed = _changes(before.arguments, approval.arguments)
    last = approval.edits[-1]
    raise Conflict(
        f"{last.edited_by} edited the arguments after you saw them: {', '.join(changed)}. Look again, then vote.",
        digest=approval.digest,
        changed=changed,
    )


def _changes(before: dict[str, Any], now: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each argument that differs, with its value before and now; None if it was not given."""
    return {
        name: {"before": before.get(name), "now": now.get(name)}
        for name in sorted({*before, *now})
        if canonical.canonical(before.get(name)) != canonical.canonical(now.get(name))
    }


def _refuse_closed(connection: Connection, approval: Approval, voter: UUID, verdict: Verdict) -> None:
    if approval.kind != "suggestion" and approval.status == "open" and queries.has_ended(connection, approval.task_id):
        raise Conflict("Its task has ended; there is nothing left to decide.")
    if approval.status == "open":
        if approval.is_overdue:
            raise Conflict("Its time is over; it goes to others, or is denied, at once.")
        return
    mine = tenants.get_user(connection, voter).email
    said = {"approve": "approved", "reject": "rejected"}[verdict]
    if approval.decided_by == mine and approval.status == said:
        raise AlreadySo
    by = f" by {approval.decided_by}" if approval.decided_by else ""
    raise Conflict(f"This was {approval.status} already{by}.", status_now=approval.status)


def ensure_may_vote(connection: Connection, approval: Approval, voter: UUID) -> None:
    """Refuse a voter who is not asked, before anything is changed.

    Raises:
        NotPermitted: the voter is not asked, or may not decide at the task's location.
    """
    _refuse_uninvited(connection, approval, voter)


class AlreadySo(Conflict):
    """You have already decided this in the same way."""


def _refuse_uninvited(connection: Connection, approval: Approval, voter: UUID) -> None:
    reach = tenants.reach_of(connection, voter, DECIDE).at(approval.location_id)
    is_offered = approval.kind == "suggestion" and approval.user_id == voter
    if reach.is_nowhere and not is_offered:
        raise NotPermitted(f"To decide this you need the permission {DECIDE}, where the task is done.")
    if not queries.is_asked(connection, approval.id, voter):
        asked = approval.asks[approval.stage]
        people = ", ".join([*asked.roles, *asked.users])
        if asked.four_eyes and approval.user_id == voter:
            raise NotPermitted(f"It is done for you, and somebody else must decide: {people}.")
        raise NotPermitted(f"You are not asked: now it is up to {people}.")


def edit(connection: Connection, approval: Approval, arguments: dict[str, Any], by: UUID) -> Approval:
    """Change the arguments of a locked, open approval. Votes on the old arguments no longer count."""
    editor = tenants.get_user(connection, by).email
    queries.edit(connection, approval.id, arguments, digest(approval.tool, arguments), editor)
    return get(connection, approval.id)


def use(connection: Connection, approval_id: UUID, task: UUID, seq: int) -> None:
    """Mark an approval as used by one step, in the transaction in which its action is begun or recorded. A retry of
    the same step may use it again.

    Raises:
        Conflict: it is not approved, or another step used it.
    """
    if not queries.use(connection, approval_id, task, seq):
        raise Conflict("This approval was used, or does not stand.")


def used_in(connection: Connection, task: UUID, seq: int) -> Approval | None:
    """Return the approval that a step used for its action, or None if it needed none."""
    return queries.approval_used_in(connection, task, seq)


def link(connection: Connection, approval_id: UUID, task: UUID) -> None:
    """Record which task carries out an accepted suggestion."""
    queries.link(connection, approval_id, task)


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def overdue(connection: Connection) -> list[UUID]:
    """Return overdue approvals, at most a hundred."""
    return queries.overdue(connection, _BATCH)


def expire(connection: Connection, approval_id: UUID) -> None:
    """Escalate, deny or expire an overdue approval; when it is denied or expires, its task is woken. No-op if another
    transaction has it.
    """
    org = queries.lock_overdue(connection, approval_id)
    if org is None:
        return
    late = get(connection, approval_id)
    ask = late.asks[late.stage]
    if ask.then == "escalate" and late.stage + 1 < len(late.asks):
        following = late.asks[late.stage + 1]
        queries.escalate(connection, late.id, late.stage + 1, following.needed, following.within)
        _note(connection, org, late, "escalated", "Nobody decided in time.", user=None)
        _tell_the_asked(connection, org, late.id, following)
        return
    status: ApprovalStatus = "expired" if ask.then == "expire" else "denied"
    _decide(connection, org, late, status, "Nobody decided in time.")


def wake_decided(connection: Connection) -> int:
    """Wake tasks that wait for a decision although none is open: a safety net. Return how many."""
    found = queries.waiting_for_nothing(connection)
    for task in found:
        tasks.wake(connection, task, "approval", "advice")
    return len(found)


def withdraw_ended(connection: Connection) -> int:
    """Withdraw the open approvals of tasks that have ended, except suggestions. Return how many."""
    closed = queries.withdraw_ended(connection)
    for one in closed:
        actor = Actor(org_id=one.org_id, agent=one.agent, task_id=one.task_id, seq=one.seq)
        details = {"approval": one.id, "kind": one.kind, "reason": "Its task has ended."}
        audit.record(connection, actor, AuditEvent("withdrawn", f"tool/{one.tool}", details))
    return len(closed)


def withdraw(connection: Connection, org: UUID, approval: Approval, reason: str) -> None:
    """Withdraw an approval that was not used. Its step may request a decision again."""
    queries.withdraw(connection, approval.id, reason)
    _note(connection, org, approval, "withdrawn", reason, user=None)


# ── what was done without a person ───────────────────────────────────────────────────────────────────────────────────


def tally(connection: Connection, org: UUID, step: CountedStep) -> Tally:
    """Return what agents did without a person, excluding `step`, in total and by rule. Other steps of the organisation
    wait until this transaction ends, so that two of them cannot both use the last room under a cap.
    """
    values = {"task": step.task_id, "seq": step.seq, "root": step.root_id, "contacts": list(step.contacts)}
    by_rule = queries.tally(connection, org, values)
    return Tally(in_all=_sum(by_rule.values()), by_rule=by_rule)


def _sum(parts: Iterable[Done]) -> Done:
    done = list(parts)
    return Done(
        *(
            Count(sum(one.times for one in counts), sum((one.amount for one in counts), start=Decimal(0)))
            for counts in (
                [one.task for one in done], [one.contact for one in done], [one.day for one in done],
            )
        )
    )  # fmt: skip


def note_unattended(connection: Connection, org: UUID, step: CountedStep, rule: str, amount: Decimal | None) -> None:
    """Count an action that is about to be done without a person, under the rule that let it pass."""
    row = {
        "org": org, "task": step.task_id, "seq": step.seq, "root": step.root_id, "rule": rule,
        "contacts": list(step.contacts), "amount": amount or Decimal(0),
    }  # fmt: skip
    queries.note_unattended(connection, row)


def forget_unattended(connection: Connection) -> int:
    """Delete the counts that no cap needs any more. Return how many."""
    return queries.forget_unattended(connection)
