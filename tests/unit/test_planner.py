"""Whose turn it is: priorities, turns by weight, ageing, and limits taken together or not at all."""

import gc
import weakref
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import new_id
from domain.dispatch.allowance import Allowance
from domain.dispatch.planner import Planner, Turns, effective_queue, make_way, room_for_aged
from domain.dispatch.schemas import (
    Counts,
    Crew,
    Lane,
    OrganisationLimit,
    PauseKind,
    Pick,
    ProviderLimit,
    Rules,
    Unclaimed,
)
from domain.dispatch.shares import most_in_flight
from domain.tasks.schemas import PRIORITIES, Priority

AGEING = timedelta(minutes=2)
A, B, C = (UUID(int=number) for number in (1, 2, 3))


def lane(org: UUID = A, *, due: int = 1, **more: Any) -> Lane:
    agent = more.pop("agent", "clerk")
    values: dict[str, Any] = {
        "priority": "normal", "org_id": org, "agent": agent, "agent_id": UUID(int=1000 * org.int + len(agent)),
        "provider": "openai", "model": "m", "due": due, "waited": 1.0,
    }  # fmt: skip
    return Lane(**values | more)


def plan(lanes: list[Lane], *, room: int = 10, rules: Rules | None = None, **more: Any) -> list[Pick]:
    counts = more.get("counts") or Counts()
    planner = more.get("planner") or Planner(AGEING)
    return planner.plan(lanes, Allowance(rules or Rules(), counts), counts, dict.fromkeys(PRIORITIES, room))


def per_organisation(picks: list[Pick]) -> dict[UUID, int]:
    return dict(Counter(pick.lane.org_id for pick in picks))


def test_each_priority_has_its_queue_and_the_highest_goes_first() -> None:
    picks = plan([lane(priority="low"), lane(priority="critical"), lane(priority="normal")])
    assert [pick.queue for pick in picks] == ["critical", "normal", "low"]


def test_organisations_take_turns_however_long_their_lines_are() -> None:
    picks = plan([lane(A, due=1000), lane(B, due=3)], room=10)
    assert [pick.lane.org_id for pick in picks[:6]] in ([A, B] * 3, [B, A] * 3)
    assert per_organisation(picks) == {A: 7, B: 3}


def test_weight_is_a_share_of_the_turns() -> None:
    picks = plan([lane(A, due=100, weight=3), lane(B, due=100)], room=40)
    assert per_organisation(picks) == {A: 30, B: 10}


def test_turns_are_remembered_from_one_plan_to_the_next() -> None:
    planner = Planner(AGEING)
    picks = [plan([lane(A, due=9), lane(B, due=9)], room=1, planner=planner)[0].lane.org_id for _ in range(6)]
    assert Counter(picks) == {A: 3, B: 3}


def test_who_was_away_has_saved_up_no_turns() -> None:
    planner = Planner(AGEING)
    plan([lane(A, due=50)], room=50, planner=planner)
    assert per_organisation(plan([lane(A, due=50), lane(B, due=50)], room=10, planner=planner)) == {A: 5, B: 5}


def test_agents_of_one_organisation_take_turns_the_oldest_first() -> None:
    picks = plan([lane(agent="young", due=5, waited=1), lane(agent="old", due=5, waited=9)], room=4)
    assert [pick.lane.agent for pick in picks] == ["old", "young", "old", "young"]


def test_a_queue_that_is_full_takes_no_more_and_the_others_do() -> None:
    counts = Counts(on_queue={"normal": 10})
    assert [p.queue for p in plan([lane(), lane(priority="low")], counts=counts)] == ["low"]


def test_age_lifts_a_task_by_one_priority_at_a_time() -> None:
    assert [effective_queue("low", seconds, AGEING) for seconds in (0, 119, 120, 240, 360, 9999)] == [
        "low", "low", "normal", "high", "critical", "critical",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("priority", "seconds", "served", "queue"),
    [
        ("low", 240, ["high", "low"], "high"),
        ("low", 120, ["high", "low"], "low"),  # two above: not yet
        ("low", 9999, ["critical", "normal", "low"], "critical"),
        ("low", 9999, ["normal"], "normal"),
        ("low", 9999, [], "low"),
        ("critical", 9999, PRIORITIES, "critical"),
        ("normal", -500, PRIORITIES, "normal"),  # due in the future
    ],
)
def test_age_lifts_a_task_to_a_queue_that_workers_serve(
    priority: Priority, seconds: float, served: list[Priority], queue: Priority
) -> None:
    assert effective_queue(priority, seconds, AGEING, served) == queue


