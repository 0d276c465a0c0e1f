"""Approvals in the database: whom they ask and when, whose votes count, how they end, and what is done without them."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db
from core.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unavailable
from core.ids import new_id
from domain.approvals import queries
from domain.approvals import service as approvals
from domain.approvals.schemas import (
    DEFAULT_POLICY,
    Approval,
    Ask,
    Caps,
    Count,
    CountedStep,
    Done,
    Performance,
    Policy,
    Proposal,
    Rationale,
    Rule,
    Tally,
)
from domain.audit import service as audit
from domain.audit.schemas import Actor, AuditEvent
from domain.tasks import service as tasks
from domain.tenants import service as tenants
from tests.support.clock import Clock, movable_clock
from tests.support.factories import make_location, make_organisation, make_user, owner_of, submit

OWNERS = Ask(roles=["owner"])
HOUR = timedelta(hours=1)


@pytest.fixture
def clock(org: UUID) -> Iterator[Clock]:
    with movable_clock() as made:
        yield made


def email_of(org: UUID, user: UUID) -> str:
    with db.transaction(org) as connection:
        return tenants.get_user(connection, user).email


def put(org: UUID, *asks: Ask, task: UUID | None = None, **fields: Any) -> Approval:
    """An action that is put before people, in a task of its own."""
    rationale = Rationale(
        level="approval", rule="r", because=[], intent=None, why="because", reasoning="", confidence=None,
        alternatives=[], context={}, performance=Performance(done=0, refused=0, approved=0, rejected=0),
    )  # fmt: skip
    values: dict[str, Any] = {
        "task_id": task or submit(org).id, "seq": 2, "kind": "approval", "agent": "support-assistant",
        "user_id": owner_of(org), "location_id": None, "tool": "send_sms",
        "arguments": {"to": "600111222", "text": "Hello"}, "decision": rationale, "asks": list(asks) or [OWNERS],
    }  # fmt: skip
    with db.transaction(org) as connection:
        made = approvals.propose(connection, org, Proposal(**values | fields))
        assert made is not None
        return approvals.get(connection, made)


def vote(org: UUID, approval: Approval, voter: UUID, verdict: Any = "approve") -> Approval:
    with db.transaction(org) as connection:
        found = approvals.get_locked(connection, approval.id)
        return approvals.vote(connection, org, found, voter, verdict, "said")


def read(org: UUID, approval: Approval) -> Approval:
    with db.transaction(org) as connection:
        return approvals.get(connection, approval.id)


def listed(org: UUID, user: UUID, **wanted: Any) -> list[UUID]:
    with db.transaction(org) as connection:
        return [one.id for one in approvals.listed(connection, user=user, **wanted).approvals]


def told(org: UUID, user: UUID) -> int:
    """The number of notifications on their way to a user."""
    with db.system_transaction() as connection:
        statement = text("SELECT count(*) FROM outbox WHERE channel = 'in_app' AND recipient = :user")
        found: int = connection.execute(statement, {"user": str(user)}).scalar_one()
    return found


# ── whom an approval asks ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_approval_is_for_those_with_the_role_there_and_those_named(org: UUID) -> None:
    here = make_location(org, "here")
    make_location(org, "there")
    near, far = make_user(org, "manager", at="here"), make_user(org, "manager", at="there")
    named, other = make_user(org, "coordinator"), make_user(org, "coordinator")
    asked = put(org, Ask(roles=["manager"], users=[email_of(org, named)], needed=9), location_id=here)
    for user, is_asked in ((near, True), (named, True), (far, False), (other, False), (owner_of(org), False)):
        assert (asked.id in listed(org, user, mine=True)) is is_asked
        assert bool(told(org, user)) is is_asked
        if is_asked:
            assert vote(org, asked, user).status == "open"
        else:
            with pytest.raises(NotPermitted):
                vote(org, asked, user)
    assert len(read(org, asked).votes) == 2


def test_a_task_without_a_location_is_decided_by_those_who_have_the_role_everywhere(org: UUID) -> None:
    make_location(org, "here")
    local = make_user(org, "manager", at="here")
    asked = put(org, Ask(roles=["manager"]))
    assert listed(org, local, mine=True) == []
    with pytest.raises(NotPermitted, match="not asked"):
        vote(org, asked, local)
    assert vote(org, asked, make_user(org, "manager")).status == "approved"


def test_whoever_is_shut_out_or_loses_the_role_counts_no_more(org: UUID) -> None:
    one, other, third = (make_user(org, "manager") for _ in range(3))
    asked = put(org, Ask(roles=["manager"], needed=2))
    assert vote(org, asked, one).status == "open"
    with db.transaction(org) as connection:
        connection.execute(text("DELETE FROM grants WHERE user_id = :id"), {"id": one})
        connection.execute(text("UPDATE users SET disabled_at = rota_now() WHERE id = :id"), {"id": third})
    assert vote(org, asked, other).status == "open"  # the first yes is no manager's any more
    with pytest.raises(NotPermitted):
        vote(org, asked, third)
    with db.transaction(org) as connection:
        assert queries.number_of_yeses(connection, asked.id) == 1


def test_with_four_eyes_the_yes_of_the_one_it_is_for_does_not_count(org: UUID) -> None:
    me, other = make_user(org, "manager"), make_user(org, "manager")
    asked = put(org, Ask(roles=["manager"], needed=2, four_eyes=True), user_id=me)
    assert listed(org, me, mine=True) == []
    with pytest.raises(NotPermitted, match="done for you"):
        vote(org, asked, me)
    assert vote(org, asked, other).status == "open"
    suggested = put(org, Ask(roles=["manager"], four_eyes=True), user_id=me, kind="suggestion")
    assert vote(org, suggested, me).status == "approved"  # only its own user is offered a suggestion


def test_one_no_ends_what_needs_many_a_yes(org: UUID) -> None:
    one, other = make_user(org, "manager"), make_user(org, "manager")
    asked = put(org, Ask(roles=["manager"], needed=3))
    vote(org, asked, one)
    ended = vote(org, asked, other, "reject")
    assert (ended.status, ended.decided_by, ended.reason) == ("rejected", email_of(org, other), "said")
    with pytest.raises(approvals.AlreadySo):
        vote(org, asked, other, "reject")
    with pytest.raises(Conflict, match=f"rejected already by {email_of(org, other)}"):
        vote(org, asked, other)


def test_another_organisations_approval_is_not_found_and_not_listed(org: UUID) -> None:
    asked = put(org)
    other = make_organisation(f"other-{new_id().hex[-12:]}")
    with pytest.raises(NotFound):
        vote(other, asked, owner_of(other))
    assert listed(other, owner_of(other), status=None) == []
    with db.transaction(other) as connection:
        assert not queries.decide(connection, asked.id, "approved", user=owner_of(other), reason=None)
        assert not queries.use(connection, asked.id, asked.task_id, 2)
        queries.withdraw(connection, asked.id, "stolen")
    assert read(org, asked).status == "open"


# ── lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pages_of_approvals_leave_none_out_and_end(org: UUID) -> None:
    made = [put(org).id for _ in range(5)]
    seen: list[UUID] = []
    before, pages = None, 0
    with db.transaction(org) as connection:
        while pages == 0 or before is not None:
            page = approvals.listed(connection, user=owner_of(org), before=before, limit=2)
            seen, before, pages = seen + [one.id for one in page.approvals], page.next_before, pages + 1
    assert (seen, pages) == (made[::-1], 3)


def test_a_list_is_filtered_and_leaves_out_what_nobody_needs_to_decide(org: UUID) -> None:
    me = owner_of(org)
    first, second, third = put(org), put(org, kind="advice"), put(org, kind="suggestion")
    vote(org, second, me)
    assert listed(org, me, status="open") == [third.id, first.id]
    assert listed(org, me, status="approved") == [second.id]
    assert listed(org, me, status=None, kind="advice") == [second.id]
    assert listed(org, me, status=None, task=first.task_id) == [first.id]
    with db.transaction(org) as connection:
        for approval in (first, third):
            tasks.cancel(connection, approval.task_id)
    assert listed(org, me, status="open") == [third.id]  # a suggestion outlives its task
    with db.system_transaction() as connection:
        assert approvals.withdraw_ended(connection) >= 1  # those of other tests too
        assert approvals.withdraw_ended(connection) == 0
    assert [read(org, one).status for one in (first, third)] == ["withdrawn", "open"]
    with db.transaction(org) as connection:
        (line,) = audit.read(connection, verb="withdrawn").lines
    assert (line.task_id, line.details["approval"]) == (first.task_id, str(first.id))


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def expire_all(org: UUID) -> int:
    """Let beat see to the organisation's overdue approvals. Return how many there were."""
    own = set(listed(org, owner_of(org), limit=200))
    with db.system_transaction() as connection:
        late = own.intersection(queries.overdue(connection, 10_000))
    for approval in late:
        with db.system_transaction() as connection:
            approvals.expire(connection, approval)
    return len(late)


