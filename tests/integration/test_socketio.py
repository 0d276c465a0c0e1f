"""Socket.IO: the feed of events under the names that its clients know, with the permissions of the streams."""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import psutil
import pytest
import socketio.exceptions
from sqlalchemy import text
from starlette.routing import Mount
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as open_websocket

from agents.llm.models import Models
from api.app import make_app
from api.sockets.server import SocketServer
from core import db
from core.ids import new_id
from core.settings import Settings
from domain.broadcasts import service as broadcasts
from domain.broadcasts.schemas import NewBroadcast
from domain.conversations import service as conversations
from domain.conversations.schemas import NewChatMessage, NewConversation
from domain.events import service as events
from domain.tasks.schemas import SubmissionContext
from embedded.processes import free_port
from tests.support import javascript
from tests.support.desk import Desk
from tests.support.factories import (
    change_agent,
    dispatch,
    make_key,
    make_location,
    make_organisation,
    make_user,
    owner_of,
    submit,
)
from tests.support.javascript import node
from tests.support.models import Talker
from tests.support.servers import SECRET_KEY, api_command, configured, serving, wait_until
from tests.support.socketio import connected
from web.auth import forget_keys
from web.feed import feed
from workers.words import RedisSink

PIECES = [f"{number} ñ🎉 " for number in range(200)]
TEXT = "".join(PIECES)
TRANSPORTS = [["websocket"], ["polling"], ["polling", "websocket"]]


@contextlib.contextmanager
def api(app: Any = None, **options: Any) -> Iterator[str]:
    """An API process as it is served."""
    options |= {"http": "api.connections:GuardedProtocol", "ws": "websockets-sansio"}
    with serving(app or make_app(), **options) as url:
        yield url


@pytest.fixture(scope="module")
def address(config: Settings) -> Iterator[str]:
    with api() as url:
        yield url


@pytest.fixture
def key(org: UUID) -> str:
    return make_key(org, SECRET_KEY)


@pytest.fixture(autouse=True)
def nothing_is_left(config: Settings) -> Iterator[None]:
    """Clients that have gone leave no listener behind."""
    yield
    wait_until(lambda: feed.size == 0, what="every listener has left")


def begin(org: UUID, session: str | None = None, *, at: UUID | None = None) -> str:
    """Begin a conversation; its id."""
    wanted = NewConversation(agent="support-assistant", session=session)
    with db.transaction(org) as connection:
        context = SubmissionContext(user_id=owner_of(org), location_id=at)
        return str(conversations.begin(connection, org, wanted, context).id)


def say(org: UUID, conversation: str, words: str = "hello") -> str:
    """Send a message; the task that answers."""
    with db.transaction(org) as connection:
        context = SubmissionContext(user_id=owner_of(org))
        sent = conversations.send(connection, org, UUID(conversation), NewChatMessage(text=words), context)
    return str(sent.answer.task_id)


def raise_event(org: UUID, name: str, words: str | None = None) -> None:
    payload = {"words": words} if words else {}
    with db.transaction(org) as connection:
        events.record(connection, org, "event.raised", {"name": name, "payload": payload})


@dataclass
class Stage:
    """An agent whose model is a talker, and a worker that runs it."""

    org: UUID
    talker: Talker
    desk: Desk

    def work(self) -> threading.Thread:
        """Have the worker do what is due."""
        due = [one for one in dispatch() if one.org_id == self.org]

        def run() -> None:
            for one in due:
                self.desk.executor.execute(one.org_id, one.id, one.claim)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread


@pytest.fixture
def stage(org: UUID, config: Settings) -> Iterator[Callable[..., Stage]]:
    with contextlib.ExitStack() as ends:

        def make(*answers: list[str]) -> Stage:
            talker = Talker(*answers)
            url = ends.enter_context(serving(talker.app()))
            sink = RedisSink(config.redis_url, every=0.0)
            sink.start()
            desk = Desk(Models(Settings(openai_base_url=f"{url}/v1", openai_api_key="k")), sink)
            for end in (sink.stop, desk.close, talker.let_through):
                ends.callback(end)
            change_agent(org, "support-assistant", model="gpt-4o-mini", fallback_model=None)
            return Stage(org, talker, desk)

        yield make


