"""Dispatch on the real tables: lanes, turns, limits, keys in order, pauses, and what a waiting task says of itself."""

from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db
from core.errors import InvalidInput, NotFound
from domain.agents import service as agents
from domain.claims import service as claims
from domain.claims.schemas import Claimed, ClaimOutcome
from domain.dispatch import service as dispatching
from domain.dispatch.planner import Planner
from domain.dispatch.shares import bounds_for
from domain.dispatch.why import why
from domain.pacing import service as pacing
from domain.pacing.schemas import Route
from domain.tasks import service as tasks
from domain.tasks.schemas import PRIORITIES
from tests.support.clock import movable_clock
from tests.support.factories import change_agent, claim, dispatch, make_organisation, register_worker, submit
from tests.support.servers import wait_until

LEASE = timedelta(seconds=10)


@pytest.fixture(autouse=True)
def worker(org: UUID) -> None:
    register_worker()


def start(org: UUID, task_id: UUID, number: int = 0) -> Claimed:
    with db.transaction(org) as connection:
        held = claims.claim(connection, task_id, number, "w1")
    assert held is not None
    return held


def end_claim(org: UUID, held: Claimed, **outcome: Any) -> None:
    with db.transaction(org) as connection:
        claims.end(connection, held, ClaimOutcome(**outcome))


def succeed(org: UUID, held: Claimed) -> None:
    end_claim(org, held, status="succeeded", outcome="succeeded", counted=True, result={"answer": "x"})


def limit(org: UUID, **limits: int | None) -> None:
    with db.system_transaction() as connection:
        dispatching.set_organisation_limits(connection, org, limits)


def reason(org: UUID, task_id: UUID) -> tuple[str | None, str]:
    with db.system_transaction() as connection:
        found = why(connection, org, task_id, LEASE)
    return found.waiting_for, found.why


def test_two_changes_of_different_limits_both_stand(org: UUID) -> None:
    with ThreadPoolExecutor(1) as other, db.system_transaction() as first:
        dispatching.set_organisation_limits(first, org, {"weight": 3})
        second = other.submit(limit, org, max_in_flight=7)
        wait_until(lambda: _waits_for_a_lock(second), what="the second change waits for the first")
    second.result()
    with db.system_transaction() as connection:
        found = dispatching.limits(connection, org)
    assert (found.weight, found.max_in_flight) == (3, 7)


def _waits_for_a_lock(change: Future[None]) -> bool:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%organisations%'"
    )
    with db.system_transaction() as connection:
        return change.done() or connection.execute(waiting).scalar_one() > 0


def test_another_organisations_one_task_goes_before_thousands_of_the_first(org: UUID) -> None:
    other = make_organisation("one-task")
    with db.transaction(org) as connection:
        first = submit(org)
        connection.execute(
            text(
                "INSERT INTO tasks (id, org_id, agent_id, agent, input, user_id) "
                "SELECT gen_random_uuid(), org_id, agent_id, agent, input, user_id "
                "FROM tasks, generate_series(1, 3000) WHERE id = :id"
            ),
            {"id": first.id},
        )
    planner = Planner(timedelta(minutes=2))
    assert len(dispatch(bound=16, planner=planner)) == 16
    one = submit(other)
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE tasks SET dispatched_at = NULL WHERE dispatched_at IS NOT NULL"))
    assert one.id in {due.id for due in dispatch(bound=2, planner=planner)}


def test_an_organisation_never_has_more_in_flight_than_it_may(org: UUID) -> None:
    limit(org, max_in_flight=3)
    made = [submit(org) for _ in range(5)]
    first = dispatch()
    assert len(first) == 3
    held = [start(org, due.id) for due in first]
    assert dispatch() == []
    assert reason(org, made[4].id)[0] == "organisation"
    succeed(org, held[0])
    assert len(dispatch()) == 1


def test_an_agents_limit_holds_over_all_its_priorities(org: UUID) -> None:
    change_agent(org, "support-assistant", max_in_flight=2)
    for priority in ("critical", "normal", "low"):
        submit(org, priority=priority)
    other = submit(org, agent="lead-nurture")
    taken = dispatch()
    assert [due.queue for due in taken if due.id != other.id] == ["critical", "normal"]
    assert other.id in {due.id for due in taken}


