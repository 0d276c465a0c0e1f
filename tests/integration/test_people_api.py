"""Users, roles and keys over HTTP: nobody gets, or gives, more than they have; and how often somebody may ask."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import redis
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.app import make_app
from core import db
from core.errors import TooManyRequests
from core.ids import new_id
from core.settings import Settings
from domain.tenants.schemas import KeyOwner
from tests.support.factories import make_key, make_row, make_user, owner_of
from tests.support.servers import SECRET_KEY
from web import auth
from web.rate_limits import RateLimits
from web.rate_limits import limits as process_limits


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    # An address of its own: what strangers asked from the usual one in other tests is still counted, through Redis.
    address = ".".join(["10", *(str(part) for part in org.bytes[-3:])])
    with TestClient(make_app(), raise_server_exceptions=False, client=(address, 50_000)) as made:
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
        yield made


def become(client: TestClient, org: UUID, *roles: str, scopes: list[str] | None = None) -> UUID:
    """Let the client speak for a new user."""
    user = make_user(org, *roles)
    client.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY, user=user, scopes=scopes)}"
    return user


def test_a_user_is_added_changed_and_shut_out(client: TestClient, org: UUID) -> None:
    wanted = {"email": "maria@example.com", "name": "Maria", "grants": [{"role": "coordinator"}]}
    maria = client.post("/v1/users", json=wanted).json()
    assert client.post("/v1/users", json=wanted | {"email": "MARIA@example.com"}).status_code == 409
    key = client.post("/v1/keys", json={"name": "hers", "user": "maria@example.com"}).json()
    hers = {"authorization": f"Bearer {key['key']}"}
    me = client.get("/v1/me", headers=hers).json()
    assert (me["user"]["email"], me["key"]["name"]) == ("maria@example.com", "hers")
    assert client.get("/v1/tasks", headers=hers).status_code == 200
    assert client.patch(f"/v1/users/{maria['id']}", json={"is_disabled": True}).json()["disabled_at"]
    answer = client.get("/v1/tasks", headers=hers)
    assert (answer.status_code, "tasks:read" in answer.json()["detail"]) == (403, True)
    client.patch(f"/v1/users/{maria['id']}", json={"is_disabled": False, "grants": [{"role": "viewer"}]})
    assert client.get("/v1/tasks", headers=hers).status_code == 200
    assert client.post("/v1/pauses", headers=hers, json={"kind": "organisation"}).status_code == 403


@pytest.mark.parametrize(
    ("wanted", "status", "said"),
    [
        ({"email": "nobody", "name": "x"}, 422, "email"),
        ({"email": "a@example.com", "name": "x", "grants": [{"role": "emperor"}]}, 422, "no role"),
        (
            {"email": "a@example.com", "name": "x", "grants": [{"role": "staff", "location": "moon"}]},
            422,
            "no location",
        ),
        ({"email": "a@example.com\r\nBcc: b@example.com", "name": "x"}, 422, "email"),
    ],
)
def test_a_user_that_cannot_be_is_refused(client: TestClient, wanted: Any, status: int, said: str) -> None:
    answer = client.post("/v1/users", json=wanted)
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text


def test_nobody_gives_what_they_have_not(client: TestClient, org: UUID) -> None:
    client.put("/v1/roles/hr", json={"permissions": ["users:*", "keys:*", "tasks:read"]})
    become(client, org, "hr")
    refused = [
        client.post("/v1/users", json={"email": "x@example.com", "name": "x", "grants": [{"role": "owner"}]}),
        client.patch(f"/v1/users/{owner_of(org)}", json={"is_disabled": True}),
        client.put("/v1/roles/god", json={"permissions": ["*"]}),
        client.put("/v1/roles/pay", json={"permissions": ["payments:charge"]}),
        client.post("/v1/keys", json={"name": "x", "user": "owner@example.com"}),
        client.put("/v1/roles/ops", json={"permissions": ["installation:govern"]}),
    ]
    assert [answer.status_code for answer in refused] == [403] * 6, [answer.text for answer in refused]
    owners = [key["id"] for key in client.get("/v1/keys").json() if key["user"] == "owner@example.com"]
    assert client.post(f"/v1/keys/{owners[0]}/rotate").status_code == 403
    assert client.put("/v1/roles/readers", json={"permissions": ["tasks:read"]}).status_code == 200
    assert client.put("/v1/roles/owner", json={"permissions": ["tasks:read"]}).status_code == 409  # built in


def test_an_owner_who_is_shut_out_cannot_be_taken_over(client: TestClient, org: UUID) -> None:
    client.put("/v1/roles/hr", json={"permissions": ["users:*", "keys:*"]})
    other = client.post("/v1/users", json={"email": "b@example.com", "name": "B", "grants": [{"role": "owner"}]}).json()
    client.patch(f"/v1/users/{other['id']}", json={"is_disabled": True})
    become(client, org, "hr")
    assert (
        client.post("/v1/keys", json={"name": "x", "user": "b@example.com", "scopes": ["users:*"]}).status_code == 403
    )
    assert client.patch(f"/v1/users/{other['id']}", json={"is_disabled": False}).status_code == 403


def test_a_scoped_key_cannot_outgrow_its_scopes(client: TestClient, org: UUID) -> None:
    narrow = f"Bearer {make_key(org, SECRET_KEY, scopes=['keys:*', 'users:*', 'tasks:read'])}"
    client.headers["authorization"] = narrow
    assert client.get("/v1/tasks").status_code == 200
    assert client.get("/v1/wallet").status_code == 403
    assert client.post("/v1/keys", json={"name": "x"}).status_code == 403  # all scopes
    assert client.post("/v1/keys", json={"name": "x", "scopes": ["tasks:read"]}).status_code == 201
    assert client.post("/v1/keys", json={"name": "x", "scopes": ["installation:govern"]}).status_code == 403
    wanted = {"email": "x@example.com", "name": "x", "grants": [{"role": "owner"}]}
    assert client.post("/v1/users", json=wanted).status_code == 403


def test_the_last_owner_stays(client: TestClient, org: UUID) -> None:
    answer = client.patch(f"/v1/users/{owner_of(org)}", json={"grants": [{"role": "viewer"}]})
    assert (answer.status_code, "Nobody would be left" in answer.json()["detail"]) == (409, True)
    assert client.patch(f"/v1/users/{owner_of(org)}", json={"is_disabled": True}).status_code == 409


def test_a_key_is_rotated_with_an_overlap_and_revoked(client: TestClient, org: UUID) -> None:
    old = client.post("/v1/keys", json={"name": "robot", "scopes": ["tasks:*"]}).json()
    new = client.post(f"/v1/keys/{old['id']}/rotate", json={"overlap": 60}).json()
    assert client.post(f"/v1/keys/{old['id']}/rotate").status_code == 409
    for key in (old["key"], new["key"]):
        assert client.get("/v1/tasks", headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert new["scopes"] == ["tasks:*"]
    with db.transaction(org) as connection:  # the overlap is over
        connection.execute(text("UPDATE api_keys SET expires_at = rota_now() WHERE id = :id"), {"id": old["id"]})
    auth.forget_keys()
    assert client.get("/v1/tasks", headers={"authorization": f"Bearer {old['key']}"}).status_code == 401
    assert client.delete(f"/v1/keys/{new['id']}").json()["revoked_at"]
    assert client.get("/v1/tasks", headers={"authorization": f"Bearer {new['key']}"}).status_code == 401
    listed = {key["id"]: key for key in client.get("/v1/keys").json()}
    assert listed[old["id"]]["replaced_by"] == new["id"]
    assert listed[old["id"]]["last_used_at"]
    assert "key" not in listed[old["id"]]


def test_only_who_may_act_for_others_submits_for_them(client: TestClient, org: UUID) -> None:
    make_user(org, "viewer")
    wanted = {"agent": "support-assistant", "input": {"message": "hello"}, "for_user": "owner@example.com"}
    assert client.post("/v1/tasks", json=wanted).json()["user_id"] == str(owner_of(org))
    assert client.post("/v1/tasks", json=wanted | {"for_user": "nobody@example.com"}).status_code == 404
    me = become(client, org, "manager")
    assert client.post("/v1/tasks", json=wanted).status_code == 403
    del wanted["for_user"]
    assert client.post("/v1/tasks", json=wanted).json()["user_id"] == str(me)


def test_what_people_change_is_in_the_audit_log_and_stays_there(client: TestClient, org: UUID) -> None:
    client.patch("/v1/agents/support-assistant", json={"mode": "manual"})
    client.patch("/v1/agents/nobody", json={"mode": "manual"})  # refused: nothing was done
    line = client.get("/v1/audit").json()["lines"][0]
    assert (line["verb"], line["subject"], line["user"]) == ("change_agent", "support-assistant", "owner@example.com")
    for statement in ("UPDATE audit_log SET verb = 'x'", "DELETE FROM audit_log"):
        with pytest.raises(Exception, match="permission denied"), db.transaction(org) as connection:
            connection.execute(text(statement))


# ── how often ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Clock:
    """Time in the test's hands."""

    now = 1_000_000_020.0

    def __call__(self) -> float:
        return self.now


