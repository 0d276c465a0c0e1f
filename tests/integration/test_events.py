"""Events: every change is told once, in order, to those who may hear of it, however they are connected."""

import itertools
import json
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import text

from api.app import make_app
from core import db
from core.ids import new_id
from core.settings import Settings, settings
from domain.agents import service as agents
from domain.approvals import service as approvals
from domain.approvals.schemas import Ask, Performance, Proposal, Rationale
from domain.channels import service as channels
from domain.channels.schemas import Notice
from domain.claims import service as claims
from domain.claims.schemas import ClaimOutcome
from domain.conversations import service as conversations
from domain.conversations.schemas import NewChatMessage, NewConversation
from domain.events import service as events
from domain.events.schemas import BEGINNING, Cursor, Event, Wanted, sse_message
from domain.tasks import service as tasks
from domain.tasks.schemas import SubmissionContext
from domain.tenants.permissions import Reach
from tests.support.factories import claim, make_key, make_location, make_organisation, make_user, owner_of, submit
from tests.support.servers import SECRET_KEY, serving, wait_until
from tests.support.streams import stream
from web.audience import Audience
from web.auth import forget_keys
from web.feed import feed


@pytest.fixture(scope="module")
def address(config: Settings) -> Iterator[str]:
    with serving(make_app()) as url:
        yield url


@pytest.fixture
def org(config: Settings) -> UUID:
    """An organisation in which nothing has happened."""
    return make_organisation(f"events-{new_id().hex[-12:]}", tokens=0, is_prepaid=False)


@pytest.fixture
def key(org: UUID) -> str:
    return make_key(org, SECRET_KEY)


def told(org: UUID, after: Cursor = BEGINNING, **wanted: Any) -> list[Event]:
    """All events of an organisation after a cursor, once every transaction that wrote one has ended."""
    with db.transaction(org) as connection:
        found, _ = events.page(connection, Wanted(org, **wanted), after, 10_000)
    return found


def kinds(found: list[Event]) -> list[str]:
    return [event.kind for event in found]


def end(org: UUID, task_id: UUID) -> None:
    """Have a worker take a task and end it well."""
    claimed = claim(org, task_id)
    assert claimed is not None
    with db.transaction(org) as connection:
        claims.end(connection, claimed, ClaimOutcome(status="succeeded", outcome="succeeded", result={"answer": "ok"}))


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_tells_of_its_life_in_order(org: UUID) -> None:
    task = submit(org)
    end(org, task.id)
    found = wait_until(lambda: told(org) if "task.ended" in kinds(told(org)) else None)
    assert kinds(found) == ["task.accepted", "task.started", "task.ended"]
    assert [event.told["status"] for event in found] == ["queued", "running", "succeeded"]
    assert found[-1].told["answer"] == "ok"
    assert {event.told["task_id"] for event in found} == {str(task.id)}
    assert sorted(event.cursor for event in found) == [event.cursor for event in found]


def test_what_is_rolled_back_is_not_told(org: UUID) -> None:
    def fail() -> None:
        with db.transaction(org) as connection:
            events.record(connection, org, "event.raised", {"name": "x", "payload": {}})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert told(org) == []


def test_an_event_that_is_posted_twice_is_told_once(address: str, org: UUID, key: str) -> None:
    headers = {"authorization": f"Bearer {key}", "idempotency-key": "once"}
    for _ in range(2):
        posted = {"name": "member.joined", "payload": {"plan": "gold"}}
        answer = httpx2.post(f"{address}/v1/events", json=posted, headers=headers, trust_env=False)
        assert answer.status_code == 202
    assert [event.told for event in told(org)] == [{"name": "member.joined", "payload": {"plan": "gold"}}]