def test_a_models_limit_holds_over_organisations(org: UUID) -> None:
    other = make_organisation("same-model")
    with db.system_transaction() as connection:
        limits = {"model": "claude-haiku-4-5", "max_in_flight": 2, "starts_per_minute": None}
        dispatching.set_provider_limits(connection, "anthropic", limits)
    made = [submit(org), submit(org), submit(other), submit(other)]
    taken = {due.id for due in dispatch()}
    assert len(taken) == 2
    waits = [task for task in made if task.id not in taken]
    owner = org if waits[0] in made[:2] else other
    assert reason(owner, waits[0].id) == ("provider", "2 tasks are in flight at anthropic claude-haiku-4-5, its limit.")
    with db.system_transaction() as connection:
        (view,) = dispatching.provider_limits(connection)
    assert (view.in_flight, view.max_in_flight) == (2, 2)


def test_a_minute_has_room_for_so_many_starts_and_delays_the_rest(org: UUID) -> None:
    limit(org, starts_per_minute=3)
    made = [submit(org) for _ in range(5)]
    for due in dispatch():
        succeed(org, start(org, due.id))
    assert dispatch() == []
    assert reason(org, made[3].id) == (
        "rate",
        "The organisation has started, or is about to start, its 3 tasks of this minute.",
    )
    with db.transaction(org) as connection:
        connection.execute(text("UPDATE attempts SET started_at = started_at - interval '61 seconds'"))
    assert len(dispatch()) == 2


def test_one_hundred_starts_a_minute_are_the_default(org: UUID) -> None:
    with db.transaction(org) as connection:
        view = dispatching.limits(connection, org)
    assert (view.starts_per_minute, view.max_in_flight, view.weight) == (100, None, 1)


HAIKU = Route("anthropic", "claude-haiku-4-5", "key")


def refuse(asked: timedelta, route: Route = HAIKU) -> None:
    with db.system_transaction() as connection:
        pacing.refused(connection, route, timedelta(0), number=None, asked=asked, limits=None)


def shift_paces(by: timedelta) -> None:
    with db.system_transaction() as connection:
        statement = text("UPDATE provider_paces SET held_until = held_until + :by, next_at = next_at + :by")
        connection.execute(statement, {"by": by})


def test_a_providers_rate_limit_holds_all_that_wait_for_the_model_a_minute_at_most(org: UUID) -> None:
    waiting = submit(org)
    refuse(timedelta(hours=4))
    assert dispatch() == []
    assert reason(org, waiting.id)[0] == "held"
    with db.system_transaction() as connection:
        (view,) = dispatching.provider_limits(connection)
        now = tasks.now(connection)
    assert view.held_until is not None
    assert timedelta(seconds=50) < view.held_until - now <= timedelta(seconds=60)
    assert (view.held_because, view.calls_per_minute) == ("limit", 60)
    shift_paces(timedelta(minutes=-2))
    assert [due.id for due in dispatch()] == [waiting.id]


def test_after_a_cool_down_a_few_tasks_go_and_not_all(org: UUID) -> None:
    for _ in range(20):
        submit(org)
    refuse(timedelta(seconds=1))
    shift_paces(timedelta(minutes=-1))
    assert len(dispatch()) == 3
    assert dispatch() == []  # those are on their way
    assert reason(org, submit(org).id)[0] == "held"


def test_another_key_of_the_same_model_is_not_held_by_the_first(org: UUID) -> None:
    waiting = submit(org)
    refuse(timedelta(hours=4))
    refuse(timedelta(0), Route("anthropic", "claude-haiku-4-5", "another"))
    shift_paces(timedelta(seconds=-1))
    assert [due.id for due in dispatch()] == [waiting.id]