@pytest.mark.parametrize(
    ("bound", "promoted", "more"), [(1, 0, 1), (8, 0, 1), (15, 0, 1), (16, 0, 2), (80, 3, 7), (8, 1, 0), (8, 3, -2)]
)
def test_old_tasks_have_an_eighth_of_a_queue_and_one_place_at_least(bound: int, promoted: int, more: int) -> None:
    assert room_for_aged(bound, promoted) == more


def test_old_tasks_on_a_queue_count_towards_their_eighth() -> None:
    lanes = [lane(A, priority="low", due=100, waited=400), lane(B, priority="critical", due=100)]
    for promoted, aged in ((0, 2), (1, 1), (2, 0), (3, 0)):
        picks = plan(lanes, room=16, counts=Counts(promoted={"critical": promoted}))
        assert sum(pick.queue == "critical" and pick.lane.org_id == A for pick in picks) == aged


def test_a_turn_costs_virtual_time_and_comes_no_earlier_than_now() -> None:
    turns = Turns[str]()
    turns.serve("a", 2.0)
    turns.serve("b", 0.5)
    assert (turns.of("a"), turns.of("b"), turns.of("new")) == (2.0, 0.5, 0.0)
    turns.serve("b", 0.5)
    assert (turns.of("a"), turns.of("b"), turns.of("new")) == (2.0, 1.0, 0.5)
    turns.serve("a", 1.0)
    assert (turns.of("a"), turns.of("b"), turns.of("new")) == (3.0, 2.0, 2.0)
    turns.forget_idle()
    assert turns.passes == {"a": 3.0}


def test_nothing_is_kept_of_organisations_and_agents_that_are_idle() -> None:
    planner, kept = Planner(AGEING), []
    for number in range(100, 110):
        org, agent = UUID(int=number), UUID(int=number + 1000)
        kept += [weakref.ref(org), weakref.ref(agent)]
        plan([lane(org, agent_id=agent), lane(org, agent_id=agent, priority="low", waited=9999)], planner=planner)
        del org, agent
    for _ in range(3):  # the others go on, and so does time
        plan([lane(A, due=9), lane(A, priority="low", due=9, waited=9999)], planner=planner)
    gc.collect()
    assert [one() for one in kept if one() is not None] == []


def test_published_tasks_are_lifted_one_for_seven_others() -> None:
    planner, lifted = Planner(AGEING), 0
    assert not planner.lift()
    for _ in range(70):
        plan([lane()], planner=planner)
        lifted += planner.lift()
        assert not planner.lift()
    assert lifted == 10


def test_old_tasks_take_an_eighth_of_a_queue_and_leave_the_rest() -> None:
    picks = plan([lane(A, priority="low", due=100, waited=400), lane(B, priority="critical", due=100)], room=16)
    queued = Counter((pick.queue, pick.lane.priority) for pick in picks)
    assert queued["critical", "low"] == 2
    assert queued["critical", "critical"] == 14
    assert queued["low", "low"] == 16


@pytest.mark.parametrize(
    ("crews", "most"),
    [
        ([], {}),
        ([Crew(PRIORITIES, 1)], {"low": 1}),  # one slot serves whatever is next
        ([Crew(PRIORITIES, 2)], {"low": 1}),
        ([Crew(PRIORITIES, 4)], {"low": 3}),
        ([Crew(PRIORITIES, 16)], {"low": 14}),
        ([Crew(PRIORITIES, 200)], {"low": 175}),
        ([Crew(PRIORITIES, 1), Crew(["normal", "low"], 1)], {"low": 1}),  # two processes of one slot each
        ([Crew(["low"], 6)], {"low": 6}),  # nobody more urgent could have these slots
        ([Crew(["low", "system"], 6)], {"low": 6}),
        ([Crew(["low"], 6), Crew(PRIORITIES, 4)], {"low": 9}),
        ([Crew(["critical", "high"], 50)], {}),
        ([Crew(["critical"], 50), Crew(PRIORITIES, 4)], {"low": 3}),
    ],
)
def test_bulk_leaves_a_share_of_the_slots_it_has_in_common_with_others(crews: list[Crew], most: dict[str, int]) -> None:
    assert most_in_flight(crews) == most


