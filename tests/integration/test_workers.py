"""Worker processes in the database: what they run, how large they are, and threads that do not come back."""

import threading
from datetime import timedelta
from uuid import UUID

import pytest

from agents.llm.models import Models
from core import db, engines
from core.errors import NotFound
from core.settings import Settings
from domain.workers import service as workers
from domain.workers.schemas import Vitals
from tests.support.desk import Desk
from tests.support.factories import change_agent, claim, look, make_organisation, register_worker, submit
from tests.support.models import Parrot, asking, saying
from tests.support.outward import TOOLS, outside
from tests.support.servers import serving, wait_until
from workers.watchdog import Watchdog

LEASE = timedelta(seconds=10)


def test_a_list_of_workers_tells_what_they_run_for_this_organisation(org: UUID) -> None:
    register_worker()
    mine, theirs = submit(org), submit(make_organisation("elsewhere"))
    claim(org, mine.id)
    with db.system_transaction() as connection:
        assert workers.list_workers(connection, LEASE)[0].running == 1
    claim_of_others = make_organisation("elsewhere")
    claim(claim_of_others, theirs.id)
    with db.transaction(org) as connection:
        (worker,) = workers.list_workers(connection, LEASE)
    assert (worker.status, worker.running) == ("alive", 1)
    assert [(task.id, task.agent) for task in worker.tasks] == [(mine.id, "support-assistant")]


def test_what_is_wanted_comes_back_with_the_heartbeat(org: UUID) -> None:
    register_worker()
    vitals = Vitals(concurrency=1, memory_bytes=123, stuck=2, draining_because="it is old")
    with engines.dedicated_connection(engines.SYSTEM) as raw:
        assert workers.beat(raw, "w1", vitals).wanted_concurrency is None
        with db.system_transaction() as connection:
            scaled = workers.scale(connection, "w1", 200, LEASE)
        assert (scaled.following, workers.beat(raw, "w1", vitals).wanted_concurrency) == (1, 200)
    with db.transaction(org) as connection:
        (worker,) = workers.list_workers(connection, LEASE)
    assert (worker.status, worker.memory_bytes, worker.stuck, worker.wanted_concurrency) == ("draining", 123, 2, 200)
    with db.system_transaction() as connection:
        workers.scale(connection, "w1", 1, LEASE)


def test_workers_that_are_not_there_cannot_be_scaled(org: UUID) -> None:
    register_worker()
    with db.system_transaction() as connection, pytest.raises(NotFound, match="The names: w1"):
        workers.scale(connection, "w9", 5, LEASE)


def test_the_task_of_a_thread_that_does_not_come_back_is_handed_back_and_the_worker_leaves(
    org: UUID, told_to_stop: list[int]
) -> None:
    bird, come_back = Parrot(), threading.Event()
    bird.answers = [asking(("light_lamp", "{}")), saying("done")]

    def hang(_: str) -> None:
        come_back.wait(30)

    outside.then = hang
    change_agent(
        org, "support-assistant", model="gpt-4o-mini", tools=[tool.name for tool in TOOLS], limits={"step_timeout": 3}
    )
    dog = Watchdog(Settings(stuck_after=0.1), lambda _: None)
    with serving(bird.app()) as url:
        desk = Desk(Models(Settings(openai_base_url=f"{url}/v1")), vitals=dog.vitals, on_beat=dog.follow)
        task_id = submit(org).id
        stuck = desk.background.submit(desk.run, org, task_id)
        task = wait_until(lambda: (t := look(org, task_id)).status == "queued" and t.attempts and t)
        assert (task.error.kind, task.error.message) == ("stuck", "Its thread did not come back from light_lamp.")
        wait_until(lambda: told_to_stop, what="the worker is told to leave")
        come_back.set()
        outside.then = lambda _: None
        assert stuck.result(10).status == "queued"  # what the thread wrote when it came back was refused
        assert [step.name for step in look(org, task_id).steps if step.stage == "act"] == []
        desk.close()