def test_a_reader_never_skips_what_commits_late(org: UUID) -> None:
    position, seen = BEGINNING, []
    with db.transaction(org) as slow:
        events.record(slow, org, "event.raised", {"name": "first", "payload": {}})
        with db.transaction(org) as quick:
            events.record(quick, org, "event.raised", {"name": "second", "payload": {}})
        with db.transaction(org) as reader:
            found, position = events.page(reader, Wanted(org), position, 10)
        seen += found
        assert seen == []  # the second is there, but the first may still come before it
    with db.transaction(org) as reader:
        found, position = events.page(reader, Wanted(org), position, 10)
    assert [event.told["name"] for event in found] == ["first", "second"]


def test_readers_see_all_of_eight_writers_once_and_in_order(org: UUID) -> None:
    each, writers = 40, 8

    def write(number: int) -> None:
        chance = random.Random(number)
        for count in range(each):
            with db.transaction(org) as connection:
                events.record(connection, org, "event.raised", {"name": f"{number}-{count}", "payload": {}})
                connection.execute(text("SELECT pg_sleep(:pause)"), {"pause": chance.random() / 200})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    seen: list[Event] = []
    position = BEGINNING

    def read_on() -> bool:
        nonlocal position
        with db.transaction(org) as connection:
            found, position = events.page(connection, Wanted(org), position, 7)
        seen.extend(found)
        return len(seen) >= each * writers

    wait_until(read_on, seconds=60)
    for thread in threads:
        thread.join()
    names = [event.told["name"] for event in seen]
    assert len(names) == len(set(names)) == each * writers
    for number in range(writers):
        mine = [name for name in names if name.startswith(f"{number}-")]
        assert mine == [f"{number}-{count}" for count in range(each)]


def test_an_approval_is_told_when_it_is_requested_and_when_it_is_decided(org: UUID) -> None:
    task = submit(org)
    proposal = Proposal(
        task_id=task.id, seq=2, kind="approval", agent="support-assistant", user_id=owner_of(org), location_id=None,
        tool="send_email", arguments={"to": "x"}, asks=[Ask(roles=["owner"])],
        decision=Rationale(
            level="approval", rule="x", because=[], intent=None, why=None, reasoning="", confidence=None,
            alternatives=[], context={},
            performance=Performance(done=0, refused=0, approved=0, rejected=0),
        ),
    )  # fmt: skip
    with db.transaction(org) as connection:
        approval = approvals.propose(connection, org, proposal)
    found = [event for event in told(org) if event.kind.startswith("approval.")]
    assert [(event.kind, event.told["status"]) for event in found] == [("approval.requested", "open")]
    assert found[0].told["approval_id"] == str(approval)
    assert found[0].told["arguments"] == {"to": "x"}


def test_a_task_that_is_retried_tells_so(org: UUID) -> None:
    task = submit(org)
    with db.transaction(org) as connection:
        tasks.cancel(connection, task.id)
    with db.transaction(org) as connection:
        tasks.retry(connection, task.id)
    assert kinds(told(org)) == ["task.accepted", "task.ended", "task.queued"]


# ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def page(address: str, key: str, path: str = "/v1/events", **parameters: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}", "accept": "application/json"}
    return httpx2.get(address + path, headers=headers, params=parameters, trust_env=False)


def test_pages_go_through_all_events_by_one_cursor(address: str, org: UUID, key: str) -> None:
    for number in range(5):
        submit(org, f"number {number}")
    seen: list[Any] = []
    after = None
    for _ in range(3):
        found = page(address, key, limit=2, **({"after": after} if after else {})).json()
        seen += found["events"]
        after = found["next_after"]
    assert [event["type"] for event in seen] == ["task.accepted"] * 5
    assert found["is_complete"]
    assert found["reset"] is None
    assert page(address, key, after=after).json()["events"] == []


