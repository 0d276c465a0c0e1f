"""Agents switched off or deleted, users shut out, keys revoked: what becomes of their tasks, as `why` tells."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from agents.llm.models import Models
from api.app import make_app
from core import db
from core.settings import Settings
from domain.claims import service as claims
from domain.claims.schemas import ClaimOutcome
from domain.dispatch import service as dispatching
from domain.schedules import service as schedules
from domain.schedules.schemas import ScheduleFields
from domain.schedules.sweep import sweep
from domain.tasks import service as tasks
from domain.tenants import service as tenants
from domain.tenants.permissions import Grant
from tests.support.clock import movable_clock
from tests.support.desk import Desk
from tests.support.factories import change_agent, claim, dispatch, look, make_key, make_user, register_worker, submit
from tests.support.models import Parrot, asking
from tests.support.outward import outside
from tests.support.servers import SECRET_KEY, serving, wait_until
from workers.duties import overdue

AGENT = "support-assistant"


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    register_worker()
    with TestClient(make_app(), client=("switched_off", 1), raise_server_exceptions=False) as made:
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
        yield made


@pytest.fixture
def maria(org: UUID) -> UUID:
    """A user for whom tasks are done."""
    return make_user(org, "manager")


def switch_agent(client: TestClient, *, is_on: bool) -> None:
    assert client.patch(f"/v1/agents/{AGENT}", json={"enabled": is_on}).status_code == 200


def let_in(client: TestClient, user: UUID, *, is_in: bool) -> None:
    assert client.patch(f"/v1/users/{user}", json={"is_disabled": not is_in}).status_code == 200


def why(client: TestClient, task_id: UUID) -> tuple[str | None, str]:
    answer = client.get(f"/v1/tasks/{task_id}/why").json()
    return answer["waiting_for"], answer["why"]


def published() -> set[UUID]:
    return {due.id for due in dispatch()}


def test_queued_tasks_of_an_agent_that_is_switched_off_wait_until_it_is_switched_on(
    client: TestClient, org: UUID
) -> None:
    with db.transaction(org) as connection:
        dispatching.pause(connection, org, "agent", AGENT, None)
    first, second = submit(org).id, submit(org, priority="critical").id
    switch_agent(client, is_on=False)
    with db.transaction(org) as connection:
        dispatching.resume(connection, org, "agent", AGENT)
    assert published() == set()
    for task_id in (first, second):
        assert why(client, task_id) == (
            "agent_off", f"The agent {AGENT} is switched off; its tasks start again when it is switched on.",
        )  # fmt: skip
    switch_agent(client, is_on=True)
    assert published() == {first, second}


def test_what_is_published_is_neither_claimed_nor_left_on_the_queue(client: TestClient, org: UUID) -> None:
    task_id = submit(org).id
    assert published() == {task_id}
    switch_agent(client, is_on=False)
    with db.transaction(org) as connection:
        assert claims.claim(connection, task_id, 0, "w1") is None
    assert published() == set()
    assert why(client, task_id)[0] == "agent_off"
    switch_agent(client, is_on=True)
    assert published() == {task_id}


@pytest.mark.parametrize("brake", ["agent", "user"])
def test_what_runs_stops_at_its_next_step_and_costs_no_attempt(client: TestClient, org: UUID, brake: str) -> None:
    outside.__init__()  # type: ignore[misc]  # the same object, as new
    bird = Parrot()
    bird.answers = [asking(("light_lamp", "{}"))]
    with db.transaction(org) as connection:
        tenants.put_role(connection, org, "lamplighter", ["lamp:light"], by=[Grant(("*",), None)])
    user = make_user(org, "lamplighter")
    switch: dict[str, Callable[[bool], None]] = {
        "agent": lambda is_on: switch_agent(client, is_on=is_on),
        "user": lambda is_on: let_in(client, user, is_in=is_on),
    }
    change_agent(org, AGENT, model="gpt-4o-mini", tools=["light_lamp"])
    with serving(bird.app()) as url:
        desk = Desk(Models(Settings(openai_base_url=f"{url}/v1")))

        def brake_in_the_middle(_: str) -> None:
            switch[brake](False)
            ((_task, interrupt),) = desk.presence.in_hand()
            wait_until(lambda: interrupt.reason, what="the worker hears of it")

        outside.then = brake_in_the_middle
        task = desk.run(org, submit(org, user=user).id)
        desk.close()
    outside.__init__()  # type: ignore[misc]
    assert (task.status, task.attempts, task.attempt_history[0].outcome) == ("queued", 0, "released")
    assert [step.name for step in task.steps if step.stage == "act"] == ["light_lamp"]  # the step itself was finished
    assert published() == set()
    switch[brake](True)
    assert published() == {task.id}


def test_what_waits_waits_on_and_is_held_back_when_it_is_woken(client: TestClient, org: UUID) -> None:
    held = claim(org, submit(org).id)
    assert held is not None
    with db.transaction(org) as connection:
        claims.end(connection, held, ClaimOutcome(status="waiting", outcome="waiting", waiting_for="approval"))
    switch_agent(client, is_on=False)
    assert why(client, held.id)[0] == "approval"
    with db.transaction(org) as connection:
        tasks.wake(connection, held.id, "approval")
    assert published() == set()
    assert why(client, held.id)[0] == "agent_off"


def test_a_deleted_agents_tasks_are_cancelled(client: TestClient, org: UUID) -> None:
    queued, running = submit(org).id, claim(org, submit(org).id)
    assert running is not None
    others = submit(org, agent="lead-nurture").id
    assert client.delete(f"/v1/agents/{AGENT}").status_code == 204
    assert look(org, queued).status == "cancelled"
    assert "Its agent was deleted." in why(client, queued)[1]
    assert look(org, running.id).cancel_requested_at is not None
    assert published() == {others}
    refused = client.post(f"/v1/tasks/{queued}/retry")
    assert (refused.status_code, "deleted" in refused.json()["detail"]) == (409, True)


def test_a_task_that_slipped_in_while_its_agent_was_deleted_is_cancelled_too(client: TestClient, org: UUID) -> None:
    task_id = submit(org).id
    with db.transaction(org) as connection:
        connection.execute(
            text("UPDATE agents SET enabled = false, deleted_at = rota_now() WHERE slug = :slug"), {"slug": AGENT}
        )
    assert published() == set()
    overdue.cancel_tasks_of_deleted()
    assert look(org, task_id).status == "cancelled"


def test_what_ended_is_not_retried_for_an_agent_or_a_user_that_is_off(
    client: TestClient, org: UUID, maria: UUID
) -> None:
    of_agent, of_user = submit(org).id, submit(org, user=maria, agent="lead-nurture").id
    for task_id in (of_agent, of_user):
        client.post(f"/v1/tasks/{task_id}/cancel")
    switch_agent(client, is_on=False)
    let_in(client, maria, is_in=False)
    for task_id, said in ((of_agent, "switched off"), (of_user, "shut out")):
        refused = client.post(f"/v1/tasks/{task_id}/retry")
        assert (refused.status_code, said in refused.json()["detail"]) == (409, True)
        many = client.post("/v1/tasks/retry", json={"filter": {"ids": [str(task_id)]}})
        assert many.json()["changed"] == 0


def test_a_shut_out_users_tasks_wait_until_they_are_let_in_again(client: TestClient, org: UUID, maria: UUID) -> None:
    queued, mine = submit(org, user=maria).id, submit(org).id
    on_a_queue = submit(org, user=maria, priority="high").id
    behind = submit(org, user=maria, concurrency_key="k").id
    assert on_a_queue in {due.id for due in dispatch(bounds={"normal": 0})}
    let_in(client, maria, is_in=False)
    with db.transaction(org) as connection:
        assert claims.claim(connection, on_a_queue, 0, "w1") is None
    assert published() == {mine}
    for task_id in (queued, on_a_queue, behind):
        word, sentence = why(client, task_id)
        assert word == "user"
        assert "shut out" in sentence
    let_in(client, maria, is_in=True)
    assert published() == {queued, on_a_queue, behind}


def test_nothing_new_is_accepted_for_a_user_who_is_shut_out_from_whatever_door(
    client: TestClient, org: UUID, maria: UUID
) -> None:
    email = client.get(f"/v1/users/{maria}").json()["email"]
    work = {"agent": AGENT, "input": {"message": "hello"}}
    fields = ScheduleFields.model_validate({"name": "x", "times": {"kind": "interval", "every": 60}, "task": work})
    with db.transaction(org) as connection:
        schedules.put_schedule(connection, org, "marias", fields, maria, None)
    let_in(client, maria, is_in=False)
    refused = client.post("/v1/tasks", json=work | {"for_user": email})
    assert (refused.status_code, "shut out" in refused.json()["detail"]) == (409, True)
    with movable_clock() as clock:
        clock.move(timedelta(seconds=70))
        sweep(org)
        (run,) = client.get("/v1/schedules/marias/runs").json()
        assert (run["status"], run["task_id"]) == ("skipped", None)
        assert "shut out" in run["reason"]


def test_a_revoked_key_opens_nothing_and_what_it_submitted_goes_on_for_its_user(
    client: TestClient, org: UUID, maria: UUID
) -> None:
    key = make_key(org, SECRET_KEY, user=maria)
    work = {"agent": AGENT, "input": {"message": "hello"}}
    task_id = client.post("/v1/tasks", json=work, headers={"authorization": f"Bearer {key}"}).json()["id"]
    (shown,) = [
        one for one in client.get("/v1/keys").json() if one["user"] != client.get("/v1/me").json()["user"]["email"]
    ]
    assert client.delete(f"/v1/keys/{shown['id']}").status_code == 200
    assert client.post("/v1/tasks", json=work, headers={"authorization": f"Bearer {key}"}).status_code == 401
    assert published() == {UUID(task_id)}
