"""Before the database is asked: made-up keys are counted first, and every route wants a scope of its own."""

import contextlib
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.app import make_app
from core import db, engines
from core.ids import new_id
from core.settings import Settings
from tests.support.factories import make_key, make_user
from tests.support.servers import SECRET_KEY
from web.auth import ANYTHING, Needs, forget_keys
from web.visitors import NeedsVisitor, TakesPublishableKey

OPEN = {"/", "/health", "/health/ready", "/metrics", "/docs", "/docs/oauth2-redirect", "/blobs/{token}"}
# Whom the key speaks for, and what operators tell everyone: whoever holds a key may know that.
ANY_KEY = {"/v1/me", "/v1/announcements"}
_OF_VISITORS = (NeedsVisitor, TakesPublishableKey)


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    """A client at an address of its own: other tests' requests must not count for it, nor its for theirs."""
    address = f"address of {org}"
    with TestClient(make_app(), raise_server_exceptions=False, client=(address, 50_000)) as made:
        yield made


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@contextlib.contextmanager
def keys_cannot_be_looked_up() -> Iterator[None]:
    """Whoever looks a key up waits until the statement's time is over, and answers 503."""
    with engines.dedicated_connection(engines.OWNER) as connection, connection.transaction():
        connection.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        yield


def use_up_strangers_limit(client: TestClient) -> None:
    while client.get("/v1/tasks", headers=bearer("nonsense")).status_code != 429:
        pass


@pytest.mark.parametrize("secret", ["0" * 64, "f" * 63, "a"])
def test_above_the_limit_a_made_up_key_is_refused_without_a_look_up(client: TestClient, secret: str) -> None:
    use_up_strangers_limit(client)
    with keys_cannot_be_looked_up():
        answer = client.get("/v1/tasks", headers=bearer(f"rota_{new_id().hex}_{secret}"))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0


def test_a_good_key_is_served_although_its_address_used_the_limit_up(client: TestClient, org: UUID) -> None:
    key = make_key(org, SECRET_KEY)
    use_up_strangers_limit(client)
    assert client.get("/v1/tasks", headers=bearer(key)).status_code == 200


def test_a_revoked_key_counts_as_anybodys_after_its_first_look_up(client: TestClient, org: UUID) -> None:
    key = make_key(org, SECRET_KEY)
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE api_keys SET revoked_at = rota_now() WHERE org_id = :org"), {"org": org})
    use_up_strangers_limit(client)
    assert client.get("/v1/tasks", headers=bearer(key)).status_code == 429
    with keys_cannot_be_looked_up():
        assert client.get("/v1/tasks", headers=bearer(key)).status_code == 429


def test_a_good_key_uses_up_nothing_of_its_addresss_limit(client: TestClient, org: UUID) -> None:
    key = make_key(org, SECRET_KEY)
    for _ in range(320):  # more than an address may ask without a key
        forget_keys()
        assert client.get("/v1/me", headers=bearer(key)).status_code == 200
    assert client.get("/v1/me", headers=bearer("nonsense")).status_code == 401


# ── scopes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def routes(client: TestClient) -> list[tuple[str, str, APIRoute]]:
    app: Any = client.app
    found = [
        (method, str(context.path_format), context.original_route)
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
        for method in sorted(context.original_route.methods or ())
    ]
    assert len(found) > 130
    return found


def test_every_route_names_a_permission(client: TestClient) -> None:
    for method, path, route in routes(client):
        needed = [one.call.permission for one in route.dependant.dependencies if isinstance(one.call, Needs)]
        of_visitors = [one for one in route.dependant.dependencies if isinstance(one.call, _OF_VISITORS)]
        if path in OPEN:
            assert needed == [], path
        elif of_visitors:
            assert (len(of_visitors), needed, path.startswith("/v1/visitor")) == (1, [], True), path
        elif path in ANY_KEY:
            assert needed == [ANYTHING]
        else:
            assert len(needed) == 1, f"{method} {path}"
            assert needed[0] != ANYTHING, f"{method} {path} is open to a key without any scope"


@pytest.mark.parametrize("scope", ["nothing:read", "clients:read"])
def test_a_key_without_the_scope_gets_nowhere(client: TestClient, org: UUID, scope: str) -> None:
    headers = bearer(make_key(org, SECRET_KEY, scopes=[scope]))
    values = {"seq": "1", "month": "2026-01", "kind": "agent", "item": "call"}
    for method, path, route in routes(client):
        if path in OPEN | ANY_KEY:
            continue
        filled = path
        for name in route.param_convertors:
            filled = filled.replace(f"{{{name}}}", values.get(name, str(new_id()) if name.endswith("_id") else "x"))
        answer = client.request(method, filled, headers=headers)
        assert answer.status_code == 403, f"{method} {filled}: {answer.status_code} {answer.text}"


def test_of_ones_own_notifications_the_scope_is_enough(client: TestClient, org: UUID) -> None:
    viewer = make_user(org, "viewer")
    reads = bearer(make_key(org, SECRET_KEY, user=viewer, scopes=["notifications:read"]))
    marks = bearer(make_key(org, SECRET_KEY, user=viewer, scopes=["notifications:write"]))
    assert client.get("/v1/notifications", headers=reads).json() == []
    assert client.post("/v1/notifications/read", headers=reads).status_code == 403
    assert client.post("/v1/notifications/read", headers=marks).json() == {"marked": 0}
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE users SET disabled_at = rota_now() WHERE id = :id"), {"id": viewer})
    forget_keys()
    assert client.get("/v1/notifications", headers=reads).status_code == 403
