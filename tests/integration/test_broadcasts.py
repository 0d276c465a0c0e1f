"""Broadcasts: operators tell every organisation something, at once and for those that come later."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from api.app import make_app
from core import db
from core.ids import new_id
from core.settings import Settings
from domain.channels import posting
from domain.channels import service as channels
from domain.channels.schemas import NewWebhook
from domain.events import service as events
from domain.events.schemas import BEGINNING, Event, Wanted
from domain.tenants import service as tenants
from domain.tenants.permissions import GOVERN
from tests.support.clock import movable_clock
from tests.support.factories import OWNER, make_key, make_location, make_organisation, make_user
from tests.support.servers import SECRET_KEY, serving
from tests.support.streams import stream


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    """Speaks for an operator."""
    with db.system_transaction() as connection:
        tenants.ensure_owner(connection, org, OWNER, is_operator=True)
    key = make_key(org, SECRET_KEY, scopes=["*", GOVERN])
    with TestClient(make_app(), headers={"authorization": f"Bearer {key}"}) as made:
        yield made
        for one in made.get("/v1/announcements").json():
            made.delete(f"/v1/broadcasts/{one['id']}")


@pytest.fixture
def other(config: Settings) -> UUID:
    return make_organisation(f"other-{new_id().hex[-12:]}")


def told(org: UUID) -> list[Event]:
    with db.transaction(org) as connection:
        found, _ = events.page(connection, Wanted(org), BEGINNING, 10_000)
    return [event for event in found if event.kind.startswith("system.")]


def send(client: TestClient, text: str = "Maintenance tonight.", **more: Any) -> Any:
    answer = client.post("/v1/broadcasts", json={"text": text} | more)
    assert answer.status_code == 201, answer.text
    return answer.json()


def headers_of(org: UUID) -> dict[str, str]:
    return {"authorization": f"Bearer {make_key(org, SECRET_KEY)}"}


def listed(client: TestClient, key: str) -> list[str]:
    answer = client.get("/v1/announcements", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    return [one["text"] for one in answer.json()]


def test_every_organisation_hears_of_it_and_sees_it_in_the_list(client: TestClient, org: UUID, other: UUID) -> None:
    made = send(client, level="critical")
    for one in (org, other):
        (event,) = told(one)
        assert event.kind == "system.announced"
        assert event.told == {
            "announcement_id": made["id"], "text": "Maintenance tonight.", "level": "critical", "until": None,
        }  # fmt: skip
        assert listed(client, make_key(one, SECRET_KEY)) == ["Maintenance tonight."]


def test_an_organisation_that_is_created_later_sees_what_is_current(client: TestClient) -> None:
    send(client)
    later = make_organisation(f"later-{new_id().hex[-12:]}")
    assert told(later) == []
    assert listed(client, make_key(later, SECRET_KEY)) == ["Maintenance tonight."]


def test_every_user_sees_it_whatever_the_role_and_the_location(client: TestClient, other: UUID) -> None:
    make_location(other, "north")
    send(client)
    for user in (make_user(other, "staff", at="north"), make_user(other, "viewer")):
        assert listed(client, make_key(other, SECRET_KEY, user=user, scopes=["email:send"])) != []


def test_a_stream_of_one_location_hears_it_too(client: TestClient, other: UUID) -> None:
    make_location(other, "north")
    key = make_key(other, SECRET_KEY, user=make_user(other, "coordinator", at="north"))
    with serving(make_app()) as url, stream(f"{url}/v1/events", key, type="system.*") as heard:
        heard.until("ready")
        send(client, "Now.")
        (message,) = heard.until("system.announced")
        assert message.data["text"] == "Now."


def test_webhooks_are_posted_it(client: TestClient, other: UUID) -> None:
    with db.transaction(other) as connection:
        channels.add_webhook(connection, other, NewWebhook(url="https://hooks.example.com/"))
    send(client, "For programs too.")
    posting.post_events()
    (message,) = client.get("/v1/messages", headers=headers_of(other)).json()["messages"]
    assert '"type":"system.announced"' in message["body"]


def test_what_is_withdrawn_is_listed_no_more_and_told_once(client: TestClient, other: UUID) -> None:
    made = send(client)
    for _ in range(2):
        assert client.delete(f"/v1/broadcasts/{made['id']}").status_code == 204
    assert listed(client, make_key(other, SECRET_KEY)) == []
    assert [event.kind for event in told(other)] == ["system.announced", "system.withdrawn"]
    assert told(other)[-1].told == {"announcement_id": made["id"]}
    (kept,) = [one for one in client.get("/v1/broadcasts").json()["broadcasts"] if one["id"] == made["id"]]
    assert kept["withdrawn_at"] is not None
    assert client.delete(f"/v1/broadcasts/{new_id()}").status_code == 404


def test_what_holds_until_a_time_is_listed_until_then(client: TestClient, other: UUID) -> None:
    send(client, until=(datetime.now(UTC) + timedelta(hours=2)).isoformat())
    key = make_key(other, SECRET_KEY)
    assert len(listed(client, key)) == 1
    with movable_clock() as clock:
        clock.move(timedelta(hours=3))
        assert listed(client, key) == []
    past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    assert client.post("/v1/broadcasts", json={"text": "x", "until": past}).status_code == 422


def test_only_operators_broadcast_and_what_they_do_is_in_the_audit_log(client: TestClient, other: UUID) -> None:
    made = send(client)
    headers = headers_of(other)
    assert client.post("/v1/broadcasts", json={"text": "x"}, headers=headers).status_code == 403
    assert client.get("/v1/broadcasts", headers=headers).status_code == 403
    assert client.delete(f"/v1/broadcasts/{made['id']}", headers=headers).status_code == 403
    line = client.get("/v1/audit").json()["lines"][0]
    assert (line["verb"], line["details"]["text"]) == ("send_broadcast", "Maintenance tonight.")


@pytest.mark.parametrize("body", [{"text": " "}, {"text": "x", "level": "loud"}, {"text": "x" * 2_001}, {}])
def test_what_is_no_message_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    assert client.post("/v1/broadcasts", json=body).status_code == 422
