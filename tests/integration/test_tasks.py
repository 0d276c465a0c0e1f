"""The life of a task in SQL: submission, dispatch, claims and their fence, departures, and taking back."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db, engines
from core.errors import Conflict, InvalidInput, NotFound
from core.ids import new_id
from domain.agents import service as agents
from domain.claims import service as claims
from domain.claims.schemas import Claimed, ClaimOutcome, StepRecord
from domain.dispatch import service as dispatching
from domain.dispatch.schemas import PublishedTask
from domain.tasks import service as tasks
from domain.tasks.schemas import (
    Bounds,
    BulkReplay,
    BulkRetry,
    Replay,
    SubmissionContext,
    Task,
    TaskError,
    TaskFilter,
    TaskInput,
    TreeLimits,
)
from domain.workers import service as workers
from domain.workers.schemas import Vitals
from tests.support.clock import movable_clock
from tests.support.factories import (
    change_agent,
    claim,
    dispatch,
    look,
    make_organisation,
    make_user,
    owner_of,
    record_step,
    register_worker,
    submission,
    submit,
)


def claimed(org: UUID, **more: Any) -> Claimed:
    register_worker()
    held = claim(org, submit(org, **more).id)
    assert held is not None
    return held


def record(org: UUID, held: Claimed, seq: int = 0, status: str = "done") -> None:
    step = StepRecord(seq=seq, stage="perceive", name="p", status=status, output={"a": 1}, duration_ms=5)
    with db.transaction(org) as connection:
        record_step(connection, held, step)


def end_claim(org: UUID, held: Claimed, **outcome: object) -> None:
    with db.transaction(org) as connection:
        claims.end(connection, held, ClaimOutcome(**outcome))


def reap(lease: timedelta = timedelta(0)) -> dict[str, int]:
    with db.system_transaction() as connection:
        return claims.reap_orphaned(connection, lease)


def test_the_same_key_and_body_give_the_same_task(org: UUID) -> None:
    first = submit(org, "hi", idempotency_key="k")
    assert submit(org, "hi", idempotency_key="k").id == first.id


def test_the_same_key_with_another_body_is_refused(org: UUID) -> None:
    submit(org, "hi", idempotency_key="k")
    with pytest.raises(Conflict, match="different task"):
        submit(org, "ho", idempotency_key="k")


def test_the_same_key_in_two_organisations_gives_two_tasks(org: UUID) -> None:
    other = make_organisation("keys")
    assert submit(org, "hi", idempotency_key="k").id != submit(other, "hi", idempotency_key="k").id


def test_an_unknown_agent_is_named_together_with_those_there_are(org: UUID) -> None:
    with pytest.raises(NotFound, match="support-assistant"):
        submit(org, agent="suport")


def test_an_agent_that_is_switched_off_gets_no_task(org: UUID) -> None:
    change_agent(org, "lead-nurture", enabled=False)
    with pytest.raises(Conflict, match="switched off"):
        submit(org, agent="lead-nurture")


def test_dispatch_takes_what_is_due_in_order_and_no_more_than_there_is_room_for(org: UUID) -> None:
    due = [submit(org, priority="low").id for _ in range(3)]
    later = submit(org, run_after=datetime.now(UTC) + timedelta(hours=1))
    urgent = submit(org, priority="critical")
    taken = dispatch(bound=2)
    assert {task.id for task in taken} == {urgent.id, *due[:2]}
    assert later.id not in {task.id for task in taken}
    assert dispatch(bound=2) == []  # two of `low` are unclaimed, and nothing else is due


def test_a_task_is_dispatched_once_until_it_is_taken_back(org: UUID) -> None:
    task = submit(org)
    assert [due.id for due in dispatch()] == [task.id]
    assert dispatch() == []
    with db.system_transaction() as connection:
        assert dispatching.unpublish_all(connection) == 1
    assert [due.id for due in dispatch()] == [task.id]


def test_only_what_is_missing_from_the_broker_is_taken_back(org: UUID) -> None:
    kept, lost = submit(org), submit(org)
    dispatch()
    with db.system_transaction() as connection:
        assert dispatching.long_unclaimed(connection, timedelta(hours=1)) == []
        connection.execute(text("UPDATE tasks SET dispatched_at = dispatched_at - interval '10 s'"))
        late = dispatching.long_unclaimed(connection, timedelta(seconds=3))
        assert set(late) == {PublishedTask(kept.id, 0, "normal"), PublishedTask(lost.id, 0, "normal")}
        assert dispatching.unpublish(connection, [lost.id]) == 1
    assert [due.id for due in dispatch()] == [lost.id]


def test_a_message_claims_once(org: UUID) -> None:
    task = submit(org)
    first = claim(org, task.id, worker="w1")
    assert first is not None
    assert first.claim == 1
    assert claim(org, task.id, worker="w2") is None


def test_an_old_message_claims_nothing(org: UUID) -> None:
    held = claimed(org)
    end_claim(org, held, status="queued", outcome="released")
    assert claim(org, held.id, number=0) is None
    assert claim(org, held.id, number=1) is not None


def test_an_expired_task_cannot_be_claimed_and_ends_as_expired(org: UUID) -> None:
    task = submit(org, expires_at=datetime.now(UTC) + timedelta(minutes=1))
    with movable_clock() as clock:
        clock.move(timedelta(minutes=2))
        assert dispatch() == []
        assert claim(org, task.id) is None
        with db.system_transaction() as connection:
            assert tasks.expire_overdue(connection) == 1
        assert look(org, task.id).status == "expired"


def test_late_writes_of_a_worker_that_lost_its_task_are_refused(org: UUID) -> None:
    late = claimed(org)
    with db.system_transaction() as connection:
        connection.execute(text("DELETE FROM workers"))
    assert reap() == {"queued": 1}
    again = claim(org, late.id, number=1, worker="w2")
    assert again is not None
    with pytest.raises(claims.ClaimLost):
        record(org, late)
    with pytest.raises(claims.ClaimLost):
        end_claim(org, late, status="succeeded", outcome="succeeded")
    record(org, again)
    assert [step.claim for step in look(org, late.id).steps] == [2]


def test_a_finished_step_cannot_be_written_twice_but_failed_tries_are_kept(org: UUID) -> None:
    held = claimed(org)
    record(org, held, status="failed")
    record(org, held, status="failed")
    record(org, held)
    with pytest.raises(Exception, match="steps_once"):
        record(org, held)
    assert [step.status for step in look(org, held.id).steps] == ["failed", "failed", "done"]


def test_a_living_worker_keeps_its_tasks_and_a_silent_one_loses_them(org: UUID) -> None:
    held = claimed(org)
    assert reap(timedelta(seconds=10)) == {}
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE workers SET last_seen_at = last_seen_at - interval '11 s'"))
    assert reap(timedelta(seconds=10)) == {"queued": 1}
    task = look(org, held.id)
    assert (task.status, task.attempts, task.error.kind) == ("queued", 1, "worker_lost")
    assert [(a.outcome, a.counted) for a in task.attempt_history] == [("lost", True)]


def test_a_task_that_keeps_killing_workers_fails(org: UUID) -> None:
    task = submit(org)
    for number in range(3):
        assert claim(org, task.id, number=number, worker="nobody") is not None
        reap()
    assert look(org, task.id).status == "failed"


def test_a_departure_that_does_not_count_uses_up_no_attempt(org: UUID) -> None:
    held = claimed(org)
    end_claim(org, held, status="queued", outcome="deferred", delay=timedelta(seconds=30))
    task = look(org, held.id)
    assert (task.status, task.attempts) == ("queued", 0)
    assert task.run_after > datetime.now(UTC) + timedelta(seconds=20)


def test_cancelling_a_queued_task_ends_it_and_twice_is_fine(org: UUID) -> None:
    task = submit(org)
    for _ in range(2):
        with db.transaction(org) as connection:
            assert tasks.cancel(connection, task.id).status == "cancelled"
    assert claim(org, task.id) is None


def test_cancelling_a_running_task_asks_its_worker(org: UUID) -> None:
    held = claimed(org)
    with db.transaction(org) as connection:
        assert tasks.cancel(connection, held.id).status == "running"
    with engines.dedicated_connection(engines.SYSTEM) as raw:
        beat = workers.beat(raw, "w1", Vitals(concurrency=1, memory_bytes=0))
    assert beat.held == {(held.id, 1): "cancelled"}


def test_what_has_ended_cannot_be_cancelled(org: UUID) -> None:
    held = claimed(org)
    end_claim(org, held, status="succeeded", outcome="succeeded", counted=True, result={"answer": "x"})
    with db.transaction(org) as connection, pytest.raises(Conflict, match="succeeded already"):
        tasks.cancel(connection, held.id)


def test_a_failed_task_can_be_retried_with_fresh_attempts_and_its_journal(org: UUID) -> None:
    held = claimed(org, deadline=datetime.now(UTC) + timedelta(minutes=1))
    record(org, held)
    end_claim(org, held, status="failed", outcome="failed", counted=True, error=TaskError(kind="x", message="y"))
    with db.transaction(org) as connection:
        connection.execute(text("UPDATE tasks SET deadline = rota_now() - interval '1 s'"))
        task = tasks.retry(connection, held.id)
    assert (task.status, task.attempts, task.deadline, task.error) == ("queued", 0, None, None)
    assert len(look(org, held.id).steps) == 1


def test_a_task_that_succeeded_or_runs_cannot_be_retried(org: UUID) -> None:
    held = claimed(org)
    with db.transaction(org) as connection, pytest.raises(Conflict, match="running"):
        tasks.retry(connection, held.id)


def test_a_stray_is_handed_back_only_under_the_claim_that_has_it(org: UUID) -> None:
    held = claimed(org)
    with db.system_transaction() as connection:
        claims.release_stray(connection, held.id, held.claim - 1)
        assert look(org, held.id).status == "running"
        claims.release_stray(connection, held.id, held.claim)
    task = look(org, held.id)
    assert (task.status, task.attempts, task.attempt_history[0].outcome) == ("queued", 0, "released")


def test_clean_up_deletes_old_tasks_and_keeps_young_ones(org: UUID) -> None:
    old, young = claimed(org), claimed(org)
    for held in (old, young):
        end_claim(org, held, status="succeeded", outcome="succeeded", counted=True, result={"answer": "x"})
    with db.system_transaction() as connection:
        connection.execute(
            text("UPDATE tasks SET finished_at = finished_at - interval '25 h' WHERE id = :id"), {"id": old.id}
        )
        keep = timedelta(hours=24)
        assert tasks.clean_up(connection, keep_succeeded=keep, keep_failed=keep) == 1
    assert look(org, young.id).status == "succeeded"
    with pytest.raises(NotFound):
        look(org, old.id)


def test_pages_hold_every_task_once_newest_first(org: UUID) -> None:
    made = [submit(org).id for _ in range(7)]
    seen: list[UUID] = []
    cursor = None
    while True:
        with db.transaction(org) as connection:
            page = tasks.list_tasks(connection, TaskFilter(), cursor=cursor, limit=3)
        seen += [task.id for task in page.tasks]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == made[::-1]


def test_filters_choose_by_status_priority_agent_and_time(org: UUID) -> None:
    normal, high = submit(org), submit(org, priority="high", agent="lead-nurture")
    with db.transaction(org) as connection:
        tasks.cancel(connection, normal.id)

    def found(**wanted: object) -> list[UUID]:
        with db.transaction(org) as connection:
            page = tasks.list_tasks(connection, TaskFilter(**wanted), cursor=None, limit=10)
        return [task.id for task in page.tasks]

    assert found(status=["cancelled"]) == [normal.id]
    assert found(priority=["high"]) == [high.id]
    assert found(agent="lead-nurture") == [high.id]
    assert found(ids=[normal.id]) == [normal.id]
    assert found(id_prefix=str(normal.id)) == [normal.id]
    unlike = next(n for n, (a, b) in enumerate(zip(str(normal.id), str(high.id), strict=True)) if a != b)
    assert found(id_prefix=str(high.id)[: unlike + 1].upper()) == [high.id]
    assert found(id_prefix=str(high.id)[:unlike]) == [high.id, normal.id]
    assert found(id_prefix="ffff") == []
    assert found(created_before=normal.created_at) == []
    assert len(found(created_after=normal.created_at)) == 2


def test_a_task_that_does_not_exist_is_not_found(org: UUID) -> None:
    for verb in (tasks.get_task, tasks.cancel, tasks.retry):
        with db.transaction(org) as connection, pytest.raises(NotFound):
            verb(connection, new_id())


def test_times_must_fit_together() -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    with pytest.raises(ValueError, match="deadline must be later"):
        submission(run_after=soon, deadline=soon)


def test_queue_statistics_count_what_is_due_later_and_running(org: UUID) -> None:
    claimed(org)
    submit(org)
    submit(org, run_after=datetime.now(UTC) + timedelta(hours=1))
    dispatch()
    with db.transaction(org) as connection:
        normal = next(q for q in tasks.queue_statistics(connection) if q.priority == "normal")
    assert (normal.queued, normal.scheduled, normal.running, normal.published) == (1, 1, 1, 1)


# ── lists, replays and many at once ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cursor", ["x", "====", "ñandú", "\x00", "A" * 21, "A" * 23, "A" * 5_000, "../../etc/passwd"])
def test_a_cursor_that_no_page_gave_is_refused(org: UUID, cursor: str) -> None:
    with db.transaction(org) as connection, pytest.raises(InvalidInput, match="This cursor is not valid"):
        tasks.list_tasks(connection, TaskFilter(), cursor=cursor, limit=3)


def test_a_last_page_that_is_full_has_no_next_one(org: UUID) -> None:
    made = [submit(org).id for _ in range(3)]
    with db.transaction(org) as connection:
        page = tasks.list_tasks(connection, TaskFilter(), cursor=None, limit=3)
        assert ([task.id for task in page.tasks], page.next_cursor) == (made[::-1], None)
        first = tasks.list_tasks(connection, TaskFilter(), cursor=None, limit=2)
        submit(org)  # a task that comes in between is on no later page
        rest = tasks.list_tasks(connection, TaskFilter(), cursor=first.next_cursor, limit=2)
    assert ([task.id for task in rest.tasks], rest.next_cursor) == (made[:1], None)


def replay(org: UUID, task_id: UUID, **changes: Any) -> Task:
    with db.transaction(org) as connection:
        return tasks.replay(connection, task_id, Replay(**changes), SubmissionContext(user_id=owner_of(org)))


def test_a_pause_between_two_tries_is_no_wish_of_the_submitter_and_is_not_replayed(org: UUID) -> None:
    with movable_clock() as clock:
        expires_at = clock.now() + timedelta(minutes=5)
        held = claimed(org, expires_at=expires_at)
        end_claim(org, held, status="queued", outcome="retry", counted=True, delay=timedelta(minutes=10))
        again = replay(org, held.id)
    assert (again.expires_at, again.origin_id) == (expires_at, held.id)
    assert again.run_after <= expires_at
    assert [due.id for due in dispatch()] == [again.id]


def test_a_replay_begins_anew_with_what_was_asked_and_what_is_changed(org: UUID) -> None:
    held = claimed(org, priority="low", concurrency_key="talk")
    record(org, held)
    end_claim(org, held, status="failed", outcome="failed", counted=True)
    same = replay(org, held.id)
    assert (same.agent, same.input, same.priority, same.concurrency_key) == (
        "support-assistant", held.input, "low", "talk",
    )  # fmt: skip
    other = replay(
        org, held.id, agent="lead-nurture", priority="high", concurrency_key="b", input=TaskInput(message="new")
    )
    assert (other.agent, other.input["message"], other.priority, other.concurrency_key) == (
        "lead-nurture", "new", "high", "b",
    )  # fmt: skip
    assert (look(org, other.id).steps, other.attempts, look(org, held.id).status) == ([], 0, "failed")
    with pytest.raises(NotFound):
        replay(org, new_id())


def test_many_of_one_conversation_are_retried_in_their_order_behind_what_came_since(org: UUID) -> None:
    first, second = (submit(org, message, concurrency_key="talk").id for message in ("a", "b"))
    with db.transaction(org) as connection:
        tasks.cancel_unended(connection, [])
        tasks.cancel_unended(connection, [second, first])
    since = submit(org, "c", concurrency_key="talk").id
    with db.transaction(org) as connection:
        assert tasks.retry_many(connection, BulkRetry(filter=TaskFilter(ids=[second, first]))).changed == 2
    for expected in (since, first, second):
        assert [due.id for due in dispatch()] == [expected]
        with db.transaction(org) as connection:
            tasks.cancel(connection, expected)
    assert dispatch() == []


def test_one_key_for_many_replays_replays_each_once(org: UUID) -> None:
    ended = [submit(org, str(number)).id for number in range(3)]
    with db.transaction(org) as connection:
        tasks.cancel_unended(connection, ended)
        queued = submit(org).id
        request = BulkReplay(filter=TaskFilter(agent="support-assistant", created_before=look(org, queued).created_at))
        by = SubmissionContext(user_id=owner_of(org))
        once, twice = (tasks.replay_many(connection, request, by, idempotency_key="k") for _ in range(2))
    assert once.matching == once.changed == 3
    assert [task.id for task in twice.sample] == [task.id for task in once.sample]
    assert {task.origin_id for task in once.sample} == set(ended)


# ── waking ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_waiting_task_is_woken_by_what_it_waits_for_and_by_nothing_else(org: UUID) -> None:
    held = claimed(org)
    error = TaskError(kind="no_funds", message="The wallet is empty.")
    end_claim(org, held, status="waiting", outcome="waiting", waiting_for="funds", error=error)
    with db.transaction(org) as connection:
        tasks.wake(connection, held.id, "approval", "advice")
    assert (look(org, held.id).status, look(org, held.id).error.kind) == ("waiting", "no_funds")
    with db.system_transaction() as connection:
        assert tasks.organisations_waiting(connection, "approval") == []
        assert tasks.organisations_waiting(connection, "budget", "funds") == [org]
    with db.transaction(org) as connection:
        tasks.wake(connection, held.id, "approval", "funds")
    task = look(org, held.id)
    assert (task.status, task.waiting_for, task.error) == ("queued", None, None)


def test_only_what_was_held_for_a_shut_out_user_is_queued_when_they_are_let_in(org: UUID) -> None:
    other = make_user(org, "manager")
    queued, parked, waiting, theirs = (
        submit(org), submit(org, "b", concurrency_key="k"), claimed(org), submit(org, user=other),
    )  # fmt: skip
    end_claim(org, waiting, status="waiting", outcome="waiting", waiting_for="approval")
    with db.transaction(org) as connection:
        tasks.block_tasks_of(connection, owner_of(org))
    everyone = (queued.id, parked.id, waiting.id, theirs.id)
    assert [look(org, one).waiting_for for one in everyone] == ["user", "user", "approval", None]
    with db.transaction(org) as connection:
        tasks.unblock_tasks_of(connection, other)
    assert look(org, queued.id).status == "waiting"
    with db.transaction(org) as connection:
        tasks.unblock_tasks_of(connection, owner_of(org))
    assert [look(org, one).status for one in everyone] == ["queued", "queued", "waiting", "queued"]
    assert {due.id for due in dispatch()} == {queued.id, parked.id, theirs.id}


# ── trees ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def started(org: UUID, root: UUID, more: int, *, depth: int = 1, max_children: int = 5, **limits: Any) -> str:
    """The reason why an agent's task may not start `more` tasks; empty when it may."""
    tree = TreeLimits(**{"max_depth": 2, "max_descendants": 4, "max_cost": Decimal(1)} | limits)
    bounds = Bounds(agents=["support-assistant"], tools=[], mode="auto", tree=tree)
    context = SubmissionContext(user_id=owner_of(org), origin_id=root, root_id=root, depth=depth, bounds=bounds)
    try:
        with db.transaction(org) as connection:
            tasks.reserve_in_tree(connection, org, context, more, max_children=max_children)
            for _ in range(more):
                tasks.submit(connection, submission(), context)
    except Conflict as error:
        return error.message
    return ""


