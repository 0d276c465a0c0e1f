"""Starting due follow-ups. Each one is started, put off or skipped, with the reason in its row."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from domain.channels import service as channels
from domain.channels.schemas import ChannelKind
from domain.contacts.schemas import Contact
from domain.followups import queries, timing
from domain.followups.rules import Live
from domain.followups.schemas import LockedFollowUp, Swept
from domain.followups.standing import Present, end, ending, latest_moment, skip
from domain.learning import service as learning
from domain.tasks import service as tasks
from domain.tasks.schemas import NewTask, SubmissionContext, TaskInput, TaskSubmission

_LETTERS = 12
"""messages of the correspondence that the agent is shown"""
_LETTER = 2_000
"""characters of each message that the agent is shown"""
_REFUSED = "its agent is switched off or deleted, or the user of its rule is shut out"
_AGAIN = timedelta(hours=1)
"""delay until the next try while an earlier message of the sequence has not left"""


class Choose(Protocol):
    """Chooses one of several options, and returns it with the id of the choice, for reporting its outcome."""

    def __call__(
        self, connection: Connection, org: UUID, *, policy: str, context: str, options: Sequence[str], subject: UUID
    ) -> tuple[str, UUID]:
        """Choose one of `options`."""


@dataclass(frozen=True)
class _Hindrance:
    """Why a follow-up is not started now. Without `until` it never will be."""

    why: str
    until: datetime | None = None


@dataclass(frozen=True)
class _Due:
    """A due follow-up, with its rule, contact and time zone."""

    row: LockedFollowUp
    rule: Live
    contact: Contact
    zone: ZoneInfo

    @property
    def latest(self) -> datetime:
        """The latest time at which it may be sent."""
        return latest_moment(self.row, self.rule.fields, self.zone)


@dataclass(frozen=True)
class _Variant:
    """The variant and channel chosen for a follow-up, and the id of that choice."""

    name: str
    channel: ChannelKind
    choice_id: UUID


class Starting:
    """Starts one batch of an organisation's due follow-ups."""

    def __init__(self, present: Present, choose: Choose) -> None:
        self._present = present
        self._connection = present.connection
        self._choose = choose
        self._started: Counter[UUID] = Counter()
        self._on_their_way: dict[str, dict[tuple[UUID, datetime], int]] = {}
        self._ready: list[tuple[_Due, _Variant]] = []
        self.done = Swept()

    def carry_out(self, rows: Sequence[LockedFollowUp]) -> None:
        """Start, put off or skip these follow-ups. Their rows are locked, and there is no reason to stop them."""
        contacts = self._present.contacts(rows)
        last_step: Counter[tuple[str, UUID, datetime]] = Counter()
        for row in rows:
            last_step[_sequence(row)] = max(last_step[_sequence(row)], row.step)
        for row in rows:
            rule, contact = self._present.rules[row.rule], contacts[row.contact]
            due = _Due(row, rule, contact, self._present.zone_of(contact))
            is_last = row.step == last_step[_sequence(row)]
            hindrance = self._hindrance(due) if is_last else _Hindrance("a later message of the sequence was due too")
            if hindrance is not None:
                self._hinder(due, hindrance, _kept(row))
            else:
                self._take(due)
        self._start()

    # ── hindrances ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _hindrance(self, due: _Due) -> _Hindrance | None:
        fields, now = due.rule.fields, self._present.now
        if now > due.latest:
            return _Hindrance("its time had passed when it was attended to")
        if fields.needs_consent and not due.contact.has_consented:
            return _Hindrance("they have not consented to advertising")
        if not self._options(due):
            return _Hindrance("no channel reaches them")
        capped = timing.within_cap(now, fields.cap, self._sent_to(due.contact.id, fields.cap.within))
        waits = {
            "quiet hours": timing.may_leave(now, fields.quiet_hours, due.zone),
            "the cap": timing.may_leave(capped, fields.quiet_hours, due.zone) if capped > now else now,
            "an earlier message is on its way": now + _AGAIN if self._comes_after_another(due.row) else now,
        }
        why, until = max(waits.items(), key=lambda wait: wait[1])
        return _Hindrance(why, until) if until > now else None

    def _options(self, due: _Due) -> dict[str, ChannelKind]:
        """Return the variants whose channel is set up and reaches the contact, with that channel."""
        contact, fields = due.contact, due.rule.fields
        found = {variant.name: variant.channel or fields.channel for variant in fields.variants}
        return {
            name: channel
            for name, channel in found.items()
            if channel in self._channels and (contact.email if channel == "email" else contact.phone)
        }

    @cached_property
    def _channels(self) -> set[ChannelKind]:
        return {view.kind for view in channels.list_channels(self._connection)}

    def _sent_to(self, contact: UUID, within: timedelta) -> list[datetime]:
        """Return the times of the follow-ups sent to a contact within a period; those being started count as now."""
        sent = queries.recent(self._connection, contact, self._present.now - within)
        return [*sent, *[self._present.now] * self._started[contact]]

    def _comes_after_another(self, row: LockedFollowUp) -> bool:
        """Return whether an earlier step of the same sequence is being written or queued."""
        if row.rule not in self._on_their_way:
            self._on_their_way[row.rule] = queries.on_their_way(self._connection, row.rule)
        earlier = self._on_their_way[row.rule].get((row.subject, row.begun_at))
        return earlier is not None and earlier < row.step

    def _hinder(self, due: _Due, hindrance: _Hindrance, variant: _Variant | None) -> None:
        """Put a follow-up off, or skip it if it could then not be sent in time."""
        if hindrance.until is not None and hindrance.until <= due.latest:
            row = {"id": due.row.id, "due_at": hindrance.until, "reason": f"put off: {hindrance.why}"}
            queries.put_off(self._connection, row | _columns(variant))
            self.done.put_off += 1
            return
        if variant is not None:
            learning.settle(self._connection, {variant.choice_id: "void"})
        late = " would have made it too late" if hindrance.until is not None else ""
        skip(self._connection, due.row, f"{hindrance.why}{late}")
        self.done.skipped += 1

    # ── starting ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, due: _Due) -> None:
        """Choose a variant for an unhindered follow-up. Start it now, or put it off to the variant's hour."""
        options, kept = self._options(due), _kept(due.row)
        if kept is not None and kept.name in options:
            variant = replace(kept, channel=options[kept.name])
        else:
            variant = self._chosen(due, options)
            hour = next(one.hour for one in due.rule.fields.variants if one.name == variant.name)
            wanted = timing.at_hour(self._present.now, hour, due.zone)
            if wanted > self._present.now:
                self._hinder(due, _Hindrance("its hour", wanted), variant)
                return
        self._ready.append((due, variant))
        self._started[due.contact.id] += 1

    def _chosen(self, due: _Due, options: dict[str, ChannelKind]) -> _Variant:
        if due.row.choice_id is not None:  # the variant chosen before is no longer available
            learning.settle(self._connection, {due.row.choice_id: "void"})
        name, choice_id = self._choose(
            self._connection,
            self._present.org,
            policy=f"follow-up {due.row.rule}",
            context=f"{due.contact.kind}, step {due.row.step}",
            options=sorted(options),
            subject=due.row.id,
        )
        return _Variant(name, options[name], choice_id)

    def _start(self) -> None:
        made = [(due, variant, self._submission(due, variant)) for due, variant in self._ready]
        accepted = tasks.submit_many(self._connection, [new for _, _, new in made])
        for (due, variant, _), task in zip(made, accepted, strict=True):
            if task is not None:
                queries.start(self._connection, {"id": due.row.id, "task_id": task.id, **_columns(variant)})
                self.done.started += 1
            else:
                failed = replace(ending(due.row, "failed", _REFUSED), choice_id=variant.choice_id)
                self.done.failed += end(self._connection, [failed])

    def _submission(self, due: _Due, variant: _Variant) -> NewTask:
        """Return the task that writes a follow-up."""
        fields, contact, row = due.rule.fields, due.contact, due.row
        tone = next(one.tone for one in fields.variants if one.name == variant.name)
        letters = channels.correspondence(self._connection, contact.id, _LETTERS)
        facts = {
            "contact": contact.model_dump(mode="json", include={"id", "kind", "name", "status", "language"}),
            "about": row.facts,
            "since": row.begun_at.astimezone(due.zone).isoformat(timespec="minutes"),
            "message": f"{row.step} of {len(fields.steps)}",
            "correspondence": [
                letter.model_copy(update={"body": letter.body[:_LETTER]}).model_dump(mode="json") for letter in letters
            ],
        }
        asked = (
            f"Write the follow-up that the context tells of, and send it with send_follow_up. It goes by "
            f"{variant.channel}. What it is to do: {fields.steps[row.step - 1].brief} Tone: {tone}."
        )
        submission = TaskSubmission(
            agent=fields.agent,
            input=TaskInput(message=asked, context=facts, has_outside_context=True),
            priority=fields.priority,
            contact=contact.id,
            concurrency_key=f"follow-up {contact.id}",
            expires_at=due.latest,
        )
        owner = due.rule.row
        context = SubmissionContext(user_id=owner.user_id, scopes=owner.scopes, location_id=contact.location_id)
        return NewTask(submission, context)


def _sequence(row: LockedFollowUp) -> tuple[str, UUID, datetime]:
    return row.rule, row.subject, row.begun_at


def _kept(row: LockedFollowUp) -> _Variant | None:
    """Return the variant that was chosen before the follow-up was put off, if any."""
    if row.variant is None or row.channel is None or row.choice_id is None:
        return None
    return _Variant(row.variant, row.channel, row.choice_id)


def _columns(variant: _Variant | None) -> dict[str, object]:
    if variant is None:
        return {"channel": None, "variant": None, "choice_id": None}
    return {"channel": variant.channel, "variant": variant.name, "choice_id": variant.choice_id}