def test_bulk_never_fills_all_slots_however_much_of_it_is_due() -> None:
    most = most_in_flight([Crew(PRIORITIES, 4)])
    rules = Rules(priorities=most)
    bulk = [lane(org, priority="low", due=100) for org in (A, B)]
    bulk.append(lane(C, priority="low", due=9, waited=999))
    assert len(plan(bulk, rules=rules)) == 3
    for running in range(5):  # running or published, on whatever queue
        assert len(plan(bulk, rules=rules, counts=Counts(priorities={"low": running}))) == max(0, 3 - running)
    others = [lane(A, due=5), lane(B, priority="critical", due=5)]
    picks = plan([*bulk, *others], rules=rules, counts=Counts(priorities={"low": 3}))
    assert Counter(pick.lane.priority for pick in picks) == {"critical": 5, "normal": 5}


@pytest.mark.parametrize("urgent", ["critical", "high", "normal"])
def test_old_tasks_take_an_eighth_of_a_limit_as_well(urgent: str) -> None:
    planner = Planner(AGEING)
    rules = Rules(providers={("openai", ""): ProviderLimit(max_in_flight=20)})
    picked: Counter[str] = Counter()
    for _ in range(80):  # one place comes free at a time
        lanes = [lane(A, priority="low", due=100, waited=9999), lane(B, priority=urgent, due=100)]
        counts = Counts(providers={("openai", ""): 19})
        picked.update(pick.lane.priority for pick in plan(lanes, rules=rules, counts=counts, planner=planner))
    assert picked == {urgent: 70, "low": 10}


def test_old_tasks_do_not_fill_a_higher_queue_out_of_turn_while_others_wait() -> None:
    """With busy workers a place comes free at a time, and what stands on the highest queue is taken first."""
    planner, picked = Planner(AGEING), Counter[str]()
    for _ in range(80):
        lanes = [lane(A, priority="low", due=100, waited=9999), lane(B, priority="high", due=100)]
        counts = Counts(on_queue={"high": 15, "low": 16})
        picked.update(pick.queue for pick in plan(lanes, room=16, counts=counts, planner=planner))
    assert picked["high"] == 80
    assert 8 <= picked["critical"] <= 12


@pytest.mark.parametrize(("on_high", "picked"), [(16, {}), (15, {("high", "high"): 1, ("critical", "low"): 2})])
def test_old_tasks_go_out_of_turn_only_when_nothing_more_urgent_waits(on_high: int, picked: dict[Any, int]) -> None:
    lanes = [lane(B, priority="high"), lane(A, priority="low", due=9, waited=9999)]
    picks = plan(lanes, room=16, counts=Counts(on_queue={"high": on_high, "low": 16}))
    assert Counter((pick.queue, pick.lane.priority) for pick in picks) == picked


@pytest.mark.parametrize(("on_critical", "picked"), [(0, 2), (13, 2), (14, 2), (15, 1), (16, 0)])
def test_old_tasks_that_go_out_of_turn_leave_their_queue_its_bound(on_critical: int, picked: int) -> None:
    counts = Counts(on_queue={"critical": on_critical, "low": 16})
    picks = plan([lane(priority="low", due=9, waited=9999)], room=16, counts=counts)
    assert [pick.queue for pick in picks] == ["critical"] * picked


def test_agents_take_turns_in_every_organisation() -> None:
    planner = Planner(AGEING)
    lanes = [lane(A, due=99), lane(B, agent="old", due=99, waited=99), lane(B, agent="younger", due=99, waited=1)]
    picked = Counter(plan(lanes, room=1, planner=planner)[0].lane.agent for _ in range(40))
    assert picked == {"clerk": 20, "old": 10, "younger": 10}


def test_agents_turns_are_remembered_from_one_plan_to_the_next() -> None:
    planner = Planner(AGEING)
    lanes = [lane(agent="busy", due=100, waited=99), lane(agent="newcomer", due=100, waited=1)]
    picked = Counter(plan(lanes, room=1, planner=planner)[0].lane.agent for _ in range(10))
    assert picked == {"busy": 5, "newcomer": 5}


