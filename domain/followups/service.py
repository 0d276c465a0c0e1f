"""Verbs on follow-ups and on what people answer. What plans, starts and stops them by the clock is in `sweep.py`."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from core.errors import Conflict, NotFound
from domain.channels import service as channels
from domain.contacts import service as contacts
from domain.contacts.schemas import Contact, PreferenceChange, Preferences
from domain.followups import queries, rules, timing
from domain.followups.inbound import InboundKind, failed_recipients, is_opt_out, kind_of
from domain.followups.schemas import OPEN, Effect, FollowUp, KeptReply, NewReply, Status
from domain.followups.standing import Present, attribution, closing, latest_moment, skip, stop, stop_all_of
from domain.followups.sweep import note_ends
from domain.learning import service as learning

_CLOSING = {
    "en": "If you would rather not hear from us like this, answer STOP.",
    "es": "Si prefieres no recibir mensajes como este, responde BAJA.",
}


def organisations_with_rules(connection: Connection) -> list[UUID]:
    """Organisations that have a rule switched on, or a follow-up of which something is still to come."""
    return queries.organisations_with_rules(connection)


def organisations_in_need(connection: Connection) -> list[UUID]:
    """Where a follow-up is due or under way, or was stopped while it was being written."""
    return queries.organisations_in_need(connection)


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def list_follow_ups(
    connection: Connection,
    *,
    rule: str | None = None,
    status: Status | None = None,
    contact: UUID | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> list[FollowUp]:
    """Follow-ups, the latest planned first."""
    wanted = {"rule": rule, "status": status, "contact": contact, "before": before}
    return [FollowUp(**row) for row in queries.follow_ups(connection, wanted, limit)]


def get_follow_up(connection: Connection, row_id: UUID) -> FollowUp:
    """A follow-up.

    Raises:
        NotFound: there is none.
    """
    row = queries.follow_up(connection, row_id)
    if row is None:
        raise NotFound(f"There is no follow-up {row_id}.")
    return FollowUp(**row)


def effectiveness(connection: Connection, since: datetime | None = None) -> list[Effect]:
    """What the steps of rules did, by channel and variant: of what was wanted since a moment, or in the last 90
    days.
    """
    moment = since or queries.now(connection) - timedelta(days=90)
    return [Effect(**row) for row in queries.effects(connection, moment)]


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def stop_follow_up(connection: Connection, org: UUID, row_id: UUID) -> FollowUp:
    """Keep a follow-up from being sent. Stopping twice is fine.

    Raises:
        NotFound: there is none.
        Conflict: it was sent, or is being sent.
    """
    row = queries.lock_one(connection, row_id)
    if row is None:
        raise NotFound(f"There is no follow-up {row_id}.")
    if row["status"] in OPEN:
        stop(connection, org, [(row, "stopped by hand")])
    found = get_follow_up(connection, row_id)
    if found.status in {"queued", "sent"}:
        raise Conflict("This follow-up has been sent, or is just leaving; it cannot be stopped.")
    return found


def change_preferences(connection: Connection, org: UUID, contact: UUID, change: PreferenceChange) -> Preferences:
    """Change what a contact allows. Where they want no follow-up any more, what is open for them is stopped.

    Raises:
        NotFound: there is no such contact.
    """
    if change.has_opted_out:
        stop_all_of(connection, org, contact, "they want no follow-ups")
    return contacts.change_preferences(connection, contact, change)


def receive(connection: Connection, org: UUID, reply: NewReply) -> KeptReply:
    """Keep what a contact wrote or said, and stop what is open for them. It counts for the last follow-up
    before it. A STOP or BAJA opts them out, and counts against it. What is delivered twice under one outside_id changes
    nothing more. An automatic reply, or a mail that came back, is kept, and is no answer.

    Often one person has several records, a lead's and a client's, with one address: it is kept with the one that was
    written to last, and stops what is open for all of them.

    Raises:
        NotFound: there is no such contact.
    """
    queries.one_at_a_time(connection, org)
    kind = kind_of(reply.headers, sender=reply.sender or "", subject=reply.subject or "", body=reply.body)
    contact, all_of_them = _who(connection, reply, kind)
    kept, is_new = channels.receive(connection, org, contact, reply.channel, reply.body, reply.outside_id, kind)
    opts_out = kept.kind == "words" and is_opt_out(kept.body)
    stopped = 0
    if is_new and kind == "words":
        (person,) = contacts.require(connection, [contact])
        channels.note_inbound(connection, org, reply.channel, reply.sender or person.phone)
        note_ends(Present.of(connection, org))  # what was sent a moment ago may be what they answer
        for one in all_of_them:
            if opts_out:
                contacts.opt_out(connection, one)
            stopped += stop_all_of(connection, org, one, "they want no follow-ups" if opts_out else "they answered")
        _credit(connection, contact, kept.received_at, is_welcome=not opts_out)
    return KeptReply(**kept.model_dump(), is_opt_out=opts_out, stopped=stopped)


def _who(connection: Connection, reply: NewReply, kind: InboundKind) -> tuple[UUID, list[UUID]]:
    """Whose the words are, or to whom the mail was that came back, and every record with the same e-mail address or
    telephone number.
    """
    if reply.sender is not None:
        returned = failed_recipients(reply.headers, reply.body) if kind == "bounce" else []
        found = contacts.at_address(connection, returned[0] if returned else reply.sender)
        return channels.last_written_to(connection, found) or found[0], found
    if reply.contact is None:
        raise NotFound("Say whose words these are.")
    (person,) = contacts.require(connection, [reply.contact])
    addresses = [address for address in (person.email, person.phone) if address]
    others = {other for address in addresses for other in contacts.at_address(connection, address)}
    return reply.contact, sorted(others | {reply.contact})


def _credit(connection: Connection, contact: UUID, at: datetime, *, is_welcome: bool) -> None:
    """Note an answer on the last follow-up that was sent before it, and let its variant learn of it: of a STOP, that it
    did badly.
    """
    row = queries.last_sent(connection, contact, at)
    if row is None or at > row["sent_at"] + attribution(rules.stored(connection).get(row["rule"])):
        return
    if is_welcome:
        queries.note_answered(connection, row["id"], at)
    if row["choice_id"] is not None:
        learning.settle(connection, {row["choice_id"]: "success" if is_welcome else "failure"})


# ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Permit:
    """Leave to send a follow-up: to whom, by which channel, from when on, with which line at its end."""

    follow_up: UUID
    contact: Contact
    channel: Any
    send_after: datetime
    leave_by: datetime
    closing: str


def permit(connection: Connection, org: UUID, task: UUID) -> Permit | str:
    """Whether the follow-up that a task writes may be sent, or why not: then it has ended, as that says. Its row is
    held from here on, so that nothing can stop it between this look and its message.

    Raises:
        NotFound: the task writes no follow-up.
    """
    row = queries.lock_of_task(connection, task)
    if row is None:
        raise NotFound("This task writes no follow-up; only tasks that a rule started do.")
    if row["status"] != "writing":
        return row["reason"] or f"it is {row['status']} already"
    present = Present.of(connection, org)
    why = present.why_stop([row]).get(row["id"])
    if why is not None:
        stop(connection, org, [(row, why)])
        return why
    contact, fields = present.contacts([row])[row["contact"]], present.rules[row["rule"]].fields
    zone = present.zone_of(contact)
    leaving, latest = timing.may_leave(present.now, fields.quiet_hours, zone), latest_moment(row, fields, zone)
    if leaving > latest:
        return skip(connection, row, "it was written too late")
    leave_by = closing(leaving, latest, fields, zone)
    return Permit(row["id"], contact, row["channel"], leaving, leave_by, _CLOSING.get(contact.language, _CLOSING["en"]))


def note_message(connection: Connection, follow_up: UUID, message: UUID) -> None:
    """Note the message of a follow-up that was being written."""
    queries.note_queued(connection, follow_up, message)
