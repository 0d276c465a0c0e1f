"""How long things are kept: organisations choose within bounds, duties delete what is older, and the log says so."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api.app import make_app
from core import db
from core import settings as settings_module
from core.errors import NotFound
from core.ids import new_id
from core.settings import Settings, settings
from domain.audit import service as audit
from domain.audit.schemas import Actor, AuditEvent, AuditLine
from domain.conversations import service as conversations
from domain.conversations.schemas import NewChatMessage, NewConversation
from domain.retention import service as retention
from domain.retention.schemas import RetentionChange
from domain.tasks import service as tasks
from domain.tasks.schemas import SubmissionContext
from tests.support.chat import Chat, chatting
from tests.support.clock import Clock, movable_clock
from tests.support.factories import look, make_key, make_organisation, make_user, owner_of
from tests.support.servers import SECRET_KEY, serving
from workers.duties import retention as duties
from workers.duties.pruning import purge_conversations

DAY = timedelta(days=1)


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    with TestClient(make_app(), headers={"authorization": f"Bearer {make_key(org, SECRET_KEY)}"}) as made:
        yield made


@pytest.fixture
def clock(config: Settings) -> Iterator[Clock]:
    with movable_clock() as made:
        yield made


@pytest.fixture
def other(config: Settings) -> UUID:
    return make_organisation(f"other-{new_id().hex[-12:]}")


@pytest.fixture
def bounded(config: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that keeps changes for at least 60 days, and nothing for more than a year."""
    changed = settings().model_copy(update={"keep_changes_least": 60 * DAY, "keep_most": 365 * DAY})
    monkeypatch.setattr("domain.retention.service.settings", lambda: changed)


def keep(org: UUID, **days: int | None) -> None:
    with db.transaction(org) as connection:
        retention.change(connection, org, RetentionChange(**days))


def note(org: UUID, verb: str, number: int = 1) -> UUID:
    """Add lines to the audit log, about one record; its id."""
    record = new_id()
    with db.transaction(org) as connection:
        for _ in range(number):
            audit.record(connection, Actor(org_id=org, agent="a"), AuditEvent(verb, "tool/x", records=(record,)))
    return record


def lines(org: UUID, **wanted: Any) -> list[AuditLine]:
    given: dict[str, Any] = {"kind": "any", "limit": 200} | wanted
    with db.transaction(org) as connection:
        return audit.read(connection, **given).lines


def verbs(org: UUID) -> list[str]:
    return [line.verb for line in lines(org)]


# ── what an organisation chooses ─────────────────────────────────────────────────────────────────────────────────────


def test_without_a_choice_the_installations_times_apply(client: TestClient) -> None:
    assert client.get("/v1/retention").json() == {
        "reads": {"days": 90, "chosen": None, "least": 1, "most": None},
        "changes": {"days": None, "chosen": None, "least": 30, "most": None},
        "conversations": {"days": None, "chosen": None, "least": 1, "most": None},
    }


def test_an_organisation_chooses_one_by_one_and_goes_back_to_the_default(client: TestClient) -> None:
    client.patch("/v1/retention", json={"reads": 7, "conversations": 30})
    found = client.patch("/v1/retention", json={"reads": None, "changes": 400}).json()
    assert (found["reads"]["days"], found["changes"]["chosen"], found["conversations"]["days"]) == (90, 400, 30)
    assert client.get("/v1/retention").json() == found
    assert client.patch("/v1/retention", json={}).json() == found


def test_a_change_of_retention_is_in_the_audit_log_with_its_author(client: TestClient, org: UUID) -> None:
    client.patch("/v1/retention", json={"reads": 7})
    (line,) = client.get("/v1/audit", params={"verb": "change_retention"}).json()["lines"]
    assert (line["details"], line["user_id"]) == ({"reads": 7}, str(owner_of(org)))


@pytest.mark.usefixtures("bounded")
def test_an_organisation_chooses_within_the_bounds_of_the_installation(client: TestClient) -> None:
    for body, why in (
        ({"changes": 59}, "changes must be kept for at least 60 days"),
        ({"conversations": 366}, "conversations can be kept for at most 365 days"),
        ({"reads": 0}, "greater than or equal to 1"),
    ):
        answer = client.patch("/v1/retention", json=body)
        assert answer.status_code == 422
        assert why in answer.text
    assert client.get("/v1/retention").json()["conversations"] == {
        "days": 365, "chosen": None, "least": 1, "most": 365,
    }  # fmt: skip


def test_only_who_may_write_retention_changes_it(client: TestClient, org: UUID) -> None:
    for role, may_read in (("manager", 200), ("viewer", 200)):
        key = make_key(org, SECRET_KEY, user=make_user(org, role))
        headers = {"authorization": f"Bearer {key}"}
        assert client.get("/v1/retention", headers=headers).status_code == may_read
        assert client.patch("/v1/retention", json={"reads": 1}, headers=headers).status_code == 403


def test_another_organisation_keeps_its_own_times(org: UUID, other: UUID) -> None:
    keep(org, reads=3)
    with db.transaction(other) as connection:
        assert retention.get(connection, other).reads.days == 90


# ── the audit log ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_reads_and_changes_go_each_in_its_own_time(org: UUID, other: UUID, clock: Clock) -> None:
    keep(org, reads=10, changes=40)
    record = note(org, "read")
    note(org, "acted")
    others = note(other, "read")
    clock.move(9 * DAY)
    duties.forget_audit()
    assert verbs(org) == ["acted", "read"]
    clock.move(2 * DAY)
    duties.forget_audit()
    assert verbs(org) == ["cleaned up", "acted"]
    assert lines(org, record=record) == []
    clock.move(30 * DAY)
    duties.forget_audit()
    assert verbs(org) == ["cleaned up", "cleaned up"]
    assert lines(org, record=others) == []
    assert [line.verb for line in lines(other, record=others)] == ["read"]