def test_an_escalation_asks_others_for_a_time_of_their_own_and_voids_earlier_votes(org: UUID, clock: Clock) -> None:
    manager, coordinator, other = make_user(org, "manager"), *(make_user(org, "coordinator") for _ in range(2))
    up = Ask(roles=["coordinator"], needed=2, within=HOUR, then="escalate")
    asked = put(org, up, Ask(roles=["manager"], within=2 * HOUR, then="expire"))
    assert vote(org, asked, coordinator).status == "open"
    assert expire_all(org) == 0
    assert told(org, manager) == 0
    clock.move(HOUR)
    with pytest.raises(Conflict, match="time is over"):
        vote(org, asked, other)
    assert expire_all(org) == 1
    now = read(org, asked)
    assert (now.status, now.stage, now.needed, now.is_overdue) == ("open", 1, 1, False)
    assert [one.counts for one in now.votes] == [False]
    assert told(org, manager) == 1
    with db.system_transaction() as connection:
        approvals.expire(connection, asked.id)  # by a second beat, which found it overdue too
    assert (read(org, asked).stage, read(org, asked).status, told(org, manager)) == (1, "open", 1)
    with pytest.raises(NotPermitted, match="up to manager"):
        vote(org, asked, other)
    clock.move(2 * HOUR - timedelta(minutes=1))
    assert expire_all(org) == 0
    clock.move(timedelta(minutes=1))
    assert expire_all(org) == 1
    assert (read(org, asked).status, read(org, asked).decided_by) == ("expired", None)
    with pytest.raises(Conflict, match="expired already"):
        vote(org, asked, manager)