def test_nothing_goes_to_a_queue_that_nobody_serves_by_age_either() -> None:
    bounds = dict.fromkeys(PRIORITIES, 10) | {"critical": 0, "normal": 0}
    old = lane(priority="low", due=3, waited=9999)
    counts = Counts(on_queue={"low": 10})
    picks = Planner(AGEING).plan([old, lane(due=3)], Allowance(Rules(), counts), counts, bounds)
    assert [(pick.queue, pick.lane.priority) for pick in picks] == [("high", "low")]


def unclaimed(org: UUID = A, queue: Priority = "low", **more: Any) -> Unclaimed:
    like = lane(org, **more)
    return Unclaimed(new_id(), org, like.agent_id, like.provider, like.model, queue)


def ways(rules: Rules, counts: Counts, published: list[Unclaimed], urgent: Lane, room: int = 5) -> list[UUID]:
    return make_way([urgent], [], published, Allowance(rules, counts), dict.fromkeys(PRIORITIES, room))


def test_an_unclaimed_task_makes_way_for_a_more_urgent_one_that_needs_its_limit() -> None:
    rules = Rules(organisations={A: OrganisationLimit(max_in_flight=2)})
    counts = Counts(organisations={A: 2})
    published = [unclaimed(B), unclaimed(A, "normal"), unclaimed(A, "low")]
    assert ways(rules, counts, published, lane(priority="critical")) == [published[2].id]


def test_nothing_makes_way_where_it_would_not_help() -> None:
    urgent = lane(priority="critical")
    limit = Rules(organisations={A: OrganisationLimit(max_in_flight=1)})
    counts = Counts(organisations={A: 1}, agents={urgent.agent_id: 1})
    assert ways(limit, counts, [unclaimed(A)], urgent, room=0) == []  # its queue is full
    assert ways(limit, counts, [unclaimed(A, "critical")], urgent) == []  # no less urgent
    both = Rules(organisations=limit.organisations, agents={urgent.agent_id: 1})
    assert ways(both, counts, [unclaimed(A, agent="another")], urgent) == []  # another limit stands as well
    model = Rules(providers={("openai", "m"): ProviderLimit(max_in_flight=1)})
    at_model = Counts(providers={("openai", "m"): 1})
    assert ways(model, at_model, [unclaimed(A, model="other")], urgent) == []  # the limit is another model's


OPENAI, MODEL = ("openai", ""), ("openai", "m")


@pytest.mark.parametrize(
    ("rules", "counts", "helps", "does_not"),
    [
        (
            Rules(organisations={A: OrganisationLimit(max_in_flight=1)}),
            Counts(organisations={A: 1}),
            unclaimed(A, agent="another", provider="other"),
            unclaimed(B),
        ),
        (
            Rules(organisations={A: OrganisationLimit(starts_per_minute=1)}),
            Counts(unclaimed={A: 1}),
            unclaimed(A, agent="another", provider="other"),
            unclaimed(B),
        ),
        (
            Rules(agents={lane().agent_id: 1}),
            Counts(agents={lane().agent_id: 1}),
            unclaimed(A, provider="other"),
            unclaimed(A, agent="another"),
        ),
        (
            Rules(providers={OPENAI: ProviderLimit(max_in_flight=1)}),
            Counts(providers={OPENAI: 1}),
            unclaimed(B, model="other"),
            unclaimed(A, provider="other"),
        ),
        (
            Rules(providers={MODEL: ProviderLimit(max_in_flight=1)}),
            Counts(providers={MODEL: 1}),
            unclaimed(B),
            unclaimed(A, provider="other"),
        ),
        (
            Rules(providers={OPENAI: ProviderLimit(starts_per_minute=1)}),
            Counts(unclaimed_providers={OPENAI: 1}),
            unclaimed(B, model="other"),
            unclaimed(A, provider="other"),
        ),
        (
            Rules(providers={MODEL: ProviderLimit(starts_per_minute=1)}),
            Counts(unclaimed_providers={MODEL: 1}),
            unclaimed(B),
            unclaimed(A, model="other"),
        ),
    ],
    ids=["organisation", "rate", "agent", "provider", "model", "provider's rate", "model's rate"],
)
def test_what_makes_way_is_what_uses_up_the_limit(
    rules: Rules, counts: Counts, helps: Unclaimed, does_not: Unclaimed
) -> None:
    assert ways(rules, counts, [does_not, helps], lane(priority="critical")) == [helps.id]
    assert ways(rules, counts, [does_not], lane(priority="critical")) == []


