"""Several endpoints at once: of the installation and of organisations, over the API, the command line and in tasks."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import text

from agents.llm.models import Models
from api.app import make_app
from core import db
from core.errors import InvalidInput
from core.ids import new_id
from core.settings import ROOT, ProviderSetting, Settings, settings
from core.vault import make_vault, vault
from domain.billing import service as billing
from domain.providers import service as providers
from domain.providers.routing import name_at
from domain.providers.schemas import ProviderFields
from domain.tenants import service as tenants
from domain.tenants.permissions import GOVERN
from tests.support.desk import Desk
from tests.support.factories import OWNER, change_agent, make_key, make_organisation, make_user, submit
from tests.support.models import Canned, Parrot, asking, saying
from tests.support.servers import SECRET_KEY, serving

KEY = "sk-of-their-own-7"


@pytest.fixture(scope="module")
def aviary() -> Iterator[list[tuple[Parrot, str]]]:
    birds = [Parrot(is_strict=True), Parrot(is_strict=True)]
    with serving(birds[0].app()) as first, serving(birds[1].app()) as second:
        yield [(birds[0], f"{first}/v1"), (birds[1], f"{second}/v1")]


@pytest.fixture
def birds(aviary: list[tuple[Parrot, str]]) -> list[tuple[Parrot, str]]:
    for bird, _ in aviary:
        bird.answers, bird.asked, bird.bodies, bird.headers = [], [], [], []
    return aviary


@pytest.fixture
def client(org: UUID) -> Iterator[TestClient]:
    with TestClient(make_app(), client=("providers_api", 1), raise_server_exceptions=False) as made:
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
        yield made


@pytest.fixture
def desk(org: UUID) -> Iterator[Desk]:
    """A worker whose settings name no provider that could answer."""
    made = Desk(Models(Settings(openai_api_key=SecretStr("sk-of-the-installation"), provider_headers={"x-ours": "1"})))
    yield made
    made.close()


@pytest.fixture
def house(birds: list[tuple[Parrot, str]], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Parrot, str]]:
    """An endpoint of the installation, called `house`, that serves `house-model` and `shared-model`."""
    bird, url = birds[0]
    entry = {"name": "house", "url": url, "key": "sk-house", "models": ["house-model", "shared-model"]}
    monkeypatch.setenv("ROTA_PROVIDERS", json.dumps([entry]))
    settings.cache_clear()
    yield bird, url
    monkeypatch.undo()
    settings.cache_clear()


def put(client: TestClient, name: str, url: str, *models: str, **more: Any) -> Any:
    return client.put(f"/v1/providers/{name}", json={"url": url, "models": list(models)} | more)


def uses(org: UUID, model: str, **changes: Any) -> None:
    change_agent(org, "support-assistant", **({"model": model, "fallback_model": None} | changes))


def endpoint_of(org: UUID, model: str) -> tuple[str, str] | None:
    """The endpoint that serves a model to an organisation, and what it calls the model."""
    with db.transaction(org) as connection:
        found = providers.endpoint(connection, model)
        assert billing.money_facts(connection, model).endpoint == found  # read in one statement before each call
    return None if found is None else (found.name, found.model)


def test_a_model_is_found_by_its_name_alone_else_after_its_endpoints(org: UUID) -> None:
    serves = {"b": ["x", "only-b", "a/x"], "a": ["x", "only-a", "deep/er"], "a-b": ["y"]}
    with db.transaction(org) as connection:
        for name, models in serves.items():
            fields = ProviderFields(url="http://127.0.0.1:9/v1", models=models)
            providers.put_provider(connection, org, name, fields)
    expected = {
        "x": ("a", "x"),  # of several that serve it, the first by name
        "b/x": ("b", "x"),
        "a/x": ("b", "a/x"),  # a whole name goes before the name of an endpoint
        "only-b": ("b", "only-b"),
        "a/only-b": None,
        "a/deep/er": ("a", "deep/er"),
        "a-b/y": ("a-b", "y"),
        "a/y": None,
        "X": None,
        "a/": None,
        "%": None,
    }
    assert {model: endpoint_of(org, model) for model in expected} == expected
    assert all(found is None or name_at(model, found[0], serves[found[0]]) == found[1]
               for model, found in expected.items())  # fmt: skip


def test_limits_can_name_an_endpoint_that_there_is_and_no_other(org: UUID) -> None:
    with db.transaction(org) as connection:
        slug = tenants.get_organisation(connection, org).slug
        fields = ProviderFields(url="http://127.0.0.1:9/v1", models=["m"])
        providers.put_provider(connection, org, "mine", fields)
    labels = {f"{slug}/mine": True, f"{slug}/other": False, "nobody/mine": False, "mine": False, f"{slug}/": False}
    with db.system_transaction() as connection:
        assert {label: providers.is_known(connection, label) for label in labels} == labels


# ── over the API ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_endpoint_is_set_listed_changed_and_removed(client: TestClient, birds: Any) -> None:
    url = birds[0][1]
    made = put(client, "mine", url + "/", "m1", "m2", key=KEY).json()
    assert {**made, "changed_at": None} == {
        "name": "mine", "source": "organisation", "url": url, "models": ["m1", "m2"], "has_key": True,
        "unpriced": ["m1", "m2"], "changed_at": None,
    }  # fmt: skip
    assert client.get("/v1/providers").json() == [made]
    assert put(client, "mine", url, "m3").json()["has_key"]  # the key stays where the URL does
    assert not put(client, "mine", url, "m3", forget_key=True).json()["has_key"]
    assert client.delete("/v1/providers/mine").status_code == 204
    assert client.delete("/v1/providers/mine").status_code == 404
    assert client.get("/v1/providers").json() == []


def test_a_key_is_encrypted_never_shown_and_noted_in_the_audit_log_without_it(
    client: TestClient, org: UUID, birds: Any
) -> None:
    put(client, "mine", birds[0][1], "m1", key=KEY)
    with db.transaction(org) as connection:
        stored = connection.execute(text("SELECT secret FROM providers")).scalar_one()
        assert KEY.encode() not in bytes(stored)
        assert vault().open(stored) == KEY
    line = client.get("/v1/audit").json()["lines"][0]
    assert (line["verb"], line["subject"], line["details"]["has_new_key"]) == ("put_provider", "mine", True)
    for path in ("/v1/providers", "/v1/audit"):
        assert KEY not in client.get(path).text


def test_keys_are_encrypted_anew_when_the_vaults_key_is_rotated(client: TestClient, org: UUID, birds: Any) -> None:
    put(client, "mine", birds[0][1], "m1", key=KEY)
    newer = make_vault(
        Settings(secret_key=SecretStr(SECRET_KEY), encryption_keys=[SecretStr("new"), SecretStr(SECRET_KEY)])
    )
    with db.system_transaction() as connection:
        assert providers.rotate_secrets(connection, newer) >= 1
        stored = connection.execute(text("SELECT secret FROM providers WHERE org_id = :org"), {"org": org}).scalar_one()
        assert make_vault(Settings(encryption_keys=[SecretStr("new")])).open(stored) == KEY
        connection.rollback()


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("mine", {"url": "http://192.168.7.7/v1"}, "public address"),
        ("mine", {"url": "http://169.254.169.254/v1"}, "public address"),
        ("mine", {"url": "http://[::1]/v1"}, "public address"),
        ("mine", {"url": "http://8.8.8.8/v1", "key": KEY}, "unencrypted"),
        ("mine", {"url": "ftp://8.8.8.8/v1"}, "url"),
        ("mine", {"url": "https://user:pw@8.8.8.8/v1"}, "url"),
        ("mine", {"url": "https://8.8.8.8/v1?key=1"}, "query"),
        ("mine", {"url": "https://no-such-host.invalid/v1"}, "does not resolve"),
        ("mine", {"key": "two\nlines"}, "one line"),
        ("mine", {"models": []}, "models"),
        ("mine", {"models": ["m", "m"]}, "twice"),
        ("mine", {"models": ["with space"]}, "models"),
        ("openai", {}, "provider of ours"),
        ("anthropic", {}, "provider of ours"),
        ("No", {}, "name"),
    ],
)
def test_what_cannot_be_used_is_refused_with_words(client: TestClient, name: str, body: Any, said: str) -> None:
    answer = client.put(f"/v1/providers/{name}", json={"url": "https://8.8.8.8/v1", "models": ["m"]} | body)
    assert answer.status_code == 422, answer.text
    assert said in answer.text
    assert client.get("/v1/providers").json() == []


def test_a_key_is_not_handed_to_another_url(client: TestClient, birds: Any) -> None:
    put(client, "mine", birds[0][1], "m1", key=KEY)
    answer = put(client, "mine", birds[1][1], "m1")
    assert (answer.status_code, "give it again" in answer.text) == (422, True)
    assert put(client, "mine", birds[1][1], "m1", key="another").status_code == 200


def test_it_takes_the_permission(client: TestClient, org: UUID, birds: Any) -> None:
    with_key = {"authorization": f"Bearer {make_key(org, SECRET_KEY, scopes=['providers:read'])}"}
    assert client.get("/v1/providers", headers=with_key).status_code == 200
    denied = client.put("/v1/providers/mine", json={"url": birds[0][1], "models": ["m"]}, headers=with_key)
    assert denied.status_code == 403
    manager = {"authorization": f"Bearer {make_key(org, SECRET_KEY, user=make_user(org, 'manager'))}"}
    assert client.get("/v1/providers", headers=manager).status_code == 200
    assert client.delete("/v1/providers/mine", headers=manager).status_code == 403


def test_an_agent_is_not_left_without_a_model(client: TestClient, org: UUID, birds: Any) -> None:
    url = birds[0][1]
    agent = {"slug": "a", "name": "A", "role": "r", "description": "d", "system_prompt": "p", "model": "m1"}
    assert client.post("/v1/agents", json=agent).status_code == 422
    put(client, "mine", url, "m1")
    assert client.post("/v1/agents", json=agent).status_code == 201
    for refused in (client.delete("/v1/providers/mine"), put(client, "mine", url, "m2")):
        assert (refused.status_code, "Agents use m1" in refused.text) == (422, True)
    assert client.get("/v1/providers").json()[0]["models"] == ["m1"]
    with db.transaction(org) as connection:  # an agent that was left so before stands in nobody's way
        connection.execute(text("UPDATE agents SET model = 'gone' WHERE slug = 'support-assistant'"))
    assert put(client, "mine", url, "m1").status_code == 200
    price = {"provider": "openai", "input_per_million": "1", "output_per_million": "1"}
    client.put("/v1/prices/m1", json=price)
    assert client.get("/v1/providers").json()[0]["unpriced"] == []
    assert client.delete("/v1/providers/mine").status_code == 204


# ── in tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_agents_of_one_organisation_use_several_endpoints_at_once(
    client: TestClient, org: UUID, desk: Desk, birds: Any
) -> None:
    (first, first_url), (second, second_url) = birds
    put(client, "one", first_url, "m1", "both", key=KEY)
    put(client, "two", second_url, "m2", "both")
    for model, bird, sent in (
        ("m1", first, "m1"),
        ("m2", second, "m2"),
        ("both", first, "both"),
        ("two/both", second, "both"),
    ):
        bird.answers = [asking(("search_clients", '{"query": "a"}')), saying(model)]
        uses(org, model)
        task = desk.run(org, submit(org).id)
        assert (task.status, task.result and task.result["answer"]) == ("succeeded", model), task.error
        assert bird.asked[-1]["model"] == sent
    assert first.headers[-1]["authorization"] == f"Bearer {KEY}"
    assert KEY not in str(second.headers)
    for headers in (*first.headers, *second.headers):  # nothing of the installation's goes to them
        assert "x-ours" not in headers
        assert "sk-of-the-installation" not in str(headers)


def test_a_call_of_an_unpriced_model_costs_nothing_and_is_marked_everywhere(
    client: TestClient, org: UUID, desk: Desk, birds: Any
) -> None:
    bird, url = birds[0]
    put(client, "mine", url, "m1")
    uses(org, "m1")
    bird.answers = [saying("ok")]
    task = desk.run(org, submit(org).id)
    assert (task.status, task.billed_cost, task.result["is_unpriced"]) == ("succeeded", 0, True)
    assert task.input_tokens == 10
    usage = client.get("/v1/usage").json()
    assert (usage["total"]["model_calls"], usage["total"]["unpriced_calls"]) == (1, 1)
    assert usage["by_model"][0]["unpriced_calls"] == 1
    with db.system_transaction() as connection:
        billing.total_usage(connection)
    assert client.get("/v1/usage").json()["total"] == usage["total"]
    month = usage["month"][:7]
    assert client.get(f"/v1/bills/{month}", params={"format": "csv"}).text.splitlines()[1].split(",")[-2] == "1"
    with db.transaction(org) as connection:
        row = connection.execute(text("SELECT provider, model, price, is_unpriced FROM usage")).one()
    assert (row.provider, row.model, row.price, row.is_unpriced) == ("mine", "m1", {"source": "unpriced"}, True)


def test_an_unknown_model_at_a_base_url_of_ones_own_is_accepted(
    org: UUID, client: TestClient, birds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bird, url = birds[0]
    agent = {"slug": "a", "name": "A", "role": "r", "description": "d", "system_prompt": "p", "model": "qwen3:8b"}
    assert client.post("/v1/agents", json=agent).status_code == 422
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    settings.cache_clear()
    assert client.post("/v1/agents", json=agent).status_code == 201
    assert client.post("/v1/agents", json=agent | {"slug": "b", "model": "claude-of-my-own"}).status_code == 422
    (listed,) = client.get("/v1/providers").json()
    assert (listed["name"], listed["source"], listed["unpriced"]) == ("openai", "installation", ["qwen3:8b"])
    assert "qwen3:8b" in listed["models"]
    assert "gpt-4o-mini" in listed["models"]
    desk = Desk(Models(settings()))
    bird.answers = [saying("ok")]
    task = desk.run(org, submit(org, agent="a").id)
    desk.close()
    monkeypatch.undo()
    settings.cache_clear()
    assert (task.status, task.billed_cost, task.result["is_unpriced"]) == ("succeeded", 0, True)


def test_the_installations_endpoints_serve_everybody_and_an_organisations_own_go_before(
    client: TestClient, org: UUID, birds: Any, house: tuple[Parrot, str]
) -> None:
    (_, _), (second, second_url) = birds
    shared, _ = house
    put(client, "mine", second_url, "shared-model")
    mine, installations = client.get("/v1/providers").json()
    assert (mine["name"], installations["name"], installations["source"]) == ("mine", "house", "installation")
    assert (installations["url"], installations["has_key"]) == (None, True)
    desk = Desk(Models(settings()))
    for model, bird in (("house-model", shared), ("shared-model", second), ("house/shared-model", shared)):
        bird.answers = [saying(model)]
        uses(org, model)
        task = desk.run(org, submit(org).id)
        assert (task.status, task.result and task.result["answer"]) == ("succeeded", model), task.error
    assert shared.headers[-1]["authorization"] == "Bearer sk-house"
    other = make_organisation(f"org-{new_id().hex[-12:]}")
    uses(other, "shared-model")
    shared.answers = [saying("theirs")]
    assert desk.run(other, submit(other).id).result["answer"] == "theirs"
    desk.close()


def test_an_endpoint_of_another_organisation_does_not_serve(client: TestClient, birds: Any, desk: Desk) -> None:
    put(client, "mine", birds[0][1], "m1", key=KEY)
    other = make_organisation(f"org-{new_id().hex[-12:]}")
    with pytest.raises(InvalidInput, match="No price is known"):
        uses(other, "m1")
    with db.transaction(other) as connection:
        connection.execute(text("UPDATE agents SET model = 'm1' WHERE slug = 'support-assistant'"))
    task = desk.run(other, submit(other).id)
    assert (task.status, task.error.kind) == ("failed", "misconfigured")
    assert birds[0][0].asked == []


def test_a_change_holds_for_the_next_task(client: TestClient, org: UUID, desk: Desk, birds: Any) -> None:
    (first, first_url), (second, second_url) = birds
    for bird, url in ((first, first_url), (second, second_url)):
        put(client, "mine", url, "m1", key=KEY)
        uses(org, "m1")
        bird.answers = [saying("ok")]
        assert desk.run(org, submit(org).id).status == "succeeded"
    assert (len(first.asked), len(second.asked)) == (1, 1)


def test_an_address_that_has_become_private_is_not_called(
    client: TestClient, org: UUID, birds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bird, url = birds[0]
    put(client, "mine", url, "m1", key=KEY)
    uses(org, "m1")
    guarded = Desk(Models(Settings(openai_api_key=SecretStr("k"), private_networks=[])))
    task = guarded.run(org, submit(org).id)
    guarded.close()
    assert task.status == "queued"
    assert "does not lead to a public address" in task.error.message
    assert bird.asked == []


def test_a_refused_key_says_where_it_is_set(client: TestClient, org: UUID, desk: Desk, birds: Any) -> None:
    bird, url = birds[0]
    put(client, "mine", url, "m1", key=KEY)
    uses(org, "m1")
    bird.answers = [Canned(401, {"error": {"message": "Invalid API key"}})]
    task = desk.run(org, submit(org).id)
    assert (task.status, task.error.kind) == ("failed", "authentication")
    assert "mine answered 401: Invalid API key" in task.error.message
    assert "rota providers set mine" in task.error.message


def test_a_rate_limit_holds_that_endpoint_of_that_organisation_alone(
    client: TestClient, org: UUID, desk: Desk, birds: Any
) -> None:
    bird, url = birds[0]
    put(client, "mine", url, "m1")
    uses(org, "m1")
    slug = client.get("/v1/me").json()["organisation"]["slug"]
    bird.answers = [Canned(429, {"error": {"message": "slow down"}}, {"retry-after": "30"})]
    assert desk.run(org, submit(org).id).error.kind == "rate_limited"
    with db.system_transaction() as connection:
        held = connection.execute(text("SELECT provider, model FROM provider_paces")).all()
        assert [tuple(row) for row in held] == [(f"{slug}/mine", "m1")]
    why = client.get(f"/v1/tasks/{submit(org).id}/why").json()
    assert f"{slug}/mine" in json.dumps(why)


def test_limits_can_be_set_for_an_endpoint(client: TestClient, org: UUID, birds: Any) -> None:
    put(client, "mine", birds[0][1], "m1")
    slug = client.get("/v1/me").json()["organisation"]["slug"]
    with db.system_transaction() as connection:
        tenants.ensure_owner(connection, org, OWNER, is_operator=True)
    client.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY, scopes=['*', GOVERN])}"
    limit = {"max_in_flight": 3}
    answer = client.put(f"/v1/provider-limits/{slug}/mine", json=limit)
    assert [row["provider"] for row in answer.json()] == [f"{slug}/mine"]
    assert client.put(f"/v1/provider-limits/{slug}/nobodys", json=limit).status_code == 422


# ── over the command line ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_line_sets_lists_and_removes(org: UUID, birds: Any) -> None:
    with serving(make_app()) as api:
        env = os.environ | {"ROTA_API_URL": api, "ROTA_API_KEY": str(make_key(org, SECRET_KEY)), "COLUMNS": "200"}

        def rota(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "cli.main", "providers", *arguments]
            return subprocess.run(command, cwd=ROOT, env=env | more, capture_output=True, text=True, check=False)

        assert "No endpoints besides the providers of the settings" in rota().stdout
        assert "give --url and --model" in rota("set", "mine").stderr
        made = rota("set", "mine", "--url", birds[0][1], "-m", "m1", "-m", "m2", "--json", ROTA_PROVIDER_KEY=KEY)
        assert json.loads(made.stdout)[0]["has_key"], made.stderr
        assert json.loads(rota("set", "mine", "-m", "m3", "--json").stdout)[0]["models"] == ["m3"]
        listed = rota().stdout
        assert "mine" in listed
        assert "set" in listed
        assert "billed at 0" in listed
        assert KEY not in listed + made.stdout
        assert rota("remove", "mine").returncode == 0
        assert rota("remove", "mine").returncode == 1


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "entries",
    [
        [{"name": "openai", "url": "http://x/v1", "models": ["m"]}],
        [{"name": "a", "url": "x/v1", "models": ["m"]}],
        [{"name": "a", "url": "http://x/v1", "models": []}],
        [{"name": "a", "url": "http://x/v1", "models": ["m"]}, {"name": "a", "url": "http://y/v1", "models": ["n"]}],
        [{"name": "a", "url": "http://x/v1", "models": ["m"], "secret": "x"}],
    ],
)
def test_settings_that_cannot_be_used_are_refused(entries: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="providers"):
        Settings(providers=entries)


def test_with_an_endpoint_answers_are_not_rehearsed() -> None:
    entry = ProviderSetting(name="a", url="http://x/v1/", models=["m"])
    assert entry.url == "http://x/v1"
    assert not Settings(providers=[entry], rehearsal_url="http://r").is_rehearsal
    assert Settings(rehearsal_url="http://r").is_rehearsal
