"""What agents read is in the audit log: who, for whom, with which tool, which records; never what they say."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, text

from agents.llm.models import Models
from agents.reads import records_in
from api.app import make_app
from core import db, engines
from core.ids import new_id
from core.settings import Settings
from domain.audit import service as audit
from domain.audit.schemas import Actor, AuditEvent, AuditLine
from domain.claims import queries as claim_queries
from tests.support.desk import Desk
from tests.support.factories import change_agent, make_key, make_organisation, make_row, owner_of, submit
from tests.support.models import Parrot, asking, saying
from tests.support.servers import SECRET_KEY, serving

TOOL_NAMES = ["search_clients", "view_client_profile", "update_client_tags", "search_classes"]


@pytest.fixture
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
def desk(org: UUID, parrot: Parrot) -> Iterator[Desk]:
    change_agent(org, "support-assistant", model="gpt-5-mini", fallback_model=None, mode="auto", tools=TOOL_NAMES)
    with serving(parrot.app()) as url:
        made = Desk(Models(Settings(openai_base_url=f"{url}/v1", openai_api_key="none")))
        yield made
        made.close()


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    with TestClient(make_app(), headers={"authorization": f"Bearer {make_key(org, SECRET_KEY)}"}) as made:
        yield made


def lines(org: UUID, **wanted: Any) -> list[AuditLine]:
    with db.transaction(org) as connection:
        return audit.read(connection, **wanted).lines


def run(org: UUID, desk: Desk, parrot: Parrot, *calls: tuple[str, dict[str, Any]]) -> Any:
    """A task whose model makes these calls at once, and then answers."""
    parrot.answers += [asking(*((name, json.dumps(given)) for name, given in calls)), saying("Done.")]
    task = desk.run(org, submit(org, "Look it up.").id)
    assert task.status == "succeeded"
    return task


def test_a_read_names_the_agent_its_user_the_tool_and_the_records_and_says_nothing_of_them(
    org: UUID, desk: Desk, parrot: Parrot
) -> None:
    ana = make_row(org, "clients", name="Ana Zaphod", email="ana@zaphod.example")
    task = run(org, desk, parrot, ("search_clients", {"query": "Zaphod"}))
    (line,) = lines(org, kind="read")
    assert (line.agent, line.user_id, line.task_id, line.subject, line.verb) == (
        "support-assistant", owner_of(org), task.id, "tool/search_clients", "read",
    )  # fmt: skip
    assert line.seq == next(step.seq for step in task.steps if step.stage == "act")
    assert line.records == [ana]
    assert "zaphod" not in line.model_dump_json().lower()


def test_several_reads_of_one_decision_have_a_line_each(org: UUID, desk: Desk, parrot: Parrot) -> None:
    ana, ben = (make_row(org, "clients", name=name, email=f"{name}@x.example") for name in ("Ana", "Ben"))
    calls = [("view_client_profile", {"client_id": str(one)}) for one in (ana, ben)]
    run(org, desk, parrot, *calls)
    assert {line.records[0] for line in lines(org, kind="read")} == {ana, ben}


def test_a_look_up_that_was_refused_read_nothing(org: UUID, desk: Desk, parrot: Parrot) -> None:
    run(org, desk, parrot, ("view_client_profile", {"client_id": str(new_id())}))
    assert lines(org, kind="read") == []


def test_who_read_or_changed_a_client_is_found_by_its_id(
    org: UUID, desk: Desk, parrot: Parrot, client: TestClient
) -> None:
    ana, ben = (make_row(org, "clients", name=name, email=f"{name}@x.example") for name in ("Ana", "Ben"))
    run(org, desk, parrot, ("view_client_profile", {"client_id": str(ana)}))
    run(org, desk, parrot, ("view_client_profile", {"client_id": str(ben)}))
    run(org, desk, parrot, ("update_client_tags", {"client_id": str(ana), "add": ["vip"]}))
    assert client.patch(f"/v1/contacts/{ana}/preferences", json={"has_opted_out": True}).is_success

    def found(**parameters: Any) -> list[str]:
        answer = client.get("/v1/audit", params=parameters)
        assert answer.status_code == 200
        return [line["verb"] for line in answer.json()["lines"]]

    whole = found(record=str(ana))
    assert whole[0] == "change_preferences"
    assert whole[1] in {"acted", "was refused"}
    assert whole[-1] == "read"
    assert found(record=str(ana), kind="read") == ["read"] * (len(whole) - 2)
    assert "read" not in found(record=str(ana), kind="change")
    assert found(record=str(new_id())) == []


def test_reads_are_left_out_of_the_log_unless_it_is_asked_for_them(org: UUID, client: TestClient) -> None:
    with db.transaction(org) as connection:
        for verb in ("acted", "read"):
            audit.record(connection, Actor(org_id=org, agent="a"), AuditEvent(verb, "tool/x"))

    def found(**parameters: Any) -> list[str]:
        return [line["verb"] for line in client.get("/v1/audit", params=parameters).json()["lines"]]

    assert found() == found(kind="change") == ["acted"]
    assert found(kind="any") == ["read", "acted"]
    assert found(verb="read") == found(kind="read") == ["read"]
    assert client.get("/v1/audit", params={"kind": "reads"}).status_code == 422


def test_another_organisation_learns_nothing_of_a_record(org: UUID) -> None:
    record = new_id()
    with db.transaction(org) as connection:
        audit.record(connection, Actor(org_id=org), AuditEvent("read", "tool/x", records=(record,)))
    assert len(lines(org, record=record)) == 1
    assert lines(make_organisation(f"other-{new_id().hex[-12:]}"), record=record) == []


def test_a_read_costs_no_further_statement(org: UUID, desk: Desk, parrot: Parrot) -> None:
    sent: list[str] = []
    engine = engines.engine(engines.APP)

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        run(org, desk, parrot, ("search_classes", {"query": "spin"}))
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert not any("audit_log" in statement for statement in sent)
    assert len(lines(org, kind="read")) == 1


def test_a_step_that_reads_nothing_is_written_without_the_audit_log() -> None:
    assert b"audit_log" not in claim_queries._RECORD.statement.sql
    assert b"audit_log" not in claim_queries._FINISH.statement.sql


def test_the_ids_of_a_result_are_bounded_each_once_and_in_order() -> None:
    ids = [new_id() for _ in range(60)]
    result = {"found": [{"client_id": str(one), "note": f"see {one}"} for one in [*ids, ids[0]]], "id": "no-id"}
    assert records_in(result) == (tuple(ids[:50]), 10)
    assert records_in({"a": 1, "b": None}) == ((), 0)


def test_who_read_a_record_is_looked_up_in_an_index(org: UUID) -> None:
    many = """
        INSERT INTO audit_log (id, org_id, verb, subject, records)
        SELECT gen_random_uuid(), :org, 'read', 'tool/x', ARRAY[gen_random_uuid()] FROM generate_series(1, 3000)
    """
    with engines.engine(engines.OWNER).begin() as connection:
        connection.execute(text(many), {"org": org})
        connection.execute(text("ANALYZE audit_log"))
        connection.execute(text("SELECT set_config('app.org', :org, true)"), {"org": str(org)})
        looked_up = connection.execute(text("SELECT prosrc FROM pg_proc WHERE proname = 'rota_lines_naming'"))
        statement = looked_up.scalar_one().replace("[record]", f"[CAST('{new_id()}' AS uuid)]")
        plan = "\n".join(connection.execute(text(f"EXPLAIN {statement}")).scalars())
    assert "audit_log_records" in plan
