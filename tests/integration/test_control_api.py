"""Governing the queues over HTTP: pauses, limits, workers, many tasks at once, replay, doubt, failures."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.app import make_app
from cli.diagnosis import diagnose
from core import db
from core.ids import new_id
from core.settings import Settings
from domain.channels import service as channels
from domain.claims import service as claims
from domain.claims.schemas import ClaimOutcome, StepRecord
from domain.pacing import service as pacing
from domain.pacing.schemas import Account, Route
from domain.tasks.schemas import TaskError
from domain.tenants import service as tenants
from domain.tenants.permissions import GOVERN
from tests.support.clock import movable_clock
from tests.support.factories import (
    OWNER,
    claim,
    dispatch,
    look,
    make_key,
    make_organisation,
    owner_of,
    record_step,
    register_worker,
    submit,
)
from tests.support.outbox import deliver_all
from tests.support.servers import SECRET_KEY
from workers.duties.providers import watch_providers


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    with TestClient(make_app(), client=("control_api", 1), raise_server_exceptions=False) as made:
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
        yield made


@pytest.fixture
def operator(client: TestClient, org: UUID) -> str:
    """The organisation's slug; the client's key may govern the installation from now on."""
    with db.system_transaction() as connection:
        tenants.ensure_owner(connection, org, OWNER, is_operator=True)
    client.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY, scopes=['*', GOVERN])}"
    with db.transaction(org) as connection:
        return tenants.get_organisation(connection, org).slug


def fail(org: UUID, message: str, kind: str = "bad_request") -> UUID:
    held = claim(org, submit(org).id)
    assert held
    error = TaskError(kind=kind, message=message)
    with db.transaction(org) as connection:
        claims.end(connection, held, ClaimOutcome(status="failed", outcome="failed", counted=True, error=error))
    return held.id


def test_a_queue_is_paused_seen_and_resumed(client: TestClient) -> None:
    assert (
        client.post("/v1/pauses", json={"kind": "queue", "name": "low", "reason": "night"}).json()["reason"] == "night"
    )
    assert [(p["kind"], p["name"]) for p in client.get("/v1/pauses").json()] == [("queue", "low")]
    assert [queue["paused"] for queue in client.get("/v1/queues").json()] == [False, False, False, True]
    assert client.delete("/v1/pauses/queue/low").status_code == 204
    assert client.delete("/v1/pauses/queue/low").status_code == 404
    assert client.get("/v1/pauses").json() == []


def test_the_whole_organisation_is_paused_without_a_name(client: TestClient) -> None:
    assert client.post("/v1/pauses", json={"kind": "organisation"}).status_code == 200
    assert client.delete("/v1/pauses/organisation").status_code == 204


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"kind": "queue", "name": "urgent"}, 422),
        ({"kind": "agent", "name": "nobody"}, 404),
        ({"kind": "weather"}, 422),
        ({"kind": "queue", "name": "a\x00"}, 422),
    ],
)
def test_what_cannot_be_paused_is_said(client: TestClient, body: dict[str, Any], status: int) -> None:
    assert client.post("/v1/pauses", json=body).status_code == status


def test_limits_are_seen_by_all_and_set_by_operators_only(client: TestClient, operator: str) -> None:
    assert client.get("/v1/limits").json()["starts_per_minute"] == 100
    path = f"/v1/organisations/{operator}/limits"
    assert client.patch(path, json={"max_in_flight": 7}).json()["max_in_flight"] == 7
    changed = client.patch(path, json={"starts_per_minute": None, "weight": 3}).json()
    assert (changed["max_in_flight"], changed["starts_per_minute"], changed["weight"]) == (7, None, 3)
    assert client.patch("/v1/organisations/nobody/limits", json={"weight": 2}).status_code == 404
    assert client.patch(path, json={"weight": 0}).status_code == 422


def test_who_is_no_operator_governs_nothing(client: TestClient) -> None:
    register_worker()
    for method, path, body in (
        ("PATCH", "/v1/organisations/atlas/limits", {"weight": 2}),
        ("GET", "/v1/provider-limits", None),
        ("PUT", "/v1/provider-limits/openai", {"max_in_flight": 1}),
        ("PUT", "/v1/workers/w1/concurrency", {"concurrency": 1}),
    ):
        answer = client.request(method, path, json=body)
        assert (answer.status_code, "installation:govern" in answer.json()["detail"]) == (403, True), path


def test_an_operator_limits_providers_and_scales_workers(client: TestClient, operator: str) -> None:
    register_worker()
    (limit,) = client.put("/v1/provider-limits/openai", json={"model": "gpt-4o", "max_in_flight": 5}).json()
    assert (limit["model"], limit["max_in_flight"], limit["in_flight"]) == ("gpt-4o", 5, 0)
    assert client.put("/v1/provider-limits/nobody", json={"max_in_flight": 5}).status_code == 422
    assert client.put("/v1/workers/w1/concurrency", json={"concurrency": 50}).json()["following"] == 1
    assert client.get("/v1/workers").json()[0]["wanted_concurrency"] == 50
    assert client.put("/v1/workers/w1/concurrency", json={"concurrency": 0}).status_code == 422
    assert client.put("/v1/workers/nobody/concurrency", json={"concurrency": 5}).status_code == 404
    assert client.delete("/v1/workers/w1/concurrency").status_code == 204
    assert client.delete("/v1/workers/w1/concurrency").status_code == 404
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE workers SET pool = 'prefork'"))
    assert client.put("/v1/workers/w1/concurrency", json={"concurrency": 5}).status_code == 409


def test_failures_are_grouped_by_what_they_have_in_common(client: TestClient, org: UUID) -> None:
    for message in ("order 17 of 'Ana' is gone", "order 4711 of 'Ben' is gone", "the shop is closed"):
        fail(org, message)
    groups = client.get("/v1/failures").json()
    assert [group["tasks"] for group in groups] == [2, 1]
    assert groups[0]["kind"] == "bad_request"
    assert "is gone" in groups[0]["message"]
    found = client.get("/v1/tasks", params={"fingerprint": groups[0]["fingerprint"]}).json()["tasks"]
    assert len(found) == 2
    assert client.get("/v1/tasks", params={"error_kind": "timeout"}).json()["tasks"] == []


def test_many_are_previewed_then_retried(client: TestClient, org: UUID) -> None:
    failed = {str(fail(org, f"no {number}")) for number in range(3)}
    kept = fail(org, "something else", kind="quota")
    wanted = {"filter": {"error_kind": "bad_request", "status": ["failed"]}}
    preview = client.post("/v1/tasks/retry", json=wanted | {"preview": True}).json()
    assert (preview["matching"], preview["changed"], len(preview["sample"])) == (3, 0, 3)
    assert look(org, kept).status == "failed"
    done = client.post("/v1/tasks/retry", json=wanted | {"limit": 2}).json()
    assert (done["matching"], done["changed"]) == (3, 2)
    rest = client.post("/v1/tasks/retry", json=wanted | {"after": done["last"]}).json()
    assert (rest["matching"], rest["changed"]) == (1, 1)
    assert {task["id"] for task in client.get("/v1/tasks", params={"status": "queued"}).json()["tasks"]} == failed
    nothing = client.post("/v1/tasks/retry", json=wanted).json()
    assert (nothing["matching"], nothing["changed"], nothing["last"], nothing["sample"]) == (0, 0, None, [])


def later(hours: int) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


@pytest.mark.parametrize("is_bulk", [False, True], ids=["one", "many"])
@pytest.mark.parametrize("verb", ["retry", "replay"])
def test_a_time_to_come_is_kept_unless_it_is_to_run_now(
    client: TestClient, org: UUID, verb: str, is_bulk: bool
) -> None:
    register_worker()

    def again(task_id: str, **more: Any) -> dict[str, Any]:
        """The task as it stands after the verb: itself, or the new one that is linked to it."""
        if is_bulk:
            assert client.post(f"/v1/tasks/{verb}", json={"filter": {"ids": [task_id]}} | more).json()["changed"] == 1
        else:
            assert client.post(f"/v1/tasks/{task_id}/{verb}", json=more).status_code == 202
        found: list[dict[str, Any]] = client.get("/v1/tasks").json()["tasks"]
        return next(task for task in found if task["id" if verb == "retry" else "origin_id"] == task_id)

    times = {"run_after": later(24), "deadline": later(48), "expires_at": later(36)}
    body = {"agent": "support-assistant", "input": {"message": "hello"}} | times
    task = client.post("/v1/tasks", json=body).json()
    client.post(f"/v1/tasks/{task['id']}/cancel")
    kept = again(task["id"])
    assert [kept[name] for name in times] == [task[name] for name in times]
    assert dispatch() == []

    client.post(f"/v1/tasks/{kept['id']}/cancel")
    now = again(kept["id"], now=True)
    assert [now[name] for name in ("deadline", "expires_at")] == [task[name] for name in ("deadline", "expires_at")]
    assert [str(due.id) for due in dispatch()] == [now["id"]]


def test_what_has_passed_is_not_kept(client: TestClient, org: UUID) -> None:
    body = {"agent": "support-assistant", "input": {"message": "hello"}}
    body |= {"run_after": later(1), "deadline": later(3), "expires_at": later(2)}
    task = client.post("/v1/tasks", json=body).json()
    client.post(f"/v1/tasks/{task['id']}/cancel")
    with movable_clock() as clock:
        clock.move(timedelta(hours=4))
        for verb in ("retry", "replay"):
            again = client.post(f"/v1/tasks/{task['id']}/{verb}", json={}).json()
            assert (again["deadline"], again["expires_at"]) == (None, None)
            assert again["id"] in {str(due.id) for due in dispatch()}


def test_many_are_cancelled_the_running_ones_asked(client: TestClient, org: UUID) -> None:
    queued, running = submit(org), submit(org)
    claim(org, running.id)
    outcome = client.post("/v1/tasks/cancel", json={"filter": {"agent": "support-assistant"}}).json()
    assert outcome["changed"] == 2
    assert look(org, queued.id).status == "cancelled"
    assert look(org, running.id).cancel_requested_at is not None
    again = client.post("/v1/tasks/cancel", json={"filter": {"agent": "support-assistant"}}).json()
    assert again["matching"] == 0  # who runs was asked already


@pytest.mark.parametrize("empty", [{"agent": ""}, {"fingerprint": ""}, {"error_kind": ""}, {"ids": []}, {"status": []}])
def test_an_empty_value_does_not_mean_every_task(client: TestClient, org: UUID, empty: dict[str, Any]) -> None:
    task = submit(org)
    assert client.post("/v1/tasks/cancel", json={"filter": empty}).status_code == 422
    assert client.post("/v1/tasks/cancel", json={"filter": empty | {"priority": ["normal"]}}).status_code == 422
    assert look(org, task.id).status == "queued"


@pytest.mark.parametrize("query", ["concurrency_key=", "concurrency_key=" + 201 * "x", "agent=", "fingerprint=%00"])
def test_a_filter_that_makes_no_sense_is_a_problem(client: TestClient, query: str) -> None:
    assert client.get(f"/v1/tasks?{query}").status_code == 422


@pytest.mark.parametrize("verb", ["cancel", "retry", "replay"])
def test_an_empty_filter_is_refused(client: TestClient, verb: str) -> None:
    answer = client.post(f"/v1/tasks/{verb}", json={"filter": {}})
    assert (answer.status_code, "every task" in answer.json()["detail"]) == (422, True)
    assert client.post(f"/v1/tasks/{verb}", json={"filter": {"colour": "red"}}).status_code == 422


def test_a_replay_is_a_new_task_linked_to_the_old(client: TestClient, org: UUID) -> None:
    old = fail(org, "no")
    answer = client.post(f"/v1/tasks/{old}/replay", json={"input": {"message": "better"}, "priority": "high"})
    assert answer.status_code == 202
    new = answer.json()
    assert (new["origin_id"], new["input"]["message"], new["priority"]) == (str(old), "better", "high")
    assert look(org, old).status == "failed"
    assert client.post(f"/v1/tasks/{new_id()}/replay", json={}).status_code == 404
    assert client.post(f"/v1/tasks/{old}/replay", json={"agent": "nobody"}).status_code == 404
    key = {"idempotency-key": "again"}
    twice = [client.post(f"/v1/tasks/{old}/replay", json={}, headers=key).json()["id"] for _ in range(2)]
    assert twice[0] == twice[1]


def test_many_are_replayed(client: TestClient, org: UUID) -> None:
    old = {fail(org, "no"), fail(org, "no")}
    outcome = client.post("/v1/tasks/replay", json={"filter": {"status": ["failed"]}, "priority": "low"}).json()
    assert outcome["changed"] == 2
    assert {UUID(task["origin_id"]) for task in outcome["sample"]} == old
    assert {task["priority"] for task in outcome["sample"]} == {"low"}
    wanted = {"filter": {"status": ["failed"]}}
    for _ in range(2):  # with a key, repeating the request replays nothing twice
        assert client.post("/v1/tasks/replay", json=wanted, headers={"idempotency-key": "k"}).json()["changed"] == 2
    assert len(client.get("/v1/tasks", params={"status": "queued"}).json()["tasks"]) == 4


def test_a_step_in_doubt_is_seen_and_settled(client: TestClient, org: UUID) -> None:
    held = claim(org, submit(org).id)
    assert held
    record = StepRecord(seq=2, stage="act", name="pay", status="begun", input={"to": "Ana"}, output={"call_id": "c"},
                        duration_ms=1)  # fmt: skip
    with db.transaction(org) as connection:
        record_step(connection, held, record)
    with db.system_transaction() as connection:
        claims.reap_orphaned(connection, timedelta(0))
    (task,) = client.get("/v1/tasks", params={"waiting_for": "outcome"}).json()["tasks"]
    assert "a person must say" in client.get(f"/v1/tasks/{task['id']}/why").json()["why"]
    path = f"/v1/tasks/{task['id']}/steps/2/outcome"
    assert client.post(path, json={"outcome": "perhaps"}).status_code == 422
    assert client.post(path, json={"outcome": "happened", "note": "receipt 7"}).json()["status"] == "queued"
    assert client.post(path, json={"outcome": "happened"}).status_code == 409
    step = next(step for step in client.get(f"/v1/tasks/{task['id']}").json()["steps"] if step["seq"] == 2)
    assert (step["status"], step["output"]["settled"]["note"]) == ("done", "receipt 7")


def test_why_answers_for_ones_own_tasks_only(client: TestClient, org: UUID) -> None:
    mine = submit(org)
    assert client.get(f"/v1/tasks/{mine.id}/why").json()["status"] == "queued"
    theirs = submit(make_organisation("whys"))
    assert client.get(f"/v1/tasks/{theirs.id}/why").status_code == 404


def test_another_organisations_tasks_are_out_of_reach_of_every_verb(client: TestClient) -> None:
    other = make_organisation("bulk")
    theirs = submit(other)
    everything = {"filter": {"ids": [str(theirs.id)]}}
    for verb in ("cancel", "retry", "replay"):
        assert client.post(f"/v1/tasks/{verb}", json=everything).json()["matching"] == 0
    assert client.post(f"/v1/tasks/{theirs.id}/replay", json={}).status_code == 404
    assert client.post(f"/v1/tasks/{theirs.id}/steps/2/outcome", json={"outcome": "happened"}).status_code == 404
    assert look(other, theirs.id).status == "queued"


def test_statistics_tell_how_long_tasks_wait_and_run(client: TestClient, org: UUID) -> None:
    held = claim(org, submit(org, priority="high").id)
    assert held
    done = ClaimOutcome(status="succeeded", outcome="succeeded", counted=True, result={"answer": "x"})
    with db.transaction(org) as connection:
        claims.end(connection, held, done)
    submit(org, priority="high", concurrency_key="k")
    high = next(queue for queue in client.get("/v1/queues").json() if queue["priority"] == "high")
    assert (high["queued"], high["parked"]) == (1, 1)
    assert high["ended_per_minute"] == pytest.approx(1 / 15)
    assert 0 <= high["wait_p50"] <= high["wait_p95"] < 30
    assert 0 <= high["run_p50"] < 30


# ── providers that need a person ─────────────────────────────────────────────────────────────────────────────────────

CARD = "Your card was declined: account acct-7"


def raise_alert() -> None:
    with db.system_transaction() as connection:
        pacing.raise_alert(connection, Account("openai", "a-digest"), "quota", CARD)


def test_health_says_which_provider_is_down_or_needs_a_person(client: TestClient) -> None:
    raise_alert()
    with db.system_transaction() as connection:
        pacing.failed(connection, Route("anthropic", "their-model", "a-digest"), timedelta(0), asked=None)
    details = client.get("/health/detailed").json()
    said = " ".join(details["problems"])
    assert details["status"] == "degraded"
    assert "openai has no quota left (since" in said
    assert "Add credit" in said
    assert "anthropic is down or cannot be reached" in said
    assert not any(word in client.get("/health/detailed").text for word in ("acct-7", "their-model", "a-digest"))


def test_operators_see_the_paces_of_all_models(client: TestClient, operator: str) -> None:
    with db.system_transaction() as connection:
        pacing.refused(
            connection, Route("openai", "m", "k"), timedelta(0), number=None, asked=timedelta(seconds=30), limits=None
        )
    (pace,) = client.get("/health/detailed").json()["paces"]
    assert (pace["provider"], pace["model"], pace["cause"], pace["rate"]) == ("openai", "m", "limit", 1)
    (limit,) = client.get("/v1/provider-limits").json()
    assert (limit["held_because"], limit["calls_per_minute"], limit["max_in_flight"]) == ("limit", 60, None)


def test_operators_are_told_once_of_what_only_a_person_can_mend(org: UUID, operator: str) -> None:
    for _ in range(2):
        raise_alert()
        watch_providers()
        deliver_all(org)
    with db.transaction(org) as connection:
        (told,) = channels.notifications(connection, owner_of(org))
    assert (told.kind, told.title) == ("provider.quota", "openai has no quota left")
    assert CARD in told.body


def test_the_doctor_names_what_only_a_person_can_mend(org: UUID) -> None:
    raise_alert()
    findings = [finding for finding in diagnose(timedelta(seconds=5)) if "openai" in finding.what]
    assert [(finding.is_good, "no quota left" in finding.what) for finding in findings] == [(False, True)]
    assert "Add credit" in findings[0].cure