# ── connecting ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("transports", TRANSPORTS)
def test_a_client_hears_events_under_their_own_names(address: str, org: UUID, key: str, transports: list[str]) -> None:
    with connected(address, key, transports=transports) as caller:
        assert caller.call("subscribe", {"types": ["task.*"]}) == {"ok": True, "room": "organisation"}
        caller.until("ready")
        raise_event(org, "not.wanted")
        task = submit(org)
        told = caller.until("task.accepted")
        assert (told["type"], told["room"], told["data"]["task_id"]) == ("task.accepted", "organisation", str(task.id))
        assert caller.named("event.raised") == []


@pytest.mark.parametrize("transports", TRANSPORTS)
def test_the_official_client_hears_events_on_each_transport(
    address: str, org: UUID, key: str, transports: list[str]
) -> None:
    with node(address, key, transports=transports) as caller:
        assert caller.until("open") == {"transport": transports[0]}
        if len(transports) > 1:
            assert caller.until("upgrade") == {"transport": "websocket"}
        assert caller.call("subscribe", {}) == {"ok": True, "room": "organisation"}
        caller.until("on:ready")
        raise_event(org, "member.joined")
        assert caller.until("on:event.raised")["data"] == {"name": "member.joined", "payload": {}}


@pytest.mark.parametrize("namespace", ["/", "/events"])
@pytest.mark.parametrize("key", ["rota_wrong", None])
def test_a_wrong_key_is_refused_in_words_and_hears_nothing(
    address: str, org: UUID, namespace: str, key: str | None
) -> None:
    with node(address, key, namespace) as caller:
        refused = caller.until("connect_error")
        assert "API key" in refused["message"]
        assert refused["data"] == {"status": 401, "title": "Unauthorized", "detail": refused["message"]}
        submit(org)
        assert caller.named("connect") == []
    with pytest.raises(socketio.exceptions.ConnectionError), connected(address, key, namespace):
        pass


def test_a_client_that_connects_to_nothing_is_closed(config: Settings) -> None:
    with configured(head_timeout="0.2"):
        app = make_app()
        with api(app) as url, _websocket(url) as opened:
            assert opened.recv(timeout=10).startswith("0{")
            assert opened.recv(timeout=10) == "1"  # Engine.IO's packet for a close
            wait_until(lambda: _sockets(app) == ({}, {}), what="nothing is left of it")


def test_pages_of_other_origins_may_connect_if_the_setting_says_so(config: Settings) -> None:
    def answer(url: str, origin: str) -> httpx2.Response:
        headers = {"origin": origin}
        return httpx2.get(f"{url}/socket.io/?EIO=4&transport=polling", headers=headers, trust_env=False)

    with configured(allowed_origins='["https://app.example.com"]'), api() as url:
        allowed = answer(url, "https://app.example.com")
        assert allowed.headers["access-control-allow-origin"] == "https://app.example.com"
        assert answer(url, "https://evil.example.com").status_code == 403
        assert answer(url, url).status_code == 200
        documents = httpx2.get(f"{url}/health", headers={"origin": "https://app.example.com"}, trust_env=False)
        assert documents.headers["access-control-allow-origin"] == "https://app.example.com"


