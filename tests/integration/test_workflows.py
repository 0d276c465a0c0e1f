"""Workflows over HTTP: kept, started as a whole or not at all, and run one task after the other."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.app import make_app
from core import db
from core.settings import Settings
from domain.claims import service as claims
from domain.claims.schemas import ClaimOutcome
from tests.support.factories import change_agent, claim, dispatch, look, make_key, make_organisation, register_worker
from tests.support.servers import SECRET_KEY

GREET = {"agent": "support-assistant", "message": "Say hello to {{client.name}}"}
SELL = {"agent": "lead-nurture", "message": "Offer {{plan}}"}


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    with TestClient(make_app(), client=("workflows", 1), raise_server_exceptions=False) as made:
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
        yield made


def put(client: TestClient, *steps: dict[str, str], slug: str = "welcome", name: str = "Welcome") -> dict[str, Any]:
    answer = client.put(f"/v1/workflows/{slug}", json={"name": name, "steps": list(steps)})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def start(client: TestClient, status: int = 202, /, **variables: Any) -> dict[str, Any]:
    answer = client.post("/v1/workflows/welcome/runs", json={"variables": variables})
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def stored(org: UUID, table: str) -> int:
    with db.transaction(org) as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608


def test_a_workflow_is_added_changed_listed_by_slug_and_removed(client: TestClient) -> None:
    added = put(client, GREET, SELL)
    assert added["steps"] == [GREET, SELL]
    put(client, SELL, slug="another")
    changed = put(client, SELL, name="Renamed")
    assert (changed["name"], changed["steps"]) == ("Renamed", [SELL])
    assert changed["changed_at"] > added["changed_at"]
    assert client.get("/v1/workflows/welcome").json() == changed
    assert [one["slug"] for one in client.get("/v1/workflows").json()] == ["another", "welcome"]
    assert client.delete("/v1/workflows/welcome").status_code == 204
    assert client.delete("/v1/workflows/welcome").status_code == 404
    missing = client.get("/v1/workflows/welcome")
    assert (missing.status_code, missing.json()["detail"]) == (
        404, "There is no workflow called 'welcome'. There are: another.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "W", "steps": []}, 422),
        ({"name": "", "steps": [GREET]}, 422),
        ({"name": "W", "steps": [GREET] * 51}, 422),
        ({"name": "W", "steps": [GREET | {"message": " \n"}]}, 422),
        ({"name": "W", "steps": [GREET | {"message": "a\u0000b"}]}, 422),
        ({"name": "W", "steps": [GREET | {"agent": "Support Assistant"}]}, 422),
        ({"name": "W", "steps": [GREET | {"priority": "high"}]}, 422),
        ({"name": "W", "steps": [GREET, GREET | {"agent": "nobody"}]}, 404),
    ],
    ids=["no step", "no name", "51 steps", "blank", "NUL", "bad slug", "unknown field", "unknown agent"],
)
def test_a_workflow_that_cannot_run_is_refused_and_the_one_before_stays(
    client: TestClient, body: dict[str, Any], status: int
) -> None:
    before = put(client, GREET)
    assert client.put("/v1/workflows/welcome", json=body).status_code == status
    assert client.get("/v1/workflows/welcome").json() == before


def test_each_task_of_a_run_starts_when_the_one_before_has_ended(client: TestClient, org: UUID) -> None:
    register_worker()
    put(client, GREET, SELL, GREET)
    run = start(client, client={"name": "Zoë"}, plan=12)
    assert run["variables"] == {"client": {"name": "Zoë"}, "plan": 12}
    ids = [UUID(one) for one in run["tasks"]]
    assert [look(org, one).input["message"] for one in ids] == ["Say hello to Zoë", "Offer 12", "Say hello to Zoë"]
    assert [look(org, one).agent for one in ids] == ["support-assistant", "lead-nurture", "support-assistant"]
    assert {str(look(org, one).workflow_run) for one in ids} == {run["id"]}
    for task_id in ids:
        assert [due.id for due in dispatch()] == [task_id]
        held = claim(org, task_id)
        assert held is not None
        with db.transaction(org) as connection:  # each but the last ends badly, and the next one starts all the same
            status: Any = "succeeded" if task_id == ids[-1] else "failed"
            claims.end(connection, held, ClaimOutcome(status=status, outcome=status, counted=True))
    assert dispatch() == []


def test_two_runs_of_one_workflow_do_not_wait_for_each_other(client: TestClient, org: UUID) -> None:
    register_worker()
    put(client, GREET, GREET)
    runs = [start(client, client={"name": name}) for name in ("Ana", "Ben")]
    assert {str(due.id) for due in dispatch()} == {run["tasks"][0] for run in runs}


def test_a_change_of_a_workflow_leaves_the_runs_before_as_they_were(client: TestClient, org: UUID) -> None:
    put(client, GREET)
    run = start(client, client={"name": "Ana"})
    put(client, SELL, SELL)
    assert client.get(f"/v1/runs/{run['id']}").json() == run
    assert look(org, UUID(run["tasks"][0])).agent == "support-assistant"
    second = start(client, plan="Gold")
    assert [one["id"] for one in client.get("/v1/workflows/welcome/runs").json()] == [second["id"], run["id"]]
    client.delete("/v1/workflows/welcome")
    assert client.get(f"/v1/runs/{run['id']}").json() == run
    assert client.get("/v1/workflows/welcome/runs").status_code == 404


@pytest.mark.parametrize(
    ("variables", "status", "said"),
    [
        ({"client": {"name": "Ana"}}, 422, "Nothing is given for plan."),
        ({"client": "Ana", "plan": "Gold"}, 422, "Nothing is given for client.name."),
        ({"client": {"name": "Ana"}, "plan": "x" * 100_001}, 422, "100000 are the most"),
    ],
)
def test_a_run_that_cannot_be_started_whole_submits_no_task(
    client: TestClient, org: UUID, variables: dict[str, Any], status: int, said: str
) -> None:
    put(client, GREET, SELL)
    assert said in start(client, status, **variables)["detail"]
    assert (stored(org, "tasks"), stored(org, "workflow_runs")) == (0, 0)


def test_an_agent_that_is_switched_off_or_deleted_keeps_the_whole_run_from_starting(
    client: TestClient, org: UUID
) -> None:
    put(client, GREET, SELL)
    change_agent(org, "lead-nurture", enabled=False)
    assert "switched off" in start(client, 409, client={"name": "Ana"}, plan="Gold")["detail"]
    client.delete("/v1/agents/lead-nurture")
    assert "'lead-nurture'" in start(client, 404, client={"name": "Ana"}, plan="Gold")["detail"]
    assert (stored(org, "tasks"), stored(org, "workflow_runs")) == (0, 0)


def test_a_value_is_text_and_never_a_placeholder_again(client: TestClient, org: UUID) -> None:
    put(client, SELL)
    run = start(client, plan="{{client.name}}", client={"name": "secret"})
    assert look(org, UUID(run["tasks"][0])).input["message"] == "Offer {{client.name}}"


def test_two_organisations_may_call_their_workflows_the_same(client: TestClient, org: UUID) -> None:
    put(client, GREET)
    run = start(client, client={"name": "Ana"})
    other = make_organisation("elsewhere")
    client.headers["authorization"] = f"Bearer {make_key(other, SECRET_KEY)}"
    assert client.get("/v1/workflows/welcome").json()["detail"].endswith("There are: none yet.")
    put(client, SELL, name="Theirs")
    assert client.get("/v1/workflows/welcome/runs").json() == []
    assert client.get(f"/v1/runs/{run['id']}").status_code == 404
    client.delete("/v1/workflows/welcome")
    client.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
    assert client.get("/v1/workflows/welcome").json()["name"] == "Welcome"


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (["workflows:read"], {"read"}),
        (["workflows:write"], {"write"}),
        (["workflows:run"], {"run"}),
        (["tasks:*"], set()),
    ],
)
def test_reading_writing_and_running_need_a_permission_each(
    client: TestClient, org: UUID, scopes: list[str], allowed: set[str]
) -> None:
    put(client, GREET)
    client.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY, scopes=scopes)}"
    answers = {
        "read": client.get("/v1/workflows/welcome"),
        "write": client.put("/v1/workflows/welcome", json={"name": "W", "steps": [SELL]}),
        "run": client.post("/v1/workflows/welcome/runs", json={"variables": {"client": {"name": "A"}, "plan": "B"}}),
    }
    assert {name for name, answer in answers.items() if answer.status_code != 403} == allowed
    assert stored(org, "tasks") == ("run" in allowed)
