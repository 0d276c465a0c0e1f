"""What a model says is heard while it is said, and whole in the end: whatever breaks on the way."""

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
import redis

from agents.llm.models import Models
from api.app import make_app
from core.settings import Settings
from core.words import stream_of
from domain.tasks.schemas import SubmissionContext
from tests.support.desk import Desk
from tests.support.factories import change_agent, make_key, owner_of, publish, submission, submit_within
from tests.support.models import Talker
from tests.support.servers import SECRET_KEY, serving, wait_until
from tests.support.streams import Message, stream
from workers.words import RedisSink

PIECES = [f"{number} ñ🎉 " for number in range(200)]
TEXT = "".join(PIECES)


@pytest.fixture(scope="module")
def address(config: Settings) -> Iterator[str]:
    with serving(make_app()) as url:
        yield url


@dataclass
class Stage:
    """An agent whose model is a talker, a worker that runs it, and the API."""

    org: UUID
    key: str
    address: str
    talker: Talker
    desk: Desk
    sink: RedisSink

    def submit(self, *, is_streamed: bool = True) -> UUID:
        context = SubmissionContext(user_id=owner_of(self.org), is_streamed=is_streamed)
        task = submit_within(self.org, submission("Say it."), context)
        publish(self.org, task.id)
        return task.id

    def begin(self, task: UUID, number: int = 0) -> threading.Thread:
        """Have the worker begin with a task."""
        thread = threading.Thread(target=self.desk.executor.execute, args=(self.org, task, number), daemon=True)
        thread.start()
        return thread

    def stream(self, task: UUID, after: str | None = None, **parameters: Any) -> Any:
        return stream(f"{self.address}/v1/tasks/{task}/events", self.key, after=after, **parameters)


@pytest.fixture
def stage(org: UUID, address: str, config: Settings) -> Iterator[Callable[..., Stage]]:
    ends: list[Callable[[], Any]] = []

    def make(*answers: list[str], every: float = 0.0) -> Stage:
        talker = Talker(*answers)
        served = serving(talker.app())
        url = served.__enter__()
        ends.extend([lambda: served.__exit__(None, None, None), talker.let_through])
        sink = RedisSink(config.redis_url, every=every)
        sink.start()
        desk = Desk(Models(Settings(openai_base_url=f"{url}/v1", openai_api_key="k")), sink)
        ends.extend([desk.close, sink.stop])
        change_agent(org, "support-assistant", model="gpt-4o-mini", fallback_model=None)
        return Stage(org, make_key(org, SECRET_KEY), address, talker, desk, sink)

    yield make
    for end in reversed(ends):
        end()


def heard(messages: list[Message]) -> str:
    """The text that a client has put together."""
    text = ""
    for message in messages:
        if message.event == "message.superseded":
            text = ""
        elif message.event == "message.delta":
            assert message.data["offset"] == len(text), message
            text += message.data["text"]
    return text


def test_words_come_while_they_are_said(stage: Callable[..., Stage]) -> None:
    on = stage(["Hello ", "Ana, ", "welcome."])
    task = on.submit()
    with on.stream(task) as opened:
        worker = on.begin(task)
        on.talker.let_through(1)
        first = opened.until("message.delta")[-1]
        assert (first.data["text"], first.data["offset"]) == ("Hello ", 0)
        on.talker.let_through()
        rest = list(opened)
    worker.join()
    assert heard([first, *rest]) == "Hello Ana, welcome."
    assert [message.event for message in rest][-3:] == ["decision.made", "task.step", "task.ended"]
    assert next(message for message in rest if message.event == "decision.made").data["text"] == "Hello Ana, welcome."


def test_two_hundred_deltas_cut_at_every_one_while_they_are_said(stage: Callable[..., Stage]) -> None:
    on = stage(PIECES)
    task = on.submit()
    worker = on.begin(task)
    on.talker.let_through()
    messages: list[Message] = []
    while not messages or messages[-1].event != "task.ended":
        after = messages[-1].id if messages else None
        with on.stream(task, after) as opened:
            messages += itertools.islice(opened, 1)
    worker.join()
    assert heard(messages) == TEXT


