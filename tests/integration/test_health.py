"""Health tells of a worker that accepts nothing while tasks wait for it, and of no other."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from api.app import make_app
from cli.diagnosis import diagnose
from core import engines
from core.settings import Settings
from domain.workers import service as workers
from domain.workers.schemas import Vitals
from tests.support.clock import Clock, movable_clock
from tests.support.factories import claim, dispatch, make_key, register_worker, submit
from tests.support.servers import SECRET_KEY


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    with TestClient(make_app(), client=("health", 1), raise_server_exceptions=False) as made:
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
        yield made


@pytest.fixture
def clock(org: UUID) -> Iterator[Clock]:
    with movable_clock() as made:
        yield made


def beat(**vitals: Any) -> None:
    with engines.dedicated_connection(engines.SYSTEM) as connection:
        workers.beat(connection, "w1", Vitals(**{"concurrency": 2, "memory_bytes": 1, **vitals}))


def not_accepting(client: TestClient) -> list[str]:
    details = client.get("/health/detailed").json()
    said = [problem for problem in details["problems"] if "accepts no tasks" in problem]
    assert len(said) == len(details["not_accepting"])
    assert f"rota_workers_not_accepting {len(said)}.0" in client.get("/metrics").text
    return said


def without_seconds(problem: str) -> str:
    return re.sub(r"for \d+ s", "for some s", problem)


def publish_and_wait(org: UUID, clock: Clock) -> UUID:
    task_id = submit(org).id
    assert [due.id for due in dispatch()] == [task_id]
    clock.move(timedelta(seconds=12))
    return task_id


def test_a_worker_that_claims_nothing_though_tasks_wait_is_named(client: TestClient, org: UUID, clock: Clock) -> None:
    register_worker()
    publish_and_wait(org, clock)
    beat()
    (problem,) = not_accepting(client)
    assert "w1" in problem
    assert "2 free slots, and 1 tasks wait" in problem
    found = [one.cure for one in diagnose(timedelta(seconds=5)) if one.what == "a worker accepts no tasks"]
    assert [without_seconds(one) for one in found] == [without_seconds(problem)]  # one was asked a moment later


def test_a_worker_that_claims_is_well_and_so_is_one_for_which_nothing_waits(
    client: TestClient, org: UUID, clock: Clock
) -> None:
    register_worker()
    clock.move(timedelta(seconds=12))
    beat()
    assert not_accepting(client) == []  # nothing waits
    publish_and_wait(org, clock)
    beat(claims=1)
    assert not_accepting(client) == []
    clock.move(timedelta(seconds=12))
    beat(claims=1)
    assert len(not_accepting(client)) == 1


def test_a_worker_whose_slots_are_taken_or_that_is_leaving_accepts_nothing_rightly(
    client: TestClient, org: UUID, clock: Clock
) -> None:
    register_worker()
    for _ in range(2):
        assert claim(org, submit(org).id)
    publish_and_wait(org, clock)
    beat()
    assert not_accepting(client) == []
    beat(concurrency=3)
    assert len(not_accepting(client)) == 1
    beat(concurrency=3, draining_because="it is old")
    assert not_accepting(client) == []
