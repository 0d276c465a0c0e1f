"""How a claim ends: which status wins, what the reaper decides, what an outage counts, and what a lost claim writes."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db
from core.ids import new_id
from domain.claims import service as claims
from domain.claims.schemas import Claimed, ClaimOutcome, JournalLine, Spell, StepRecord
from domain.tasks import service as tasks
from domain.tasks.schemas import TaskError
from tests.support.clock import movable_clock
from tests.support.factories import claim, look, record_step, register_worker, submit

KINDS = ["overloaded", "unavailable"]
ENDINGS: dict[str, dict[str, Any]] = {
    "succeeded": {"status": "succeeded", "outcome": "succeeded", "counted": True, "result": {"answer": "x"}},
    "failed": {"status": "failed", "outcome": "failed", "counted": True},
    "queued": {"status": "queued", "outcome": "retry", "counted": True},
    "waiting": {"status": "waiting", "outcome": "waiting", "waiting_for": "approval"},
    "cancelled": {"status": "cancelled", "outcome": "cancelled"},
}


@pytest.fixture(autouse=True)
def worker(org: UUID) -> None:
    register_worker()


def claimed(org: UUID, task_id: UUID | None = None, number: int = 0) -> Claimed:
    held = claim(org, task_id or submit(org).id, number)
    assert held is not None
    return held


def write(org: UUID, held: Claimed, seq: int = 0, *, stage: Any = "act", status: Any = "done") -> None:
    step = StepRecord(seq=seq, stage=stage, name="s", status=status, output={"call_id": "c"}, duration_ms=1)
    with db.transaction(org) as connection:
        record_step(connection, held, step)


def end(org: UUID, held: Claimed, **outcome: Any) -> str:
    with db.transaction(org) as connection:
        return claims.end(connection, held, ClaimOutcome(**outcome))


def outage(org: UUID, held: Claimed, kind: str = "overloaded", *, counted: bool = False) -> None:
    error = TaskError(kind=kind, message="down")
    end(org, held, status="queued", outcome="deferred", counted=counted, delay=timedelta(0), error=error)


def reap(lease: timedelta = timedelta(seconds=10)) -> dict[str, int]:
    with db.system_transaction() as connection:
        return claims.reap_orphaned(connection, lease)


# ── which status wins ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wanted", "meanwhile", "expected", "waiting_for"),
    [
        ("succeeded", "", "succeeded", None),
        ("failed", "", "failed", None),
        ("queued", "", "queued", None),
        ("waiting", "", "waiting", "approval"),
        # a request to cancel overrides everything but an end that was reached
        ("succeeded", "cancel", "succeeded", None),
        ("failed", "cancel", "failed", None),
        ("queued", "cancel", "cancelled", None),
        ("waiting", "cancel", "cancelled", None),
        ("waiting", "cancel wake", "cancelled", None),
        ("queued", "cancel doubt", "cancelled", None),
        # an effect of unknown outcome overrides everything but a cancellation
        ("succeeded", "doubt", "waiting", "outcome"),
        ("failed", "doubt", "waiting", "outcome"),
        ("queued", "doubt", "waiting", "outcome"),
        ("waiting", "doubt", "waiting", "outcome"),
        ("waiting", "doubt wake", "waiting", "outcome"),
        ("cancelled", "doubt", "cancelled", None),
        ("succeeded", "cancel doubt", "waiting", "outcome"),
        # what arrived while the task was running is not waited for, and changes nothing else
        ("waiting", "wake", "queued", None),
        ("failed", "wake", "failed", None),
        ("queued", "wake", "queued", None),
    ],
)
def test_the_status_that_wins_when_a_claim_ends(
    org: UUID, wanted: str, meanwhile: str, expected: str, waiting_for: str | None
) -> None:
    held = claimed(org)
    if "doubt" in meanwhile:
        write(org, held, 3, status="begun")
    with db.transaction(org) as connection:
        if "cancel" in meanwhile:
            tasks.cancel(connection, held.id)
        if "wake" in meanwhile:
            tasks.wake(connection, held.id, "approval")
    assert end(org, held, **ENDINGS[wanted]) == expected
    task = look(org, held.id)
    assert (task.status, task.waiting_for, task.worker) == (expected, waiting_for, None)
    assert (task.finished_at is not None) == (expected in {"succeeded", "failed", "cancelled"})
    (attempt,) = task.attempt_history
    assert attempt.outcome == ("waiting" if expected == "waiting" else ENDINGS[wanted]["outcome"])
    assert [step.status for step in task.steps] == ["unknown"] * ("doubt" in meanwhile)


def test_a_task_in_doubt_outlives_its_deadline_whatever_it_would_have_waited_for(org: UUID) -> None:
    with movable_clock() as clock:
        held = claimed(org, submit(org, deadline=clock.now() + timedelta(hours=1)).id)
        write(org, held, status="begun")
        end(org, held, **ENDINGS["waiting"])
        clock.move(timedelta(hours=2))
        with db.system_transaction() as connection:
            assert tasks.expire_overdue(connection) == 0
    assert look(org, held.id).status == "waiting"


@pytest.mark.parametrize(
    ("attempts", "meanwhile", "expected"),
    [
        (0, "", "queued"),
        (1, "", "queued"),
        (2, "", "failed"),
        (2, "progress", "queued"),
        (0, "cancel", "cancelled"),
        (2, "cancel", "cancelled"),
        (0, "doubt", "waiting"),
        (2, "doubt", "waiting"),
        (0, "cancel doubt", "cancelled"),
    ],
)
def test_what_the_reaper_makes_of_a_silent_workers_task(
    org: UUID, attempts: int, meanwhile: str, expected: str
) -> None:
    held = claimed(org)
    for number in range(1, attempts + 1):
        end(org, held, **ENDINGS["queued"], delay=timedelta(0))
        held = claimed(org, held.id, number)
    if "progress" in meanwhile:
        write(org, held, stage="decide")
    if "doubt" in meanwhile:
        write(org, held, status="begun")
    with db.transaction(org) as connection:
        if "cancel" in meanwhile:
            tasks.cancel(connection, held.id)
    assert reap() == {}
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE workers SET stopped_at = rota_now()"))
    assert reap() == {expected: 1}
    task = look(org, held.id)
    assert (task.status, task.attempts) == (expected, 1 if "progress" in meanwhile else attempts + 1)
    assert task.waiting_for == ("outcome" if expected == "waiting" else None)
    assert (task.finished_at is not None) == (expected in {"failed", "cancelled"})
    last = task.attempt_history[-1]
    assert (last.outcome, last.counted, last.error.kind) == ("lost", True, "worker_lost")
    assert reap() == {}  # once only


def test_a_worker_is_reaped_when_it_is_silent_for_longer_than_the_lease_or_its_row_is_gone(org: UUID) -> None:
    with movable_clock() as clock:
        first = claimed(org)
        clock.move(timedelta(seconds=9))
        assert reap() == {}
        clock.move(timedelta(seconds=2))
        assert reap() == {"queued": 1}
        assert "more than 10 s" in look(org, first.id).error.message
    second = claimed(org)
    with db.system_transaction() as connection:
        connection.execute(text("DELETE FROM workers"))
    assert reap(timedelta(days=1)) == {"queued": 1}
    assert look(org, second.id).worker is None


# ── outages ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def spell(org: UUID, held: Claimed) -> Spell:
    with db.transaction(org) as connection:
        return claims.spell(connection, held, KINDS)


def test_the_first_attempt_has_seen_no_outage(org: UUID) -> None:
    assert spell(org, claimed(org)) == Spell(has_progressed=False, outage=timedelta(0), outages=0)


def test_an_outage_lasts_from_its_first_uncounted_attempt_and_only_its_kinds_count(org: UUID) -> None:
    with movable_clock() as clock:
        held = claimed(org)
        for number, kind in enumerate(["rate_limited", "overloaded", "unavailable"], start=1):
            outage(org, held, kind)
            clock.move(timedelta(minutes=1))
            held = claimed(org, held.id, number)
        began = look(org, held.id).attempt_history[1].ended_at
        with db.transaction(org) as connection:
            found = claims.spell(connection, held, KINDS)
            assert found == Spell(has_progressed=False, outage=tasks.now(connection) - began, outages=2)
        outage(org, held, counted=True)
        assert spell(org, claimed(org, held.id, 4)).outages == 2


def test_progress_ends_an_outage_and_only_a_finished_decision_is_progress(org: UUID) -> None:
    held = claimed(org)
    outage(org, held)
    held = claimed(org, held.id, 1)
    for seq, (stage, status) in enumerate([("perceive", "done"), ("act", "done"), ("decide", "failed")]):
        write(org, held, seq, stage=stage, status=status)
    assert (spell(org, held).has_progressed, spell(org, held).outages) == (False, 1)
    write(org, held, 3, stage="decide")
    assert spell(org, held) == Spell(has_progressed=True)
    end(org, held, status="queued", outcome="retry", counted=True, counts_anew=True, delay=timedelta(0))
    assert not spell(org, claimed(org, held.id, 2)).has_progressed  # the attempt that counted came after it


def test_outages_before_a_users_retry_do_not_count(org: UUID) -> None:
    held = claimed(org)
    outage(org, held)
    held = claimed(org, held.id, 1)
    assert spell(org, held).outages == 1
    end(org, held, **ENDINGS["failed"])
    with db.transaction(org) as connection:
        tasks.retry(connection, held.id)
    assert spell(org, claimed(org, held.id, 2)) == Spell()


# ── the fence ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_verb_of_a_lost_claim_writes_anything(org: UUID) -> None:
    lost = claimed(org)
    write(org, lost, 0, status="begun")
    end(org, lost, status="cancelled", outcome="cancelled")
    with db.transaction(org) as connection:
        tasks.retry(connection, lost.id)
    owner = claimed(org, lost.id, 1)
    before = look(org, lost.id)
    done = StepRecord(seq=0, stage="act", name="s", output={"late": True}, duration_ms=1)
    verbs: dict[str, Any] = {
        "record": lambda at: claims.record_steps(at, lost, [JournalLine(done, new_id())]),
        "finish a step": lambda at: claims.finish_begun_step(at, lost, done),
        "lock in share mode": lambda at: claims.lock_shared(at, lost),
        "lock": lambda at: claims.lock_exclusively(at, lost),
        "end": lambda at: claims.end(at, lost, ClaimOutcome(**ENDINGS["succeeded"])),
        "end what was not locked": lambda at: claims.end_locked(at, lost, ClaimOutcome(**ENDINGS["failed"])),
    }
    for verb in verbs.values():
        with db.transaction(org) as connection, pytest.raises(claims.ClaimLost):
            verb(connection)
    with db.transaction(org) as connection:
        assert not claims.finish(connection, lost, [JournalLine(done, new_id())], [], {"answer": "late"})
        claims.release_stray(connection, lost.id, lost.claim)
        claims.decline(connection, lost.id, 1)  # the message of the claim that runs
    assert look(org, lost.id) == before
    with db.transaction(org) as connection:
        claims.lock_exclusively(connection, owner)


def test_a_task_does_not_succeed_at_once_while_an_effect_is_in_doubt(org: UUID) -> None:
    held = claimed(org)
    write(org, held, 0, status="begun")
    last = StepRecord(seq=1, stage="learn", name="l", output={}, duration_ms=1)
    with db.transaction(org) as connection:
        assert not claims.finish(connection, held, [JournalLine(last, new_id())], [], {"answer": "x"})
    task = look(org, held.id)
    assert (task.status, [step.seq for step in task.steps]) == ("running", [0])
    with db.transaction(org) as connection:
        claims.finish_begun_step(connection, held, StepRecord(seq=0, stage="act", name="s", output={}, duration_ms=1))
        assert claims.finish(connection, held, [JournalLine(last, new_id())], [], {"answer": "x"})
    task = look(org, held.id)
    assert (task.status, task.result, task.attempts) == ("succeeded", {"answer": "x"}, 1)
    assert [(step.seq, step.status) for step in task.steps] == [(0, "done"), (1, "done")]
    assert (task.attempt_history[0].outcome, task.attempt_history[0].counted) == ("succeeded", True)


def test_a_begun_step_is_finished_once_and_is_known_by_its_output(org: UUID) -> None:
    held = claimed(org)
    write(org, held, 0, status="begun")
    done = StepRecord(seq=0, stage="act", name="s", output={"receipt": 7}, duration_ms=9)
    with db.transaction(org) as connection:
        assert not claims.has_finished(connection, held, done)
        claims.finish_begun_step(connection, held, done)
        assert claims.has_finished(connection, held, done)
        assert not claims.has_finished(connection, held, done.model_copy(update={"output": {"receipt": 8}}))
        assert not claims.has_finished(connection, held, done.model_copy(update={"status": "failed"}))
        with pytest.raises(claims.ClaimLost):
            claims.finish_begun_step(connection, held, done.model_copy(update={"output": {"receipt": 8}}))
    (step,) = look(org, held.id).steps
    assert (step.status, step.output, step.duration_ms) == ("done", {"receipt": 7}, 9)