@pytest.mark.parametrize(("then", "status"), [("deny", "denied"), ("expire", "expired"), ("escalate", "denied")])
def test_the_last_stage_ends_and_wakes_the_task(org: UUID, then: Any, status: str) -> None:
    asked = put(org, OWNERS.model_copy(update={"then": then}))  # as a rule from before the check may have it
    with db.transaction(org) as connection:
        connection.execute(text("UPDATE approvals SET expires_at = rota_now()"))
        connection.execute(text("UPDATE tasks SET status = 'waiting', waiting_for = 'approval'"))
    assert expire_all(org) == 1
    assert read(org, asked).status == status
    with db.transaction(org) as connection:
        assert tasks.get_task(connection, asked.task_id).status == "queued"


def test_an_overdue_approval_that_somebody_decides_is_left_alone(org: UUID) -> None:
    asked = put(org)
    with db.transaction(org) as connection:
        connection.execute(text("UPDATE approvals SET expires_at = rota_now()"))
    with db.transaction(org) as connection:
        approvals.get_locked(connection, asked.id)
        with db.system_transaction() as beat:
            approvals.expire(beat, asked.id)  # does not wait for the lock
    assert read(org, asked).status == "open"
    with db.transaction(org) as connection:
        assert queries.decide(connection, asked.id, "approved", user=None, reason=None)
    with db.system_transaction() as connection:
        approvals.expire(connection, asked.id)
    assert read(org, asked).status == "approved"


# ── once ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_approval_is_used_by_one_step_and_by_that_again(org: UUID) -> None:
    asked, elsewhere = put(org), submit(org).id
    uses = ((asked.task_id, 2, True), (asked.task_id, 2, True), (asked.task_id, 3, False), (elsewhere, 2, False))
    with db.transaction(org) as connection, pytest.raises(Conflict, match="does not stand"):
        approvals.use(connection, asked.id, asked.task_id, 2)  # it is not decided
    vote(org, asked, owner_of(org))
    for task, seq, is_allowed in uses:
        with db.transaction(org) as connection:
            assert queries.use(connection, asked.id, task, seq) is is_allowed
    with db.transaction(org) as connection:
        found = approvals.used_in(connection, asked.task_id, 2)
        assert found is not None
        assert found.id == asked.id
        assert approvals.used_in(connection, elsewhere, 2) is None
        approvals.withdraw(connection, org, asked, "too late")
    assert read(org, asked).status == "approved"  # what was used cannot be withdrawn


