"""The broker on a real Valkey: what is published in which order, what it forgot, and messages that are not ours."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import redis
from celery import Celery

from core.errors import Unavailable
from core.ids import new_id
from core.settings import Settings
from domain.tasks.schemas import PRIORITIES, Due, Priority
from embedded.processes import free_port
from workers import queues
from workers.broker import Broker, RedisBroker, is_redis, make_broker, transport_options
from workers.flower import with_command

ORG = UUID(int=1)


def broker_at(url: str) -> Broker:
    app = Celery("test", broker=url, set_as_current=False)
    app.conf.update(task_queues=queues.declared(url), broker_transport_options=transport_options(url))
    app.conf.task_publish_retry = False
    return make_broker(app, task_name="rota.run_task", url=url)


@pytest.fixture
def server(config: Settings) -> Iterator[Any]:
    """The test process's Valkey, empty before and afterwards."""
    connection = redis.Redis.from_url(config.redis_url)
    connection.flushdb()
    yield connection
    connection.flushdb()
    connection.close()


@pytest.fixture
def broker(config: Settings, server: Any) -> Broker:
    return broker_at(config.redis_url)


def due(queue: Priority = "normal", claim: int = 0) -> Due:
    return Due(id=new_id(), org_id=ORG, claim=claim, queue=queue, agent="support-assistant")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/0", True), ("rediss://h", True), ("unix:///run/redis.sock", True),
        ("amqp://h//", False), ("amqps://redis/", False), ("pyamqp://h", False),
    ],
)  # fmt: skip
def test_the_kind_of_a_broker_is_told_by_its_address(url: str, expected: bool) -> None:
    assert is_redis(url) is expected
    assert ("confirm_publish" in transport_options(url)) is not expected
    assert isinstance(make_broker(Celery(set_as_current=False), task_name="t", url=url), RedisBroker) is expected


def test_messages_stand_on_their_queues_in_the_order_of_publishing_with_task_and_claim(
    broker: Broker, server: Any
) -> None:
    first, second, urgent = due(), due(claim=3), due("critical")
    broker.publish([first, second, urgent])
    assert broker.depths() == dict.fromkeys(PRIORITIES, 0) | {"normal": 2, "critical": 1}
    assert broker.published() == {(first.id, 0, "normal"), (second.id, 3, "normal"), (urgent.id, 0, "critical")}
    taken = [json.loads(server.brpop(["normal"])[1]) for _ in range(2)]
    assert [message["headers"]["id"] for message in taken] == [f"{first.id}.0", f"{second.id}.3"]
    assert [message["headers"]["shadow"] for message in taken] == ["support-assistant"] * 2
    assert broker.published() == {(urgent.id, 0, "critical")}
    broker.publish([])
    assert broker.depths()["normal"] == 0


@pytest.mark.parametrize(
    "message",
    [
        "", "no JSON", "\udcff", "7", "null", "[]", "{}", '{"headers": null}', '{"headers": []}',
        '{"headers": {"id": null}}', '{"headers": {"id": 5}}', '{"headers": {"id": "celery-id"}}',
        '{"headers": {"id": "01a226cf-76da-7660-b0ea-d292e445e0f2"}}',
        '{"headers": {"id": "01a226cf-76da-7660-b0ea-d292e445e0f2.x"}}',
    ],
)  # fmt: skip
def test_a_message_that_is_not_ours_hides_none_of_ours(broker: Broker, server: Any, message: str) -> None:
    ours = due()
    broker.publish([ours])
    server.lpush("normal", message.encode(errors="surrogateescape"))
    server.rpush("low", message.encode(errors="surrogateescape"))
    assert broker.published() == {(ours.id, 0, "normal")}
    assert broker.depths()["normal"] == 2  # but it takes a place


def test_a_broker_that_was_emptied_is_noticed_once_by_whoever_asks_first(
    config: Settings, broker: Broker, server: Any
) -> None:
    other = broker_at(config.redis_url)
    assert broker.has_forgotten()
    assert not broker.has_forgotten()
    assert not other.has_forgotten()
    server.flushdb()
    assert other.has_forgotten()
    assert not broker.has_forgotten()


def test_a_redis_that_is_not_there_is_unavailable_to_every_question() -> None:
    away = broker_at(f"redis://127.0.0.1:{free_port()}/")
    for question in (away.has_forgotten, away.depths, away.published):
        with pytest.raises(Unavailable):
            question()


@pytest.mark.parametrize(
    ("celery_id", "expected"),
    [
        ("01a226cf-76da-7660-b0ea-d292e445e0f2.12", "rota show 01a226cf-76da-7660-b0ea-d292e445e0f2"),
        ("01a226cf-76da-7660-b0ea-d292e445e0f2", "as it was"),
        ("a.b", "as it was"),
        ("", "as it was"),
    ],
)
def test_flower_shows_the_command_for_a_task_and_leaves_duties_as_they_are(celery_id: str, expected: str) -> None:
    assert with_command(SimpleNamespace(uuid=celery_id, args="as it was")).args == expected
