"""Starting follow-ups that are due: each is written now, put off, or skipped, for a reason that its row tells."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, RowMapping

from core.ids import new_id
from domain.channels import service as channels
from domain.contacts.schemas import Contact
from domain.followups import queries, timing
from domain.followups.rules import Live
from domain.followups.schemas import Swept
from domain.followups.standing import Present, end, ending, latest_moment, skip
from domain.learning import service as learning
from domain.tasks import service as tasks
from domain.tasks.schemas import SubmissionContext, TaskInput, TaskSubmission

_LETTERS = 12
"""messages of the correspondence that the writer is shown"""
_LETTER = 2_000
"""characters of each that the writer is shown"""
_REFUSED = "its agent is switched off or deleted, or the user of its rule is shut out"
_AGAIN = timedelta(hours=1)
"""when to look again where an earlier message of the sequence has not left"""


class Choose(Protocol):
    """Takes one of several options, and returns it with the id under which its outcome is to be told."""

    def __call__(
        self, connection: Connection, org: UUID, *, policy: str, context: str, options: Sequence[str], subject: UUID
    ) -> tuple[str, UUID]:
        """Take one."""


@dataclass(frozen=True)
class _Hindrance:
    """Why a follow-up is not written now; without `until`, it never will be."""

    why: str
    until: datetime | None = None


@dataclass(frozen=True)
class _Due:
    """A follow-up that is due, with what it is to be judged by."""

    row: RowMapping
    rule: Live
    contact: Contact
    zone: ZoneInfo

    @property
    def latest(self) -> datetime:
        """Until when it may leave."""
        return latest_moment(self.row, self.rule.fields, self.zone)


@dataclass(frozen=True)
class _Variant:
    """How a follow-up is to be written, and the choice that this was."""

    name: str
    channel: str
    choice_id: UUID | None


class Starting:
    """One portion of what is due in an organisation, on its way."""

    def __init__(self, present: Present, choose: Choose) -> None:
        self._present = present
        self._connection = present.connection
        self._choose = choose
        self._started: Counter[UUID] = Counter()
        self._on_their_way: dict[str, dict[tuple[UUID, datetime], int]] = {}
        self._ready: list[tuple[_Due, _Variant]] = []
        self.done = Swept()

    def carry_out(self, rows: Sequence[RowMapping]) -> None:
        """Attend to these follow-ups, whose rows are held and which nothing forbids to send."""
        contacts = self._present.contacts(rows)
        last_step: Counter[tuple[str, UUID, datetime]] = Counter()
        for row in rows:
            last_step[_sequence(row)] = max(last_step[_sequence(row)], row["step"])
        for row in rows:
            rule, contact = self._present.rules[row["rule"]], contacts[row["contact"]]
            due = _Due(row, rule, contact, self._present.zone_of(contact))
            is_last = row["step"] == last_step[_sequence(row)]
            hindrance = self._hindrance(due) if is_last else _Hindrance("a later message of the sequence was due too")
            if hindrance is not None:
                self._hinder(due, hindrance, _kept(row))
            else:
                self._take(due)
        self._start()

    # ── what hinders ─────────────────────────────────────────────────────────────────────────────────────────────────

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

    def _options(self, due: _Due) -> dict[str, str]:
        """The variants whose channel is set up and reaches the contact, with that channel."""
        contact, fields = due.contact, due.rule.fields
        found = {variant.name: variant.channel or fields.channel for variant in fields.variants}
        return {
            name: channel
            for name, channel in found.items()
            if channel in self._channels and (contact.email if channel == "email" else contact.phone)
        }

    @cached_property
    def _channels(self) -> set[str]:
        return {view.kind for view in channels.list_channels(self._connection)}

    def _sent_to(self, contact: UUID, within: timedelta) -> list[datetime]:
        """When a contact was sent follow-ups within so long, with those that are being started."""
        sent = queries.recent(self._connection, contact, self._present.now - within)
        return [*sent, *[self._present.now] * self._started[contact]]

    def _comes_after_another(self, row: RowMapping) -> bool:
        """Whether an earlier step of the same sequence is being written or about to leave."""
        if row["rule"] not in self._on_their_way:
            self._on_their_way[row["rule"]] = queries.on_their_way(self._connection, row["rule"])
        earlier = self._on_their_way[row["rule"]].get((row["subject"], row["begun_at"]))
        return earlier is not None and earlier < row["step"]

    def _hinder(self, due: _Due, hindrance: _Hindrance, variant: _Variant | None) -> None:
        """Put a follow-up off, or skip it where that would be too late."""
        if hindrance.until is not None and hindrance.until <= due.latest:
            row = {"id": due.row["id"], "due_at": hindrance.until, "reason": f"put off: {hindrance.why}"}
            queries.put_off(self._connection, row | _columns(variant))
            self.done.put_off += 1
            return
        if variant is not None and variant.choice_id is not None:
            learning.settle(self._connection, {variant.choice_id: "void"})
        late = " would have made it too late" if hindrance.until is not None else ""
        skip(self._connection, due.row, f"{hindrance.why}{late}")
        self.done.skipped += 1

    # ── what goes ahead ──────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, due: _Due) -> None:
        """Choose a variant for a follow-up that nothing hinders, and start it now or at the variant's hour."""
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

    def _chosen(self, due: _Due, options: dict[str, str]) -> _Variant:
        if due.row["choice_id"] is not None:  # chosen before, and not to be had any more
            learning.settle(self._connection, {due.row["choice_id"]: "void"})
        name, choice_id = self._choose(
            self._connection,
            self._present.org,
            policy=f"follow-up {due.row['rule']}",
            context=f"{due.contact.kind}, step {due.row['step']}",
            options=sorted(options),
            subject=due.row["id"],
        )
        return _Variant(name, options[name], choice_id)

    def _start(self) -> None:
        made = [(due, variant, self._submission(due, variant)) for due, variant in self._ready]
        accepted = tasks.submit_many(self._connection, [submission for _, _, submission in made])
        for due, variant, (task_id, _, _) in made:
            if task_id in accepted:
                queries.start(self._connection, {"id": due.row["id"], "task_id": task_id, **_columns(variant)})
                self.done.started += 1
            else:
                failed = ending(due.row, "failed", _REFUSED)
                self.done.failed += end(self._connection, [failed | {"choice_id": variant.choice_id}])

    def _submission(self, due: _Due, variant: _Variant) -> tuple[UUID, TaskSubmission, SubmissionContext]:
        """The task that writes a follow-up: its id, what is asked, and under which terms."""
        fields, contact, row = due.rule.fields, due.contact, due.row
        tone = next(one.tone for one in fields.variants if one.name == variant.name)
        letters = channels.correspondence(self._connection, contact.id, _LETTERS)
        context = {
            "contact": contact.model_dump(mode="json", include={"id", "kind", "name", "status", "language"}),
            "about": row["facts"],
            "since": row["begun_at"].astimezone(due.zone).isoformat(timespec="minutes"),
            "message": f"{row['step']} of {len(fields.steps)}",
            "correspondence": [
                letter.model_copy(update={"body": letter.body[:_LETTER]}).model_dump(mode="json") for letter in letters
            ],
        }
        asked = (
            f"Write the follow-up that the context tells of, and send it with send_follow_up. It goes by "
            f"{variant.channel}. What it is to do: {fields.steps[row['step'] - 1].brief} Tone: {tone}."
        )
        submission = TaskSubmission(
            agent=fields.agent,
            input=TaskInput(message=asked, context=context, has_outside_context=True),
            priority=fields.priority,
            contact=contact.id,
            concurrency_key=f"follow-up {contact.id}",
            expires_at=due.latest,
        )
        owner = due.rule.row
        terms = SubmissionContext(user_id=owner["user_id"], scopes=owner["scopes"], location_id=contact.location_id)
        return new_id(), submission, terms


def _sequence(row: RowMapping) -> tuple[str, UUID, datetime]:
    return row["rule"], row["subject"], row["begun_at"]


def _kept(row: RowMapping) -> _Variant | None:
    """The variant that was chosen before a follow-up was put off."""
    return _Variant(row["variant"], row["channel"], row["choice_id"]) if row["choice_id"] is not None else None


def _columns(variant: _Variant | None) -> dict[str, object]:
    if variant is None:
        return {"channel": None, "variant": None, "choice_id": None}
    return {"channel": variant.channel, "variant": variant.name, "choice_id": variant.choice_id}
