"""A deadline counts while a task waits, whatever it waits for; and none is accepted that has passed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from agents.llm.models import Models
from agents.review import approve
from api.app import make_app
from core import db
from core.errors import Conflict, InvalidInput
from core.settings import Settings
from domain.approvals import service as approvals
from domain.approvals.schemas import Yes
from domain.claims import service as claims
from domain.claims.schemas import ClaimOutcome, JournalLine, StepRecord
from domain.dispatch import service as dispatching
from domain.dispatch.why import why
from domain.schedules import service as schedules
from domain.schedules.schemas import ScheduleFields
from domain.tasks import service as tasks
from domain.tasks.schemas import Settlement
from domain.wallet import service as wallet
from tests.support.clock import Clock, movable_clock
from tests.support.desk import Desk
from tests.support.factories import change_agent, claim, dispatch, look, make_key, owner_of, register_worker, submit
from tests.support.models import Parrot, asking
from tests.support.servers import SECRET_KEY, serving
from workers.duties import approvals as approval_duties
from workers.duties import overdue
from workers.duties.money import release_holds, subtract_ended_holds

SOON = timedelta(minutes=5)


@pytest.fixture
def clock(org: UUID) -> Iterator[Clock]:
    with movable_clock() as made:
        yield made


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    with TestClient(make_app(), client=("deadlines", 1), raise_server_exceptions=False) as made:
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
        yield made


def wait_for(org: UUID, what: str, **more: Any) -> UUID:
    """A task that waits for something, without a worker."""
    register_worker()
    held = claim(org, submit(org, **more).id)
    assert held is not None
    with db.transaction(org) as connection:
        claims.end(connection, held, ClaimOutcome(status="waiting", outcome="waiting", waiting_for=what))
    return held.id


def pass_deadline(clock: Clock) -> None:
    clock.move(2 * SOON)
    overdue.expire_tasks()


def deadline(clock: Clock) -> datetime:
    return clock.now() + SOON


@pytest.mark.parametrize("what", ["approval", "advice", "funds", "budget"])
def test_a_task_that_waits_ends_at_its_deadline(org: UUID, clock: Clock, what: str) -> None:
    late, in_time = wait_for(org, what, deadline=deadline(clock)), wait_for(org, what)
    overdue.expire_tasks()
    assert look(org, late).status == "waiting"
    pass_deadline(clock)
    task = look(org, late)
    assert (task.status, task.waiting_for, task.error.kind) == ("expired", None, "deadline")
    assert task.error.message == f"The deadline passed while it waited for {what}."
    assert look(org, in_time).status == "waiting"


def test_a_queued_task_is_neither_published_nor_claimed_after_its_deadline_and_ends(org: UUID, clock: Clock) -> None:
    register_worker()
    task_id = submit(org, deadline=deadline(clock)).id
    published = submit(org, deadline=deadline(clock), priority="high").id
    assert published in {due.id for due in dispatch(bounds={"normal": 0})}
    clock.move(2 * SOON)
    assert dispatch() == []
    with db.transaction(org) as connection:
        assert claims.claim(connection, published, 0, "w1") is None
    with db.system_transaction() as connection:
        assert "deadline has passed" in why(connection, org, task_id, SOON).why
    overdue.expire_tasks()
    for one in (task_id, published):
        assert (look(org, one).status, look(org, one).error.kind) == ("expired", "deadline")


def test_a_paused_task_ends_at_its_deadline(org: UUID, clock: Clock) -> None:
    with db.transaction(org) as connection:
        dispatching.pause(connection, org, "agent", "support-assistant", None)
    task_id = submit(org, deadline=deadline(clock)).id
    pass_deadline(clock)
    assert look(org, task_id).status == "expired"


def test_a_task_behind_another_of_its_key_ends_at_its_deadline_and_lets_the_next_go(org: UUID, clock: Clock) -> None:
    head = submit(org, concurrency_key="k", deadline=deadline(clock)).id
    behind = submit(org, concurrency_key="k").id
    pass_deadline(clock)
    assert look(org, head).status == "expired"
    assert [due.id for due in dispatch()] == [behind]


def test_what_it_asked_for_is_withdrawn_and_what_it_held_is_free(org: UUID, clock: Clock) -> None:
    change_agent(org, "support-assistant", model="gpt-4o-mini", tools=["light_lamp"], mode="manual")
    bird = Parrot()
    bird.answers = [asking(("light_lamp", "{}"))]
    with serving(bird.app()) as url:
        desk = Desk(Models(Settings(openai_base_url=f"{url}/v1")))
        task = desk.run(org, submit(org, deadline=deadline(clock)).id)
        desk.close()
    assert (task.status, task.waiting_for) == ("waiting", "approval")
    with db.transaction(org) as connection:
        wallet.ensure(connection, org, task.id, 7)  # as a worker that died in between would leave it
        (asked,) = approvals.of_task(connection, task.id).values()
    pass_deadline(clock)
    assert look(org, task.id).status == "expired"
    approval_duties.withdraw_approvals()
    subtract_ended_holds()
    release_holds()
    with db.transaction(org) as connection:
        assert approvals.get(connection, asked.id).status == "withdrawn"
        assert wallet.balance(connection, org).held == 0
        with pytest.raises(Conflict):
            approve(connection, org, asked.id, owner_of(org), Yes())


def test_a_task_in_doubt_waits_on_until_its_outcome_is_settled(org: UUID, clock: Clock) -> None:
    register_worker()
    held = claim(org, submit(org, deadline=deadline(clock)).id)
    assert held is not None
    with db.transaction(org) as connection:
        step = StepRecord(seq=1, stage="act", name="ring_bell", status="begun", output={"call_id": "c"}, duration_ms=1)
        claims.record_steps(connection, held, [JournalLine(step, held.id)])
        claims.end(connection, held, ClaimOutcome(status="failed", outcome="failed"))
    pass_deadline(clock)
    assert (look(org, held.id).status, look(org, held.id).waiting_for) == ("waiting", "outcome")
    with db.transaction(org) as connection:
        tasks.settle(connection, held.id, 1, Settlement(outcome="happened"))
    overdue.expire_tasks()
    assert look(org, held.id).status == "expired"


# ── none that has passed is accepted ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["deadline", "expires_at"])
def test_a_task_with_a_time_that_has_passed_is_refused(client: TestClient, clock: Clock, name: str) -> None:
    body = {"agent": "support-assistant", "input": {"message": "hello"}}
    clock.move(timedelta(days=1))  # the database's clock decides
    past, future = datetime.now(UTC) + timedelta(hours=1), clock.now() + SOON
    for more in ({}, {"concurrency_key": "k"}):
        answer = client.post("/v1/tasks", json=body | more | {name: past.isoformat()})
        assert answer.status_code == 422
        assert f"{name} has passed" in answer.json()["detail"]
    key = {"idempotency-key": "once"}
    first = client.post("/v1/tasks", json=body | {name: future.isoformat()}, headers=key)
    assert first.status_code == 202
    clock.move(2 * SOON)
    again = client.post("/v1/tasks", json=body | {name: future.isoformat()}, headers=key)
    assert again.json()["id"] == first.json()["id"]  # it was accepted in time


def test_a_refused_time_takes_no_place_in_a_conversation(org: UUID, clock: Clock) -> None:
    with pytest.raises(InvalidInput, match="deadline has passed"):
        submit(org, concurrency_key="k", deadline=clock.now() - SOON)
    first = submit(org, concurrency_key="k")
    assert [due.id for due in dispatch()] == [first.id]


def test_a_key_that_has_expired_already_is_not_made(client: TestClient, clock: Clock) -> None:
    def make(expires_at: datetime) -> Any:
        return client.post("/v1/keys", json={"name": "robot", "expires_at": expires_at.isoformat()})

    refused = make(clock.now() - SOON)
    assert (refused.status_code, "expires_at has passed" in refused.text) == (422, True)
    assert make(clock.now() + SOON).status_code == 201


def test_a_schedule_whose_end_has_passed_is_refused(org: UUID, clock: Clock) -> None:
    work = {"agent": "support-assistant", "input": {"message": "hello"}}
    for times in ({"kind": "event", "event": "x"}, {"kind": "interval", "every": 60}):
        fields = ScheduleFields.model_validate(
            {"name": "x", "times": times, "task": work, "ends_at": clock.now() - SOON}
        )
        with db.transaction(org) as connection, pytest.raises(InvalidInput):
            schedules.put_schedule(connection, org, "ended", fields, owner_of(org), None)