def test_tasks_whose_fallback_can_be_called_go_on_during_an_outage(org: UUID) -> None:
    waiting = submit(org)  # its agent has a fallback at openai
    with db.system_transaction() as connection:
        pacing.failed(connection, HAIKU, timedelta(0), asked=None)
    assert dispatch(usable={"anthropic"}) == []
    assert reason(org, waiting.id)[1].startswith("anthropic claude-haiku-4-5 is down")
    assert [due.id for due in dispatch(usable={"anthropic", "openai"})] == [waiting.id]


# ── concurrency keys ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_tasks_with_one_key_go_one_by_one_and_others_beside_them(org: UUID) -> None:
    talk = [submit(org, concurrency_key="talk").id for _ in range(3)]
    other = submit(org, concurrency_key="other").id
    assert {due.id for due in dispatch()} == {talk[0], other}
    held = start(org, talk[0])
    assert dispatch() == []
    assert reason(org, talk[2]) == (
        "key",
        f"Tasks with the key 'talk' run one after the other: {talk[0]} (running) and 1 more first.",
    )
    succeed(org, held)
    assert [due.id for due in dispatch()] == [talk[1]]


def test_the_head_blocks_those_behind_it_whatever_it_waits_for(org: UUID) -> None:
    head, follower = (
        submit(org, concurrency_key="k", priority="low"),
        submit(org, concurrency_key="k", priority="critical"),
    )
    (due,) = dispatch()
    end_claim(org, start(org, due.id), status="queued", outcome="retry", counted=True, delay=timedelta(hours=1))
    assert dispatch() == []
    with db.transaction(org) as connection:
        connection.execute(text("UPDATE tasks SET run_after = rota_now() WHERE id = :id"), {"id": head.id})
    (due,) = dispatch()
    end_claim(org, start(org, due.id, 1), status="waiting", outcome="waiting", waiting_for="approval")
    assert dispatch() == []
    assert "(waiting, waiting for approval)" in reason(org, follower.id)[1]
    with db.transaction(org) as connection:
        tasks.cancel(connection, head.id)
    assert [due.id for due in dispatch()] == [follower.id]


@pytest.mark.parametrize("ending", ["cancelled", "expired", "failed"])
def test_however_the_head_ends_the_next_goes_on(org: UUID, ending: str) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    head = submit(org, concurrency_key="k", expires_at=soon if ending == "expired" else None)
    follower = submit(org, concurrency_key="k")
    if ending == "failed":
        dispatch()
        end_claim(org, start(org, head.id), status="failed", outcome="failed", counted=True)
    elif ending == "expired":
        with db.system_transaction() as connection:
            connection.execute(text("UPDATE tasks SET expires_at = rota_now() WHERE id = :id"), {"id": head.id})
            tasks.expire_overdue(connection)
    else:
        with db.transaction(org) as connection:
            tasks.cancel(connection, head.id)
    assert [due.id for due in dispatch()] == [follower.id]


def test_a_retried_task_stands_at_the_end_of_its_line(org: UUID) -> None:
    first, second = submit(org, concurrency_key="k"), submit(org, concurrency_key="k")
    with db.transaction(org) as connection:
        tasks.cancel(connection, first.id)
        tasks.retry(connection, first.id)
    (due,) = dispatch()
    assert due.id == second.id
    succeed(org, start(org, second.id))
    assert [due.id for due in dispatch()] == [first.id]


def test_a_follower_that_is_cancelled_and_retried_is_let_go_in_its_turn(org: UUID) -> None:
    head, follower = submit(org, concurrency_key="k"), submit(org, concurrency_key="k")
    with db.transaction(org) as connection:
        tasks.cancel(connection, follower.id)
        tasks.retry(connection, follower.id)
    (due,) = dispatch()
    assert due.id == head.id
    succeed(org, start(org, head.id))
    assert [due.id for due in dispatch()] == [follower.id]


def test_a_key_in_use_survives_the_clean_up_and_an_old_one_does_not(org: UUID) -> None:
    submit(org, concurrency_key="k")
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE concurrency_keys SET used_at = used_at - interval '2 days'"))
        assert tasks.forget_unused_keys(connection) == 0
        connection.execute(text("DELETE FROM tasks"))
        assert tasks.forget_unused_keys(connection) == 1


