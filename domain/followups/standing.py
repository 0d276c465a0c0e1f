"""Checking whether follow-ups may still be sent, and ending those that may not."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from domain.channels import service as channels
from domain.contacts import service as contact_service
from domain.contacts.schemas import Contact
from domain.followups import queries, rules, timing
from domain.followups.schemas import Ending, FollowUpUnderWay, LockedFollowUp, RuleFields, Standing, Status
from domain.learning import service as learning
from domain.tenants import service as tenants


@dataclass(frozen=True)
class Present:
    """The time, the rules and the organisation's time zone, read once per transaction."""

    connection: Connection
    org: UUID
    now: datetime
    rules: dict[str, rules.Live]
    clock: str

    @classmethod
    def of(cls, connection: Connection, org: UUID) -> "Present":
        """Read them now."""
        clock = tenants.get_organisation(connection, org).time_zone
        return cls(connection, org, queries.now(connection), rules.stored(connection), clock)

    def values(self, rule: RuleFields) -> dict[str, Any]:
        """Return the parameters for the SQL of a rule's trigger."""
        zone = ZoneInfo(self.clock)
        return rule.trigger.values(self.now, zone) | {"now": self.now}

    def zone_of(self, contact: Contact) -> ZoneInfo:
        """Return the contact's time zone, or else the organisation's."""
        return ZoneInfo(contact.time_zone or self.clock)

    def contacts(self, rows: Iterable[LockedFollowUp | FollowUpUnderWay]) -> dict[UUID, Contact]:
        """Return the contacts of these follow-ups, by id."""
        ids = list({row.contact for row in rows})
        return contact_service.get_many(self.connection, ids) if ids else {}

    def standings(self, slug: str, rows: Sequence[LockedFollowUp]) -> dict[tuple[UUID, datetime], Standing]:
        """Return the state of a rule's subjects, by subject and beginning. Deleted subjects are left out."""
        if slug not in self.rules:
            return {}
        fields = self.rules[slug].fields
        found = queries.standings(self.connection, fields.trigger, rows, self.values(fields))
        return {(one.subject, one.begun_at): one for one in found}

    def why_stop(self, rows: Sequence[LockedFollowUp]) -> dict[UUID, str]:
        """Return the reasons why follow-ups must not be sent, by id. Those that may be sent are left out."""
        if not rows:
            return {}
        contacts = self.contacts(rows)
        answered = queries.answered(self.connection, rows)
        reasons: dict[UUID, str] = {}
        for slug, of_rule in by_rule(rows).items():
            standings = self.standings(slug, of_rule)
            for row in of_rule:
                reason = (
                    _wrong_with_rule(self.rules.get(slug), row.step)
                    or _wrong_with_contact(contacts.get(row.contact))
                    or self._not_allowed(row, contacts[row.contact])
                    or ("they answered" if row.id in answered else None)
                    or _wrong_with_subject(standings.get((row.subject, row.begun_at)))
                )
                if reason:
                    reasons[row.id] = reason
        return reasons

    def _not_allowed(self, row: LockedFollowUp, contact: Contact) -> str | None:
        """Return a reason if required consent is missing. Planned follow-ups pass: consent may still come."""
        needs_it = self.rules[row.rule].fields.needs_consent and row.status != "planned"
        return "they have not consented to advertising" if needs_it and not contact.has_consented else None


def by_rule(rows: Iterable[LockedFollowUp]) -> dict[str, list[LockedFollowUp]]:
    """Group follow-ups by their rule's slug."""
    found: dict[str, list[LockedFollowUp]] = defaultdict(list)
    for row in rows:
        found[row.rule].append(row)
    return found


def latest_moment(row: LockedFollowUp | FollowUpUnderWay, rule: RuleFields, zone: ZoneInfo) -> datetime:
    """Return the latest time at which a follow-up may be sent."""
    return timing.outside_quiet_hours(row.wanted_at, rule.quiet_hours, zone) + rule.lateness


def closing(moment: datetime, latest: datetime, rule: RuleFields, zone: ZoneInfo) -> datetime:
    """Return the deadline of a message that may leave at `moment`: `latest`, or earlier if quiet hours begin."""
    begin = timing.leaves_by(moment, rule.quiet_hours, zone)
    return min(latest, begin) if begin else latest


def attribution(rule: rules.Live | None) -> timedelta:
    """Return for how long an answer or a purchase counts for a rule's follow-up; the default if it was deleted."""
    default: timedelta = RuleFields.model_fields["attribution"].default
    return rule.fields.attribution if rule else default


def _wrong_with_rule(rule: rules.Live | None, step: int) -> str | None:
    if rule is None:
        return "the rule was taken away"
    if not rule.is_on:
        return "the rule was switched off"
    return None if step <= len(rule.fields.steps) else "the rule has no such step any more"


def _wrong_with_contact(contact: Contact | None) -> str | None:
    if contact is None:
        return "the contact is gone"
    return "they want no follow-ups" if contact.opted_out_at else None


def _wrong_with_subject(standing: Standing | None) -> str | None:
    if standing is None:
        return "what it was about is gone"
    return None if standing.is_open else standing.ending


# ── ending ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def stop_all_of(connection: Connection, org: UUID, contact: UUID, reason: str) -> int:
    """Stop all open follow-ups of a contact. Returns how many were stopped."""
    queries.one_at_a_time(connection, org)
    return stop(connection, org, [(row, reason) for row in queries.lock_open_of(connection, contact)])


def stop(connection: Connection, org: UUID, stopping: Iterable[tuple[LockedFollowUp, str]]) -> int:
    """Stop follow-ups whose rows are locked. A queued message is withdrawn; one that is being sent is not retried.
    Returns how many were stopped.
    """
    listed = list(stopping)
    queued = [row.message_id for row, _ in listed if row.message_id is not None and row.status == "queued"]
    withdrawn = channels.withdraw(connection, org, queued)
    return end(
        connection,
        [
            ending(row, "stopped", reason)
            for row, reason in listed
            if row.status != "queued" or row.message_id in withdrawn
        ],
    )


def skip(connection: Connection, row: LockedFollowUp, reason: str) -> str:
    """End a follow-up, whose row is locked, as skipped. Returns the reason."""
    end(connection, [ending(row, "skipped", reason)])
    return reason


def ending(
    row: LockedFollowUp | FollowUpUnderWay, status: Status, reason: str | None, sent_at: datetime | None = None
) -> Ending:
    """Return how a follow-up ends, as `end` takes it."""
    return Ending(row.id, row.choice_id, status, reason, sent_at)


def end(connection: Connection, ends: list[Ending]) -> int:
    """Record how follow-ups ended. The choices of unsent ones are settled as void, so that nothing is learnt from them.
    Returns how many were still open.
    """
    unsent = {one.choice_id for one in ends if one.choice_id is not None and one.status != "sent"}
    learning.settle(connection, dict.fromkeys(unsent, "void"))
    return queries.end(connection, ends)