def test_a_host_that_is_not_allowed_is_refused_a_websocket_too(config: Settings) -> None:
    with (
        configured(allowed_hosts='["rota.example.com"]'),
        api() as url,
        pytest.raises(Exception, match="421"),
        _websocket(url),
    ):
        pass


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_hears_its_agents_and_its_answers(
    address: str, org: UUID, key: str, stage: Callable[..., Stage]
) -> None:
    on = stage(["Yes, ", "at nine."])
    conversation = begin(org, "visit-17")
    with node(address, key, "/") as caller:
        caller.tell("join_session", {"sessionId": "visit-17"})
        caller.until("on:ready", lambda told: told["sessionId"] == "visit-17")
        task = say(org, conversation, "Is there yoga tomorrow?")
        say(org, begin(org, "visit-18"))
        on.talker.let_through()
        on.work().join()
        answer = caller.until("on:chat_response")
        assert (answer["reply"], answer["status"], answer["sessionId"]) == ("Yes, at nine.", "answered", "visit-17")
        assert (answer["conversationId"], answer["taskId"]) == (conversation, task)
        updates = caller.named("on:agent_update")
        assert {update["taskId"] for update in updates} == {task}
        assert [update["type"] for update in updates][:2] == ["task.accepted", "task.started"]
        assert "".join(piece["text"] for piece in caller.named("on:message.delta")) == "Yes, at nine."


def test_a_conductor_hears_status_and_decisions(address: str, org: UUID, key: str, stage: Callable[..., Stage]) -> None:
    on = stage(["Yes."])
    conversation = begin(org)
    with node(address, key) as caller:
        assert caller.call("agent:subscribe", {"sessionId": conversation}) == {"ok": True, "room": conversation}
        caller.until("on:ready")
        say(org, conversation)
        on.talker.let_through()
        on.work().join()
        caller.until("on:agent.status", lambda told: told["data"]["status"] == "IDLE")
        statuses = [told["data"]["status"] for told in caller.named("on:agent.status")]
        assert statuses == ["MONITORING", "LEARNING", "IDLE"]
        decision = caller.until("on:agent.decision")
        assert (decision["type"], decision["session_id"]) == ("agent.decision", conversation)
        assert decision["data"]["decision"]["text"] == "Yes."


def test_a_conversation_that_begins_later_in_the_session_is_heard(address: str, org: UUID, key: str) -> None:
    begin(org, "visit-17")
    with connected(address, key, "/") as caller:
        assert caller.call("join_session", {"sessionId": "visit-17"})["ok"]
        caller.until("ready", lambda told: told["sessionId"] == "visit-17")
        task = say(org, begin(org, "visit-17"))
        assert caller.until("agent_update")["taskId"] == task


@pytest.mark.parametrize(
    ("namespace", "verb", "wanted"),
    [
        ("/events", "subscribe", {"session": "visit-17"}),
        ("/events", "agent:subscribe", {"sessionId": "visit-17"}),
        ("/", "join_session", {"sessionId": "visit-17"}),
    ],
)
def test_a_room_of_a_session_tells_who_is_typing(
    address: str, org: UUID, key: str, namespace: str, verb: str, wanted: dict[str, str]
) -> None:
    talk = begin(org, "visit-17")
    other = make_key(org, SECRET_KEY, user=make_user(org, "coordinator"))
    with connected(address, other, namespace) as caller:
        assert caller.call(verb, wanted)["ok"]
        caller.until("ready")
        headers = {"authorization": f"Bearer {key}"}
        path = f"{address}/v1/conversations/{talk}/typing"
        assert httpx2.post(path, headers=headers, trust_env=False).status_code == 202
        message = caller.until("user.typing")
        told = message.get("data") or message
        assert (told["conversation_id"], told["user_id"]) == (talk, str(owner_of(org)))


def test_an_agent_that_never_existed_cannot_be_subscribed(address: str, key: str) -> None:
    with connected(address, key) as caller:
        answer = caller.call("subscribe", {"agent": "suport"})
        assert answer["error"]["status"] == 404
        assert "The agents here" in answer["error"]["detail"]


def test_what_operators_announce_is_told_to_who_follows_the_organisation(address: str, org: UUID) -> None:
    make_location(org, "here")
    key = make_key(org, SECRET_KEY, user=make_user(org, "coordinator", at="here"))
    with connected(address, key) as caller:
        assert caller.call("subscribe", {"types": ["system.*"]})["ok"]
        caller.until("ready")
        with db.system_transaction() as connection:
            made = broadcasts.send(connection, NewBroadcast(text="Maintenance tonight."), owner_of(org))
        assert caller.until("system.announced")["data"]["text"] == "Maintenance tonight."
        with db.system_transaction() as connection:
            broadcasts.withdraw(connection, made.id)
        caller.until("system.withdrawn")