# ── pauses ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("kind", "name"), [("queue", "normal"), ("agent", "support-assistant"), ("organisation", "")])
def test_what_is_paused_is_not_dispatched_until_it_is_resumed(org: UUID, kind: Any, name: str) -> None:
    task = submit(org)
    with db.transaction(org) as connection:
        for _ in range(2):  # pausing twice is fine
            paused = dispatching.pause(connection, org, kind, name, "stocktaking")
        assert [pause.name for pause in dispatching.pauses(connection)] == [paused.name]
    assert dispatch() == []
    word, sentence = reason(org, task.id)
    assert (word, sentence.endswith("is paused (stocktaking).")) == ("paused", True)
    with db.transaction(org) as connection:
        assert dispatching.resume(connection, org, kind, name)
        assert not dispatching.resume(connection, org, kind, name)
    assert [due.id for due in dispatch()] == [task.id]


def test_what_does_not_exist_cannot_be_paused(org: UUID) -> None:
    with db.transaction(org) as connection:
        with pytest.raises(InvalidInput, match="critical, high, normal, low"):
            dispatching.pause(connection, org, "queue", "urgent", None)
        with pytest.raises(NotFound, match="support-assistant"):
            dispatching.pause(connection, org, "agent", "nobody", None)


def test_one_organisations_pause_is_not_anothers(org: UUID) -> None:
    other = make_organisation("not-paused")
    with db.transaction(org) as connection:
        dispatching.pause(connection, org, "organisation", "", None)
    submit(org)
    task = submit(other)
    assert [due.id for due in dispatch()] == [task.id]


# ── age ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_published_task_that_nobody_takes_moves_up_as_it_ages(org: UUID) -> None:
    task = submit(org, priority="low")
    planner = Planner(timedelta(minutes=2))
    assert [due.queue for due in dispatch(planner=planner)] == ["low"]
    bounds = bounds_for(dict.fromkeys(PRIORITIES, 1), 256)
    with db.system_transaction() as connection:
        assert dispatching.promote_old(connection, planner, bounds) == []
        connection.execute(text("UPDATE tasks SET run_after = run_after - interval '5 minutes'"))
        moved = dispatching.promote_old(connection, planner, bounds)
        assert [(due.id, due.queue) for due in moved] == [(task.id, "high")]
        assert dispatching.promote_old(connection, planner, bounds) == []


def test_a_queue_holds_as_many_messages_as_its_workers_have_slots() -> None:
    bounds = bounds_for({"normal": 40, "low": 1000}, 256)
    assert bounds == {"critical": 0, "high": 0, "normal": 40, "low": 256}
    assert bounds_for({"high": 1}, 256)["high"] == 16


def test_what_was_published_to_a_queue_that_nobody_serves_any_more_comes_back(org: UUID) -> None:
    task = submit(org, priority="low")
    assert dispatch(bounds={"low": 0}) == []
    assert len(dispatch()) == 1
    assert dispatch(bounds={"low": 0}) == []
    assert reason(org, task.id)[0] == "dispatcher"  # it is due again
    assert [due.id for due in dispatch()] == [task.id]


def test_what_is_published_when_a_pause_comes_is_taken_back(org: UUID) -> None:
    task = submit(org)
    dispatch()
    with db.transaction(org) as connection:
        dispatching.pause(connection, org, "agent", "support-assistant", None)
    assert dispatch() == []
    with db.transaction(org) as connection:
        assert claims.claim(connection, task.id, 0, "w1") is None


def test_an_urgent_task_takes_the_place_of_a_published_one_that_nobody_claims(org: UUID) -> None:
    limit(org, max_in_flight=2)
    bulk = [submit(org, priority="low").id for _ in range(2)]
    assert len(dispatch()) == 2
    urgent = submit(org, priority="critical")
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE tasks SET dispatched_at = dispatched_at - interval '1 s'"))
    assert dispatch() == []  # it makes way
    assert urgent.id in {due.id for due in dispatch()}
    with db.transaction(org) as connection:
        taken = [claims.claim(connection, task_id, 0, "w1") for task_id in bulk]
    assert sum(held is not None for held in taken) == 1


