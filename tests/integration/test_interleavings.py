"""Two connections at one row at a time: whoever comes second sees what the first has done, or is refused."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from core import db
from core.errors import Conflict
from domain.claims import service as claims
from domain.claims.schemas import Claimed, ClaimOutcome, StepRecord
from domain.dispatch import service as dispatching
from domain.tasks import service as tasks
from domain.tasks.schemas import Settlement, SubmissionContext
from tests.support.factories import claim, dispatch, look, owner_of, record_step, register_worker, submission, submit
from tests.support.servers import wait_until

Verb = Callable[[Connection], Any]


def interleave(org: UUID, first: Verb, second: Verb) -> tuple[Any, Any]:
    """Both verbs in open transactions: the second begins while the first has not committed. What each came to."""
    outcomes: list[Any] = []

    def run_second() -> None:
        with db.transaction(org) as connection:
            pids.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
            outcomes.append(attempt(second, connection))

    pids: list[int] = []
    thread = threading.Thread(target=run_second)
    with db.transaction(org) as connection:
        outcome = attempt(first, connection)
        thread.start()
        wait_until(
            lambda: outcomes or (pids and is_blocked(pids[0])), what="the second is done, or waits for the first"
        )
    thread.join()
    return outcome, outcomes[0]


def attempt(verb: Verb, connection: Connection) -> Any:
    try:
        return verb(connection)
    except (claims.ClaimLost, Conflict) as error:
        return type(error)


def is_blocked(pid: int) -> bool:
    with db.system_transaction() as connection:
        return bool(connection.execute(text("SELECT cardinality(pg_blocking_pids(:pid))"), {"pid": pid}).scalar_one())


class Verbs:
    """What may be done to one task, each by somebody else."""

    def __init__(self, org: UUID) -> None:
        self.task = submit(org)
        register_worker("w1")
        register_worker("w2")

    def begin(self, org: UUID) -> None:
        """Let `w1` have it."""
        self.held = claim(org, self.task.id)

    def claim(self, connection: Connection) -> Any:
        held = claims.claim(connection, self.task.id, 0, "w2")
        return held and held.claim

    def finish(self, connection: Connection) -> Any:
        assert self.held
        outcome = ClaimOutcome(status="succeeded", outcome="succeeded", counted=True, result={"answer": "x"})
        return claims.end(connection, self.held, outcome)

    def release(self, connection: Connection) -> Any:
        assert self.held
        return claims.end(connection, self.held, ClaimOutcome(status="queued", outcome="released"))

    def step(self, connection: Connection) -> Any:
        assert self.held
        record = StepRecord(seq=0, stage="perceive", name="p", output={}, duration_ms=1)
        return record_step(connection, self.held, record).status

    def begin_effect(self, connection: Connection) -> Any:
        assert self.held
        record = StepRecord(seq=1, stage="act", name="pay", status="begun", output={"call_id": "c"}, duration_ms=1)
        return record_step(connection, self.held, record).status

    def fail(self, connection: Connection) -> Any:
        assert self.held
        return claims.end(connection, self.held, ClaimOutcome(status="failed", outcome="failed", counted=True))

    def cancel(self, connection: Connection) -> Any:
        return tasks.cancel(connection, self.task.id).status

    def reap(self, connection: Connection) -> Any:
        connection.execute(text("SELECT 1"))
        return claims.reap_orphaned(connection, timedelta(0))

    def retry(self, connection: Connection) -> Any:
        return tasks.retry(connection, self.task.id).status


@pytest.fixture
def verbs(org: UUID) -> Verbs:
    return Verbs(org)


def test_of_two_claims_one_gets_the_task(org: UUID, verbs: Verbs) -> None:
    dispatch()
    assert interleave(org, verbs.claim, verbs.claim) == (1, None)


@pytest.mark.parametrize(
    ("first", "second", "outcomes", "status"),
    [
        ("claim", "cancel", (1, "running"), "running"),  # its worker is asked to stop
        ("cancel", "claim", ("cancelled", None), "cancelled"),
    ],
)
def test_claim_and_cancel(
    org: UUID, verbs: Verbs, first: str, second: str, outcomes: tuple[Any, Any], status: str
) -> None:
    dispatch()
    assert interleave(org, getattr(verbs, first), getattr(verbs, second)) == outcomes
    task = look(org, verbs.task.id)
    assert task.status == status
    assert task.cancel_requested_at is not None


@pytest.mark.parametrize(
    ("first", "second", "outcomes", "status"),
    [
        ("finish", "cancel", ("succeeded", Conflict), "succeeded"),
        ("cancel", "finish", ("running", "succeeded"), "succeeded"),  # it was done when it should have stopped
        ("cancel", "release", ("running", "cancelled"), "cancelled"),
        ("release", "cancel", ("queued", "cancelled"), "cancelled"),
        ("finish", "reap", ("succeeded", {}), "succeeded"),
        ("reap", "finish", ({"queued": 1}, claims.ClaimLost), "queued"),
        ("reap", "cancel", ({"queued": 1}, "cancelled"), "cancelled"),
        ("cancel", "reap", ("running", {}), "running"),  # the reaper skips a locked row, and comes again
        ("reap", "step", ({"queued": 1}, claims.ClaimLost), "queued"),
        ("finish", "step", ("succeeded", claims.ClaimLost), "succeeded"),
        ("finish", "finish", ("succeeded", claims.ClaimLost), "succeeded"),
        ("reap", "reap", ({"queued": 1}, {}), "queued"),
        ("step", "cancel", ("done", "running"), "running"),
        ("begin_effect", "fail", ("begun", "waiting"), "waiting"),  # it sees the intent it had to wait for
        ("finish", "retry", ("succeeded", Conflict), "succeeded"),
    ],
)
def test_a_running_task_between_two(
    org: UUID, verbs: Verbs, first: str, second: str, outcomes: tuple[Any, Any], status: str
) -> None:
    verbs.begin(org)
    if "reap" in {first, second}:
        with db.system_transaction() as connection:
            connection.execute(text("UPDATE workers SET stopped_at = rota_now()"))
    assert interleave(org, getattr(verbs, first), getattr(verbs, second)) == outcomes
    task = look(org, verbs.task.id)
    assert task.status == status
    assert (task.worker is not None) == (status == "running")
    assert [attempt.ended_at is None for attempt in task.attempt_history] == [status == "running"]


def test_dispatch_passes_by_a_task_that_is_being_cancelled(org: UUID, verbs: Verbs) -> None:
    outcomes = interleave(org, verbs.cancel, lambda _: dispatch())
    assert outcomes == ("cancelled", [])
    assert look(org, verbs.task.id).status == "cancelled"


def test_of_two_submissions_with_one_idempotency_key_one_makes_the_task(org: UUID) -> None:
    def send(connection: Connection) -> Any:
        return tasks.submit(
            connection, submission("once"), SubmissionContext(user_id=owner_of(org)), idempotency_key="k"
        ).id

    first, second = interleave(org, send, send)
    assert first == second


def test_positions_in_a_conversation_follow_the_order_of_acceptance(org: UUID) -> None:
    def send(connection: Connection) -> Any:
        return tasks.submit(
            connection, submission("hi", concurrency_key="k"), SubmissionContext(user_id=owner_of(org))
        ).id

    first, second = interleave(org, send, send)
    assert [due.id for due in dispatch()] == [first]
    with db.transaction(org) as connection:
        tasks.cancel(connection, first)
    assert [due.id for due in dispatch()] == [second]


def test_a_follower_accepted_while_the_head_ends_is_not_forgotten(org: UUID) -> None:
    register_worker("w1")
    head = submit(org, concurrency_key="k")
    dispatch()
    held: Claimed | None = claim(org, head.id)

    def send(connection: Connection) -> Any:
        return tasks.submit(
            connection, submission("hi", concurrency_key="k"), SubmissionContext(user_id=owner_of(org))
        ).id

    def finish(connection: Connection) -> Any:
        assert held
        return claims.end(connection, held, ClaimOutcome(status="succeeded", outcome="succeeded", counted=True))

    for first, second in ((send, finish), (finish, send)):
        outcomes = interleave(org, first, second)
        follower = next(one for one in outcomes if isinstance(one, UUID))
        assert [due.id for due in dispatch()] == [follower]
        held = claim(org, follower)


def test_a_pause_takes_hold_of_the_next_dispatch(org: UUID, verbs: Verbs) -> None:
    def pause(connection: Connection) -> Any:
        return dispatching.pause(connection, org, "queue", "normal", None).kind

    interleave(org, pause, lambda connection: connection.execute(text("SELECT 1")).scalar())
    assert dispatch() == []


def test_of_two_people_who_settle_one_decides(org: UUID, verbs: Verbs) -> None:
    verbs.begin(org)
    assert verbs.held
    with db.transaction(org) as connection:
        record = StepRecord(seq=0, stage="act", name="p", status="begun", output={"call_id": "c"}, duration_ms=1)
        record_step(connection, verbs.held, record)
        assert claims.end(connection, verbs.held, ClaimOutcome(status="queued", outcome="retry")) == "waiting"

    def settle(outcome: Any) -> Verb:
        def say(connection: Connection) -> Any:
            return tasks.settle(connection, verbs.task.id, 0, Settlement(outcome=outcome)).status

        return say

    assert interleave(org, settle("happened"), settle("do_again")) == ("queued", Conflict)
    assert [step.status for step in look(org, verbs.task.id).steps] == ["done"]


def test_a_claim_is_stamped_with_the_moment_it_is_made_not_with_the_begin_of_its_transaction(org: UUID) -> None:
    # A worker can be frozen in between: its task would seem to run before it was dispatched, and limits to be broken.
    task = submit(org)
    with db.transaction(org) as connection:
        began = tasks.now(connection)
        dispatch()
        statement = text("SELECT dispatched_at FROM tasks WHERE id = :id")
        dispatched_at = connection.execute(statement, {"id": task.id}).scalar_one()
        assert claims.claim(connection, task.id, 0, "w1")
    (made,) = look(org, task.id).attempt_history
    assert began < dispatched_at < made.started_at
