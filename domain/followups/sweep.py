"""Planning follow-ups, starting due ones, stopping them, and recording their outcome.

Every operation is idempotent and safe to run late or concurrently: a lock serialises the work for an organisation, a
unique row ensures that a step of a sequence is planned once, and a follow-up's task is inserted in the transaction that
marks it as started.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from core.db import transaction
from core.ids import new_id
from domain.channels import service as channels
from domain.contacts.schemas import Contact
from domain.followups import queries, rules, timing
from domain.followups.schemas import Ending, FollowUpUnderWay, SentFollowUp, Standing, Swept
from domain.followups.standing import Present, attribution, by_rule, closing, end, ending, latest_moment, stop
from domain.followups.starting import Choose, Starting
from domain.learning import service as learning
from domain.learning.schemas import Outcome
from domain.tasks import service as tasks
from domain.tasks.schemas import ENDED

PORTION = 200
"""follow-ups or contacts handled per transaction"""
_FIRST = UUID(int=0)
_LEEWAY = timedelta(days=1)
"""longer than any quiet hours, because waiting for their end does not count as lateness"""


def plan(org: UUID) -> Swept:
    """Plan follow-ups for what an organisation's rules find, stop those with a reason to stop, and settle sent ones."""
    done = Swept()
    with transaction(org) as connection:
        live = [slug for slug, rule in rules.stored(connection).items() if rule.is_on]
    for slug in live:
        found = PORTION
        while found == PORTION:
            with transaction(org) as connection:
                queries.one_at_a_time(connection, org)
                found, made = _plan_portion(Present.of(connection, org), slug)
            done.planned += made
    done.stopped += _portions(org, _stop_portion)
    done.settled += _portions(org, _settle_portion)
    return done


def attend(org: UUID, choose: Choose) -> Swept:
    """Record the ends of follow-ups under way, and start due ones."""
    done, found = Swept(), PORTION
    while found == PORTION:
        with transaction(org) as connection:
            queries.one_at_a_time(connection, org)
            present = Present.of(connection, org)
            ended = note_ends(present)
            due = queries.lock_due(connection, PORTION)
            why = present.why_stop(due)
            stopped = stop(connection, org, [(row, why[row.id]) for row in due if row.id in why])
            starting = Starting(present, choose)
            starting.carry_out([row for row in due if row.id not in why])
        found = len(due)
        done = total(done, ended, starting.done, Swept(stopped=stopped))
    with transaction(org) as connection:  # own transaction: the sender locks the task first, then the follow-up's row
        left_behind = queries.stopped(connection)
        tasks.cancel_unended(connection, list(left_behind.values()))
    if left_behind:
        with transaction(org) as connection:
            queries.settle(connection, list(left_behind))
    return done


def total(*parts: Swept) -> Swept:
    """Return the sum of these counts."""
    return Swept(**{name: sum(getattr(part, name) for part in parts) for name in Swept.model_fields})


def _portions(org: UUID, see_to: Callable[[Present, UUID], tuple[int, UUID | None]]) -> int:
    """Run `see_to` batch by batch, each in a transaction of its own. Returns the sum of its counts."""
    total, after = 0, _FIRST
    while True:
        with transaction(org) as connection:
            queries.one_at_a_time(connection, org)
            count, carry_on = see_to(Present.of(connection, org), after)
        total += count
        if carry_on is None:
            return total
        after = carry_on


# ── planning and stopping ────────────────────────────────────────────────────────────────────────────────────────────


def _plan_portion(present: Present, slug: str) -> tuple[int, int]:
    """Plan one batch of what a rule finds. Returns how many it found, and how many follow-ups were planned."""
    rule = present.rules.get(slug)
    if rule is None or not rule.is_on or rule.row.on_since is None:
        return 0, 0
    delays = [step.after for step in rule.fields.steps]
    # Skip beginnings so old that even the last message would be too late: this bounds the search.
    since = max(rule.row.on_since, present.now - delays[-1] - rule.fields.lateness - _LEEWAY)
    asked = {"since": since, "rule": slug, "steps": len(delays), "limit": PORTION}
    found = queries.found(present.connection, present.org, rule.fields.trigger, present.values(rule.fields) | asked)
    planned = [
        {
            "id": str(new_id()),
            "step": number,
            "subject": str(row.subject),
            "contact": str(row.contact),
            "begun_at": row.begun_at.isoformat(),
            "facts": row.facts,
            "wanted_at": (row.begun_at + delay).isoformat(),
        }
        for row in found
        for number, delay in enumerate(delays, 1)
    ]
    return len(found), queries.insert_follow_ups(present.connection, present.org, slug, planned) if planned else 0


