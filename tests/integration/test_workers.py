"""Worker processes in the database: what they run, how large they are, and threads that do not come back."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from agents.llm import openai_provider  # noqa: F401  on a busy machine, loading it takes longer than a step may
from agents.llm.models import Models
from core import db, engines
from core.errors import Conflict, NotFound
from core.settings import Settings
from domain.claims import service as claims
from domain.dispatch import service as dispatching
from domain.monitoring import service as monitoring
from domain.tasks import service as tasks
from domain.workers import service as workers
from domain.workers.schemas import Vitals
from tests.support.desk import Desk
from tests.support.factories import change_agent, claim, look, make_organisation, make_user, register_worker, submit
from tests.support.models import Parrot, asking, saying
from tests.support.outward import TOOLS, outside
from tests.support.servers import serving, wait_until
from workers.duties.pruning import forget_workers
from workers.presence import Presence
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


def statuses(lease: timedelta = LEASE) -> list[tuple[str, str]]:
    with db.system_transaction() as connection:
        return [(worker.id, worker.status) for worker in workers.list_workers(connection, lease)]


def set_worker(worker: str, **values: str) -> None:
    """Set columns of a worker's row to SQL expressions."""
    changes = ", ".join(f"{name} = {value}" for name, value in values.items())
    with db.system_transaction() as connection:
        connection.execute(text(f"UPDATE workers SET {changes} WHERE id = :id"), {"id": worker})  # noqa: S608


def test_a_worker_is_alive_draining_silent_or_stopped_and_stopped_ones_come_last(org: UUID) -> None:
    for number, worker in enumerate(["alive", "draining", "silent", "silent and draining", "stopped"]):
        register_worker(worker)
        set_worker(worker, started_at=f"rota_now() - interval '{number} min'")
    set_worker("draining", draining_because="'it is old'")
    set_worker("silent", last_seen_at="rota_now() - interval '11 s'")
    set_worker("silent and draining", last_seen_at="rota_now() - interval '11 s'", draining_because="'it is old'")
    set_worker("stopped", started_at="rota_now() + interval '1 min'", stopped_at="rota_now()")
    expected = [("alive", "alive"), ("draining", "draining"), ("silent", "silent"), ("silent and draining", "silent")]
    assert statuses() == [*expected, ("stopped", "stopped")]
    register_worker("silent")
    register_worker("stopped")
    assert dict(statuses())["silent"] == "alive"
    assert dict(statuses())["stopped"] == "alive"
    with db.system_transaction() as connection:
        counted = {one.status: one.workers for one in monitoring.workers(connection, LEASE)}
        crews = dispatching.crews(connection, LEASE)
    assert counted == {"alive": 4, "silent": 1}
    assert [crew.slots for crew in crews] == [3]  # who is silent or draining takes no task


def test_workers_that_are_long_gone_are_forgotten_unless_a_task_of_theirs_still_runs(org: UUID) -> None:
    for worker in ("alive", "stopped", "stopped today", "silent", "busy"):
        register_worker(worker)
    assert claim(org, submit(org).id, worker="busy")
    long_ago = "rota_now() - interval '25 hours'"
    set_worker("stopped", stopped_at=long_ago)
    set_worker("stopped today", last_seen_at=long_ago, stopped_at="rota_now() - interval '23 hours'")
    set_worker("silent", last_seen_at=long_ago)
    set_worker("busy", last_seen_at=long_ago)
    forget_workers()
    assert {worker for worker, _ in statuses()} == {"alive", "stopped today", "busy"}


def test_a_heartbeat_says_of_each_task_in_hand_whether_and_why_it_is_to_stop(org: UUID) -> None:
    register_worker()
    other = make_user(org, "manager")
    kept, cancelled, off, shut_out = (
        submit(org, agent="support-assistant"), submit(org), submit(org, agent="lead-nurture"), submit(org, user=other),
    )  # fmt: skip
    for task in (kept, cancelled, off, shut_out):
        assert claim(org, task.id)
    assert claim(org, submit(org).id, worker="w2")
    submit(org)
    with db.transaction(org) as connection:
        tasks.cancel(connection, cancelled.id)
    change_agent(org, "lead-nurture", enabled=False)
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE users SET disabled_at = rota_now() WHERE id = :id"), {"id": other})
    with engines.dedicated_connection(engines.SYSTEM) as raw:
        held = workers.beat(raw, "w1", Vitals(concurrency=1, memory_bytes=1)).held
        assert held == {
            (kept.id, 1): None,
            (cancelled.id, 1): "cancelled",
            (off.id, 1): "switched_off",
            (shut_out.id, 1): "switched_off",
        }
        with db.system_transaction() as connection:
            connection.execute(text("DELETE FROM workers"))
        gone = workers.beat(raw, "w1", Vitals(concurrency=1, memory_bytes=1))
    assert (gone.held, gone.wanted_concurrency) == (held, None)


