"""The API over HTTP: what it accepts, and how it refuses."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.app import make_app
from core import db
from core.ids import new_id
from core.settings import Settings
from domain.billing import pricing
from domain.billing import service as billing
from domain.billing.schemas import Tokens
from tests.support.factories import make_key, make_organisation, submit
from tests.support.servers import SECRET_KEY


@pytest.fixture(scope="module")
def anonymous(config: Settings) -> Iterator[TestClient]:
    """A client without a key. Faults of ours come back as answers, as they do in production."""
    with TestClient(make_app(), client=("api", 1), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(anonymous: TestClient, org: UUID) -> Iterator[TestClient]:
    """A client with the key of the test's organisation."""
    anonymous.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
    yield anonymous
    del anonymous.headers["authorization"]


def body(message: str = "hello", **more: Any) -> dict[str, Any]:
    return {"agent": "support-assistant", "input": {"message": message}} | more


def assert_problem(answer: Any, status: int, said: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["type"].startswith("urn:rota:problem:")
    assert said in document["detail"], document["detail"]


def test_a_task_is_accepted_with_its_address(client: TestClient) -> None:
    answer = client.post("/v1/tasks", json=body(priority="high"))
    assert answer.status_code == 202
    task = answer.json()
    assert (task["status"], task["priority"], task["attempts"]) == ("queued", "high", 0)
    assert client.get(answer.headers["location"]).json()["id"] == task["id"]


@pytest.mark.parametrize("field", ["run_after", "deadline", "expires_at"])
@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00"])
def test_a_moment_that_is_none_in_utc_is_refused(client: TestClient, field: str, moment: str) -> None:
    assert_problem(client.post("/v1/tasks", json=body(**{field: moment})), 422, "years 1 to 9999")
    assert client.get("/v1/tasks").json()["tasks"] == []


def test_the_same_idempotency_key_gives_the_same_task_or_a_conflict(client: TestClient) -> None:
    headers = {"idempotency-key": "abc"}
    first = client.post("/v1/tasks", json=body(), headers=headers).json()
    assert client.post("/v1/tasks", json=body(), headers=headers).json()["id"] == first["id"]
    assert_problem(client.post("/v1/tasks", json=body("other"), headers=headers), 409, "different task")


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 422, ""),
        (b"{", 400, "JSON"),
        (b"[1, 2]", 422, ""),
        (b'"text"', 422, ""),
        (b"\xff\xfe", 400, ""),
        (json.dumps(body("a\x00b")).encode(), 422, "NUL"),
        (b'{"agent": "support-assistant", "input": {"message": "\\ud800"}}', 422, "surrogate"),
        (json.dumps(body("   ")).encode(), 422, "blank"),
        (json.dumps(body(colour="red")).encode(), 422, "colour"),
        (json.dumps(body(priority="urgent")).encode(), 422, "priority"),
        (json.dumps(body(run_after="2026-01-01T00:00:00")).encode(), 422, "run_after"),
        (json.dumps(body(deadline="99999-01-01T00:00:00Z")).encode(), 422, "deadline"),
        (json.dumps({"agent": "support-assistant"}).encode(), 422, "input"),
        (json.dumps(body() | {"agent": "nobody"}).encode(), 404, "support-assistant"),
        (json.dumps(body() | {"agent": "a\x00"}).encode(), 422, "NUL"),
        (json.dumps(body() | {"input": {"message": "x", "context": {"a": "\x00"}}}).encode(), 422, "NUL"),
        (
            b'{"agent":"support-assistant","input":{"message":"x","context":{"a":' + b"[" * 60 + b"]" * 60 + b"}}}",
            422,
            "deep",
        ),
        (b"[" * 100_000 + b"]" * 100_000, 400, ""),
        (b'{"agent":"support-assistant","input":{"message":"x","context":{"a":NaN}}}', 422, "NaN"),
        (json.dumps(body("x" * 2_000_000)).encode(), 413, "larger"),
    ],
)
def test_bad_bodies_are_refused_with_a_problem_and_nothing_is_stored(
    client: TestClient, org: UUID, content: bytes, status: int, said: str
) -> None:
    answer = client.post("/v1/tasks", content=content, headers={"content-type": "application/json"})
    assert_problem(answer, status, said)
    with db.transaction(org) as connection:
        assert connection.execute(text("SELECT count(*) FROM tasks")).scalar_one() == 0


@pytest.mark.parametrize("key", [None, "", "Bearer", "Bearer x", "Bearer rota_1_2", "Basic abc", "Bearer \x7f"])
def test_without_a_good_key_nothing_is_told(anonymous: TestClient, key: str | None) -> None:
    headers = {} if key is None else {"authorization": key}
    for path in ("/v1/tasks", "/v1/agents", "/v1/usage", "/health/detailed"):
        answer = anonymous.get(path, headers=headers)
        assert_problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_revoked_and_an_expired_key_are_refused(anonymous: TestClient, org: UUID) -> None:
    for change in ("revoked_at = rota_now()", "expires_at = rota_now() - interval '1 s'"):
        key = make_key(org, SECRET_KEY)
        with db.system_transaction() as connection:
            connection.execute(text(f"UPDATE api_keys SET {change} WHERE org_id = :org"), {"org": org})  # noqa: S608
        assert_problem(anonymous.get("/v1/tasks", headers={"authorization": f"Bearer {key}"}), 401)