ONE_OF_A = Rules(organisations={A: OrganisationLimit(max_in_flight=1)})
TWO_OF_A = Rules(organisations={A: OrganisationLimit(max_in_flight=2)})


def make(lanes: list[Lane], published: list[Unclaimed], rules: Rules, picks: list[Pick] | None = None) -> list[UUID]:
    counts = Counts(organisations={A: len(published)})
    return make_way(lanes, picks or [], published, Allowance(rules, counts), dict.fromkeys(PRIORITIES, 5))


def test_each_more_urgent_lane_is_made_way_for_the_most_urgent_first() -> None:
    high, critical = lane(priority="high"), lane(priority="critical")
    normal, low = unclaimed(A, "normal"), unclaimed(A, "low")
    assert make([high, critical], [normal, low], TWO_OF_A) == [low.id, normal.id]


def test_a_lane_that_needs_no_way_does_not_keep_others_from_theirs() -> None:
    low = unclaimed(A, "low")
    assert make([lane(B, priority="critical"), lane(A, priority="high")], [low], ONE_OF_A) == [low.id]


@pytest.mark.parametrize(("room", "makes_way"), [({"critical": 1}, True), ({"critical": 0}, False), ({}, False)])
def test_way_is_made_only_where_the_queue_has_room(room: dict[Priority, int], makes_way: bool) -> None:
    low = unclaimed(A, "low")
    allowance = Allowance(ONE_OF_A, Counts(organisations={A: 1}))
    assert make_way([lane(priority="critical")], [], [low], allowance, room) == [low.id] * makes_way


def test_tasks_published_within_a_models_pace_keep_their_place() -> None:
    paced = Rules(providers={MODEL: ProviderLimit(cause="limit", rate=1, room=1)})
    assert ways(paced, Counts(unclaimed_providers={MODEL: 1}), [unclaimed(A)], lane(priority="critical")) == []


def test_no_way_is_made_for_tasks_that_are_dispatched_already() -> None:
    urgent, low = lane(priority="critical", due=2), unclaimed(A, "low")
    assert make([urgent], [low], ONE_OF_A, picks=[Pick(urgent, "critical")]) == [low.id]
    assert make([urgent], [low], ONE_OF_A, picks=[Pick(urgent, "critical")] * 2) == []


def test_as_many_make_way_as_one_task_needs() -> None:
    low, another, normal = unclaimed(A, "low"), unclaimed(A, "low"), unclaimed(A, "normal")
    assert make([lane(priority="critical")], [normal, low, another], TWO_OF_A) == [low.id, another.id]


def test_what_would_not_have_helped_counts_as_before_for_the_next() -> None:
    critical, high = lane(priority="critical"), lane(priority="high", agent="another")
    rules = Rules(organisations=ONE_OF_A.organisations, agents={critical.agent_id: 0})
    low = unclaimed(A, "low", agent="a third")
    assert make([critical, high], [low], rules) == [low.id]


def test_an_old_task_finds_a_way_though_its_own_queue_is_full() -> None:
    counts = Counts(on_queue={"low": 10})
    assert [p.queue for p in plan([lane(priority="low", waited=130)], counts=counts)] == ["normal"]


def test_limits_in_flight_hold_for_organisation_agent_provider_and_model() -> None:
    for rules, counts in (
        (Rules(organisations={A: OrganisationLimit(max_in_flight=3)}), Counts(organisations={A: 1})),
        (Rules(agents={lane().agent_id: 3}), Counts(agents={lane().agent_id: 1})),
        (Rules(providers={("openai", ""): ProviderLimit(max_in_flight=3)}), Counts(providers={("openai", ""): 1})),
        (Rules(providers={("openai", "m"): ProviderLimit(max_in_flight=3)}), Counts(providers={("openai", "m"): 1})),
    ):
        assert len(plan([lane(due=9)], rules=rules, counts=counts)) == 2