def _stop_portion(present: Present, after: UUID) -> tuple[int, UUID | None]:
    """Stop those of one batch with a reason to stop. Returns how many, and the id to continue after."""
    rows = queries.lock_open(present.connection, after, PORTION)
    why = present.why_stop(rows)
    stopped = stop(present.connection, present.org, [(row, why[row.id]) for row in rows if row.id in why])
    return stopped, rows[-1].id if len(rows) == PORTION else None


# ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def note_ends(present: Present) -> Swept:
    """Record the ends of follow-ups that were being written or queued. Give queued messages that would leave in quiet
    hours a later time, unless that is too late.
    """
    rows = queries.under_way(present.connection)
    contacts = present.contacts(rows)
    ends: list[Ending] = []
    doubtful = [row.message_id for row in rows if row.message_id is not None and row.message_status == "unknown"]
    for row in rows:
        found = _end_of_message(row) if row.status == "queued" else _end_of_task(row)
        if found is None and row.message_status == "queued":
            found = _keep_quiet(present, row, contacts.get(row.contact))
        if found is not None:
            ends.append(found)
    channels.withdraw(present.connection, present.org, doubtful)  # these must not be sent again
    end(present.connection, ends)
    statuses = [one.status for one in ends]
    return Swept(**{status: statuses.count(status) for status in ("sent", "failed", "skipped", "stopped")})


def _end_of_message(row: FollowUpUnderWay) -> Ending | None:
    """Return how a follow-up with a message ended; None while the message may still be sent."""
    match row.message_status:
        case None:
            return ending(row, "failed", "its message is gone")
        case "sent":
            return ending(row, "sent", None, row.left_at)
        case "failed":
            return ending(row, "failed", row.message_error)
        case "cancelled":
            return ending(row, "stopped", "its message was cancelled")
        case "unknown":
            return ending(row, "failed", "nobody knows whether it left")
    return None


def _end_of_task(row: FollowUpUnderWay) -> Ending | None:
    """Return how a follow-up without a message ended; None while its task may still write one."""
    status = row.task_status
    if status is not None and status not in ENDED:
        return None
    match status:
        case "expired":
            return ending(row, "skipped", "nobody had written it in time")
        case "cancelled":
            return ending(row, "stopped", "its task was cancelled")
        case "failed":
            return ending(row, "failed", f"its task failed: {row.task_error}")
    return ending(row, "failed", "its task ended without sending it")


def _keep_quiet(present: Present, row: FollowUpUnderWay, contact: Contact | None) -> Ending | None:
    """Postpone a queued message that would leave in quiet hours, or withdraw it if the new time is too late. Return the
    ending of a withdrawn one.
    """
    rule = present.rules.get(row.rule)
    if rule is None or contact is None or row.message_id is None or row.send_after is None:
        return None
    zone = present.zone_of(contact)
    leaving = max(present.now, row.send_after)
    allowed, latest = timing.may_leave(leaving, rule.fields.quiet_hours, zone), latest_moment(row, rule.fields, zone)
    if allowed <= latest:
        if allowed > leaving:
            leave_by = closing(allowed, latest, rule.fields, zone)
            channels.postpone(present.connection, row.message_id, allowed, leave_by)
        return None
    if not channels.withdraw(present.connection, present.org, [row.message_id]):
        return None
    return ending(row, "skipped", "it could not be sent in time")


# ── outcomes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _settle_portion(present: Present, after: UUID) -> tuple[int, UUID | None]:
    """Settle one batch of sent follow-ups: converted ones, and those past their attribution. Returns how many, and the
    contact to continue after.
    """
    rows = queries.lock_unsettled(present.connection, after, PORTION)
    standings = {slug: present.standings(slug, of_rule) for slug, of_rule in by_rule(rows).items()}
    outcomes: dict[UUID, Outcome] = {}
    over, converted = [], 0
    for row in rows:
        until = row.sent_at + attribution(present.rules.get(row.rule))
        standing = standings[row.rule].get((row.subject, row.begun_at))
        outcome: Outcome = "success" if row.answered_at else "failure"
        if standing is not None and _leads_to(present.connection, row, standing, until):
            converted += 1
            outcome = "success"
        elif present.now > until:
            over.append(row.id)
        else:
            continue
        if row.choice_id is not None:
            outcomes[row.choice_id] = outcome
    queries.settle(present.connection, over)
    learning.settle(present.connection, outcomes)
    contacts = list(dict.fromkeys(row.contact for row in rows))
    return len(over) + converted, contacts[-1] if len(contacts) == PORTION else None


def _leads_to(connection: Connection, row: SentFollowUp, standing: Standing, until: datetime) -> bool:
    """Record a conversion between sending and `until` that counts for no other follow-up. Return whether it did."""
    at = standing.converted_at
    if at is None or not row.sent_at <= at <= until:
        return False
    led_to = {"converted_at": at, "revenue": standing.revenue, "currency": standing.currency}
    return queries.note_converted(connection, {"id": row.id, "contact": row.contact} | led_to)