def test_another_organisations_things_do_not_exist(client: TestClient) -> None:
    other = make_organisation(f"other-{new_id().hex[-8:]}")
    theirs = submit(other, "secret").id
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry")):
        assert_problem(client.request(method, f"/v1/tasks/{theirs}{path}"), 404)
    assert client.get("/v1/tasks").json()["tasks"] == []
    assert client.get("/v1/tasks", params={"id": str(theirs)}).json()["tasks"] == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/tasks", 405),
        ("GET", "/v1/tasks/17", 422),
        ("GET", "/v1/tasks?limit=0", 422),
        ("GET", "/v1/tasks?cursor=xyz", 422),
        ("GET", "/v1/tasks?cursor=%00", 422),
        ("GET", "/v1/tasks?status=done", 422),
        ("GET", "/v1/tasks?agent=%00", 422),
        ("GET", "/v1/agents/Nobody!", 422),
        ("GET", "/v1/agents/nobody", 404),
        ("GET", "/v1/usage?month=2026-13", 422),
        ("GET", "/v1/usage?month=0000-01", 422),
        ("DELETE", "/v1/prices/none", 404),
        ("PUT", "/v1/prices/%00", 422),
    ],
)
def test_wrong_addresses_and_parameters_are_problems(client: TestClient, method: str, path: str, status: int) -> None:
    assert_problem(client.request(method, path), status)


def agent_fields(**more: Any) -> dict[str, Any]:
    return {
        "slug": "tester", "name": "Tester", "role": "Test", "description": "Tests", "system_prompt": "You test.",
        "model": "gpt-4o-mini", "tools": ["search_clients"],
    } | more  # fmt: skip


def test_an_agent_is_made_seen_changed_and_taken_away(client: TestClient) -> None:
    made = client.post("/v1/agents", json=agent_fields())
    assert made.status_code == 201
    assert client.get(made.headers["location"]).json()["model"] == "gpt-4o-mini"
    changed = client.patch("/v1/agents/tester", json={"limits": {"max_turns": 3}, "enabled": False}).json()
    assert (changed["limits"]["max_turns"], changed["enabled"], changed["name"]) == (3, False, "Tester")
    assert_problem(client.post("/v1/tasks", json=body() | {"agent": "tester"}), 409, "switched off")
    assert client.delete("/v1/agents/tester").status_code == 204
    assert_problem(client.get("/v1/agents/tester"), 404)
    assert client.post("/v1/agents", json=agent_fields()).status_code == 201  # the slug is free again


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"tools": ["fly"]}, 422, "fly"),
        ({"model": "no-such-model"}, 422, "PUT /v1/prices/no-such-model"),
        ({"fallback_model": "no-such-model"}, 422, "no-such-model"),
        ({"slug": "Not A Slug"}, 422, "slug"),
        ({"slug": "support-assistant"}, 409, "already"),
        ({"limits": {"max_turns": 0}}, 422, "max_turns"),
        ({"retry": {"base": "P999999999D"}}, 422, "base"),
        ({"system_prompt": "a\x00"}, 422, "NUL"),
        ({"mode": "wild"}, 422, "mode"),
    ],
)
def test_an_agent_that_cannot_work_is_refused(
    client: TestClient, change: dict[str, Any], status: int, said: str
) -> None:
    assert_problem(client.post("/v1/agents", json=agent_fields(**change)), status, said)


def test_nulls_in_a_change_are_refused_by_name(client: TestClient) -> None:
    for name in ("name", "limits", "retry", "tools", "enabled", "mode", "model"):
        assert_problem(client.patch("/v1/agents/lead-nurture", json={name: None}), 422, name)
    assert client.patch("/v1/agents/lead-nurture", json={"fallback_model": None}).status_code == 200


def test_seeding_adds_only_what_is_missing(client: TestClient) -> None:
    assert client.post("/v1/agents/seed").json() == {"added": []}
    client.delete("/v1/agents/lead-nurture")
    assert client.post("/v1/agents/seed").json() == {"added": ["lead-nurture"]}


def own_prices(client: TestClient) -> list[str]:
    return [price["model"] for price in client.get("/v1/prices").json() if price["source"] == "organisation"]


