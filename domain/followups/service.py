"""Operations on follow-ups and on contacts' replies. Periodic planning, starting and stopping is in `sweep.py`."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from core.errors import Conflict, NotFound
from domain.channels import service as channels
from domain.channels.schemas import ChannelKind
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
    """Return the organisations with a rule switched on or with an open or unsettled follow-up."""
    return queries.organisations_with_rules(connection)


def organisations_in_need(connection: Connection) -> list[UUID]:
    """Return the organisations where a follow-up is due or under way, or was stopped while being written."""
    return queries.organisations_in_need(connection)


# ── views ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def list_follow_ups(
    connection: Connection,
    *,
    rule: str | None = None,
    status: Status | None = None,
    contact: UUID | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> list[FollowUp]:
    """Return follow-ups, the latest planned first."""
    wanted = {"rule": rule, "status": status, "contact": contact, "before": before}
    return queries.follow_ups(connection, wanted, limit)


def get_follow_up(connection: Connection, row_id: UUID) -> FollowUp:
    """Return a follow-up.

    Raises:
        NotFound: there is no such follow-up.
    """
    found = queries.follow_up(connection, row_id)
    if found is None:
        raise NotFound(f"There is no follow-up {row_id}.")
    return found


def effectiveness(connection: Connection, since: datetime | None = None) -> list[Effect]:
    """Return the results of each rule's steps by channel and variant, for follow-ups wanted since a moment (by default
    in the last 90 days).
    """
    return queries.effects(connection, since or queries.now(connection) - timedelta(days=90))


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def stop_follow_up(connection: Connection, org: UUID, row_id: UUID) -> FollowUp:
    """Keep a follow-up from being sent. Idempotent.

    Raises:
        NotFound: there is no such follow-up.
        Conflict: it was sent, or is being sent.
    """
    row = queries.lock_one(connection, row_id)
    if row is None:
        raise NotFound(f"There is no follow-up {row_id}.")
    if row.status in OPEN:
        stop(connection, org, [(row, "stopped by hand")])
    found = get_follow_up(connection, row_id)
    if found.status in {"queued", "sent"}:
        raise Conflict("This follow-up has been sent, or is just leaving; it cannot be stopped.")
    return found


def change_preferences(connection: Connection, org: UUID, contact: UUID, change: PreferenceChange) -> Preferences:
    """Change a contact's preferences. If the contact opts out, their open follow-ups are stopped.

    Raises:
        NotFound: there is no such contact.
    """
    if change.has_opted_out:
        stop_all_of(connection, org, contact, "they want no follow-ups")
    return contacts.change_preferences(connection, contact, change)


def receive(connection: Connection, org: UUID, reply: NewReply) -> KeptReply:
    """Store a contact's reply and stop their open follow-ups. The reply counts for the last follow-up before it. A STOP
    or BAJA opts the contact out and counts against that follow-up. A second delivery with the same outside_id is a
    no-op. An automatic reply or a bounce is stored, but does not count as an answer.

    One person often has several records with one address, such as a lead's and a client's. The reply is stored with
    the record that was written to last, and stops the open follow-ups of all of them.

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
        note_ends(Present.of(connection, org))  # the reply may answer a follow-up that was sent a moment ago
        for one in all_of_them:
            if opts_out:
                contacts.opt_out(connection, one)
            stopped += stop_all_of(connection, org, one, "they want no follow-ups" if opts_out else "they answered")
        _credit(connection, contact, kept.received_at, is_welcome=not opts_out)
    return KeptReply(**kept.model_dump(), is_opt_out=opts_out, stopped=stopped)


def _who(connection: Connection, reply: NewReply, kind: InboundKind) -> tuple[UUID, list[UUID]]:
    """Return the contact that wrote the reply (for a bounce, the contact it failed to reach), and every record with the
    same e-mail address or telephone number.
    """
    if reply.sender is not None:
        returned = failed_recipients(reply.headers, reply.body) if kind == "bounce" else []
        found = contacts.at_address(connection, returned[0] if returned else reply.sender)
        return channels.last_written_to(connection, found) or found[0], found
    if reply.contact is None:
        raise NotFound("Say whose words these are.")
    (person,) = contacts.require(connection, [reply.contact])
    addresses = [address for address in (person.email, person.phone) if address]
    others = {other for address in addresses for other in contacts.with_address(connection, address)}
    return reply.contact, sorted(others | {reply.contact})


def _credit(connection: Connection, contact: UUID, at: datetime, *, is_welcome: bool) -> None:
    """Record an answer on the last follow-up that was sent before it, and settle its variant's choice: as a success,
    or as a failure for a STOP.
    """
    row = queries.last_sent(connection, contact, at)
    if row is None or at > row.sent_at + attribution(rules.stored(connection).get(row.rule)):
        return
    if is_welcome:
        queries.note_answered(connection, row.id, at)
    if row.choice_id is not None:
        learning.settle(connection, {row.choice_id: "success" if is_welcome else "failure"})


# ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Permit:
    """Permission to send a follow-up: contact, channel, earliest and latest time, and closing line."""

    follow_up: UUID
    contact: Contact
    channel: ChannelKind
    send_after: datetime
    leave_by: datetime
    closing: str


def permit(connection: Connection, org: UUID, task: UUID) -> Permit | str:
    """Return the permit for the follow-up that a task writes, or the reason why it must not be sent; in that case the
    follow-up has ended. The row stays locked, so that nothing can stop the follow-up before its message is queued.

    Raises:
        NotFound: the task writes no follow-up.
    """
    row = queries.lock_of_task(connection, task)
    if row is None:
        raise NotFound("This task writes no follow-up; only tasks that a rule started do.")
    if row.status != "writing":
        return row.reason or f"it is {row.status} already"
    present = Present.of(connection, org)
    why = present.why_stop([row]).get(row.id)
    if why is not None:
        stop(connection, org, [(row, why)])
        return why
    contact, fields = present.contacts([row])[row.contact], present.rules[row.rule].fields
    zone = present.zone_of(contact)
    leaving, latest = timing.may_leave(present.now, fields.quiet_hours, zone), latest_moment(row, fields, zone)
    if leaving > latest:
        return skip(connection, row, "it was written too late")
    leave_by = closing(leaving, latest, fields, zone)
    return Permit(row.id, contact, row.channel, leaving, leave_by, _CLOSING.get(contact.language, _CLOSING["en"]))


def note_message(connection: Connection, follow_up: UUID, message: UUID) -> None:
    """Record the queued message of a follow-up that was being written."""
    queries.note_queued(connection, follow_up, message)
