"""Installations with other packs than the one that ships: none at all, and the one in `examples/`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import ROOT
from tests.support.installation import Installation, installation

LIBRARIAN = "librarian"


@pytest.fixture(scope="module")
def bare(home: Path) -> Iterator[Installation]:
    """The platform without any pack."""
    with installation(home / "bare", {"ROTA_PACKS": "[]"}) as made:
        yield made


@pytest.fixture(scope="module")
def library(home: Path) -> Iterator[Installation]:
    """A library instead of a gym."""
    environment = {"ROTA_PACKS": "library", "PYTHONPATH": str(ROOT / "examples")}
    with installation(home / "library", environment) as made:
        yield made


def test_without_a_pack_an_agent_of_ones_own_works(bare: Installation) -> None:
    assert bare.http.get("/v1/agents").json() == []
    assert bare.http.get("/v1/payments").status_code == 404
    assert bare.http.get("/v1/contacts").json() == []
    assert bare.http.get("/v1/follow-up-rules").json() == []
    tools = {tool["name"] for tool in bare.http.get("/v1/tools").json()}
    assert {"send_email", "create_resource", "schedule_task"} <= tools
    assert not tools & {"search_clients", "book_class", "charge_client"}
    clerk = {
        "slug": "clerk", "name": "Clerk", "role": "Clerk", "description": "Keeps lists.", "model": "gpt-4o-mini",
        "system_prompt": "Be of use.", "tools": ["list_resources"],
    }  # fmt: skip
    assert bare.http.post("/v1/agents", json=clerk).status_code == 201
    task = bare.ended(bare.submit("List the resources of kind locker", agent="clerk"))
    assert task["status"] == "succeeded", task["error"]
    assert bare.run("doctor").returncode == 0
    assert bare.query("SELECT count(*) FROM bookings") == [(0,)]


def test_without_a_pack_a_follow_up_rule_has_no_trigger(bare: Installation) -> None:
    rule = {"name": "x", "trigger": {"kind": "quote_sent"}, "steps": [{"after": "PT24H", "brief": "x"}]}
    refused = bare.http.put("/v1/follow-up-rules/x", json=rule)
    assert refused.status_code == 422, refused.text
    assert "kind" in refused.json()["detail"]


def test_a_pack_brings_its_tables_agents_tools_routes_and_follow_ups(library: Installation) -> None:
    assert [agent["slug"] for agent in library.http.get("/v1/agents").json()] == [LIBRARIAN]
    assert "search_clients" not in {tool["name"] for tool in library.http.get("/v1/tools").json()}
    assert [rule["slug"] for rule in library.http.get("/v1/follow-up-rules").json()] == ["overdue-books"]
    ((org,),) = library.query("SELECT id FROM organisations")
    added = library.http.post("/v1/readers", json={"name": "Ada Byron", "email": "ada@example.com"})
    assert added.status_code == 201, added.text
    reader = added.json()["id"]
    ((stranger,),) = library.query(
        "INSERT INTO contacts (id, org_id, kind, name, email) "
        "VALUES (gen_random_uuid(), %s, 'supplier', 'Printer', 'printer@example.com') RETURNING id",
        org,
    )
    lent = library.http.post("/v1/loans", json={"reader": str(reader), "title": "Middlemarch"})
    assert lent.status_code == 201, lent.text
    refused = library.http.post("/v1/loans", json={"reader": str(stranger), "title": "Middlemarch"})
    assert (refused.status_code, "not a reader" in refused.json()["detail"]) == (409, True)
    (loan,) = library.http.get("/v1/loans").json()
    assert (loan["title"], loan["reader"], loan["is_overdue"]) == ("Middlemarch", "Ada Byron", False)
    assert [one["name"] for one in library.http.get("/v1/contacts").json()] == ["Ada Byron"]
    task = library.ended(library.submit("List the loans, please", agent=LIBRARIAN))
    acted = [step for step in task["steps"] if step["stage"] == "act"]
    assert task["status"] == "succeeded", task["error"]
    assert [step["name"] for step in acted] == ["list_loans"]
    assert "Middlemarch" in str(acted[0]["output"])


def test_the_tables_of_a_pack_keep_organisations_apart(library: Installation) -> None:
    rows = library.query("SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE relname = 'library_loans'")
    assert rows == [(True, True)]