def test_the_prices_are_those_that_the_organisation_is_billed(client: TestClient, org: UUID) -> None:
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE organisations SET markup = 0.5 WHERE id = :org"), {"org": org})
    price = {"provider": "openai", "input_per_million": "0.5", "output_per_million": "1.5"}
    client.put("/v1/prices/my-model", json=price)
    client.post("/v1/agents", json=agent_fields(model="gpt-5-mini"))
    found = {one["model"]: one for one in client.get("/v1/prices", params={"model": "claude-sonnet-4-5"}).json()}
    mine = found["my-model"]
    assert [Decimal(mine[f"{part}_per_million"]) for part in ("input", "output", "cached")] == [
        Decimal("0.75"), Decimal("2.25"), Decimal("0.75"),
    ]  # fmt: skip
    assert (mine["source"], Decimal(mine["markup"])) == ("organisation", Decimal("0.5"))
    assert Decimal(mine["base"]["input_per_million"]) == Decimal("0.5")
    for model, provider in (("my-model", "openai"), ("gpt-5-mini", "openai"), ("claude-sonnet-4-5", "anthropic")):
        with db.transaction(org) as connection:
            own = billing.own_price(connection, model)
        tokens = Tokens(input=1_000, output=1_000)
        cost = pricing.cost_of(tokens, provider=provider, model=model, own=own, markup=Decimal("0.5"))
        told = Decimal(found[model]["input_per_million"]) + Decimal(found[model]["output_per_million"])
        assert told / 1_000 == cost.billed, model
    [long] = found["claude-sonnet-4-5"]["long_prompts"]
    cost = pricing.cost_of(
        Tokens(input=1_000_000), provider="anthropic", model="claude-sonnet-4-5", own=None, markup=Decimal("0.5")
    )
    assert Decimal(long["input_per_million"]) == cost.billed


def test_own_prices_are_set_listed_and_removed(client: TestClient) -> None:
    price = {"provider": "openai", "input_per_million": "0.5", "output_per_million": "1.5"}
    assert client.put("/v1/prices/vendor/my-model", json=price).status_code == 200
    assert own_prices(client) == ["vendor/my-model"]
    assert client.post("/v1/agents", json=agent_fields(model="vendor/my-model")).status_code == 201
    client.delete("/v1/agents/tester")
    assert client.delete("/v1/prices/vendor/my-model").status_code == 204
    assert_problem(client.put("/v1/prices/x", json=price | {"input_per_million": -1}), 422)


def test_usage_of_an_empty_month_is_zero(client: TestClient) -> None:
    report = client.get("/v1/usage", params={"month": "2020-02"}).json()
    assert (report["month"], report["total"]["model_calls"], report["by_model"]) == ("2020-02-01", 0, [])


def test_health_needs_no_key_and_details_do(client: TestClient, anonymous: TestClient) -> None:
    assert client.get("/health").json()["status"] == "ok"
    assert client.get("/health/ready").json() == {"status": "ok", "problems": []}
    details = client.get("/health/detailed").json()
    assert details["status"] == "degraded"
    assert any("rota dispatcher" in problem for problem in details["problems"])
    assert details["database_ms"] is not None
    assert details["redis_ms"] is not None


def test_metrics_count_requests_by_route_and_tasks_by_status(client: TestClient) -> None:
    task = client.post("/v1/tasks", json=body()).json()
    client.get(f"/v1/tasks/{task['id']}")
    exposed = client.get("/metrics").text
    assert 'route="/v1/tasks/{task_id}"' in exposed
    assert task["id"] not in exposed
    assert 'rota_tasks{priority="normal",status="queued"} 1.0' in exposed


def test_every_route_describes_its_problems_in_the_schema(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    for path, verbs in schema["paths"].items():
        for verb, operation in verbs.items():
            assert operation.get("description") or operation.get("summary"), (path, verb)
            if path.startswith("/v1"):
                assert "401" in operation["responses"], (path, verb)
                assert "application/problem+json" in operation["responses"]["401"]["content"]


def test_a_change_within_limits_and_retry_leaves_their_other_fields(client: TestClient) -> None:
    fields = agent_fields(limits={"max_cost": "0.05"}, retry={"max_attempts": 9})
    client.post("/v1/agents", json=fields)
    changed = client.patch("/v1/agents/tester", json={"limits": {"max_turns": 3}, "retry": {"base": 1}}).json()
    assert (changed["limits"]["max_cost"], changed["limits"]["max_turns"]) == ("0.05", 3)
    assert changed["retry"]["max_attempts"] == 9


def test_a_price_that_an_agent_lives_on_is_not_removed(client: TestClient) -> None:
    price = {"provider": "openai", "input_per_million": 1, "output_per_million": 1}
    client.put("/v1/prices/house-model", json=price)
    client.post("/v1/agents", json=agent_fields(model="house-model"))
    assert_problem(client.delete("/v1/prices/house-model"), 422, "house-model")
    assert own_prices(client) == ["house-model"]


def test_a_tool_is_given_once(client: TestClient) -> None:
    assert_problem(client.post("/v1/agents", json=agent_fields(tools=["book_class", "book_class"])), 422, "twice")


@pytest.mark.parametrize(("message", "length"), [("", "1 character"), ("x" * 200_001, "200000 characters")])
def test_a_message_of_a_wrong_length_is_told_so_in_characters(client: TestClient, message: str, length: str) -> None:
    wanted = {"agent": "support-assistant", "input": {"message": message}}
    assert_problem(client.post("/v1/tasks", json=wanted), 422, length)