def test_a_tree_grows_to_its_limits_and_what_is_refused_does_not_count(org: UUID) -> None:
    root = submit(org).id
    assert started(org, root, 1, depth=2) == ""
    assert "stems from 2 others already, and the limit of depth is 2" in started(org, root, 1, depth=3)
    assert "has started 1, and the limit is 2 for one task" in started(org, root, 2, max_children=2)
    assert "1 tasks stem from the same task already, and the limit is 4" in started(org, root, 4)
    assert started(org, root, 3) == ""
    assert "4 tasks stem from the same task already" in started(org, root, 1)
    assert "have cost $0; the limit is $0" in started(org, submit(org).id, 1, max_cost=Decimal(0))


def test_a_tree_is_counted_until_its_last_task_is_gone(org: UUID) -> None:
    roots = [submit(org).id for _ in range(3)]
    for root in roots:
        assert started(org, root, 1) == ""
    with db.system_transaction() as connection:
        connection.execute(text("DELETE FROM tasks WHERE id = :id OR root_id = :id"), {"id": roots[0]})
        connection.execute(text("DELETE FROM tasks WHERE root_id = :id"), {"id": roots[1]})  # the root itself is left
        connection.execute(text("DELETE FROM tasks WHERE id = :id"), {"id": roots[2]})  # a task below it is left
        assert tasks.forget_unused_trees(connection) == 0  # used within the last day
        connection.execute(text("UPDATE task_trees SET used_at = rota_now() - interval '25 h'"))
        tasks.forget_unused_trees(connection)
        left = connection.execute(text("SELECT root_id FROM task_trees WHERE org_id = :org"), {"org": org})
        assert set(left.scalars()) == set(roots[1:])