def test_the_rest_is_the_same_from_every_point_on(stage: Callable[..., Stage]) -> None:
    on = stage(PIECES)
    task = on.submit()
    whole: list[Message] = []
    with on.stream(task) as opened:
        worker = on.begin(task)
        for _ in range(20):
            on.talker.let_through(4)
            whole += opened.until("message.delta")
        on.talker.let_through()
        whole += opened
    worker.join()
    assert len([message for message in whole if message.event == "message.delta"]) > 20
    assert heard(whole) == TEXT
    for number, message in enumerate(whole[:-1], start=1):
        with on.stream(task, message.id) as opened:
            assert heard([*whole[:number], *opened]) == TEXT
    with on.stream(task, whole[-1].id) as opened:
        assert opened.response.status_code == 204


def test_a_late_listener_gets_what_was_said(stage: Callable[..., Stage]) -> None:
    on = stage(["Hello ", "Ana."])
    task = on.submit()
    worker = on.begin(task)
    on.talker.let_through(1)
    wait_until(lambda: on.talker.asked, what="the model is asked")
    with on.stream(task) as opened:
        seen = opened.until("message.delta")
        assert heard(seen) == "Hello "
        on.talker.let_through()
        seen += opened
    worker.join()
    assert heard(seen) == "Hello Ana."


def test_a_plain_task_is_streamed_for_a_listener_alone(stage: Callable[..., Stage]) -> None:
    on = stage(["Not ", "heard."], ["Heard ", "well."])
    on.talker.let_through()
    alone, listened = on.submit(is_streamed=False), on.submit(is_streamed=False)
    on.begin(alone).join()
    assert "stream" not in on.talker.asked[0]
    with on.stream(listened) as opened:
        opened.until("task.accepted")
        wait_until(lambda: str(listened) in on.sink._listened_to, what="the worker knows of the listener")
        on.begin(listened).join()
        seen = list(opened)
    assert on.talker.asked[1]["stream"] is True
    assert heard(seen) == "Heard well."
    with on.stream(alone) as opened:  # it gets the words from the journal
        assert heard(list(opened)) == "Not heard."


@pytest.mark.parametrize("when", [0, 1, 2])
def test_redis_emptied_in_the_middle_costs_no_word(stage: Callable[..., Stage], config: Settings, when: int) -> None:
    on = stage(["One ", "two ", "three."])
    task = on.submit()
    client = redis.Redis.from_url(config.redis_url)
    with on.stream(task) as opened:
        worker = on.begin(task)
        on.talker.let_through(when)
        wait_until(lambda: client.xlen(stream_of(task)) >= when, what="the words so far are in Redis")
        client.flushall()
        on.talker.let_through()
        seen = list(opened)
    worker.join()
    assert heard(seen) == "One two three."


def test_a_step_that_is_tried_again_says_so(stage: Callable[..., Stage]) -> None:
    on = stage(["Something ", "else", ""], ["The ", "answer."])
    change_agent(on.org, "support-assistant", retry={"base": 0.001, "ceiling": 0.001})
    task = on.submit()
    on.talker.let_through()
    with on.stream(task) as opened:
        on.begin(task).join()
        seen = opened.until("task.queued")
        publish(on.org, task)
        on.begin(task, 1).join()
        seen += opened
    assert heard(seen) == "The answer."
    superseded = next(message for message in seen if message.event == "message.superseded")
    assert (superseded.data["claim"], superseded.data["attempt"]) == (2, 1)


def test_words_alone_can_be_asked_for(stage: Callable[..., Stage]) -> None:
    on = stage(["Hello ", "Ana."])
    task = on.submit()
    on.talker.let_through()
    with on.stream(task, type="message.*") as opened:
        on.begin(task).join()
        seen = list(opened)
    assert {message.event for message in seen} == {"message.delta", "task.ended"}
    assert heard(seen) == "Hello Ana."
