"""RabbitMQ instead of Redis. Runs where AMQP_TEST_URL names a virtual host that the test may empty."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest

from tests.support.installation import Installation, installation
from tests.support.servers import wait_until

URL = os.environ.get("AMQP_TEST_URL", "")
pytestmark = pytest.mark.skipif(not URL, reason="AMQP_TEST_URL names no RabbitMQ")


@pytest.fixture(scope="module")
def rota(home: Path) -> Iterator[Installation]:
    with installation(home / "rabbit", {"ROTA_BROKER_URL": URL}) as made:
        yield made


def test_tasks_of_every_priority_run(rota: Installation) -> None:
    ids = [rota.submit("What's on today?", priority=priority) for priority in ("low", "normal", "high", "critical")]
    assert {rota.ended(task_id)["status"] for task_id in ids} == {"succeeded"}


def test_what_a_lost_queue_held_is_published_again(rota: Installation) -> None:
    os.kill(rota.process_id("worker"), signal.SIGTERM)
    wait_until(lambda: rota.query("SELECT 1 FROM workers WHERE name = 'agents' AND stopped_at IS NOT NULL"))
    with rota.database() as connection:  # somebody who seems to serve the queue, so that there is something to lose
        connection.execute(
            "INSERT INTO workers (id, name, hostname, pid, queues, concurrency) "
            "VALUES ('ghost', 'ghost', 'nowhere', 1, '{normal}', 1)"
        )
    task_id = rota.submit("What's on today?")
    wait_until(lambda: rota.query("SELECT 1 FROM tasks WHERE id = %s AND dispatched_at IS NOT NULL", task_id))
    with kombu.Connection(URL) as broker:
        channel: Any = broker.channel()
        assert channel.queue_purge("normal") == 1
    assert rota.ended(task_id, seconds=60)["status"] == "succeeded"


def test_a_killed_worker_loses_nothing(rota: Installation) -> None:
    rota.director.expect("slow=3", match="(killed)")  # whichever of the two tries it meets
    task_id = rota.submit("hello (killed)")
    wait_until(lambda: rota.task(task_id)["status"] == "running", what="the task runs")
    os.kill(rota.process_id("worker"), signal.SIGKILL)
    assert rota.ended(task_id, seconds=60)["status"] == "succeeded"
