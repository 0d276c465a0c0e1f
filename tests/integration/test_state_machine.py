"""Any sequence of verbs on a handful of tasks keeps the rules that the product promises."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from core import db
from core.errors import Conflict
from domain.claims import service as claims
from domain.claims.schemas import Claimed, ClaimOutcome, StepRecord
from domain.dispatch import service as dispatching
from domain.dispatch.planner import Planner
from domain.tasks import service as tasks
from domain.tasks.schemas import PRIORITIES, Settlement
from tests.support.factories import dispatch, make_organisation, record_step, register_worker, submit

_LIMIT = 3
_KEYS = st.sampled_from([None, None, "a", "b"])
_WHICH = st.integers(0, 100)

_ENDINGS: dict[str, dict[str, Any]] = {
    "succeeded": {"status": "succeeded", "outcome": "succeeded", "counted": True, "result": {"answer": "x"}},
    "failed": {"status": "failed", "outcome": "failed", "counted": True},
    "retry": {"status": "queued", "outcome": "retry", "counted": True, "delay": timedelta(0)},
    "released": {"status": "queued", "outcome": "released"},
    "approval": {"status": "waiting", "outcome": "waiting", "waiting_for": "approval"},
}


class TaskMachine(RuleBasedStateMachine):
    """One organisation with a limit of three, two workers, and everybody who may touch a task."""

    org: UUID

    @initialize()
    def begin(self) -> None:
        with db.system_transaction() as connection:
            for table in ("tasks", "workers", "key_changes", "concurrency_keys"):
                connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608
            limits: dict[str, int | None] = {"max_in_flight": _LIMIT, "starts_per_minute": None}
            dispatching.set_organisation_limits(connection, self.org, limits)
        register_worker("w1")
        self.planner = Planner(timedelta(minutes=2))
        self.tasks: list[UUID] = []
        self.messages: list[tuple[UUID, int]] = []
        self.held: list[Claimed] = []
        self.lost: list[Claimed] = []
        self.seqs = 0

    def pick(self, items: list[Any], which: int) -> Any:
        return items[which % len(items)]

    @rule(key=_KEYS, priority=st.sampled_from(PRIORITIES))
    def submit(self, key: str | None, priority: str) -> None:
        self.tasks.append(submit(self.org, concurrency_key=key, priority=priority).id)

    @rule()
    def dispatch(self) -> None:
        self.messages += [(due.id, due.claim) for due in dispatch(planner=self.planner)]

    @precondition(lambda self: self.messages)
    @rule(which=_WHICH)
    def claim(self, which: int) -> None:
        """A message is delivered; it stays, so that it can be delivered again."""
        task_id, number = self.pick(self.messages, which)
        with db.transaction(self.org) as connection:
            held = claims.claim(connection, task_id, number, "w1")
        if held is not None:
            assert held.claim == number + 1
            assert held.id not in {one.id for one in self.held}
            self.held.append(held)

    @precondition(lambda self: self.held)
    @rule(which=_WHICH, status=st.sampled_from(["done", "failed", "begun"]))
    def step(self, which: int, status: str) -> None:
        held = self.pick(self.held, which)
        self.seqs += 1
        record = StepRecord(seq=self.seqs, stage="act", name="x", status=status, output={"call_id": "c"}, duration_ms=1)
        with db.transaction(self.org) as connection:
            record_step(connection, held, record)

    @precondition(lambda self: self.held)
    @rule(which=_WHICH, ending=st.sampled_from(sorted(_ENDINGS)))
    def end_claim(self, which: int, ending: str) -> None:
        held = self.pick(self.held, which)
        self.held.remove(held)
        self.lost.append(held)
        with db.transaction(self.org) as connection:
            claims.end(connection, held, ClaimOutcome(**_ENDINGS[ending]))

    @precondition(lambda self: self.lost)
    @rule(which=_WHICH)
    def write_late(self, which: int) -> None:
        """Whoever lost a claim can write nothing."""
        late = self.pick(self.lost, which)
        record = StepRecord(seq=10**6, stage="act", name="late", output={}, duration_ms=1)
        for write in (
            lambda connection: record_step(connection, late, record),
            lambda connection: claims.finish_begun_step(connection, late, record),
            lambda connection: claims.end(connection, late, ClaimOutcome(**_ENDINGS["succeeded"])),
            lambda connection: claims.lock_shared(connection, late),
        ):
            with db.transaction(self.org) as connection, pytest.raises(claims.ClaimLost):
                write(connection)

    @rule()
    def reap(self) -> None:
        """The worker is silent: all it held is taken back."""
        with db.system_transaction() as connection:
            taken = claims.reap_orphaned(connection, timedelta(0))
        assert sum(taken.values()) == len(self.held)
        self.lost += self.held
        self.held = []

    @precondition(lambda self: self.tasks)
    @rule(which=_WHICH, verb=st.sampled_from(["cancel", "retry"]))
    def control(self, which: int, verb: str) -> None:
        task_id = self.pick(self.tasks, which)
        try:
            with db.transaction(self.org) as connection:
                getattr(tasks, verb)(connection, task_id)
        except Conflict:
            pass

    @precondition(lambda self: self.messages)
    @rule(which=_WHICH)
    def decline(self, which: int) -> None:
        task_id, number = self.pick(self.messages, which)
        with db.transaction(self.org) as connection:
            claims.decline(connection, task_id, number)

    @rule()
    def broker_forgets(self) -> None:
        with db.system_transaction() as connection:
            dispatching.unpublish_all(connection)

    @rule(outcome=st.sampled_from(["happened", "do_again"]))
    def settle(self, outcome: Any) -> None:
        rows = self.rows(
            "SELECT t.id, s.seq FROM tasks t JOIN steps s ON s.task_id = t.id "
            "WHERE t.status = 'waiting' AND s.status = 'unknown'"
        )
        for task_id, seq in rows:
            with db.transaction(self.org) as connection:
                tasks.settle(connection, task_id, seq, Settlement(outcome=outcome))

    @rule()
    def approve(self) -> None:
        with db.transaction(self.org) as connection:
            connection.execute(
                text(
                    "UPDATE tasks SET status = 'queued', waiting_for = NULL "
                    "WHERE status = 'waiting' AND waiting_for = 'approval'"
                )
            )

    def rows(self, statement: str) -> list[Any]:
        with db.transaction(self.org) as connection:
            return list(connection.execute(text(statement)))

    @invariant()
    def never_more_in_flight_than_allowed(self) -> None:
        if hasattr(self, "tasks"):
            in_flight = "status = 'running' OR (status = 'queued' AND dispatched_at IS NOT NULL)"
            assert self.rows(f"SELECT count(*) FROM tasks WHERE {in_flight}")[0][0] <= _LIMIT  # noqa: S608

    @invariant()
    def of_each_key_only_the_first_may_run(self) -> None:
        if hasattr(self, "tasks"):
            assert not self.rows(
                "SELECT t.id FROM tasks t WHERE t.concurrency_key IS NOT NULL "
                "AND (t.status = 'running' OR (t.status = 'queued' AND t.dispatched_at IS NOT NULL)) "
                "AND EXISTS (SELECT FROM tasks o WHERE o.concurrency_key = t.concurrency_key "
                "AND o.key_position < t.key_position AND o.status IN ('queued', 'running', 'waiting'))"
            )

    @invariant()
    def no_intent_outlives_its_claim(self) -> None:
        if hasattr(self, "tasks"):
            assert not self.rows(
                "SELECT s.id FROM steps s JOIN tasks t ON t.id = s.task_id "
                "WHERE s.status = 'begun' AND (t.status <> 'running' OR t.claim <> s.claim)"
            )
            assert not self.rows(
                "SELECT t.id FROM tasks t WHERE t.status = 'succeeded' "
                "AND EXISTS (SELECT FROM steps s WHERE s.task_id = t.id AND s.status = 'unknown')"
            )

    @invariant()
    def one_attempt_is_open_for_each_running_task(self) -> None:
        if hasattr(self, "tasks"):
            assert not self.rows(
                "SELECT t.id FROM tasks t LEFT JOIN attempts a ON a.task_id = t.id AND a.ended_at IS NULL "
                "GROUP BY t.id, t.status HAVING count(a.task_id) <> (t.status = 'running')::int"
            )

    def teardown(self) -> None:
        """Everything can be brought to an end: nothing is stuck for ever."""
        if not hasattr(self, "tasks"):
            return
        self.reap()
        for _ in range(4 * len(self.tasks) + 4):
            self.settle("happened")
            self.approve()
            self.dispatch()
            for task_id, number in self.messages:
                with db.transaction(self.org) as connection:
                    if held := claims.claim(connection, task_id, number, "w1"):
                        claims.end(connection, held, ClaimOutcome(**_ENDINGS["succeeded"]))
        left = self.rows("SELECT id, status, parked FROM tasks WHERE finished_at IS NULL")
        assert not left, left


def test_any_sequence_of_verbs_keeps_the_rules(org: UUID) -> None:
    machine = type("Machine", (TaskMachine,), {"org": make_organisation("machine")})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