def test_expired_tasks_take_nobodys_place(org: UUID) -> None:
    change_agent(org, "support-assistant", max_in_flight=1)
    for _ in range(3):
        submit(org, expires_at=datetime.now(UTC) + timedelta(minutes=1))
        submit(org, deadline=datetime.now(UTC) + timedelta(minutes=1))
    with movable_clock() as clock:
        clock.move(timedelta(minutes=2))
        good = submit(org)
        assert [due.id for due in dispatch()] == [good.id]


def test_the_pause_of_an_agent_that_was_deleted_can_be_lifted(org: UUID) -> None:
    with db.transaction(org) as connection:
        dispatching.pause(connection, org, "agent", "support-assistant", None)
        agents.delete_agent(connection, "support-assistant")
        assert dispatching.resume(connection, org, "agent", "support-assistant")


def test_bulk_leaves_a_slot_to_what_is_more_urgent_and_says_so(org: UUID) -> None:
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE workers SET concurrency = 4"))
    bulk = [submit(org, priority="low").id for _ in range(6)]
    first = dispatch(keeps_share=True)
    assert [due.id for due in first] == bulk[:3]
    held = [start(org, due.id) for due in first]
    urgent = submit(org, priority="critical").id
    assert [due.id for due in dispatch(keeps_share=True)] == [urgent]
    assert reason(org, bulk[3]) == (
        "share",
        "3 tasks of priority low are in flight; the workers' other slots are kept for more urgent ones.",
    )
    succeed(org, held[0])
    assert [due.id for due in dispatch(keeps_share=True)] == [bulk[3]]


# ── why ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_stage_of_a_tasks_life_is_explained(org: UUID) -> None:
    later = submit(org, run_after=datetime.now(UTC) + timedelta(hours=3))
    assert reason(org, later.id) == ("time", "Its time comes in 3 h.")
    task, behind = submit(org), submit(org)
    assert reason(org, task.id)[0] == "dispatcher"
    assert reason(org, behind.id) == ("turn", "1 tasks of support-assistant with priority normal are before it.")
    dispatch()
    assert reason(org, task.id)[0] == "worker"
    held = start(org, task.id)
    assert reason(org, task.id) == (None, "It is running on w1.")
    succeed(org, held)
    assert reason(org, task.id) == (None, "It has succeeded, and waits for nothing.")
    with db.system_transaction() as connection:
        connection.execute(text("DELETE FROM workers"))
    assert reason(org, behind.id) == (
        "worker",
        "No living worker serves the queue normal: start one with `rota worker`.",
    )


def test_what_keeps_a_queued_task_from_starting_is_explained_before_its_place_in_the_line(org: UUID) -> None:
    with movable_clock() as clock:
        expiring = submit(org, expires_at=clock.now() + timedelta(hours=1))
        late = submit(org, deadline=clock.now() + timedelta(hours=1))
        key = submit(org, "a", concurrency_key="talk"), submit(org, "b", concurrency_key="talk", deadline=late.deadline)
        clock.move(timedelta(hours=2))
        assert reason(org, expiring.id)[1] == "It was not started in time and is about to be marked as expired."
        for task in (late, key[1]):
            assert reason(org, task.id) == ("time", "Its deadline has passed; it is about to be ended as expired.")
    with db.transaction(org) as connection:
        dispatching.pause(connection, org, "agent", "support-assistant", "being rewritten")
    plain = submit(org)
    assert reason(org, plain.id) == ("paused", "The agent support-assistant is paused (being rewritten).")
    change_agent(org, "support-assistant", enabled=False)
    assert reason(org, plain.id)[0] == "agent_off"
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE users SET disabled_at = rota_now() WHERE org_id = :org"), {"org": org})
    assert reason(org, plain.id)[0] == "user"


