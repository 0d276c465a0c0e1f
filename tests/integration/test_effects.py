"""Effects outside our database: once, or in doubt and settled by a person, never silently twice."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from agents.llm.models import Models
from agents.tools.registry import NotDone, load_tools
from core import db
from core.errors import Conflict, InvalidInput, Misconfigured
from core.settings import Settings
from domain.claims import service as claims
from domain.tasks import service as tasks
from domain.tasks.schemas import Settlement
from tests.support.desk import Desk
from tests.support.factories import change_agent, claim, look, submit
from tests.support.models import Parrot, asking, saying
from tests.support.outward import TOOLS, outside
from tests.support.servers import serving


@pytest.fixture
def bird() -> Parrot:
    return Parrot()


@pytest.fixture
def desk(org: UUID, bird: Parrot) -> Iterator[Desk]:
    outside.__init__()  # type: ignore[misc]  # the same object, as new: the tools hold on to it
    change_agent(
        org, "support-assistant", model="gpt-4o-mini", tools=[tool.name for tool in TOOLS], retry={"base": 0.001}
    )
    with serving(bird.app()) as url:
        made = Desk(Models(Settings(openai_base_url=f"{url}/v1")))
        yield made
        made.close()


def die_during(org: UUID, desk: Desk, *calls: tuple[str, str], bird: Parrot) -> Any:
    """A task whose worker stops in the middle of an effect, and is taken back. What it writes later is refused."""
    bird.answers = [asking(*calls), saying("done")]
    begun, may_go_on = threading.Semaphore(0), threading.Event()

    def stop(_: str) -> None:
        begun.release()
        may_go_on.wait(30)

    outside.then = stop
    task_id = submit(org).id
    with ThreadPoolExecutor(1) as thread:
        stopped = thread.submit(desk.run, org, task_id)
        for _ in calls:
            assert begun.acquire(timeout=30)
        with db.system_transaction() as connection:
            claims.reap_orphaned(connection, timedelta(minutes=-1))  # the desk's heartbeat goes on: silent or not
        may_go_on.set()
        stopped.result(30)
    outside.then = lambda _: None
    return look(org, task_id)


def settle(org: UUID, task_id: UUID, seq: int, outcome: Any, note: str | None = None) -> Any:
    with db.transaction(org) as connection:
        return tasks.settle(connection, task_id, seq, Settlement(outcome=outcome, note=note))


def test_each_kind_of_effect_happens_once_when_nothing_goes_wrong(org: UUID, desk: Desk, bird: Parrot) -> None:
    bird.answers = [asking(("ring_bell", "{}"), ("post_letter", "{}"), ("light_lamp", "{}")), saying("done")]
    task = desk.run(org, submit(org).id)
    assert task.status == "succeeded"
    assert sorted(outside.happened) == [
        ("light_lamp", f"{task.id}:4"), ("post_letter", f"{task.id}:3"), ("ring_bell", f"{task.id}:2"),
    ]  # fmt: skip
    assert [step.status for step in task.steps] == ["done"] * len(task.steps)


def test_a_crash_in_between_leaves_the_outcome_unknown_and_the_task_waits(org: UUID, desk: Desk, bird: Parrot) -> None:
    task = die_during(org, desk, ("ring_bell", "{}"), bird=bird)
    assert (task.status, task.waiting_for) == ("waiting", "outcome")
    (step,) = [step for step in task.steps if step.status == "unknown"]
    assert (step.seq, step.name) == (2, "ring_bell")
    assert claim(org, task.id, number=1) is None  # no worker takes it meanwhile


def test_what_happened_is_not_done_again_and_the_agent_hears_of_it(org: UUID, desk: Desk, bird: Parrot) -> None:
    task = die_during(org, desk, ("ring_bell", "{}"), bird=bird)
    assert settle(org, task.id, 2, "happened", "the neighbours heard it").status == "queued"
    task = desk.run(org, task.id, number=1)
    assert task.status == "succeeded"
    assert len(outside.happened) == 1
    assert "the neighbours heard it" in bird.asked[-1]["messages"][-1]["content"]


def test_what_did_not_happen_is_done_when_a_person_says_so(org: UUID, desk: Desk, bird: Parrot) -> None:
    task = die_during(org, desk, ("ring_bell", "{}"), bird=bird)
    settle(org, task.id, 2, "do_again")
    task = desk.run(org, task.id, number=1)
    assert task.status == "succeeded"
    assert [tool for tool, _ in outside.happened] == ["ring_bell", "ring_bell"]
    assert [step.status for step in task.steps if step.seq == 2] == ["failed", "done"]


def test_what_takes_a_key_or_is_harmless_is_done_again_with_the_same_key(org: UUID, desk: Desk, bird: Parrot) -> None:
    for tool in ("post_letter", "light_lamp"):
        outside.happened.clear()
        task = die_during(org, desk, (tool, "{}"), bird=bird)
        assert task.status == "queued"
        assert desk.run(org, task.id, number=1).status == "succeeded"
        assert outside.happened == [(tool, f"{task.id}:2")] * 2


def test_several_in_doubt_are_settled_one_by_one(org: UUID, desk: Desk, bird: Parrot) -> None:
    task = die_during(org, desk, ("ring_bell", "{}"), ("ring_bell", "{}"), bird=bird)
    doubtful = [step.seq for step in task.steps if step.status == "unknown"]
    assert doubtful == [2, 3]
    assert settle(org, task.id, 2, "happened").status == "waiting"
    assert settle(org, task.id, 3, "do_again").status == "queued"
    assert desk.run(org, task.id, number=1).status == "succeeded"


def test_an_unexpected_error_in_an_effect_is_doubt_too(org: UUID, desk: Desk, bird: Parrot) -> None:
    def time_out(_: str) -> None:
        raise TimeoutError("no answer, but perhaps it rang")

    bird.answers = [asking(("ring_bell", "{}"))]
    outside.then = time_out
    task = desk.run(org, submit(org).id)
    assert (task.status, task.waiting_for, task.attempts) == ("waiting", "outcome", 1)
    assert "perhaps it rang" in task.error.message


def test_what_certainly_did_not_happen_is_tried_again(org: UUID, desk: Desk, bird: Parrot) -> None:
    def nobody_there(_: str) -> None:
        outside.happened.pop()
        raise NotDone("the bell is locked")

    bird.answers = [asking(("ring_bell", "{}")), saying("done")]
    outside.then = nobody_there
    task = desk.run(org, submit(org).id)
    assert (task.status, task.attempts) == ("queued", 1)
    assert task.error.message == "The tool ring_bell failed: the bell is locked"
    outside.then = lambda _: None
    assert desk.run(org, task.id, number=1).status == "succeeded"
    assert len(outside.happened) == 1


def test_a_refusal_is_the_agents_to_hear(org: UUID, desk: Desk, bird: Parrot) -> None:
    def refuse(_: str) -> None:
        raise InvalidInput("quiet hours")

    bird.answers = [asking(("ring_bell", "{}"), ("ring_bell", '{"loud": 1}')), saying("sorry")]
    outside.then = refuse
    task = desk.run(org, submit(org).id)
    assert task.status == "succeeded"
    answers = [message["content"] for message in bird.asked[-1]["messages"] if message["role"] == "tool"]
    assert "quiet hours" in answers[0]
    assert "loud" in answers[1]


def test_a_cancelled_task_in_doubt_stays_cancelled_and_shows_the_doubt(org: UUID, desk: Desk, bird: Parrot) -> None:
    task = die_during(org, desk, ("ring_bell", "{}"), bird=bird)
    with db.transaction(org) as connection:
        assert tasks.cancel(connection, task.id).status == "cancelled"
    with pytest.raises(Conflict, match="not in question"):
        settle(org, task.id, 2, "happened")
    assert [step.status for step in look(org, task.id).steps if step.seq == 2] == ["unknown"]


def test_a_retried_task_in_doubt_waits_again(org: UUID, desk: Desk, bird: Parrot) -> None:
    task = die_during(org, desk, ("ring_bell", "{}"), bird=bird)
    with db.transaction(org) as connection:
        tasks.cancel(connection, task.id)
        tasks.retry(connection, task.id)
    task = desk.run(org, task.id, number=1)
    assert (task.status, task.waiting_for, task.attempts) == ("waiting", "outcome", 0)
    assert len(outside.happened) == 1


def test_settling_what_is_not_in_doubt_is_refused(org: UUID, desk: Desk, bird: Parrot) -> None:
    task = die_during(org, desk, ("ring_bell", "{}"), bird=bird)
    for seq in (1, 7):
        with pytest.raises(Conflict, match="not in question"):
            settle(org, task.id, seq, "happened")
    settle(org, task.id, 2, "happened")
    with pytest.raises(Conflict, match="not in question"):
        settle(org, task.id, 2, "happened")


@pytest.mark.parametrize("name", ["no_such_module:TOOLS", "tests.support.outward:MISSING", "os:sep", ""])
def test_tools_that_cannot_be_loaded_are_named(name: str) -> None:
    with pytest.raises(Misconfigured, match="ROTA_TOOLS"):
        load_tools([name])


@pytest.mark.parametrize("tool", ["ring_bell", "light_lamp"])
@pytest.mark.parametrize(
    "answer", [{"s": "caf\udce9"}, {(1, 2): 3}, ["no", "object"], {"s": "x" * 3_000_000}, object()]
)
def test_whatever_a_tool_returns_what_it_did_is_recorded(
    org: UUID, desk: Desk, bird: Parrot, tool: str, answer: Any
) -> None:
    """An effect that took place is never in doubt because its answer could not be written."""
    outside.answer = answer
    bird.answers = [asking((tool, "{}")), saying("done")]
    task = desk.run(org, submit(org).id)
    assert (task.status, task.attempts) == ("succeeded", 1)
    assert [step.output["ok"] for step in task.steps if step.stage == "act"] == [True]
    assert len(outside.happened) == 1