def test_campaigns_of_the_organisation_are_told_without_joining(address: str, org: UUID, key: str) -> None:
    with connected(address, key, "/", after="0-0") as caller:
        told = {"change": "changed", "id": str(new_id()), "name": "Spring", "kind": "email", "status": "active"}
        with db.transaction(org) as connection:
            events.record(connection, org, "campaign.changed", told)
        assert caller.until("campaign_update")["name"] == "Spring"


@pytest.mark.parametrize("kind", ["session", "conversation", "task"])
def test_what_belongs_to_another_organisation_cannot_be_joined(address: str, org: UUID, key: str, kind: str) -> None:
    other = make_organisation(f"other-{new_id().hex[-12:]}", tokens=0, is_prepaid=False)
    theirs = begin(other, "secret-visit")
    ids = {"session": "secret-visit", "conversation": theirs, "task": say(other, theirs)}
    with node(address, key) as caller, node(address, key, "/") as second:
        refused = caller.call("subscribe", {kind: ids[kind]})
        assert (refused["ok"], refused["error"]["status"]) == (False, 404)
        for one, event in ((caller, "agent:subscribe"), (second, "join_session")):
            told = one.call(event, {"sessionId": ids[kind]})
            assert (told["ok"], told["error"]["status"]) == (False, 404)
            assert one.until("on:exception")["status"] == "error"
        say(other, theirs)
        # The same name in an organisation is another session.
        mine = begin(org, "secret-visit")
        assert second.call("join_session", {"sessionId": "secret-visit"})["ok"]
        second.until("on:ready", lambda told: told["sessionId"] == "secret-visit")
        task = say(org, mine)
        assert second.until("on:agent_update")["taskId"] == task


# ── permissions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_client_hears_what_it_may_where_it_may(address: str, org: UUID) -> None:
    here, there = make_location(org, "here"), make_location(org, "there")
    key = make_key(org, SECRET_KEY, user=make_user(org, "staff", at="here"))
    with connected(address, key) as caller:
        assert caller.call("subscribe", {})["ok"]
        caller.until("ready")
        hidden, shown = begin(org, at=there), begin(org, at=here)
        assert caller.call("subscribe", {"conversation": hidden})["error"]["status"] == 404
        say(org, hidden)
        task = say(org, shown)
        assert caller.until("task.accepted")["data"]["task_id"] == task


def test_a_key_without_the_permission_may_not_subscribe(address: str, org: UUID) -> None:
    key = make_key(org, SECRET_KEY, scopes=["tasks:read"])
    with connected(address, key) as caller:
        refused = caller.call("subscribe", {})
        assert refused["error"]["status"] == 403
        assert "events:read" in refused["error"]["detail"]
        assert caller.call("subscribe", {"task": str(submit(org).id)})["ok"]


@pytest.mark.parametrize("subscribes", [True, False])
def test_a_client_is_disconnected_when_its_key_is_revoked(address: str, org: UUID, key: str, subscribes: bool) -> None:
    with node(address, key) as caller:
        caller.until("open")
        if subscribes:
            caller.call("subscribe", {})
            caller.until("on:ready")
        with db.system_transaction() as connection:
            connection.execute(text("UPDATE api_keys SET revoked_at = rota_now() WHERE org_id = :org"), {"org": org})
        forget_keys()
        gone = caller.until("disconnect")
        assert gone == {"reason": "io server disconnect", "active": False}  # it does not try again by itself
        assert caller.until("on:exception")["error"]["status"] == 401


def test_a_client_is_disconnected_when_it_loses_the_permission(address: str, org: UUID) -> None:
    user = make_user(org, "manager")
    with connected(address, make_key(org, SECRET_KEY, user=user)) as caller:
        caller.call("subscribe", {})
        caller.until("ready")
        with db.system_transaction() as connection:
            connection.execute(text("DELETE FROM grants WHERE user_id = :user"), {"user": user})
        forget_keys()
        wait_until(lambda: caller.reasons, what="it is disconnected")
        assert caller.until("exception")["error"]["status"] == 403