# ── upkeep and figures ───────────────────────────────────────────────────────────────────────────────────────────────


def test_what_failed_is_kept_for_its_own_time(org: UUID) -> None:
    ended: dict[Any, UUID] = {}
    for status in ("succeeded", "failed", "cancelled"):
        held = claimed(org)
        end_claim(org, held, status=status, outcome=status, result={"answer": "x"} if status == "succeeded" else None)
        ended[status] = held.id
    unended = submit(org).id
    with movable_clock() as clock:
        clock.move(timedelta(days=2))
        with db.system_transaction() as connection:
            keep = {"keep_succeeded": timedelta(days=1), "keep_failed": timedelta(days=7)}
            assert tasks.clean_up(connection, **keep) == 1
        with pytest.raises(NotFound):
            look(org, ended.pop("succeeded"))
        clock.move(timedelta(days=6))
        with db.system_transaction() as connection:
            assert tasks.clean_up(connection, **keep) == 2
    assert look(org, unended).status == "queued"


def test_a_task_that_ends_at_its_deadline_says_where_it_was(org: UUID) -> None:
    with movable_clock() as clock:
        deadline = clock.now() + timedelta(hours=1)
        queued, waiting, running = submit(org, deadline=deadline).id, *(claimed(org, deadline=deadline) for _ in "12")
        end_claim(org, waiting, status="waiting", outcome="waiting", waiting_for="approval")
        clock.move(timedelta(hours=2))
        with db.system_transaction() as connection:
            assert tasks.expire_overdue(connection) == 2
    assert look(org, queued).error.message == "The deadline passed while it was queued."
    assert look(org, waiting.id).error.message == "The deadline passed while it waited for approval."
    assert [look(org, one).status for one in (queued, waiting.id, running.id)] == ["expired", "expired", "running"]


