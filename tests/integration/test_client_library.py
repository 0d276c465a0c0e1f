"""The client library against the real API, with a worker: for threads and for asyncio."""

import asyncio
import contextlib
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agents.llm.models import Models
from api.app import make_app
from core.ids import new_id
from core.settings import ROOT, Settings
from rota_client import (
    AsyncRota,
    ClientTool,
    Conflict,
    Event,
    InvalidRequest,
    NotAuthenticated,
    NotEnded,
    NotFound,
    NotPermitted,
    PreconditionRequired,
    Rota,
    Task,
    ToolResult,
    TooManyRequests,
    Turn,
    calls,
)
from tests.support.desk import Desk
from tests.support.factories import change_agent, dispatch, make_key, make_location, make_organisation
from tests.support.files import CSV, PNG
from tests.support.models import Parrot, Talker, asking, saying
from tests.support.servers import SECRET_KEY, configured, serving
from workers.words import RedisSink

AGENT = "support-assistant"
WEATHER = ClientTool(
    name="get_weather",
    description="The weather in a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
IN_LISBON = ("get_weather", '{"city": "Lisbon"}')
TELL = ("notify_staff", '{"role": "owner", "title": "Rain", "body": "Bring towels."}')


@pytest.fixture(scope="module")
def url(config: Settings) -> Iterator[str]:
    with serving(make_app()) as served:
        yield served


class House:
    """An organisation with a client, and a worker whose model says what the test wants."""

    def __init__(self, org: UUID, url: str, model: Any, desk: Desk) -> None:
        self.org, self.url, self.model, self._desk = org, url, model, desk
        self.key = make_key(org, SECRET_KEY)
        self.rota = Rota(url, self.key, trust_env=False)
        self._is_closing = threading.Event()

    def work(self) -> None:
        """Do what is due, until nothing is."""
        while due := [one for one in dispatch() if one.org_id == self.org]:
            for one in due:
                self._desk.executor.execute(one.org_id, one.id, one.claim)

    def keep_working(self) -> "Future[None]":
        """Do what is due in the background, until the house is closed."""

        def work_on() -> None:
            while not self._is_closing.wait(0.02):
                self.work()

        return self._desk.background.submit(work_on)

    def run(self, act: Callable[[AsyncRota], Any]) -> Any:
        """The result of what a client for asyncio does."""

        async def opened() -> Any:
            async with AsyncRota(self.url, self.key, trust_env=False) as rota:
                return await act(rota)

        return asyncio.run(opened())

    def close(self) -> None:
        self._is_closing.set()
        self.rota.close()


def house_with(model: Parrot | Talker, org: UUID, url: str, config: Settings) -> Iterator[House]:
    sink = RedisSink(config.redis_url, every=0.0)
    sink.start()
    with serving(model.app()) as served:
        desk = Desk(Models(Settings(openai_base_url=f"{served}/v1", openai_api_key="k")), sink)
        change_agent(org, AGENT, model="gpt-4o-mini", fallback_model=None)
        made = House(org, url, model, desk)
        yield made
        made.close()
        if isinstance(model, Talker):
            model.let_through()
        desk.close()
    sink.stop()


@pytest.fixture
def house(org: UUID, url: str, config: Settings) -> Iterator[House]:
    """With a model that answers at once, whole."""
    yield from house_with(Parrot(), org, url, config)


@pytest.fixture
def talking(org: UUID, url: str, config: Settings) -> Iterator[House]:
    """With a model that says its answers piece by piece."""
    yield from house_with(Talker(), org, url, config)


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_is_submitted_with_all_that_it_can_have_and_waited_for(house: House) -> None:
    make_location(house.org, "north")
    hook = house.rota.request("POST", "/v1/webhooks", body={"url": "http://127.0.0.1:9/hook", "events": ["*"]})
    now = datetime.now(UTC)
    house.model.answers = [saying("Yes, at nine.")]
    task = house.rota.submit(
        AGENT,
        "Is there yoga?",
        context={"page": "/classes", "nothing": None},
        history=[Turn(role="user", text="Hi"), Turn(role="assistant", text="Hello!")],
        is_from_outside=True,
        has_outside_context=True,
        client_tools=[WEATHER],
        priority="high",
        run_after=now,
        deadline=now + timedelta(hours=2),
        expires_at=now + timedelta(hours=1),
        concurrency_key="visit-17",
        for_user="owner@example.com",
        location="north",
        notify=hook["url"],
        idempotency_key="once",
    )
    assert (task.status, task.priority, task.concurrency_key, task.run_after) == ("queued", "high", "visit-17", now)
    assert task.input["context"] == {"page": "/classes", "nothing": None}
    assert task.input["is_from_outside"] is task.input["has_outside_context"] is True
    assert [turn["text"] for turn in task.input["history"]] == ["Hi", "Hello!"]
    assert task.location_id is not None
    assert "visit-17" in house.rota.why(task).why

    house.keep_working()
    ended = house.rota.wait(task, timeout=30)
    assert (ended.status, ended.answer, ended.has_ended) == ("succeeded", "Yes, at nine.", True)
    assert [step.stage for step in ended.steps] == ["perceive", "decide", "learn"]
    assert ended.billed_cost > 0


def test_a_submission_whose_answer_was_lost_is_one_task(house: House) -> None:
    call = calls.submit(AGENT, "Hi")
    first, again = house.rota.send(call), house.rota.send(call)
    assert first.id == again.id
    with pytest.raises(Conflict, match="different"):
        house.rota.submit(AGENT, "Other", idempotency_key=call.headers["idempotency-key"])
    assert [task.id for task in house.rota.tasks()] == [first.id]


def test_waiting_ends_in_time_and_the_task_goes_on(house: House) -> None:
    task = house.rota.submit(AGENT, "Hi")
    with pytest.raises(NotEnded, match=r"is queued\. It goes on") as caught:
        house.rota.wait(task.id, timeout=0.2)
    assert caught.value.task.id == task.id


def test_tasks_are_cancelled_retried_and_replayed(house: House) -> None:
    task = house.rota.submit(AGENT, "Hi")
    assert house.rota.cancel(task).status == "cancelled"
    assert house.rota.retry(task).status == "queued"
    house.rota.cancel(task)
    replayed = house.rota.replay(task, message="Hello", priority="low")
    assert (replayed.origin_id, replayed.input["message"], replayed.priority) == (task.id, "Hello", "low")
    with pytest.raises(Conflict, match="not in question"):
        house.rota.settle(task, 3, "happened", note="receipt 7")


def test_lists_are_read_in_pages(house: House) -> None:
    made = [house.rota.submit(AGENT, str(number)).id for number in range(5)]
    assert [task.id for task in house.rota.tasks(limit=2)] == made[::-1]
    page = house.rota.send(calls.tasks(status=["queued"], limit=4))
    assert len(page.items) == 4
    assert page.next is not None
    last = house.rota.send(page.next)
    assert ([task.id for task in last.items], last.next) == (made[:1], None)
    assert next(house.rota.tasks(ids=made[:2], limit=1)).id == made[1]

    async def listed(rota: AsyncRota) -> list[UUID]:
        return [task.id async for task in rota.tasks(limit=2, created_after=datetime(2020, 1, 1, tzinfo=UTC))]

    assert house.run(listed) == made[::-1]


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_is_heard_while_it_is_said(talking: House) -> None:
    talking.model.answers = [["Yes, ", "at ", "nine."]]
    task = talking.rota.submit(AGENT, "Is there yoga?")
    with talking.rota.follow(task) as events:
        assert next(iter(events)).type == "task.accepted"
        talking.keep_working()
        texts = []
        for event in events:
            talking.model.let_through(1)
            texts += [events.text()] if event.type == "message.delta" else []
        assert texts[-1] == events.text() == "Yes, at nine."
    assert event.type == "task.ended"
    assert events.has_ended
    assert [event.type for event in talking.rota.follow(task, after=events.cursor)] == []


def test_a_stream_that_is_cut_anywhere_goes_on_where_it_was(talking: House) -> None:
    pieces = [f"{number} " for number in range(12)]
    talking.model.answers = [list(pieces)]
    sent = talking.rota.say(talking.rota.begin(AGENT), "Count")
    talking.keep_working()
    heard: list[Event] = []
    after = None
    while not heard or heard[-1].type != "task.ended":
        talking.model.let_through(1)
        with talking.rota.follow(sent, after=after) as events:
            heard += itertools.islice(events, 1)
            after = events.cursor
    assert len({event.id for event in heard}) == len(heard)
    said = "".join(event.data["text"] for event in heard if event.type == "message.delta")
    assert said == "".join(pieces)


class Cutting(httpx2.HTTPTransport):
    """A network that cuts every stream after some bytes, until it was cut so often."""

    def __init__(self, after: int, times: int) -> None:
        super().__init__()
        self.after, self.times, self.cut = after, times, 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if "event-stream" not in response.headers.get("content-type", "") or self.cut == self.times:
            return response
        self.cut += 1
        inner, most = response.stream, self.after

        class Cut(httpx2.SyncByteStream):
            def __iter__(self) -> Iterator[bytes]:
                left = most
                for chunk in inner:  # type: ignore[union-attr]
                    yield chunk[:left]
                    left -= len(chunk)
                    if left <= 0:
                        raise httpx2.ReadError("cut")

            def close(self) -> None:
                inner.close()  # type: ignore[union-attr]

        return httpx2.Response(200, headers=response.headers, stream=Cut())


def test_a_network_that_cuts_is_not_noticed(house: House) -> None:
    house.model.answers = [saying("Yes.")]
    task = house.rota.submit(AGENT, "Hi")
    house.work()
    whole = [event for event in house.rota.follow(task) if not event.type.startswith("message.")]
    with Rota(house.url, house.key, transport=(cutting := Cutting(500, 4))) as rota:
        events = rota.follow(task)
        assert [event for event in events if not event.type.startswith("message.")] == whole
        assert events.text() == "Yes."
    assert cutting.cut == 4


def test_the_organisation_is_followed_live_and_in_pages(house: House) -> None:
    with house.rota.follow_all(types=["task.*"], agent=AGENT) as events:
        assert next(iter(events)).type == "ready"
        task = house.rota.submit(AGENT, "Hi")
        event = next(iter(events))
        assert (event.type, event.data["task_id"]) == ("task.accepted", str(task.id))
        assert event.at is not None
    house.rota.cancel(task)
    page = house.rota.events(task=task)
    assert [event.type for event in page.events] == ["task.accepted", "task.ended"]
    assert page.events[0] == event
    assert page.is_complete
    assert house.rota.events(page.next_after, types=["task.*"]).events == []


def test_a_stream_needs_a_valid_key(house: House) -> None:
    with Rota(house.url, house.key[:-1] + "x") as stranger, pytest.raises(NotAuthenticated):
        next(iter(stranger.follow_all()))


def test_a_stream_too_many_is_refused_after_a_while(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota_client.streams._PAUSES", (0.01,))
    monkeypatch.setattr("rota_client.retries.LONGEST_PAUSE", 0.01)
    with configured(max_streams_organisation="1"), house.rota.follow_all() as first:
        next(iter(first))
        with pytest.raises(TooManyRequests):
            next(iter(house.rota.follow_all()))


# ── tools of the client ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tool_of_the_client_is_carried_out_while_it_waits(house: House) -> None:
    house.model.answers = [asking(IN_LISBON), saying("No umbrella.")]
    task = house.rota.submit(AGENT, "Umbrella?", client_tools=[WEATHER])
    house.keep_working()
    asked = []

    def get_weather(city: str) -> dict[str, str]:
        asked.append(city)
        return {"sky": "clear"}

    ended = house.rota.wait(task, timeout=30, tools={"get_weather": get_weather})
    assert (ended.answer, asked) == ("No umbrella.", ["Lisbon"])
    told = json.loads(house.model.asked[1]["messages"][-1]["content"])
    assert told == {"untrusted_data": {"sky": "clear"}}


def test_an_async_tool_is_awaited_and_one_that_fails_is_told(house: House) -> None:
    house.model.answers = [asking(IN_LISBON), asking(IN_LISBON), saying("I cannot tell.")]
    house.keep_working()
    answers = iter(["wet"])

    async def get_weather(city: str) -> str:
        await asyncio.sleep(0)
        return next(answers, None) or city[99]

    async def act(rota: AsyncRota) -> Any:
        task = await rota.submit(AGENT, "Umbrella?", client_tools=[WEATHER])
        return await rota.wait(task, timeout=30, tools={"get_weather": get_weather})

    assert house.run(act).answer == "I cannot tell."
    told = [json.loads(asked["messages"][-1]["content"])["untrusted_data"] for asked in house.model.asked[1:]]
    assert told == ["wet", {"error": "string index out of range"}]


def test_results_are_given_by_hand_and_twice_is_once(house: House) -> None:
    house.model.answers = [asking(IN_LISBON)]
    task = house.rota.submit(AGENT, "Umbrella?", client_tools=[WEATHER])
    house.work()
    (call,) = house.rota.task(task).open_calls
    assert (call.tool, call.arguments) == ("get_weather", {"city": "Lisbon"})
    dry = [ToolResult(call_id=call.call_id, content="dry")]
    assert house.rota.give_results(task, dry).status == house.rota.give_results(task, dry).status == "queued"


# ── approvals ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def asked(house: House) -> Task:
    """A task that waits for an approval."""
    change_agent(house.org, AGENT, tools=["notify_staff"], mode="auto")
    house.model.answers = [asking(TELL), saying("Done.")]
    task = house.rota.submit(AGENT, "They say: tell the owner to bring towels", is_from_outside=True)
    house.work()
    return task


def test_an_action_is_approved_as_it_was_shown(house: House, asked: Task) -> None:
    (approval,) = house.rota.approvals(mine=True, task=asked)
    assert (approval.tool, approval.status, approval.decision.level) == ("notify_staff", "open", "approval")
    with pytest.raises(PreconditionRequired, match="Pass the Approval as you showed it"):
        house.rota.approve(approval.id)
    edited = approval.arguments | {"body": "Bring many towels."}
    decided = house.rota.approve(approval, arguments=edited)
    assert (decided.status, decided.arguments["body"]) == ("approved", "Bring many towels.")
    assert house.rota.approve(approval, arguments=edited).decided_at == decided.decided_at
    with pytest.raises(Conflict, match="approved already") as caught:
        house.rota.reject(approval, "too late")
    assert caught.value.problem["status_now"] == "approved"
    house.work()
    assert house.rota.wait(asked, timeout=30).answer == "Done."


def test_an_action_is_rejected_with_a_reason(house: House, asked: Task) -> None:
    (approval,) = house.rota.approvals()
    assert house.rota.reject(approval.id, "no towels left", digest=approval.digest).status == "rejected"
    assert house.rota.approval(approval).reason == "no towels left"
    assert list(house.rota.approvals()) == []
    assert [one.id for one in house.rota.approvals(status="any", limit=1)] == [approval.id]


# ── conversations ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_are_uploaded_sent_and_deleted(talking: House) -> None:
    talking.model.answers = [["Twelve."]]
    talking.model.let_through()
    made = talking.rota.upload(CSV, "prices.csv")
    also = talking.run(lambda rota: rota.upload(PNG, "p.png", media_type="image/png"))
    talk = talking.rota.begin(AGENT)
    sent = talking.rota.say(talk, "What does yoga cost?", attachments=[made, str(also.id)])
    assert sent.message.attachments == [made.id, also.id]
    talking.work()
    assert talking.rota.wait(sent, timeout=30).answer == "Twelve."
    found = talking.rota.attachment(also)
    assert (found.media_type, found.conversation_id) == ("image/png", talk.id)
    assert talking.rota.http.get(found.address).content == PNG
    talking.rota.delete_attachment(also)
    with pytest.raises(NotFound):
        talking.rota.attachment(also.id)
    with pytest.raises(InvalidRequest, match="not text"):
        talking.rota.upload(b"a\x00", "a.txt")


def test_a_conversation_is_held(talking: House) -> None:
    talking.model.answers = [["One."], ["Two."], ["Anew."], ["Other."]]
    talking.model.let_through()
    talk = talking.rota.begin(AGENT, session="visit-17", context={"plan": "gold"})
    first = talking.rota.say(talk, "first", context={"page": "/"})
    talking.work()
    assert talking.rota.wait(first, timeout=30).answer == "One."
    second = talking.rota.say(talk.id, "second")
    talking.work()
    anew = talking.rota.regenerate(second.answer)
    talking.work()
    edited = talking.rota.edit(second.message, "other")
    talking.work()
    assert edited.message.parent_id == second.message.parent_id == first.answer.id
    said = [(one.text, one.is_current) for one in talking.rota.messages(talk, limit=2)]
    assert said == [
        ("first", True), ("One.", True), ("second", False), ("Two.", False), ("Anew.", False), ("other", True),
        ("Other.", True),
    ]  # fmt: skip
    assert [one.text for one in talking.rota.latest_messages(talk, limit=2)] == ["other", "Other."]
    assert [one.text for one in talking.rota.latest_messages(talk, before=anew.position, limit=1)] == ["Two."]
    assert talking.rota.conversation(talk).messages == 7
    assert [one.id for one in talking.rota.conversations(session="visit-17", search="other")] == [talk.id]
    assert talking.rota.change_conversation(talk, title="Yoga", is_archived=True).title == "Yoga"
    assert list(talking.rota.conversations()) == []
    assert [one.title for one in talking.rota.conversations(is_archived=True)] == ["Yoga"]
    talking.rota.delete_conversation(talk)
    with pytest.raises(NotFound):
        talking.rota.conversation(talk)


def test_an_answer_is_streamed_and_stopped_by_a_client_for_asyncio(talking: House) -> None:
    talking.model.answers = [["Let me ", "tell you ", "a long story."]]
    talking.keep_working()

    async def act(rota: AsyncRota) -> Any:
        talk = await rota.begin(AGENT)
        async with rota.follow_conversation(talk, types=["message.*"]) as events:
            listening = aiter(events)
            assert (await anext(listening)).type == "ready"
            sent = await rota.say(talk, "Tell me")
            talking.model.let_through(2)
            event = await anext(listening)
            while events.text(str(sent.answer.task_id)) != "Let me tell you ":
                event = await anext(listening)
            assert await rota.stop(talk) == 1
            while event.type != "message.answered":
                event = await anext(listening)
        with pytest.raises(StopAsyncIteration):
            await anext(listening)
        assert [event.type async for event in rota.follow(sent)][-1] == "task.ended"
        return [message async for message in rota.messages(talk)]

    _, answer = talking.run(act)
    assert (answer.status, answer.text) == ("stopped", "Let me tell you ")


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_errors_are_typed_and_say_what_is_wrong(house: House) -> None:
    with pytest.raises(InvalidRequest, match="blank") as caught:
        house.rota.submit(AGENT, " ")
    assert list(caught.value.fields) == ["input"]
    with pytest.raises(NotFound, match="nobody"):
        house.rota.submit("nobody", "Hi")
    stranger = Rota(house.url, make_key(make_organisation(f"other-{new_id().hex[-8:]}"), SECRET_KEY), trust_env=False)
    with stranger, pytest.raises(NotFound):
        stranger.task(house.rota.submit(AGENT, "Hi"))
    narrow = Rota(house.url, make_key(house.org, SECRET_KEY, scopes=["agents:read"]), trust_env=False)
    with narrow, pytest.raises(NotPermitted, match="Use a key of a user with the permission"):
        narrow.submit(AGENT, "Hi")


# ── the page that explains it ────────────────────────────────────────────────────────────────────────────────────────

EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "client.md").read_text(), re.MULTILINE | re.DOTALL)


class Obliging(Talker):
    """Asks for the weather if that is offered, and then has an answer for everything."""

    async def _answer(self, request: Request) -> Response:
        self.answers = [["Yes, ", "at nine."]]
        body = await request.json()
        offered = {tool["function"]["name"] for tool in body.get("tools", [])}
        if "get_weather" in offered and body["messages"][-1]["role"] != "tool":
            return JSONResponse(asking(IN_LISBON).body)
        return await super()._answer(request)


def test_the_examples_of_the_page_run(
    org: UUID, url: str, config: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Obliging()
    model.let_through()
    with contextlib.contextmanager(house_with)(model, org, url, config) as house:
        monkeypatch.setenv("ROTA_API_URL", house.url)
        monkeypatch.setenv("ROTA_API_KEY", house.key)
        house.keep_working()
        here: dict[str, Any] = {}
        for example in EXAMPLES:
            exec(example, here)  # noqa: S102  the examples of our own page
    printed = capsys.readouterr().out
    assert "succeeded Yes, at nine." in printed
    assert "404 There is no agent 'nobody'" in printed
    assert "support-assistant\n" in printed
    assert here["get_weather"]("Lisbon")["sky"] == "clear"
    assert len(EXAMPLES) == 11