# ── going on after a disconnect ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("namespace", ["/", "/events"])
def test_an_answer_that_is_cut_again_and_again_is_the_same_text(
    address: str, org: UUID, key: str, stage: Callable[..., Stage], namespace: str, every: int
) -> None:
    on = stage(PIECES)
    conversation = begin(org, "visit-17")
    join = {
        "/": {"event": "join_session", "data": {"sessionId": "visit-17"}, "last": "chat_response"},
        "/events": {"event": "subscribe", "data": {"conversation": conversation}, "last": "message.answered"},
    }[namespace]
    with javascript.start("resume.mjs", url=address, token=key, namespace=namespace, join=join, every=every) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        assert reader.stderr.readline() == "ready\n"
        say(org, conversation)
        worker = on.work()
        for said in range(5, len(PIECES) + 1, 5):
            on.talker.let_through(5)
            told: dict[str, Any] = {"text": ""}
            while len(told["text"]) < len("".join(PIECES[:said])):
                told = json.loads(reader.stdout.readline())
        on.talker.let_through()
        worker.join()
        while told["last"] != join["last"]:
            told = json.loads(reader.stdout.readline())
    assert told["text"] == TEXT
    assert told["cuts"] >= 40 / every


def test_the_rest_is_the_same_from_every_message_on(
    address: str, org: UUID, key: str, stage: Callable[..., Stage]
) -> None:
    on = stage(PIECES)
    conversation = begin(org)
    with connected(address, key) as caller:
        caller.call("subscribe", {"conversation": conversation})
        caller.until("ready")
        say(org, conversation)
        worker = on.work()
        for _ in range(20):
            heard = len(caller.named("message.delta"))
            on.talker.let_through(10)
            caller.until_number("message.delta", heard + 1)
        on.talker.let_through()
        caller.until("message.answered")
        worker.join()
        whole = [*caller.heard]
    assert _text_of(whole) == TEXT
    assert len(whole) > 20
    for number, (_, message) in list(enumerate(whole, start=1))[:-1:4]:
        with connected(address, key, subscribe={"conversation": conversation, "after": message["id"]}) as again:
            again.until("message.answered")
            assert _text_of([*whole[:number], *again.heard]) == TEXT


def _events_of(heard: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    """The events with their cursors, without how far the words around them were heard."""
    return [(name, message["id"].partition("_")[0]) for name, message in heard if "at" in message]


def _text_of(heard: list[tuple[str, Any]]) -> str:
    """The text that a client has put together."""
    said = ""
    for name, message in heard:
        if name == "message.delta":
            assert message["data"]["offset"] == len(said), message
            said += message["data"]["text"]
    return said


def test_two_processes_tell_the_same_and_a_client_goes_on_at_the_other(
    address: str, org: UUID, key: str, stage: Callable[..., Stage], tmp_path: Path
) -> None:
    on = stage(PIECES)
    conversation = begin(org)
    wanted = {"conversation": conversation}
    with api_command(tmp_path / "log") as other:
        with connected(address, key) as first, connected(other, key, subscribe=wanted) as second:
            first.call("subscribe", wanted)
            first.until("ready")
            second.until("ready")
            say(org, conversation)
            worker = on.work()
            on.talker.let_through(50)
            first.until("message.delta")
            heard = [*first.heard]
            on.talker.let_through()
            for one in (first, second):
                one.until("message.answered")
            assert _events_of(first.heard) == _events_of(second.heard)
            assert _text_of(first.heard) == _text_of(second.heard) == TEXT
        worker.join()
        with connected(other, key, subscribe=wanted | {"after": heard[-1][1]["id"]}) as again:
            again.until("message.answered")
            assert _text_of([*heard, *again.heard]) == TEXT


def test_a_cursor_that_is_too_old_is_told_by_a_reset(address: str, org: UUID, key: str) -> None:
    task = submit(org)
    with connected(address, key, after="9000000000000-1") as caller:
        reset = caller.until("reset")
        assert [one["id"] for one in reset["data"]["tasks"]] == [str(task.id)]
        assert caller.until("task.accepted")["data"]["task_id"] == str(task.id)


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("subscribe", {"after": "nonsense"}, "cursor"),
        ("subscribe", {"task": str(new_id()), "session": "x"}, "name a task, a conversation or a session"),
        ("subscribe", {"types": ["nothing.*"]}, "no kind of event"),
        ("subscribe", {"unknown": 1}, "unknown"),
        ("agent:subscribe", {}, "sessionId"),
        ("agent:subscribe", "visit-17", "data"),
    ],
)
def test_what_cannot_be_joined_is_refused_in_words(address: str, key: str, name: str, data: Any, problem: str) -> None:
    with connected(address, key) as caller:
        refused = caller.call(name, data)
        assert refused["error"]["status"] == 422
        assert problem in refused["error"]["detail"]