def limits(config: Settings, clock: Clock, **limit: int) -> RateLimits:
    return RateLimits(config.model_copy(update={f"requests_per_minute_{name}": n for name, n in limit.items()}), clock)


def caller(org: UUID | None = None) -> KeyOwner:
    return KeyOwner(key_id=new_id(), org_id=org or new_id(), user_id=new_id(), scopes=["*"])


def take(made: RateLimits, who: KeyOwner, times: int) -> int:
    """How many of so many requests are let in."""
    done = 0
    for _ in range(times):
        try:
            made.take_request(who)
        except TooManyRequests:
            continue
        done += 1
    return done


def test_a_key_and_an_organisation_have_limits_of_their_own(config: Settings) -> None:
    made = limits(config, Clock(), key=5, organisation=8)
    one, other = caller(), caller()
    sister = caller(one.org_id)
    assert (take(made, one, 9), take(made, sister, 9), take(made, other, 9)) == (5, 3, 5)


def test_a_limit_slides_and_says_when_to_come_again(config: Settings) -> None:
    clock = Clock()
    made, who = limits(config, clock, key=10, organisation=100), caller()
    assert take(made, who, 11) == 10
    with pytest.raises(TooManyRequests) as refused:
        made.take_request(who)
    wait = refused.value.details["retry_after"]
    clock.now += wait - 2
    assert take(made, who, 1) == 0
    clock.now += 2
    assert take(made, who, 1) == 1
    clock.now += 200
    assert take(made, who, 20) == 10