def test_types_agents_and_tasks_narrow_a_page(address: str, org: UUID, key: str) -> None:
    task = submit(org)
    submit(org, agent="financial-analyst")
    end(org, task.id)
    ended = page(address, key, type="task.ended").json()["events"]
    assert [event["data"]["task_id"] for event in ended] == [str(task.id)]
    of_agent = page(address, key, agent="financial-analyst", type="task.*").json()["events"]
    assert [event["data"]["agent"] for event in of_agent] == ["financial-analyst"]
    assert len(page(address, key, f"/v1/tasks/{task.id}/events").json()["events"]) == 3


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"after": "yesterday"}, "cursor is not valid"),
        ({"after": "1-99999999999999999999"}, "cursor is not valid"),
        ({"after": "-"}, "cursor is not valid"),
        ({"type": "task.finished"}, "no kind of event"),
        ({"limit": "0"}, "limit"),
    ],
)
def test_what_makes_no_sense_is_refused(address: str, key: str, parameters: dict[str, str], said: str) -> None:
    answer = page(address, key, **parameters)
    assert answer.status_code == 422
    assert said in answer.text


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tasks_stream_begins_with_its_first_event_and_ends_with_its_end(address: str, org: UUID, key: str) -> None:
    task = submit(org)
    with stream(f"{address}/v1/tasks/{task.id}/events", key) as opened:
        assert opened.response.headers["content-type"].startswith("text/event-stream")
        assert opened.response.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in opened.response.headers
        end(org, task.id)
        found = list(opened)
    assert [message.event for message in found] == ["task.accepted", "task.started", "task.ended"]
    assert found[-1].data["status"] == "succeeded"


def test_a_stream_that_is_cut_at_any_event_goes_on_from_there(address: str, org: UUID, key: str) -> None:
    task = submit(org)
    end(org, task.id)
    url = f"{address}/v1/tasks/{task.id}/events"
    with stream(url, key) as opened:
        whole = list(opened)
    for number, message in enumerate(whole[:-1], start=1):
        with stream(url, key, after=message.id) as opened:
            assert list(opened) == whole[number:]
    with stream(url, key, after=whole[-1].id) as opened:
        assert opened.response.status_code == 204  # an EventSource does not come back


def test_an_organisations_stream_begins_now_and_tells_what_comes(address: str, org: UUID, key: str) -> None:
    submit(org, "before")
    with stream(f"{address}/v1/events", key, type="task.*") as opened:
        (ready,) = opened.until("ready")
        task = submit(org)
        (accepted,) = opened.until("task.accepted")
    assert accepted.data["task_id"] == str(task.id)
    with stream(f"{address}/v1/events", key, after=ready.id) as opened:
        assert opened.until("task.accepted") == [accepted]


def test_a_slow_reader_gets_everything_in_the_end(address: str, org: UUID, key: str) -> None:
    with stream(f"{address}/v1/events", key, type="event.raised") as slow:
        slow.until("ready")
        for portion in (range(start, start + 500) for start in range(0, 3_000, 500)):
            with db.transaction(org) as connection:
                for number in portion:
                    events.record(connection, org, "event.raised", {"name": str(number), "payload": {"x": "y" * 500}})
        seen = [message.data["name"] for message in itertools.islice(slow, 3_000)]
    assert seen == [str(number) for number in range(3_000)]


def test_a_reader_who_left_leaves_nothing_behind(address: str, org: UUID, key: str) -> None:
    before = feed.size
    for _ in range(20):
        with stream(f"{address}/v1/events", key) as opened:
            opened.until("ready")
    wait_until(lambda: feed.size == before, what="no listener is left")


def test_readers_who_leave_at_once_leave_nothing_behind_either(address: str, org: UUID, key: str) -> None:
    before = feed.size
    host, port = address.removeprefix("http://").split(":")
    head = f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    for _ in range(300):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head)
            connection.recv(20)
    wait_until(lambda: feed.size == before, what="no listener is left")


def test_a_stream_ends_when_the_key_is_revoked(address: str, org: UUID, key: str) -> None:
    with stream(f"{address}/v1/events", key) as opened:
        opened.until("ready")
        with db.system_transaction() as connection:
            connection.execute(text("UPDATE api_keys SET revoked_at = rota_now() WHERE org_id = :org"), {"org": org})
        forget_keys()
        assert list(opened) == []


