"""Products, quotes and carts over HTTP, as a shop reports them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from api.app import make_app
from core.ids import new_id
from core.settings import Settings
from tests.support.factories import NOW, make_key, make_location, make_organisation, make_row, make_user
from tests.support.servers import SECRET_KEY

KINDS = ("products", "quotes", "carts")


@pytest.fixture(scope="module")
def anonymous(config: Settings) -> Iterator[TestClient]:
    with TestClient(make_app(), client=("sales", 1), raise_server_exceptions=False) as made:
        yield made


@pytest.fixture
def client(anonymous: TestClient, org: UUID) -> Iterator[TestClient]:
    anonymous.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
    yield anonymous
    del anonymous.headers["authorization"]


@pytest.fixture
def contact(org: UUID) -> str:
    return str(make_row(org, "clients"))


def body(kind: str, contact: str, **more: Any) -> dict[str, Any]:
    usual: dict[str, dict[str, Any]] = {
        "products": {"name": "Mat", "category": "yoga", "price": "19.90"},
        "quotes": {"contact": contact, "title": "Family membership", "amount": "590.00"},
        "carts": {"contact": contact, "items": [{"name": "Mat", "quantity": 3, "price": "19.90"}]},
    }
    return usual[kind] | more


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_reported_twice_is_there_once_as_last_reported(client: TestClient, contact: str, kind: str) -> None:
    path = f"/v1/{kind}/{new_id()}"
    first = client.put(path, json=body(kind, contact))
    assert first.status_code == 200, first.text
    assert client.put(path, json=body(kind, contact, currency="GBP")).json()["currency"] == "GBP"
    [listed] = client.get(f"/v1/{kind}").json()
    assert listed == client.get(path).json()
    assert listed["currency"] == "GBP"


@pytest.mark.parametrize("kind", KINDS)
def test_pages_are_in_order_of_id_and_together_hold_everything(client: TestClient, contact: str, kind: str) -> None:
    ids = [str(new_id()) for _ in range(5)]
    for one in reversed(ids):
        assert client.put(f"/v1/{kind}/{one}", json=body(kind, contact)).is_success
    seen: list[str] = []
    for count in (2, 2, 1, 0):
        page = client.get(f"/v1/{kind}", params={"limit": 2} | ({"before": seen[-1]} if seen else {})).json()
        assert len(page) == count
        seen += [one["id"] for one in page]
    assert seen == sorted(ids, reverse=True)
    assert client.get(f"/v1/{kind}", params={"before": ids[0]}).json() == []


@pytest.mark.parametrize("kind", ["quotes", "carts"])
def test_a_list_of_one_contact_holds_nothing_of_others(client: TestClient, org: UUID, contact: str, kind: str) -> None:
    other = str(make_row(org, "leads"))
    mine = [str(new_id()) for _ in range(2)]
    for one in mine:
        client.put(f"/v1/{kind}/{one}", json=body(kind, contact))
    client.put(f"/v1/{kind}/{new_id()}", json=body(kind, other))
    params = {"contact": contact}
    assert [one["id"] for one in client.get(f"/v1/{kind}", params=params).json()] == mine[::-1]
    assert [one["id"] for one in client.get(f"/v1/{kind}", params=params | {"before": mine[1]}).json()] == mine[:1]


@pytest.mark.parametrize("kind", KINDS)
def test_an_id_is_each_organisations_own(client: TestClient, contact: str, kind: str) -> None:
    other = make_organisation(f"other-{new_id().hex[-8:]}")
    theirs = {"authorization": f"Bearer {make_key(other, SECRET_KEY)}"}
    path = f"/v1/{kind}/{new_id()}"
    client.put(path, json=body(kind, contact))
    before = client.get(path).json()
    assert client.get(path, headers=theirs).status_code == 404
    assert client.get(f"/v1/{kind}", headers=theirs).json() == []
    their_contact = str(make_row(other, "clients"))
    assert client.put(path, json=body(kind, their_contact, currency="USD"), headers=theirs).status_code == 200
    assert client.get(path).json() == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_may_only_read_writes_nothing(client: TestClient, org: UUID, contact: str, kind: str) -> None:
    reader = {"authorization": f"Bearer {make_key(org, SECRET_KEY, scopes=['sales:read'])}"}
    path = f"/v1/{kind}/{new_id()}"
    refused = client.put(path, json=body(kind, contact), headers=reader)
    assert (refused.status_code, "sales:write" in refused.json()["detail"]) == (403, True)
    assert client.get(path, headers=reader).status_code == 404
    assert client.get(f"/v1/{kind}", headers=reader).json() == []


@pytest.mark.parametrize("kind", ["quotes", "carts"])
def test_a_report_about_an_unknown_contact_is_refused(client: TestClient, kind: str) -> None:
    other = make_organisation(f"other-{new_id().hex[-8:]}")
    for stranger in (new_id(), make_row(other, "clients")):
        path = f"/v1/{kind}/{new_id()}"
        refused = client.put(path, json=body(kind, str(stranger)))
        assert (refused.status_code, str(stranger) in refused.json()["detail"]) == (404, True), refused.text
        assert client.get(path).status_code == 404


@pytest.mark.parametrize("kind", KINDS)
def test_sales_concern_the_whole_organisation_and_not_one_location(
    client: TestClient, org: UUID, contact: str, kind: str
) -> None:
    make_location(org, "north")
    key = make_key(org, SECRET_KEY, user=make_user(org, "manager", at="north"))
    local, path = {"authorization": f"Bearer {key}"}, f"/v1/{kind}/{new_id()}"
    for answer in (
        client.put(path, json=body(kind, contact), headers=local),
        client.get(path, headers=local),
        client.get(f"/v1/{kind}", headers=local),
    ):
        assert (answer.status_code, "everywhere" in answer.json()["detail"]) == (403, True), answer.text
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("products", {"price": "-0.01"}, "price"),
        ("products", {"price": "1.999"}, "price"),
        ("products", {"price": "NaN"}, "price"),
        ("products", {"price": "1000000.01"}, "price"),
        ("products", {"name": "  "}, "name"),
        ("products", {"name": "a\0b"}, "name"),
        ("products", {"currency": "euro"}, "currency"),
        ("products", {"colour": "red"}, "colour"),
        ("quotes", {"status": "sold"}, "status"),
        ("quotes", {"sent_at": "2026-11-02T10:00:00"}, "sent_at"),
        ("quotes", {"title": "x" * 201}, "title"),
        ("carts", {"items": []}, "items"),
        ("carts", {"items": [{"name": "Mat", "price": "1", "quantity": 0}]}, "quantity"),
        ("carts", {"amount": "1.00"}, "amount"),
        ("carts", {"items": [{"name": "Gold", "price": "1000000", "quantity": 10_000}]}, "out of range"),
    ],
)
def test_a_report_that_cannot_be_is_refused_by_its_field_and_not_kept(
    client: TestClient, contact: str, kind: str, changes: dict[str, Any], said: str
) -> None:
    path = f"/v1/{kind}/{new_id()}"
    refused = client.put(path, json=body(kind, contact, **changes))
    assert (refused.status_code, said in refused.json()["detail"]) == (422, True), refused.text
    assert client.get(path).status_code == 404


def test_a_cart_adds_up_exactly(client: TestClient, contact: str) -> None:
    items = [{"name": "Mat", "quantity": 3, "price": "19.90"}, {"name": "Tea", "price": "0.10"}]
    path = f"/v1/carts/{new_id()}"
    assert client.put(path, json=body("carts", contact, items=items)).json()["amount"] == "59.80"


@pytest.mark.parametrize(("kind", "end"), [("quotes", "accepted"), ("quotes", "withdrawn"), ("carts", "bought")])
def test_the_time_of_a_decision_is_that_of_its_first_report(
    client: TestClient, contact: str, kind: str, end: str
) -> None:
    path = f"/v1/{kind}/{new_id()}"
    assert client.put(path, json=body(kind, contact)).json()["decided_at"] is None
    decided = client.put(path, json=body(kind, contact, status=end)).json()["decided_at"]
    assert decided is not None
    assert client.put(path, json=body(kind, contact, status=end)).json()["decided_at"] == decided
    assert client.put(path, json=body(kind, contact, status="open")).json()["decided_at"] is None


def test_a_quote_keeps_the_time_it_was_sent_unless_another_is_reported(client: TestClient, contact: str) -> None:
    path, sent_at = f"/v1/quotes/{new_id()}", NOW - timedelta(days=2)
    client.put(path, json=body("quotes", contact, sent_at=sent_at.isoformat()))
    again = client.put(path, json=body("quotes", contact, amount="1.00")).json()
    assert datetime.fromisoformat(again["sent_at"]) == sent_at
    assert again["amount"] == "1.00"
    later = (sent_at + timedelta(days=1)).isoformat()
    moved = client.put(path, json=body("quotes", contact, sent_at=later)).json()
    assert datetime.fromisoformat(moved["sent_at"]) == sent_at + timedelta(days=1)