def test_rates_count_what_has_started_and_what_is_about_to() -> None:
    organisation = Rules(organisations={A: OrganisationLimit(starts_per_minute=10, started=5)})
    assert len(plan([lane(due=9)], rules=organisation, counts=Counts(unclaimed={A: 3}))) == 2
    provider = Rules(providers={("openai", "m"): ProviderLimit(starts_per_minute=10, started=5)})
    assert len(plan([lane(due=9)], rules=provider, counts=Counts(unclaimed_providers={("openai", "m"): 3}))) == 2


def test_a_provider_that_asked_for_it_is_left_alone_and_the_others_go_on() -> None:
    rules = Rules(providers={("openai", "m"): ProviderLimit(held_for=5, cause="limit")})
    picks = plan([lane(due=3), lane(agent="other", model="other", due=3)], rules=rules)
    assert {pick.lane.model for pick in picks} == {"other"}


def test_what_is_paused_waits() -> None:
    lanes = [lane(A, due=2), lane(A, agent="other", due=2), lane(A, priority="low", due=2), lane(B, due=2)]
    pauses: dict[tuple[UUID, PauseKind, str], int] = {
        (A, "organisation", ""): 2,
        (A, "queue", "normal"): 4,
        (A, "agent", "clerk"): 4,
    }
    for pause, expected in pauses.items():
        assert len(plan(lanes, rules=Rules(pauses={pause: ""}))) == expected


def test_a_blocked_lane_does_not_hold_up_its_organisation() -> None:
    blocked = lane(agent="blocked", due=1000, waited=99)
    picks = plan([blocked, lane(due=5)], rules=Rules(agents={blocked.agent_id: 0}))
    assert {pick.lane.agent for pick in picks} == {"clerk"}
    assert len(picks) == 5


def test_what_blocks_is_said_in_a_sentence() -> None:
    rules = Rules(providers={("openai", "m"): ProviderLimit(held_for=7, cause="limit", rate=1, room=0)})
    block = Allowance(rules, Counts()).block(lane())
    assert block is not None
    expected = "openai m limits how often it is called: the next call is made in 7.0 s."
    assert (block.by, block.why) == ("held", expected)


def test_a_paced_model_gets_no_more_tasks_than_it_has_room_for() -> None:
    rules = Rules(providers={("openai", "m"): ProviderLimit(cause="limit", rate=1, room=3)})
    assert len(plan([lane(due=10)], rules=rules)) == 3
    published = Counts(unclaimed_providers={("openai", "m"): 2})
    assert len(plan([lane(due=10)], rules=rules, counts=published)) == 1


@pytest.mark.parametrize(
    ("cause", "has_fallback", "expected"),
    [("outage", True, 10), ("outage", False, 0), ("limit", True, 0), ("limit", False, 0)],
)
def test_only_an_outage_lets_tasks_with_a_fallback_go_on(cause: Any, has_fallback: bool, expected: int) -> None:
    rules = Rules(providers={("openai", "m"): ProviderLimit(held_for=7, cause=cause, rate=1, room=0)})
    assert len(plan([lane(due=10, has_fallback=has_fallback)], rules=rules)) == expected


@given(
    dues=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    limits=st.lists(st.integers(1, 10), min_size=6, max_size=6),
    total=st.integers(1, 20),
    room=st.integers(1, 40),
)
def test_no_limit_is_ever_broken_and_no_room_is_wasted(
    dues: list[int], limits: list[int], total: int, room: int
) -> None:
    orgs = [UUID(int=number + 1) for number in range(len(dues))]
    lanes = [lane(org, due=due) for org, due in zip(orgs, dues, strict=True)]
    rules = Rules(
        organisations={org: OrganisationLimit(max_in_flight=most) for org, most in zip(orgs, limits, strict=False)},
        providers={("openai", ""): ProviderLimit(max_in_flight=total)},
    )
    picks = plan(lanes, room=room, rules=rules)
    taken = per_organisation(picks)
    could = [min(due, most) for due, most in zip(dues, limits, strict=False)]
    assert all(taken.get(org, 0) <= most for org, most in zip(orgs, could, strict=True))
    assert len(picks) == min(sum(could), total, room)