def test_too_many_streams_of_an_organisation_are_refused(
    address: str, org: UUID, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "max_streams_organisation", 1)
    with stream(f"{address}/v1/events", key) as opened:
        opened.until("ready")
        with stream(f"{address}/v1/events", key) as second:
            assert second.response.status_code == 429
            assert second.response.headers["retry-after"]


# ── too old ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def forget(org: UUID) -> None:
    """Have all events of the organisation be too old, and deleted."""
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE events SET at = at - interval '2 days' WHERE org_id = :org"), {"org": org})
    with db.system_transaction() as connection:
        events.delete_old(connection, timedelta(hours=24))


def test_a_cursor_that_is_too_old_gets_a_reset_with_what_is_going_on(address: str, org: UUID, key: str) -> None:
    first, second = submit(org), submit(org)
    old = page(address, key, limit=1).json()["next_after"]
    forget(org)
    third = submit(org)
    found = page(address, key, after=old).json()
    assert {task["id"] for task in found["reset"]["tasks"]} == {str(first.id), str(second.id), str(third.id)}
    assert [event["data"]["task_id"] for event in found["events"]] == [str(third.id)]
    with stream(f"{address}/v1/events", key, after=old) as opened:
        reset, accepted = opened.until("task.accepted")
    assert reset.event == "reset"
    assert len(reset.data["tasks"]) == 3
    assert accepted.data["task_id"] == str(third.id)


def test_a_cursor_of_another_database_gets_a_reset(address: str, org: UUID, key: str) -> None:
    submit(org)
    assert page(address, key, after="999999999999-1").json()["reset"] is not None


def test_the_stream_of_a_task_whose_events_are_gone_still_tells_its_end(address: str, org: UUID, key: str) -> None:
    task = submit(org)
    end(org, task.id)
    forget(org)
    with stream(f"{address}/v1/tasks/{task.id}/events", key) as opened:
        found = list(opened)
    assert [(message.event, message.data["status"]) for message in found] == [("task.ended", "succeeded")]


def test_a_stream_that_missed_the_end_of_its_task_and_its_events_ends_all_the_same(
    address: str, org: UUID, key: str
) -> None:
    task = submit(org)
    with stream(f"{address}/v1/tasks/{task.id}/events", key) as opened:
        opened.until("task.accepted")
        with db.system_transaction() as connection:
            connection.execute(text("SELECT pg_current_xact_id()"))  # holds the feed back
            end(org, task.id)
            forget(org)
        feed._all_fall_behind()
        assert [message.event for message in opened] == ["reset", "task.ended"]


# ── who hears what ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_another_organisation_hears_nothing(address: str, org: UUID) -> None:
    other = make_organisation(f"other-{org.hex[-8:]}", tokens=0)
    theirs = make_key(other, SECRET_KEY)
    task = submit(org)
    assert page(address, theirs).json()["events"] == []
    assert page(address, theirs, task=str(task.id)).status_code == 404
    assert page(address, theirs, f"/v1/tasks/{task.id}/events").status_code == 404


def test_a_key_hears_what_its_scopes_cover(address: str, org: UUID) -> None:
    submit(org)
    with db.transaction(org) as connection:
        events.record(connection, org, "event.raised", {"name": "x", "payload": {}})
    narrow = make_key(org, SECRET_KEY, scopes=["events:read"])
    assert [event["type"] for event in page(address, narrow).json()["events"]] == ["event.raised"]
    assert page(address, make_key(org, SECRET_KEY, scopes=["tasks:read"])).status_code == 403
    with stream(f"{address}/v1/events", make_key(org, SECRET_KEY, scopes=["tasks:read"])) as refused:
        assert refused.response.status_code == 403


def test_those_of_one_location_hear_of_it_alone(address: str, org: UUID) -> None:
    here, there = make_location(org, "here"), make_location(org, "there")
    mine = make_key(org, SECRET_KEY, user=make_user(org, "staff", at="here"))
    for location in (here, there, None):
        with db.transaction(org) as connection:
            events.record(connection, org, "task.accepted", {"status": "queued"}, location=location)
    assert len(page(address, mine).json()["events"]) == 1
    with stream(f"{address}/v1/events", mine) as opened:
        opened.until("ready")
        for location in (there, None, here):
            with db.transaction(org) as connection:
                events.record(connection, org, "task.accepted", {"status": str(location)}, location=location)
        (heard,) = opened.until("task.accepted")
    assert heard.data["status"] == str(here)


