"""The life of a task in SQL: submission, dispatch, claims and their fence, departures, and taking back."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db, engines
from core.errors import Conflict, NotFound
from core.ids import new_id
from domain.claims import service as claims
from domain.claims.schemas import Claimed, ClaimOutcome, StepRecord
from domain.dispatch import service as dispatching
from domain.tasks import service as tasks
from domain.tasks.schemas import TaskError, TaskFilter
from domain.workers import service as workers
from domain.workers.schemas import Vitals
from tests.support.clock import movable_clock
from tests.support.factories import (
    change_agent,
    claim,
    dispatch,
    look,
    make_organisation,
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
        claims.record_step(connection, held, step, new_id())


def leave(org: UUID, held: Claimed, **outcome: object) -> None:
    with db.transaction(org) as connection:
        claims.leave(connection, held, ClaimOutcome(**outcome))


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
        assert dispatching.long_unclaimed(connection, timedelta(hours=1)) == {}
        connection.execute(text("UPDATE tasks SET dispatched_at = dispatched_at - interval '10 s'"))
        late = dispatching.long_unclaimed(connection, timedelta(seconds=3))
        assert late == {kept.id: (0, "normal"), lost.id: (0, "normal")}
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
    leave(org, held, status="queued", outcome="released")
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
        leave(org, late, status="succeeded", outcome="succeeded")
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
    leave(org, held, status="queued", outcome="deferred", delay=timedelta(seconds=30))
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
    leave(org, held, status="succeeded", outcome="succeeded", counted=True, result={"answer": "x"})
    with db.transaction(org) as connection, pytest.raises(Conflict, match="succeeded already"):
        tasks.cancel(connection, held.id)


def test_a_failed_task_can_be_retried_with_fresh_attempts_and_its_journal(org: UUID) -> None:
    held = claimed(org, deadline=datetime.now(UTC) + timedelta(minutes=1))
    record(org, held)
    leave(org, held, status="failed", outcome="failed", counted=True, error=TaskError(kind="x", message="y"))
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
        leave(org, held, status="succeeded", outcome="succeeded", counted=True, result={"answer": "x"})
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
