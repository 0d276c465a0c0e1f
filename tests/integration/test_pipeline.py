"""Tasks from claim to end: the real pipeline, real tools and tables, a real model server over HTTP."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import text

from agents import pipeline
from agents.interrupt import Interrupt, Stopped
from agents.llm.models import Models
from agents.sink import NobodyListens
from core import db
from core.settings import Settings
from domain.billing import service as billing
from domain.billing.schemas import PriceFields
from domain.tasks import service as tasks
from embedded.rehearsal.server import make_app
from tests.support.desk import Desk
from tests.support.factories import change_agent, claim, look, make_row, publish, register_worker, submit
from tests.support.listening import Ear
from tests.support.models import Director, Parrot, asking, saying
from tests.support.servers import serving, wait_until

BOOKING = "Can you book Ana Torres into tomorrow's spin class?"


@pytest.fixture(scope="module")
def director() -> Iterator[Director]:
    with serving(make_app()) as url:
        yield Director(url)


@pytest.fixture
def desk(org: UUID, director: Director) -> Iterator[Desk]:
    made = Desk(Models(Settings(rehearsal_url=director.url)))
    yield made
    made.close()


@pytest.fixture
def gym(org: UUID) -> dict[str, UUID]:
    """Ana, and a spin class tomorrow: counted from now, as the agent does that is asked for it."""
    spin, tomorrow = make_row(org, "classes"), datetime.now(UTC) + timedelta(days=1)
    session = make_row(org, "class_sessions", class_id=spin, starts_at=tomorrow)
    return {"client": make_row(org, "clients"), "session": session}


def count(org: UUID, table: str) -> int:
    with db.transaction(org) as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608


def test_the_main_job_books_answers_and_bills(org: UUID, desk: Desk, gym: dict[str, UUID]) -> None:
    task = desk.run(org, submit(org, BOOKING).id)
    assert (task.status, task.attempts) == ("succeeded", 1)
    assert [step.stage for step in task.steps] == [
        "perceive", "decide", "act", "act", "decide", "act", "decide", "learn",
    ]  # fmt: skip
    assert [step.seq for step in task.steps] == list(range(8))
    assert task.result["answer"].startswith("[Rehearsal] Done (book_class)")
    assert task.result["is_rehearsal"]
    with db.transaction(org) as connection:
        row = connection.execute(text("SELECT client_id, session_id, status FROM bookings")).one()
        assert (row.client_id, row.session_id, row.status) == (gym["client"], gym["session"], "booked")
        used = connection.execute(
            text("SELECT count(*) AS calls, sum(billed_cost) AS cost, min(base_cost) AS least FROM usage")
        ).one()
    assert (used.calls, used.cost) == (3, task.billed_cost)
    assert task.model_calls == 3
    assert used.least > 0


def test_a_decision_says_what_why_and_how_sure(org: UUID, desk: Desk, gym: dict[str, UUID]) -> None:
    task = desk.run(org, submit(org, BOOKING).id)
    decision = task.steps[1].output
    assert [action["tool"] for action in decision["actions"]] == ["search_clients", "view_class_schedule"]
    assert "book Ana Torres" in decision["intent"]
    assert decision["reasoning"]
    assert 0 < decision["confidence"] <= 1
    assert not any(name.startswith("_") for name in decision["actions"][0]["arguments"])


def test_a_spanish_message_is_answered_in_spanish(org: UUID, desk: Desk, gym: dict[str, UUID]) -> None:
    task = desk.run(org, submit(org, "¿Puedes reservar a Ana Torres en la clase de spin de mañana?").id)
    assert task.result["answer"].startswith("[Ensayo] Hecho (book_class)")


def test_a_retry_reads_finished_steps_back_and_goes_on(
    org: UUID, desk: Desk, gym: dict[str, UUID], director: Director
) -> None:
    message = BOOKING + " (retry)"
    director.expect("ok", "status=500", match="(retry)")
    change_agent(org, "support-assistant", fallback_model=None)
    before = director.answered()
    task = desk.run(org, submit(org, message).id)
    assert (task.status, task.attempts, task.error.kind) == ("queued", 0, "server_error")
    assert [(s.seq, s.stage, s.status) for s in task.steps] == [
        (0, "perceive", "done"), (1, "decide", "done"), (2, "act", "done"), (3, "act", "done"), (4, "decide", "failed"),
    ]  # fmt: skip
    first = [step.model_dump() for step in task.steps[:4]]
    task = desk.run(org, task.id, number=1)
    assert task.status == "succeeded"
    assert [step.model_dump() for step in task.steps[:4]] == first
    assert director.answered() - before == 3  # one before the failure, two after: nothing asked twice
    assert [(a.outcome, a.counted) for a in task.attempt_history] == [("deferred", False), ("succeeded", True)]
    assert count(org, "bookings") == 1
    assert count(org, "usage") == 3


def test_the_fallback_model_answers_when_the_first_is_overloaded(
    org: UUID, desk: Desk, gym: dict[str, UUID], director: Director
) -> None:
    director.expect("status=529", match="(fallback)")
    task = desk.run(org, submit(org, BOOKING + " (fallback)").id)
    assert task.status == "succeeded"
    assert [(s.model, s.status) for s in task.steps if s.stage == "decide"][:2] == [
        (None, "failed"),
        ("gpt-4o-mini", "done"),
    ]


def test_a_rate_limit_defers_without_using_up_an_attempt(org: UUID, desk: Desk, director: Director) -> None:
    director.expect("status=429 retry-after=120", match="(limited)")
    task = desk.run(org, submit(org, "hello (limited)").id)
    assert (task.status, task.attempts, task.error.kind) == ("queued", 0, "rate_limited")
    assert (task.run_after - task.created_at) > timedelta(seconds=119)


@pytest.mark.parametrize("fault", ["cut", "status=500", "status=529"])
def test_three_failed_tries_without_patience_are_the_end_and_a_retry_begins_anew(
    org: UUID, desk: Desk, director: Director, fault: str
) -> None:
    change_agent(org, "support-assistant", fallback_model=None, retry={"patience": 0})
    director.expect(*[fault] * 3, match=f"(dead {fault})")
    task = submit(org, f"hello (dead {fault})")
    for number in range(3):
        seen = desk.run(org, task.id, number)
    assert (seen.status, seen.attempts) == ("failed", 3)
    assert len([step for step in seen.steps if step.status == "failed"]) == 3
    with db.transaction(org) as connection:
        tasks.retry(connection, task.id)
    assert desk.run(org, task.id, number=3).status == "succeeded"


def test_a_refusal_is_final_and_billed(org: UUID, desk: Desk, director: Director) -> None:
    director.expect("refuse", match="(refused)")
    task = desk.run(org, submit(org, "hello (refused)").id)
    assert (task.status, task.error.kind, task.model_calls) == ("failed", "refused", 1)
    assert task.billed_cost > 0


def test_a_truncated_call_is_asked_for_again_with_more_room_and_never_run(
    org: UUID, desk: Desk, gym: dict[str, UUID], director: Director
) -> None:
    director.expect("truncate", match="(long)")
    task = desk.run(org, submit(org, BOOKING + " (long)").id)
    assert task.status == "succeeded"
    assert [step.status for step in task.steps if step.stage == "decide"] == ["failed", "done", "done", "done"]
    assert count(org, "usage") == 4  # the cut answer cost money, too


def test_turns_tokens_and_cost_are_limits(org: UUID, desk: Desk, gym: dict[str, UUID]) -> None:
    for limits, word in (
        ({"max_turns": 1}, "decisions"),
        ({"max_tokens": 100}, "tokens"),
        ({"max_cost": "0.001"}, "$"),
    ):
        free = {"max_turns": 10, "max_tokens": 200_000, "max_cost": 1}
        change_agent(org, "support-assistant", limits=free | limits)
        task = desk.run(org, submit(org, BOOKING).id)
        assert (task.status, task.error.kind) == ("failed", "limit_reached")
        assert word in task.error.message
    assert count(org, "bookings") == 0


def test_an_identical_request_is_answered_from_the_cache_where_the_agent_says_so(
    org: UUID, desk: Desk, director: Director
) -> None:
    change_agent(org, "support-assistant", limits={"reply_cache": 60})
    for _ in range(3):  # the prompt tells the minute: two tasks on either side of a full one are not identical
        first = desk.run(org, submit(org, "hello (cached)").id)
        before = director.answered()
        second = desk.run(org, submit(org, "hello (cached)").id)
        if first.steps[0].output == second.steps[0].output:
            break
    assert director.answered() == before
    assert second.steps[1].output["from_cache"]
    assert (second.status, second.model_calls, second.billed_cost) == ("succeeded", 0, 0)
    assert second.result["answer"] == first.result["answer"]


def test_own_price_is_billed_and_snapshotted(org: UUID, desk: Desk) -> None:
    with db.transaction(org) as connection:
        fields = PriceFields(provider="openai", input_per_million=Decimal(1000), output_per_million=Decimal(0))
        billing.set_price(connection, org, "house-model", fields)
    change_agent(org, "support-assistant", model="house-model", fallback_model=None)
    task = desk.run(org, submit(org, "hello").id)
    with db.transaction(org) as connection:
        row = connection.execute(text("SELECT base_cost, billed_cost, input_tokens, price, provider FROM usage")).one()
    assert row.provider == "openai"
    assert row.base_cost == Decimal(row.input_tokens) / 1000
    assert row.billed_cost == row.base_cost * Decimal("1.2") == task.billed_cost
    assert row.price["source"] == "organisation"


def test_cancelling_interrupts_a_call_under_way(org: UUID, desk: Desk, director: Director) -> None:
    director.expect("hang", match="(cancelled)")
    task = submit(org, "hello (cancelled)")
    future = desk.background.submit(desk.run, org, task.id)
    wait_until(lambda: look(org, task.id).status == "running")
    with db.transaction(org) as connection:
        tasks.cancel(connection, task.id)
    assert future.result(3).status == "cancelled"


def test_draining_hands_the_task_back_at_the_next_step(org: UUID, desk: Desk, director: Director) -> None:
    director.expect("slow=0.5", match="(drained)")
    task = submit(org, "hello (drained)")
    future = desk.background.submit(desk.run, org, task.id)
    wait_until(lambda: look(org, task.id).steps)
    desk.presence.drain(timedelta(seconds=5))
    seen = future.result(5)
    assert (seen.status, seen.attempts, seen.attempt_history[0].outcome) == ("queued", 0, "released")
    assert desk.run(org, task.id, number=1).status == "queued"  # who drains takes nothing new


def test_a_worker_that_lost_its_task_stops_and_writes_nothing(org: UUID, desk: Desk, director: Director) -> None:
    director.expect("hang", match="(lost)")
    task = submit(org, "hello (lost)")
    publish(org, task.id)
    future = desk.background.submit(desk.executor.execute, org, task.id, 0)
    wait_until(lambda: look(org, task.id).steps)
    with db.system_transaction() as connection:
        connection.execute(
            text("UPDATE tasks SET status = 'queued', worker = NULL WHERE id = :task"), {"task": task.id}
        )
    future.result(3)
    assert look(org, task.id).status == "queued"
    assert [step.stage for step in look(org, task.id).steps] == ["perceive"]


def test_a_deadline_ends_the_task_even_inside_a_call(org: UUID, desk: Desk, director: Director) -> None:
    director.expect(*["hang"] * 3, match="(deadline)")
    with db.transaction(org) as connection:
        soon = connection.execute(text("SELECT rota_now() + interval '0.6 s'")).scalar_one()
    task = desk.run(org, submit(org, "hello (deadline)", deadline=soon).id)
    assert (task.status, task.error.kind) == ("failed", "deadline")


def test_bad_calls_go_back_to_the_model_as_errors_it_can_act_on(org: UUID) -> None:
    bird = Parrot()
    calls = [
        ("search_clients", '{"query": "a", "colour": "red"}'),
        ("view_client_profile", '{"client_id": "17"}'),
        ("drop_tables", "{}"),
        ("calculate_engagement_score", "{}"),
        ("search_clients", '{"query": '),
        ("search_clients", '{"query": "a\\u0000b"}'),
    ]
    bird.answers = [asking(*calls), saying("ok\x00 \ud83d")]
    with serving(bird.app()) as url:
        desk = Desk(Models(Settings(openai_base_url=f"{url}/v1")))
        change_agent(org, "support-assistant", model="gpt-4o-mini")
        task = desk.run(org, submit(org, "hello").id)
        desk.close()
    assert task.status == "succeeded", task.error
    errors = [step.output["message"]["content"] for step in task.steps if step.stage == "act"]
    for content, expected in zip(
        errors, ["colour", "valid UUID", "no tool called", "no tool called", "JSON", "clients"], strict=True
    ):
        assert expected in content, (content, expected)
    assert task.result["answer"] == "ok\ufffd \ufffd"
    assert [m["role"] for m in bird.asked[1]["messages"]] == ["system", "user", "assistant"] + ["tool"] * 6


def test_calls_beyond_an_agents_limit_are_answered_with_a_refusal(org: UUID) -> None:
    bird = Parrot()
    bird.answers = [asking(*[("search_clients", '{"query": "a"}')] * 7), saying("ok")]
    change_agent(org, "support-assistant", model="gpt-4o-mini", limits={"max_calls": 3})
    with serving(bird.app()) as url:
        desk = Desk(Models(Settings(openai_base_url=f"{url}/v1")))
        task = desk.run(org, submit(org, "hello").id)
        desk.close()
    assert task.status == "succeeded", task.error
    acts = [step for step in task.steps if step.stage == "act"]
    assert [step.output["ok"] for step in acts] == [True] * 3 + [False] * 4
    answers = [message for message in bird.asked[1]["messages"] if message["role"] == "tool"]
    assert [answer["tool_call_id"] for answer in answers] == [f"call{number:05}" for number in range(1, 8)]
    assert "you called 7 tools at once, and only the first 3 were" in answers[3]["content"]
    assert len(task.result["actions"]) == 7


def test_a_stopped_interrupt_is_seen_before_the_first_step(org: UUID, desk: Desk) -> None:
    register_worker()
    held = claim(org, submit(org).id)
    assert held is not None
    interrupt = Interrupt()
    interrupt.trigger("cancelled")
    with pytest.raises(Stopped):
        pipeline.run_pipeline(held, desk.workplace.journal(held, interrupt), desk.workplace, interrupt, NobodyListens())
    assert look(org, held.id).steps == []


def test_what_is_said_can_be_heard_while_it_is_said(org: UUID, desk: Desk) -> None:
    register_worker()
    held = claim(org, submit(org, "who are you?").id)
    assert held is not None
    listener = Ear()
    interrupt = Interrupt()
    journal = desk.workplace.journal(held, interrupt)
    result = pipeline.run_pipeline(held, journal, desk.workplace, interrupt, listener)
    assert "".join(listener.heard) == result.answer
    assert len(listener.heard) > 3
    assert listener.is_over