# ── waiting for a task without a stream ──────────────────────────────────────────────────────────────────────────────


def test_a_task_is_returned_as_soon_as_it_has_ended(address: str, org: UUID, key: str) -> None:
    task = submit(org)
    before = feed.size
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(page, address, key, f"/v1/tasks/{task.id}", wait=60)
        wait_until(lambda: feed.size > before, what="the request waits")
        assert not asked.done()
        end(org, task.id)
        assert asked.result(timeout=30).json()["status"] == "succeeded"
    wait_until(lambda: feed.size == before, what="no listener is left")


def test_a_task_that_does_not_end_is_returned_as_it_is(address: str, org: UUID, key: str) -> None:
    task = submit(org)
    assert page(address, key, f"/v1/tasks/{task.id}", wait=0.1).json()["status"] == "queued"
    assert page(address, key, f"/v1/tasks/{task.id}", wait=61).status_code == 422


def test_who_waits_and_goes_leaves_nothing_behind(address: str, org: UUID, key: str) -> None:
    task = submit(org)
    before = feed.size
    with httpx2.Client(timeout=0.5, trust_env=False) as client, pytest.raises(httpx2.ReadTimeout):
        client.get(f"{address}/v1/tasks/{task.id}?wait=60", headers={"authorization": f"Bearer {key}"})
    wait_until(lambda: feed.size == before, what="no listener is left")


# ── what reviewers found ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_notice_of_the_whole_organisation_is_told_from_within_a_location(org: UUID) -> None:
    here = make_location(org, "here")
    with db.transaction(org, [here]) as connection:
        channels.tell(connection, org, [], Notice(kind="payment.refunded", title="Give it back", body="x"))
    assert [event.told["title"] for event in told(org)] == ["Give it back"]


def test_whoever_names_a_task_or_conversation_elsewhere_is_told_that_there_is_none(address: str, org: UUID) -> None:
    make_location(org, "here")
    mine = make_key(org, SECRET_KEY, user=make_user(org, "staff", at="here"))
    task = submit(org)
    with db.transaction(org) as connection:
        begun = conversations.begin(
            connection, org, NewConversation(agent="support-assistant"), SubmissionContext(user_id=owner_of(org))
        )
    for query in ({"task": str(task.id)}, {"conversation": str(begun.id)}, {"task": str(new_id())}):
        assert page(address, mine, **query).status_code == 404
        with stream(f"{address}/v1/events", mine, **query) as refused:
            assert refused.response.status_code == 404


def test_an_audience_of_a_session_hears_the_conversations_of_that_session_in_its_organisation(org: UUID) -> None:
    begun = {name: _say(org, name) for name in ("visit-1", "visit-2", None)}
    elsewhere = _say(make_organisation(f"events-{new_id().hex[-12:]}"), "visit-1")
    found = told(org, session="visit-1")
    assert {event.conversation_id for event in found} == {begun["visit-1"]}
    assert kinds(found) == ["message.sent", "task.accepted"]
    who = Audience({"message.sent": Reach(everywhere=True)}, session="visit-1")
    assert [event.conversation_id for event in told(org) if who.hears(event)] == [begun["visit-1"]]
    assert elsewhere not in {event.conversation_id for event in found}


def test_who_is_typing_is_heard_only_where_conversations_may_be_read(org: UUID) -> None:
    here, there = new_id(), new_id()
    kinds = {"task.accepted": Reach(everywhere=True), "user.typing": Reach(locations=frozenset({here}))}

    def accepted(location: UUID | None, conversation: UUID | None) -> Event:
        return Event(1, 1, org, "task.accepted", datetime.now(UTC), new_id(), "a", location, conversation, {}, "visit")

    who = Audience(kinds, session="visit")
    assert who.hears_typing_after(accepted(here, new_id()))
    assert not who.hears_typing_after(accepted(there, new_id()))
    assert not who.hears_typing_after(accepted(None, new_id()))
    assert not who.hears_typing_after(accepted(here, None))
    assert not Audience(kinds).hears_typing_after(accepted(here, new_id()))