def test_statistics_rate_what_ended_by_itself_in_the_last_thirty_days(org: UUID) -> None:
    claimed(make_organisation(f"other-{org.hex[-8:]}"))
    for status in ("succeeded", "succeeded", "failed", "cancelled"):
        end_claim(org, claimed(org), status=status, outcome=status)
    submit(org)
    old = claimed(org)
    end_claim(org, old, status="failed", outcome="failed")
    with db.transaction(org) as connection:
        connection.execute(
            text("UPDATE tasks SET created_at = created_at - interval '31 days' WHERE id = :id"), {"id": old.id}
        )
        agents.delete_agent(connection, "follow-up")
        found = {one.agent: one for one in tasks.agent_statistics(connection)}
    busy, idle = found["support-assistant"], found["lead-nurture"]
    assert (busy.tasks, busy.succeeded, busy.failed, busy.unfinished) == (5, 2, 1, 1)
    assert busy.success_rate == pytest.approx(2 / 3)
    assert (idle.tasks, idle.success_rate, idle.median_seconds, idle.billed_cost) == (0, None, None, Decimal(0))
    assert "follow-up" not in found


def test_failures_are_grouped_the_most_frequent_first_with_the_latest_message_and_three_examples(org: UUID) -> None:
    def fail(message: str, agent: str = "support-assistant") -> UUID:
        held = claimed(org, agent=agent)
        end_claim(org, held, status="failed", outcome="failed", error=TaskError(kind="bad_request", message=message))
        return held.id

    once = fail("the shop is closed")
    many = [fail(f"order {number} is gone") for number in range(3)] + [fail("order 99 is gone", "lead-nurture")]
    with db.transaction(org) as connection:
        tasks.cancel_unended(connection, [submit(org).id])
        first, second = tasks.failures(connection)
    assert (first.tasks, first.message, first.examples) == (4, "order 99 is gone", many[:0:-1])
    assert set(first.agents) == {"support-assistant", "lead-nurture"}
    assert (second.tasks, second.examples) == (1, [once])