def test_a_step_asks_once_and_again_only_after_it_was_withdrawn(org: UUID) -> None:
    asked = put(org, Ask(roles=["owner"], needed=2))
    vote(org, asked, owner_of(org))
    proposal = Proposal.model_validate(
        asked.model_dump() | {"arguments": {"to": "600111222", "text": "Better"}, "asks": [OWNERS], "kind": "advice"}
    )
    with db.transaction(org) as connection:
        assert approvals.propose(connection, org, proposal) is None
    assert read(org, asked).arguments["text"] == "Hello"
    with db.transaction(org) as connection:
        approvals.edit(connection, asked, {"to": "600111222", "text": "Edited"}, owner_of(org))
        approvals.withdraw(connection, org, asked, "cancelled")
        assert approvals.propose(connection, org, proposal) == asked.id
    again = read(org, asked)
    assert (again.status, again.kind, again.needed, again.reason, again.decided_at) == ("open", "advice", 1, None, None)
    assert (again.votes, again.edits, again.stage) == ([], [], 0)
    assert again.arguments == again.proposed == {"to": "600111222", "text": "Better"}
    assert again.digest == approvals.digest("send_sms", again.arguments).hex()


def test_an_edit_keeps_what_was_proposed_and_every_version(org: UUID) -> None:
    asked, maria = put(org), make_user(org, "manager")
    with db.transaction(org) as connection:
        first = approvals.edit(connection, asked, {"text": "One"}, maria)
        second = approvals.edit(connection, first, {"text": "Two"}, owner_of(org))
    assert (second.arguments, second.proposed) == ({"text": "Two"}, asked.proposed)
    assert [(one.digest, one.arguments["text"], one.edited_by) for one in second.edits] == [
        (asked.digest, "Hello", email_of(org, maria)),
        (first.digest, "One", "owner@example.com"),
    ]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (Ask(roles=["owner", "emperor"]), "no role called emperor"),
        (Ask(users=["owner@example.com", "eve@example.com"]), "no user with the address eve@example.com"),
    ],
)
def test_a_policy_that_asks_nobody_there_is_changes_nothing(org: UUID, ask: Ask, said: str) -> None:
    own = Policy(rules=[Rule(name="mine", then="raise")], asks=[OWNERS], caps=Caps(per_day=3))
    with db.transaction(org) as connection:
        assert approvals.policy(connection, org) == DEFAULT_POLICY
        assert approvals.set_policy(connection, org, own) == own
    for wrong in (
        own.model_copy(update={"asks": [ask]}),
        own.model_copy(update={"rules": [Rule(name="x", then="raise", ask=[ask])]}),
    ):
        with db.transaction(org) as connection, pytest.raises(InvalidInput, match=said):
            approvals.set_policy(connection, org, wrong)
    with db.transaction(org) as connection:
        assert approvals.policy(connection, org) == own


# ── what was done without a person ───────────────────────────────────────────────────────────────────────────────────


def note(org: UUID, rule: str, amount: int | None, *contacts: str, root: UUID | None = None) -> CountedStep:
    step = CountedStep(new_id(), 2, root or new_id(), contacts)
    with db.transaction(org) as connection:
        for _ in range(2):  # a retry of the step counts once
            approvals.note_unattended(connection, org, step, rule, None if amount is None else Decimal(amount))
    return step


def tally(org: UUID, step: CountedStep) -> Tally:
    with db.transaction(org) as connection:
        return approvals.tally(connection, org, step)


def tally_without_waiting(org: UUID, step: CountedStep) -> Tally:
    with db.transaction(org) as connection:
        connection.execute(text("SET LOCAL lock_timeout = '20ms'"))
        return approvals.tally(connection, org, step)


def count(times: int, amount: int) -> Count:
    return Count(times, Decimal(amount))