def test_processes_share_what_they_count_through_redis(config: Settings) -> None:
    clock, who = Clock(), caller()
    here, there = (limits(config, clock, key=10, organisation=100) for _ in range(2))
    with redis.Redis.from_url(config.redis_url) as shared:
        assert take(here, who, 6) == 6
        assert take(there, who, 3) == 3
        here.share(shared)
        there.share(shared)
        assert take(there, who, 9) == 1
        here.share(shared)  # nothing new of its own to tell, so nothing is asked
        assert take(here, who, 1) == 1
        here.share(shared)
        assert take(here, who, 9) == 0


def test_over_http_a_refusal_carries_retry_after_and_health_is_never_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_limits()._config, "requests_per_minute_key", 3)
    answers = [client.get("/v1/me") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert int(answers[-1].headers["retry-after"]) > 0
    assert answers[-1].json()["type"] == "urn:rota:problem:too-many-requests"
    assert client.get("/health").status_code == 200


def test_strangers_are_counted_by_address(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_limits()._config, "requests_per_minute_stranger", 2)
    wrong = {"authorization": f"Bearer rota_{new_id().hex}_{'0' * 64}"}
    assert [client.get("/v1/me", headers=wrong).status_code for _ in range(4)] == [401, 401, 429, 429]
    assert client.get("/v1/me").status_code == 200  # a good key from the same address
    refused = client.get("/openapi.json", headers={"authorization": ""})
    assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
    assert client.get("/health/ready").status_code == 200


def test_contacts_are_found_by_what_is_known_of_them_and_only_by_who_may_see_them(
    client: TestClient, org: UUID
) -> None:
    ana = make_row(org, "clients", name="Ana 100%_Torres", email="ana.t@example.com")
    leo = make_row(org, "leads", name="Leo Gil", email="leo@example.com")

    def found(search: str) -> list[str]:
        answer = client.get("/v1/contacts", params={"search": search})
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()]

    assert found("") == [str(ana), str(leo)]  # by name
    assert found("torres") == found("ANA.T@") == found(str(ana)[:20]) == found("100%_") == [str(ana)]
    assert found("gil") == [str(leo)]
    assert found("%") == [str(ana)]  # no pattern
    assert client.get("/v1/contacts", params={"search": "a\x00"}).status_code == 422
    for scopes, seen in (
        (["contacts:read"], []),
        (["contacts:read", "clients:read"], [str(ana)]),
        (["contacts:read", "leads:read"], [str(leo)]),
    ):
        become(client, org, "owner", scopes=scopes)
        assert found("") == seen
    become(client, org, "owner", scopes=["clients:read"])
    assert client.get("/v1/contacts").status_code == 403