def test_the_log_says_how_many_lines_were_deleted(org: UUID, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_BATCH", 3)
    keep(org, reads=1)
    note(org, "read", 7)
    clock.move(2 * DAY)
    duties.forget_audit()
    counted = [line.details for line in lines(org)]
    assert [one["deleted"] for one in counted] == [1, 3, 3]
    assert {one["older_than_days"] for one in counted} == {1.0}
    assert {(line.verb, line.subject, line.user_id, line.agent) for line in lines(org)} == {
        ("cleaned up", "reads", None, None)
    }
    duties.forget_audit()
    assert len(lines(org)) == 3


def test_a_clean_up_that_dies_half_way_has_said_what_it_did_and_goes_on(
    org: UUID, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_BATCH", 3)
    keep(org, reads=1)
    note(org, "read", 7)
    clock.move(2 * DAY)
    rest = [True, False]
    forget = audit.forget_reads

    def dying(*given: Any) -> int:
        found = forget(*given)
        if not rest.pop(0):
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(audit, "forget_reads", dying)
    with pytest.raises(KeyboardInterrupt):
        duties.forget_audit()
    monkeypatch.setattr(audit, "forget_reads", forget)
    assert sorted(verbs(org)) == ["cleaned up"] + ["read"] * 4
    duties.forget_audit()
    assert [line.details["deleted"] for line in lines(org)] == [1, 3, 3]


def test_no_role_deletes_lines_but_through_the_clean_up_which_leaves_young_ones(org: UUID, clock: Clock) -> None:
    note(org, "acted")
    note(org, "read")
    for opened in (db.transaction(org), db.system_transaction()):
        with pytest.raises(DBAPIError, match="permission denied"), opened as connection:
            connection.execute(text("DELETE FROM audit_log"))
    with pytest.raises(DBAPIError, match="permission denied"), db.transaction(org) as connection:
        audit.forget_reads(connection, org, timedelta(0))
    clock.move(29 * DAY)
    with db.system_transaction() as connection:
        assert audit.forget_changes(connection, org, timedelta(0)) == 0
        assert audit.forget_reads(connection, org, timedelta(0)) == 1
    clock.move(2 * DAY)
    with db.system_transaction() as connection:
        assert audit.forget_changes(connection, org, timedelta(0)) == 1


# ── conversations ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def chat(org: UUID, config: Settings) -> Iterator[Chat]:
    with serving(make_app()) as url, chatting(org, url) as made:
        yield made


def test_a_conversation_that_nobody_goes_on_with_loses_its_words_and_keeps_its_bill(chat: Chat, clock: Clock) -> None:
    keep(chat.org, conversations=30)
    chat.talker.answers = [["A secret."], ["Another."]]
    chat.send("my secret")
    chat.work()
    clock.move(29 * DAY)
    duties.delete_idle_conversations()
    chat.send("go on")  # from here on it counts anew
    chat.work()
    clock.move(29 * DAY)
    duties.delete_idle_conversations()
    assert chat.http.get(chat.path).status_code == 200
    clock.move(2 * DAY)
    duties.delete_idle_conversations()
    assert chat.http.get(chat.path).status_code == 404
    purge_conversations()
    with db.transaction(chat.org) as connection:
        for table, count in (("conversations", 0), ("conversation_messages", 0), ("tasks", 0), ("usage", 2)):
            found = connection.execute(text(f"SELECT count(*) FROM {table} WHERE org_id = :o"), {"o": chat.org})  # noqa: S608
            assert found.scalar_one() == count, table
    (line,) = lines(chat.org, verb="cleaned up")
    assert (line.subject, line.details) == ("conversations", {"deleted": 1, "older_than_days": 30.0})


def test_unlisted_conversations_go_too_and_none_whose_answer_is_to_come_or_has_just_ended(
    org: UUID, other: UUID, clock: Clock
) -> None:
    keep(org, conversations=5)
    said = {whose: [_say(whose, is_listed=listed) for listed in (True, False)] for whose in (org, other)}
    clock.move(6 * DAY)
    duties.delete_idle_conversations()
    for talk, task in said[org]:
        with db.transaction(org) as connection:
            assert conversations.speaker(connection, talk) == owner_of(org)
            tasks.cancel(connection, task)
    clock.move(4 * DAY)
    duties.delete_idle_conversations()
    for talk, _ in said[org]:
        with db.transaction(org) as connection:
            assert conversations.speaker(connection, talk) == owner_of(org)
    clock.move(2 * DAY)
    duties.delete_idle_conversations()
    for talk, _ in said[org]:
        with db.transaction(org) as connection, pytest.raises(NotFound):
            conversations.speaker(connection, talk)
    for _, task in said[other]:
        assert look(other, task).status == "queued"


def _say(org: UUID, *, is_listed: bool) -> tuple[UUID, UUID]:
    """Send a message in a new conversation; the conversation and the task that answers."""
    context = SubmissionContext(user_id=owner_of(org))
    with db.transaction(org) as connection:
        wanted = NewConversation(agent="support-assistant")
        talk = conversations.begin(connection, org, wanted, context, is_listed=is_listed).id
        task = conversations.send(connection, org, talk, NewChatMessage(text="hello"), context).answer.task_id
    assert task is not None
    return talk, task


def test_settings_without_bounds_are_the_defaults(config: Settings) -> None:
    terms = retention.terms()
    assert (terms.reads.default, terms.changes.default, terms.conversations.default) == (90 * DAY, None, None)
    assert settings_module.Settings(keep_changes_least=31 * DAY).keep_changes_least == 31 * DAY
