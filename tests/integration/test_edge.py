"""Redirects, methods, kinds of bodies, names and proxies, over HTTP."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.testclient import TestClient
from starlette.routing import compile_path

from api.app import make_app
from api.edge import UPLOADS, body_limit
from core import db
from core.errors import InvalidInput
from core.settings import Settings, settings
from domain.tenants import service as tenants
from embedded.organisation import set_up_organisation
from tests.support.factories import make_key, make_row
from tests.support.servers import SECRET_KEY, api_command, configured


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    with TestClient(make_app(), client=("edge", 1), raise_server_exceptions=False, follow_redirects=False) as made:
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
        made.headers["accept"] = "application/json"  # streams would not end
        yield made


@pytest.fixture
def guarded(config: Settings, org: UUID) -> Iterator[TestClient]:
    """A client of a server behind a proxy, with names of its own."""
    with (
        configured(allowed_hosts='["rota.example.com"]', trusted_proxies='["10.0.0.0/8"]'),
        TestClient(make_app(), base_url="http://rota.example.com", client=("10.0.0.1", 1)) as made,
    ):
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
        yield made


def addresses(client: TestClient) -> dict[str, set[str]]:
    """Every address of the API and the methods that some route takes there, with something in each place."""
    app: Any = client.app
    patterns = [
        (str(context.path_format), compile_path(str(context.path))[0], context.original_route.methods or set())
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
    ]
    found = {}
    for path in {re.sub(r"{[^}]+}", "x", path) for path, _, _ in patterns} - {"/"}:  # it only leads elsewhere
        found[path] = {method for _, pattern, methods in patterns if pattern.match(path) for method in methods}
    assert len(found) > 90
    return found


# ── a slash too many ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example/x?", "rota@evil.example"])
def test_a_slash_too_many_leads_to_the_same_server_whatever_host_was_named(
    client: TestClient, method: str, host: str
) -> None:
    answer = client.request(method, "/v1/tasks/?limit=5&agent=a%2Fb", headers={"host": host})
    assert (answer.status_code, answer.headers["location"]) == (307, "/v1/tasks?limit=5&agent=a%2Fb")
    assert "evil" not in answer.text + str(answer.headers)


def test_no_answer_to_any_address_names_the_host_of_the_request(client: TestClient) -> None:
    for path, methods in addresses(client).items():
        for asked in (path, f"{path}/", f"//{path}/"):
            for method in (*methods, "OPTIONS"):
                answer = client.request(method, asked, headers={"host": "evil.example"})
                assert "evil" not in str(answer.headers), (method, asked)
                assert not answer.headers.get("location", "").startswith("//")


def test_where_there_is_nothing_without_the_slash_either_it_is_not_found(client: TestClient) -> None:
    assert [client.get(path).status_code for path in ("/v1/nothing/", "/nothing//", "/v1/tasks%2F")] == [404] * 3


# ── methods ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_address_says_which_methods_it_takes(client: TestClient) -> None:
    every = {"GET", "POST", "PUT", "PATCH", "DELETE"}
    for path, methods in addresses(client).items():
        wanted = methods | ({"HEAD"} if "GET" in methods else set())
        for method in every - wanted:
            answer = client.request(method, path)
            assert answer.status_code == 405, (method, path)
            assert sorted(answer.headers["allow"].split(", ")) == sorted(wanted), (method, path)


def test_head_is_answered_as_get_without_the_body(client: TestClient) -> None:
    for path, methods in addresses(client).items():
        if "GET" in methods and path not in {"/metrics", "/health/detailed"}:
            got, head = client.get(path), client.head(path)
            assert (head.status_code, head.content) == (got.status_code, b""), path
            assert head.headers["content-type"] == got.headers["content-type"]
            assert head.headers["content-length"] == got.headers["content-length"], path
    exposed = client.get("/metrics").text
    assert 'rota_http_requests_total{method="HEAD",route="/v1/tasks",status="200"}' in exposed


# ── kinds of bodies ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415), ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415), ({"content-type": "application/xml"}, 415),
        ({"content-type": ""}, 415), ({"content-type": "application/jsonp"}, 415), ({"content-type": "json"}, 415),
        ({}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 202), ({"content-type": "Application/JSON"}, 202),
        ({"content-type": "application/vnd.rota+json"}, 202),
        ({"content-type": "application/json", "content-encoding": "identity"}, 202),
    ],
)  # fmt: skip
def test_a_body_is_json_and_says_so(client: TestClient, headers: dict[str, str], status: int) -> None:
    body = b'{"agent": "support-assistant", "input": {"message": "hello"}}'
    answer = client.post("/v1/tasks", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    if status == 415:
        assert answer.headers["content-type"] == "application/problem+json"
        assert "accept" in answer.headers or "accept-encoding" in answer.headers


def test_every_address_that_takes_a_body_refuses_another_kind(client: TestClient) -> None:
    for path, methods in addresses(client).items():
        for method in methods & {"POST", "PUT", "PATCH"} if path != UPLOADS else ():
            answer = client.request(method, path, content=iter([b"a=1"]), headers={"content-type": "text/csv"})
            assert answer.status_code == 415, (method, path)
    assert client.post("/v1/agents/seed").status_code == 200  # without a body there is nothing to refuse


# ── names and proxies ────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_may_send_how_much(client: TestClient) -> None:
    limit = body_limit(settings())
    usual, with_files = 1_000_000, 1_000_000 + 20_000_000 * 4 // 3

    def most(path: str, key: str = "") -> int:
        headers = [(b"authorization", f"Bearer {key}".encode())]
        return limit({"type": "http", "path": path, "headers": headers})

    mine = client.headers["authorization"].removeprefix("Bearer ")
    assert [most(path, mine) for path in ("/v1/tasks", UPLOADS, "/openai/v1/chat/completions")] == [
        usual, 10_000_000, with_files,
    ]  # fmt: skip
    assert most("/openai/v1/responses") == most("/openai/v1/responses", mine[:-1]) == usual


def test_under_another_name_nothing_but_health_is_answered(guarded: TestClient) -> None:
    assert guarded.get("/v1/me").status_code == 200
    for path in ("/v1/me", "/docs", "/openapi.json", "/metrics", "/nowhere"):
        answer = guarded.get(path, headers={"host": "evil.example"})
        assert (answer.status_code, answer.headers["content-type"]) == (421, "application/problem+json")
    assert guarded.get("/health", headers={"host": "10.1.2.3:8080"}).status_code == 200


def asked_until_refused(client: TestClient, address: str | None) -> int:
    """How often one may ask without a key until the address's limit is reached."""
    forwarded = {"authorization": ""} | ({"x-forwarded-for": address} if address else {})
    for number in range(1_000):
        if client.get("/v1/me", headers=forwarded).status_code == 429:
            return number
    raise AssertionError("never refused")