def test_a_session_narrows_pages_and_streams_to_its_conversations(address: str, org: UUID, key: str) -> None:
    mine = _say(org, "visit-1")
    _say(org, "visit-2")
    found = page(address, key, session="visit-1").json()["events"]
    assert [event["type"] for event in found] == ["message.sent", "task.accepted"]
    assert {event["data"]["conversation_id"] for event in found} == {str(mine)}
    with stream(f"{address}/v1/events", key, session="visit-1") as heard:
        heard.until("ready")
        _say(org, "visit-2")
        later = _say(org, "visit-1")
        (first, _) = heard.until("task.accepted")
        assert first.data["conversation_id"] == str(later)


def test_a_session_or_an_agent_that_is_unknown_here_is_not_found(address: str, org: UUID, key: str) -> None:
    elsewhere = make_organisation(f"events-{new_id().hex[-12:]}")
    _say(elsewhere, "theirs")
    for query, said in (
        ({"session": "theirs"}, "no session"),
        ({"session": "nobody's"}, "no session"),
        ({"agent": "suport-assistant"}, "The agents here: "),
    ):
        answer = page(address, key, **query)
        assert answer.status_code == 404
        assert said in answer.json()["detail"]
        with stream(f"{address}/v1/events", key, **query) as refused:
            assert refused.response.status_code == 404


def test_a_session_at_another_location_is_not_found(address: str, org: UUID) -> None:
    make_location(org, "north")
    _say(org, "visit-1")
    limited = make_key(org, SECRET_KEY, user=make_user(org, "coordinator", at="north"))
    assert page(address, limited, session="visit-1").status_code == 404


def test_what_an_agent_did_before_it_was_deleted_can_be_read(address: str, org: UUID, key: str) -> None:
    submit(org, agent="financial-analyst")
    with db.transaction(org) as connection:
        agents.delete_agent(connection, "financial-analyst")
    found = page(address, key, agent="financial-analyst").json()["events"]
    assert [event["type"] for event in found] == ["task.accepted"]


def test_events_of_a_task_tell_what_its_agent_is_doing(address: str, org: UUID, key: str) -> None:
    task = submit(org)
    end(org, task.id)
    with stream(f"{address}/v1/tasks/{task.id}/events", key) as heard:
        found = {message.event: message.data.get("agent_status") for message in heard.until("task.ended")}
    assert found == {"task.accepted": None, "task.started": "monitoring", "task.ended": "idle"}


def _say(org: UUID, session: str | None) -> UUID:
    """Begin a conversation with a message; its id."""
    context = SubmissionContext(user_id=owner_of(org))
    with db.transaction(org) as connection:
        wanted = NewConversation(agent="support-assistant", session=session)
        begun = conversations.begin(connection, org, wanted, context)
        conversations.send(connection, org, begun.id, NewChatMessage(text="hello"), context)
    return begun.id


def test_a_stream_ends_when_its_key_may_read_something_else(address: str, org: UUID) -> None:
    user = make_user(org, "manager")
    key = make_key(org, SECRET_KEY, user=user)
    with stream(f"{address}/v1/events", key) as opened:
        opened.until("ready")
        with db.system_transaction() as connection:
            connection.execute(text("DELETE FROM grants WHERE user_id = :user"), {"user": user})
        forget_keys()
        assert list(opened) == []


def test_no_message_of_a_stream_is_cut_by_what_some_take_for_a_line_end() -> None:
    data = {"text": "a\u2028b\u2029c\x85d\ne\rf"}
    message = sse_message("message.delta", data, "1-1").decode()
    assert len(message.splitlines()) == 4
    assert json.loads(message.splitlines()[2].removeprefix("data: ")) == data