def test_a_task_behind_others_of_its_key_names_the_first_and_counts_the_rest(org: UUID) -> None:
    head, second, third = (submit(org, message, concurrency_key="talk").id for message in ("a", "b", "c"))
    submit(org, "other", concurrency_key="another talk")
    assert reason(org, head) == ("key", "It is next with the key 'talk' and is about to be let go.")
    dispatch()
    held = start(org, head)
    rule = "Tasks with the key 'talk' run one after the other:"
    assert reason(org, second) == ("key", f"{rule} {head} (running) first.")
    assert reason(org, third) == ("key", f"{rule} {head} (running) and 1 more first.")
    end_claim(org, held, status="waiting", outcome="waiting", waiting_for="approval")
    assert reason(org, second) == ("key", f"{rule} {head} (waiting, waiting for approval) first.")
    assert reason(org, head) == ("approval", "A person must decide on an action that it proposes: rota approvals.")
    with db.transaction(org) as connection:
        tasks.cancel(connection, head)
    assert reason(org, head) == (None, "It was cancelled, and waits for nothing.")
    assert reason(org, second) == ("key", "It is next with the key 'talk' and is about to be let go.")
    assert reason(org, third) == ("key", f"{rule} {second} (queued) first.")


def test_a_task_that_is_tried_again_later_names_the_time_and_the_error(org: UUID) -> None:
    task = submit(org).id
    dispatch()
    held = start(org, task)
    error = {"kind": "overloaded", "message": "The provider is down."}
    end_claim(org, held, status="queued", outcome="retry", counted=True, delay=timedelta(minutes=5), error=error)
    assert reason(org, task) == ("time", "Its time comes in 5 min after an error (The provider is down.).")


def test_a_published_task_names_its_queue_and_whether_anybody_serves_it(org: UUID) -> None:
    task = submit(org).id
    dispatch()
    word, sentence = reason(org, task)
    assert (word, sentence.startswith("It has been on the queue normal for ")) == ("worker", True)
    assert "the 1 slots of its workers are taken" in sentence
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE workers SET queues = '{high}'"))
    assert reason(org, task)[1] == "No living worker serves the queue normal: start one with `rota worker`."
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE workers SET queues = '{normal}'"))
    held = start(org, task)
    with db.transaction(org) as connection:
        tasks.cancel(connection, task)
    assert reason(org, task) == (None, "It is running on w1; it was asked to stop.")
    end_claim(org, held, status="queued", outcome="released", error={"kind": "cancelled", "message": "On request."})
    assert reason(org, task) == (None, "It was cancelled, and waits for nothing. On request.")


def test_a_task_that_is_next_says_whether_a_dispatcher_is_at_work(org: UUID) -> None:
    task = submit(org).id
    submit(make_organisation(f"other-{org.hex[-8:]}"))  # another organisation's tasks are not before it
    with db.system_transaction() as connection:
        connection.execute(text("DELETE FROM leaders"))
        connection.execute(
            text("INSERT INTO leaders (duty, process, backend_pid) VALUES ('dispatcher', 'p', 1), ('other', 'p', 2)")
        )
        said = "It is due and next in its line; the dispatcher takes it as soon as its queue has room."
        assert why(connection, org, task, LEASE).why == said
        connection.execute(text("UPDATE leaders SET last_seen_at = rota_now() - interval '11 s' WHERE process = 'p'"))
        connection.execute(text("UPDATE leaders SET last_seen_at = rota_now() WHERE duty = 'other'"))
        said = "No dispatcher is at work: start one with `rota dispatcher`."
        assert why(connection, org, task, LEASE).why == said
        connection.execute(text("DELETE FROM leaders"))


def test_another_organisations_task_is_not_explained(org: UUID) -> None:
    task = submit(make_organisation("secretive"))
    with pytest.raises(NotFound):
        reason(org, task.id)


def test_a_claim_needs_a_dispatch_that_still_stands(org: UUID) -> None:
    task = submit(org)
    dispatch()
    with db.transaction(org) as connection:
        claims.decline(connection, task.id, 0)
        assert claims.claim(connection, task.id, 0, "w1") is None
    assert [due.id for due in dispatch()] == [task.id]
    assert claim(org, task.id) is not None