def test_a_room_is_left(address: str, org: UUID, key: str) -> None:
    conversation = begin(org, "visit-17")
    with connected(address, key) as caller:
        for join, leave, data in (
            ("subscribe", "unsubscribe", {"session": "visit-17"}),
            ("agent:subscribe", "agent:unsubscribe", {"sessionId": "visit-17"}),
        ):
            assert caller.call(join, data)["ok"]
            caller.until("ready")
            assert caller.call(leave, data)["ok"]
        wait_until(lambda: feed.size == 1, what="only the connection itself listens")
        say(org, conversation)
        assert caller.call("subscribe", {"after": "0-0"})["ok"]
        caller.until("task.accepted")
        assert caller.named("agent.status") == []


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_connections_and_rooms_count_as_streams(org: UUID, key: str) -> None:
    with configured(max_streams_organisation="2"), api() as url, connected(url, key) as caller:
        wait_until(lambda: feed.size == 1)
        assert caller.call("subscribe", {})["ok"]
        caller.until("ready")
        assert caller.call("subscribe", {"types": ["task.*"]})["ok"]  # instead of the one before
        wait_until(lambda: feed.size == 2)
        refused = caller.call("agent:subscribe", {"sessionId": begin(org)})
        assert refused["error"]["status"] == 429
        with node(url, key) as second:
            assert second.until("connect_error")["data"]["status"] == 429


def test_a_client_that_takes_nothing_is_closed_and_slows_nobody(config: Settings, org: UUID, key: str) -> None:
    with configured(send_timeout="1"):
        app = make_app()
        with api(app) as url, connected(url, key, subscribe={}) as other:
            other.until("ready")
            slow = Poller(url)
            slow.send(f"40/events,{json.dumps({'token': key, 'subscribe': {}})}")
            wait_until(lambda: "40/events" in slow.poll(), what="it is connected")
            for number in range(50):
                raise_event(org, str(number))
            other.until_number("event.raised", 50)
            wait_until(lambda: len(_sockets(app)[0]) == 1, what="the slow one is closed")
            slow.http.close()


def test_a_websocket_that_reads_nothing_is_cut_off_and_slows_nobody(config: Settings, org: UUID, key: str) -> None:
    with configured(send_timeout="1"):
        app = make_app()
        with api(app) as url, connected(url, key, subscribe={}) as other, _deaf_websocket(url, key) as deaf:
            other.until("ready")
            wait_until(lambda: len(_sockets(app)[1]) == 2, what="it is connected")
            sent = 0
            while len(_sockets(app)[0]) > 1:  # until all buffers on the way are full
                sent += 1
                raise_event(org, f"{sent}", "x" * 500_000)
                other.until_number("event.raised", sent)
            port = deaf.getsockname()[1]
            wait_until(lambda: port not in _ports_served(), what="the server has closed its end")


def _ports_served() -> set[int]:
    """The ports at the other end of this process's connections."""
    return {one.raddr.port for one in psutil.Process().net_connections("tcp") if one.raddr}