def test_only_workers_that_can_change_their_size_are_scaled_and_a_size_is_removed_once(org: UUID) -> None:
    for worker in ("grows", "fixed", "mixed", "gone"):
        register_worker(worker)
    register_worker("mixed 2")
    set_worker("mixed 2", name="'mixed'", pool="'prefork'")
    set_worker("fixed", pool="'threads'")
    set_worker("gone", last_seen_at="rota_now() - interval '11 s'")
    with db.system_transaction() as connection:
        assert workers.scale(connection, "grows", 7, LEASE).following == 1
        assert workers.scale(connection, "mixed", 7, LEASE).following == 1
        with pytest.raises(NotFound, match=r"The names: fixed, grows, mixed\."):
            workers.scale(connection, "gone", 7, LEASE)
        with pytest.raises(Conflict, match="keep the size"):
            workers.scale(connection, "fixed", 7, LEASE)
        found = {one.id: one.wanted_concurrency for one in workers.list_workers(connection, LEASE)}
        assert found == {"grows": 7, "mixed": 7, "mixed 2": 7, "fixed": None, "gone": None}
        for worker in ("grows", "mixed"):
            workers.unscale(connection, worker)
            with pytest.raises(NotFound, match="No size is set"):
                workers.unscale(connection, worker)


@pytest.fixture
def presence(org: UUID) -> Iterator[Presence]:
    made = Presence("test", ["normal"], 4, timedelta(milliseconds=20), vitals=counting_beats)
    beats.clear()
    yield made
    made.stop()


beats: list[str] = []


def counting_beats(presence: Presence) -> Vitals:
    beats.append(presence.id)
    return Vitals(concurrency=presence.concurrency, memory_bytes=0, claims=presence.claims)


def more_beats(number: int) -> None:
    wanted = len(beats) + number
    wait_until(lambda: len(beats) >= wanted, what="the worker has sent more heartbeats")


def test_a_claim_that_its_worker_does_not_know_is_handed_back_and_one_that_it_holds_is_not(
    org: UUID, presence: Presence
) -> None:
    presence.start()
    held, stray = claim(org, submit(org).id, worker=presence.id), submit(org).id
    assert held is not None
    with presence.holding(held) as interrupt:
        assert claim(org, stray, worker=presence.id)
        wait_until(lambda: look(org, stray).status == "queued", what="the stray is handed back")
        (attempt,) = look(org, stray).attempt_history
        assert (attempt.outcome, attempt.counted, look(org, stray).attempts) == ("released", False, 0)
        more_beats(3)
        assert (look(org, held.id).status, interrupt.reason) == ("running", None)
        assert presence.claims == 1
        with db.system_transaction() as connection:
            claims.reap_orphaned(connection, timedelta(minutes=-1))
        wait_until(lambda: interrupt.reason == "claim_lost", what="the task that was reaped is stopped")
    assert presence.in_hand() == []


def test_a_worker_is_fresh_while_it_beats_drains_what_it_holds_and_says_when_it_has_stopped(
    org: UUID, presence: Presence
) -> None:
    before_it_beats = presence.is_fresh
    presence.start()
    assert (before_it_beats, presence.is_fresh) == (False, True)
    first, second = (claim(org, submit(org).id, worker=presence.id) for _ in range(2))
    assert first
    assert second
    with presence.holding(first) as before:
        presence.drain(timedelta(minutes=1))
        with presence.holding(second) as after:
            assert (before.reason, after.reason, presence.is_draining) == ("draining", "draining", True)
    presence.stop()
    assert (presence.id, "stopped") in statuses()


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
