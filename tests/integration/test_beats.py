"""Two beats in real processes that are killed and started again at random: every due time has exactly one run."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.app import make_app
from core import db
from core.settings import ROOT, Settings
from tests.support.clock import Clock, movable_clock
from tests.support.factories import make_key
from tests.support.servers import SECRET_KEY, wait_until

TEN_MINUTES = timedelta(minutes=10)
EVERY = timedelta(seconds=10)
ROUNDS = 20


class Beats:
    """Two beats and the worker that does their duties, as processes of the very command that people use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._beats: list[subprocess.Popen[bytes]] = []
        self._others: list[subprocess.Popen[bytes]] = [self._start("worker", "--queues", "system", "-c", "4")]
        self._started = 0

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{command[0]}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "cli.main", *command], cwd=ROOT, env=os.environ, stdout=log, stderr=log
            )

    def start_one(self) -> None:
        self._started += 1
        self._beats.append(self._start("beat", "--schedule", str(self._folder / f"beat-{self._started}")))

    def kill_one(self, chance: random.Random) -> None:
        """As the machine would: without a word."""
        one = self._beats.pop(chance.randrange(len(self._beats)))
        one.kill()
        one.wait()

    def end(self) -> None:
        for process in [*self._beats, *self._others]:
            process.kill()
            process.wait()


@pytest.fixture
def beats(config: Settings, tmp_path: Path) -> Iterator[Beats]:
    made = Beats(tmp_path)
    yield made
    made.end()


@pytest.fixture
def clock(config: Settings) -> Iterator[Clock]:
    with movable_clock() as made:
        yield made


def rows(org: UUID, statement: str) -> list[Any]:
    with db.transaction(org) as connection:
        return list(connection.execute(text(statement)))


def put(client: TestClient, slug: str, times: dict[str, Any], catch_up: timedelta) -> datetime:
    """Add a schedule that always starts. Returns when it is due first."""
    body = {"name": slug, "times": times, "overlap": "allow_all", "catch_up": catch_up.total_seconds()}
    task = {"agent": "support-assistant", "input": {"message": "hello"}}
    answer = client.put(f"/v1/schedules/{slug}", json=body | {"task": task})
    assert answer.is_success, answer.text
    return datetime.fromisoformat(answer.json()["next_at"])


@pytest.fixture
def client(org: UUID) -> Iterator[TestClient]:
    with TestClient(make_app()) as made:
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
        yield made


def due_by(first: datetime, now: datetime, every: timedelta) -> list[datetime]:
    return [first + every * number for number in range((now - first) // every + 1)]


def test_each_due_time_has_one_run_however_beats_die(beats: Beats, client: TestClient, org: UUID, clock: Clock) -> None:
    chance = random.Random(20261126)
    begins = {f"every-{n}": put(client, f"every-{n}", {"every": 10, "kind": "interval"}, TEN_MINUTES) for n in range(9)}
    minutely = put(client, "minutely", {"kind": "cron", "cron": "* * * * *", "timezone": "Europe/Madrid"}, TEN_MINUTES)
    beats.start_one()
    beats.start_one()
    for _ in range(ROUNDS):
        if chance.random() < 0.6:
            beats.kill_one(chance)
            beats.start_one()
        clock.move(timedelta(seconds=chance.uniform(20, 45)))
        until = clock.now()
        wanted = sum(len(due_by(first, until, EVERY)) for first in begins.values())
        wanted += len(due_by(minutely, until, timedelta(minutes=1)))
        started = "SELECT 1 FROM schedule_runs WHERE scheduled_for <= '{}'"
        wait_until(_has(org, started.format(until), wanted), seconds=30, what="what is due was started")
    assert clock.now() - minutely > TEN_MINUTES - timedelta(minutes=1)
    found = rows(org, "SELECT slug, scheduled_for, status, task_id FROM schedule_runs r JOIN schedules s ON s.id = "
                      "r.schedule_id ORDER BY slug, scheduled_for")  # fmt: skip
    for slug, first in begins.items():
        times = [row.scheduled_for for row in found if row.slug == slug]
        assert times == due_by(first, times[-1], EVERY)
    times = [row.scheduled_for for row in found if row.slug == "minutely"]
    assert times == due_by(minutely, times[-1], timedelta(minutes=1))
    assert {row.status for row in found} == {"running"}
    tasks = {row.id for row in rows(org, "SELECT id FROM tasks")}
    assert tasks == {row.task_id for row in found}
    assert len(tasks) == len(found)


def _has(org: UUID, statement: str, number: int) -> Callable[[], bool]:
    return lambda: len(rows(org, statement)) >= number


def test_after_a_long_stop_of_all_beats_exactly_what_the_policy_says(
    beats: Beats, client: TestClient, org: UUID, clock: Clock
) -> None:
    first = put(client, "hourly", {"kind": "interval", "every": 600}, timedelta(hours=1))
    clock.move_to(first + timedelta(hours=5, minutes=1))
    beats.start_one()
    beats.start_one()
    wait_until(_has(org, "SELECT 1 FROM schedule_runs WHERE status = 'running'", 6), seconds=60, what="caught up")
    found = rows(org, "SELECT status, scheduled_for, missed FROM schedule_runs ORDER BY scheduled_for")
    missed = [(row.scheduled_for, row.missed) for row in found if row.status == "missed"]
    assert missed == [(first, 25)]
    caught_up = [row.scheduled_for for row in found if row.status == "running"]
    assert caught_up == [first + timedelta(minutes=10) * number for number in range(25, 31)]