def test_behind_a_named_proxy_each_caller_has_a_limit_of_its_own(guarded: TestClient, org: UUID) -> None:
    one, other = (f"203.0.{org.bytes[-2]}.{org.bytes[-1]}", f"198.51.{org.bytes[-2]}.{org.bytes[-1]}")
    assert asked_until_refused(guarded, f"1.2.3.4, {one}") > 250
    assert asked_until_refused(guarded, f"5.6.7.8, {one}") == 0
    assert asked_until_refused(guarded, other) > 250


def test_nobody_else_says_who_is_calling(config: Settings, org: UUID) -> None:
    peer = f"203.0.{org.bytes[-1]}.{org.bytes[-2]}"
    with TestClient(make_app(), client=(peer, 1)) as client:
        assert asked_until_refused(client, "1.1.1.1") > 250
        assert asked_until_refused(client, "1.1.1.2") == 0


@pytest.fixture
def api_process(config: Settings, tmp_path: Path) -> Iterator[str]:
    """The address of an API as `rota api` serves it, where an address may ask five times without a key."""
    with api_command(tmp_path / "log", requests_per_minute_stranger="5") as url:
        yield url


def test_the_command_serves_with_these_limits(api_process: str) -> None:
    with httpx2.Client(base_url=api_process, trust_env=False) as client:
        answers = [client.get("/docs", headers={"x-forwarded-for": f"8.8.8.{number}"}) for number in range(7)]
        assert answers[-1].status_code == 429  # whatever a process of this machine says it was asked by
    with httpx2.Client(base_url=api_process, trust_env=False) as client:
        assert client.get("/health", headers={"x-large": "a" * 40_000}).status_code == 431


# ── time zones ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("zone", ["localtime", "posixrules", "Factory", "right/Europe/Madrid", "posix/UTC"])
def test_a_zone_that_is_none_of_ianas_is_refused_wherever_one_is_taken(
    client: TestClient, org: UUID, zone: str
) -> None:
    contact = make_row(org, "clients")
    schedule = {"name": "x", "times": {"kind": "cron", "cron": "0 8 * * *", "timezone": zone},
                "task": {"agent": "support-assistant", "input": {"message": "x"}}}  # fmt: skip
    assert client.put("/v1/schedules/x", json=schedule).status_code == 422
    assert client.patch(f"/v1/contacts/{contact}/preferences", json={"time_zone": zone}).status_code == 422
    checked = client.post("/v1/schedules/validate", json={"cron": "0 8 * * *", "timezone": zone}).json()
    assert (checked["valid"], checked["errors"][0]["field"]) == (False, "timezone")
    with db.system_transaction() as connection, pytest.raises(InvalidInput):
        tenants.ensure_organisation(connection, slug="new", name="New", time_zone=zone)
    with pytest.raises(InvalidInput):
        set_up_organisation(slug="new", name="New", time_zone=zone, with_demonstration=False)