def test_what_was_done_is_counted_by_task_by_contact_by_day_and_by_rule(org: UUID) -> None:
    root, step = new_id(), CountedStep(new_id(), 2, new_id())
    assert tally(org, step) == Tally()
    note(org, "small", 5, "ana", "leo", root=root)
    note(org, "small", 7, "leo", root=root)
    own = note(org, "big", 100, "ana")
    note(org, "big", None, "eve")
    note(make_organisation(f"other-{new_id().hex[-12:]}"), "small", 9, "ana", root=root)
    found = tally(org, CountedStep(new_id(), 2, root, ("ana", "bob")))
    small, big = Done(count(2, 12), count(1, 5), count(2, 12)), Done(count(0, 0), count(1, 100), count(2, 100))
    assert found.by_rule == {"small": small, "big": big}
    assert found.in_all == Done(count(2, 12), count(2, 105), count(4, 112))
    assert tally(org, own).by_rule["big"].day == count(1, 0)  # without the step that asks
    assert tally(org, CountedStep(own.task_id, 3, root)).by_rule["big"].day == count(2, 100)
    assert tally(org, CountedStep(new_id(), 2, root)).in_all.contact == count(0, 0)


def test_a_day_is_twenty_four_hours_and_a_task_counts_however_old_it_is(org: UUID, clock: Clock) -> None:
    old = note(org, "r", 5, "ana")
    clock.move(timedelta(hours=23, minutes=59))
    assert tally(org, CountedStep(new_id(), 2, new_id(), ("ana",))).in_all == Done(
        count(0, 0), count(1, 5), count(1, 5)
    )
    clock.move(timedelta(minutes=2))
    assert tally(org, CountedStep(new_id(), 2, new_id(), ("ana",))) == Tally()
    assert tally(org, CountedStep(new_id(), 2, old.root_id, ("ana",))).in_all == Done(
        count(1, 5), count(0, 0), count(0, 0)
    )


def test_two_steps_cannot_both_use_the_last_room_under_a_cap(org: UUID) -> None:
    other = make_organisation(f"other-{new_id().hex[-12:]}")
    step = CountedStep(new_id(), 2, new_id())
    with db.transaction(org) as connection:
        approvals.tally(connection, org, step)
        assert tally(other, step) == Tally()  # another organisation does not wait
        with pytest.raises(Unavailable):
            tally_without_waiting(org, step)
    assert tally_without_waiting(org, step) == Tally()


def test_counts_are_forgotten_when_they_are_old_and_their_task_is_gone(org: UUID, clock: Clock) -> None:
    task = submit(org).id
    kept, gone = note(org, "r", 5, root=task), note(org, "r", 5)
    clock.move(timedelta(days=29))
    with db.system_transaction() as connection:
        approvals.forget_unattended(connection)
    assert tally(org, CountedStep(new_id(), 2, gone.root_id)).in_all.task == count(1, 5)
    clock.move(timedelta(days=2))
    with db.system_transaction() as connection:
        approvals.forget_unattended(connection)
    assert tally(org, CountedStep(new_id(), 2, gone.root_id)) == Tally()
    assert tally(org, CountedStep(new_id(), 2, kept.root_id)).in_all.task == count(1, 5)


def test_an_approver_sees_what_became_of_the_agents_calls_of_this_tool_within_a_month(org: UUID, clock: Clock) -> None:
    def act(verb: str, agent: str = "support-assistant", tool: str = "send_sms") -> None:
        with db.transaction(org) as connection:
            audit.record(connection, Actor(org_id=org, agent=agent), AuditEvent(verb, f"tool/{tool}"))

    def performance() -> Performance:
        with db.transaction(org) as connection:
            return approvals.performance(connection, org, "support-assistant", "send_sms")

    assert performance() == Performance(done=0, refused=0, approved=0, rejected=0)
    for verb in ("acted", "acted", "was refused", "voted for"):
        act(verb)
    act("acted", agent="lead-nurture")
    act("acted", tool="send_email")
    for verdict in ("approve", "reject", "reject"):
        vote(org, put(org), owner_of(org), verdict)
    put(org)  # it is not decided
    vote(org, put(org, tool="send_email"), owner_of(org))
    vote(org, put(org, agent="lead-nurture"), owner_of(org))
    assert performance() == Performance(done=2, refused=1, approved=1, rejected=2)
    clock.move(timedelta(days=31))
    assert performance() == Performance(done=0, refused=0, approved=0, rejected=0)