@contextlib.contextmanager
def _deaf_websocket(url: str, key: str) -> Iterator[socket.socket]:
    """A websocket that subscribes and never reads."""
    packet = f"40/events,{json.dumps({'token': key, 'subscribe': {}})}".encode()
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        opened.connect(("127.0.0.1", httpx2.URL(url).port or 0))
        opened.sendall(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert opened.recv(100).startswith(b"HTTP/1.1 101")
        # A frame of text (RFC 6455, section 5.2), masked with zeros.
        opened.sendall(b"\x81\xfe" + struct.pack("!H", len(packet)) + bytes(4) + packet)
        yield opened


class Poller:
    """A client that polls when it is told to."""

    def __init__(self, url: str) -> None:
        self.http = httpx2.Client(base_url=url, trust_env=False, timeout=10)
        self.query = {"EIO": "4", "transport": "polling"}
        self.query["sid"] = json.loads(self.poll()[1:])["sid"]

    def poll(self) -> str:
        return self.http.get("/socket.io/", params=self.query).text

    def send(self, packet: str) -> httpx2.Response:
        return self.http.post("/socket.io/", params=self.query, content=packet.encode())


def test_a_session_that_has_ended_is_refused_in_words(address: str) -> None:
    poller = Poller(address)
    assert poller.send("1").status_code == 200  # Engine.IO's packet for a close
    for answer in (poller.send("40"), poller.http.get("/socket.io/", params=poller.query)):
        assert answer.status_code == 400
        assert answer.json()["detail"] == "This Socket.IO session has ended. Connect again."
    poller.http.close()


def test_messages_that_are_too_large_are_refused(address: str, key: str) -> None:
    poller = Poller(address)
    answer = poller.send("4" + "x" * 30_000)
    assert answer.status_code == 413
    poller.http.close()
    with _websocket(address) as opened:
        opened.recv(timeout=10)
        opened.send("4" + "x" * 30_000)
        with pytest.raises(ConnectionClosed):
            opened.recv(timeout=10)


@pytest.mark.parametrize("packet", ["x", "", "4x", "42", '42["subscribe"', "451-", "4" + "9" * 300, "6", b"\x00\xff"])
def test_packets_that_are_none_harm_nobody(config: Settings, org: UUID, key: str, packet: str | bytes) -> None:
    app = make_app()
    with api(app) as url, connected(url, key, subscribe={}) as other:
        other.until("ready")
        with _websocket(url) as opened:
            opened.recv(timeout=10)
            opened.send(f"40/events,{json.dumps({'token': key})}")
            assert opened.recv(timeout=10).startswith("40/events")
            opened.send(packet)
            with contextlib.suppress(Exception):
                opened.send('42/events,1["subscribe",{}]')
        wait_until(lambda: len(_sockets(app)[0]) == 1, what="nothing is left of it")
        raise_event(org, "still.here")
        other.until("event.raised")


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_when_the_server_stops_clients_connect_again_elsewhere(org: UUID, key: str, transport: str) -> None:
    port = free_port()
    with api(port=port) as url:
        caller = node(url, key, transports=[transport], reconnection=True)
        opened = caller.__enter__()
        opened.until("open")
        opened.call("subscribe", {})
    assert opened.until("disconnect")["active"]
    with api(port=port):
        wait_until(lambda: len(opened.named("connect")) == 2, what="it connects again")
        caller.__exit__(None, None, None)


def _server(app: Any) -> SocketServer:
    mounted = next(route.app for route in app.routes if isinstance(route, Mount) and route.path == "/socket.io")
    assert isinstance(mounted, SocketServer)
    return mounted


def _sockets(app: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The clients and the connections that a server knows of."""
    server = _server(app)
    return server._clients, server._connections


@contextlib.contextmanager
def _websocket(url: str) -> Iterator[Any]:
    address = url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    with open_websocket(address, proxy=None, max_size=None, close_timeout=1) as opened:
        yield opened
