"""What dispatch reads: the provider of a lane, what tasks in flight count against, and the workers' slots."""

from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.dispatch.facts import _counts, lane_of, provider_limit
from domain.dispatch.schemas import Crew, InFlight, StoredLane, StoredProviderLimit
from domain.dispatch.shares import bounds_for, most_in_flight, slots_by_queue
from domain.dispatch.why import _span
from domain.tasks.schemas import PRIORITIES

A, B, CLERK = (UUID(int=number) for number in (1, 2, 10))


def stored(**more: Any) -> StoredLane:
    values: dict[str, Any] = {
        "priority": "high", "org_id": A, "agent_id": CLERK, "agent": "clerk", "model": "gpt-4o-mini",
        "fallback_model": None, "own_provider": None, "own_endpoint": None, "max_in_flight": 3, "is_off": False,
        "weight": 2, "org_max_in_flight": 9, "starts_per_minute": 100, "due": 5, "waited": 1.5,
    }  # fmt: skip
    return StoredLane(**values | more)


def test_a_lane_keeps_what_turns_are_decided_by() -> None:
    lane = lane_of(stored(is_off=True), ["openai"])
    assert (lane.priority, lane.org_id, lane.agent_id, lane.agent) == ("high", A, CLERK, "clerk")
    assert (lane.due, lane.waited, lane.weight, lane.is_off) == (5, 1.5, 2, True)


@pytest.mark.parametrize(
    ("more", "provider"),
    [
        ({}, "openai"),
        ({"model": "claude-sonnet-4-5"}, "anthropic"),
        ({"model": "house-model", "own_provider": "anthropic"}, "anthropic"),
        ({"own_endpoint": "atlas/lab"}, "atlas/lab"),
        ({"own_endpoint": "atlas/lab", "own_provider": "anthropic"}, "atlas/lab"),
    ],
)
def test_an_own_endpoint_counts_by_itself_then_an_own_price_then_the_models_name(
    more: dict[str, Any], provider: str
) -> None:
    assert lane_of(stored(**more), []).provider == provider


@pytest.mark.parametrize(
    ("fallback", "usable", "expected"),
    [
        (None, ["openai", "anthropic"], False),
        ("claude-sonnet-4-5", ["openai", "anthropic"], True),
        ("claude-sonnet-4-5", ["openai"], False),
        ("claude-sonnet-4-5", [], False),
    ],
)
def test_a_fallback_counts_only_where_its_provider_can_be_called(
    fallback: str | None, usable: list[str], expected: bool
) -> None:
    assert lane_of(stored(fallback_model=fallback), usable).has_fallback is expected


def in_flight(tasks: int, *, queue: Any = None, priority: Any = "normal", org: UUID = A, model: str = "m") -> InFlight:
    is_promoted = queue is not None and PRIORITIES.index(queue) < PRIORITIES.index(priority)
    return InFlight(org, CLERK, "openai", model, priority, queue, queue is not None, is_promoted, tasks)


def test_running_and_published_tasks_count_against_every_limit_and_only_published_ones_fill_a_queue() -> None:
    groups = [
        in_flight(2),
        in_flight(3, queue="normal"),
        in_flight(1, queue="high", priority="low", model="n"),
        in_flight(4, org=B, queue="low", priority="low"),
    ]
    counts = _counts(groups, {"normal": 7})
    assert counts.organisations == {A: 6, B: 4}
    assert counts.agents == {CLERK: 10}
    assert counts.providers == {("openai", ""): 10, ("openai", "m"): 9, ("openai", "n"): 1}
    assert counts.unclaimed == {A: 4, B: 4}
    assert counts.unclaimed_providers == {("openai", ""): 8, ("openai", "m"): 7, ("openai", "n"): 1}
    assert counts.on_queue == {"normal": 10, "high": 1, "low": 4}  # with 7 messages that belong to no task
    assert counts.promoted == {"high": 1}
    assert counts.priorities == {"normal": 5, "low": 5}


@pytest.mark.parametrize(("rate", "ahead"), [(None, None), (None, 1.0), (2.0, None)])
def test_a_model_without_a_pace_has_room_without_limit(rate: float | None, ahead: float | None) -> None:
    one = StoredProviderLimit("openai", "m", 5, 60, None, rate, None, 0.0, ahead, 17)
    found = provider_limit(one)
    assert (found.room, found.rate) == (None, rate or 0.0)
    assert (found.max_in_flight, found.starts_per_minute, found.started) == (5, 60, 17)


# ── slots ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_crews = st.lists(
    st.builds(Crew, st.sets(st.sampled_from([*PRIORITIES, "system"]), min_size=1), st.integers(1, 300)), max_size=4
)


def test_a_worker_counts_for_each_queue_that_it_serves() -> None:
    assert slots_by_queue([Crew(["high", "low"], 4), Crew(["low"], 3)]) == {"high": 4, "low": 7}
    assert slots_by_queue([]) == {}


@pytest.mark.parametrize(
    ("slots", "ceiling", "expected"),
    [({}, 100, 0), ({"low": 0}, 100, 0), ({"low": 1}, 100, 16), ({"low": 40}, 100, 40), ({"low": 400}, 100, 100),
     ({"low": 400}, 8, 8), ({"low": 1}, 8, 8)],
)  # fmt: skip
def test_a_queue_holds_as_many_messages_as_slots_within_both_bounds(
    slots: dict[str, int], ceiling: int, expected: int
) -> None:
    assert bounds_for(slots, ceiling) == dict.fromkeys(PRIORITIES, 0) | {"low": expected}


@given(_crews)
def test_bulk_gets_every_slot_of_its_own_workers_and_seven_of_eight_that_it_shares(crews: list[Crew]) -> None:
    most = most_in_flight(crews)
    own = sum(
        crew.slots for crew in crews if not set(crew.queues) & {"critical", "high", "normal"} and "low" in crew.queues
    )
    every = sum(crew.slots for crew in crews if "low" in crew.queues)
    if not every:
        assert most == {}
        return
    (share,) = most.values()
    assert own <= share <= every
    assert share >= 1
    assert every - share <= max(1, (every - own) / 8)
    if every - own > 1:
        assert share < every


@given(_crews, st.randoms())
def test_the_order_of_workers_decides_nothing(crews: list[Crew], dice: Any) -> None:
    shuffled = crews[:]
    dice.shuffle(shuffled)
    assert most_in_flight(shuffled) == most_in_flight(crews)
    assert Counter(slots_by_queue(shuffled)) == Counter(slots_by_queue(crews))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0.0 s"), (1.24, "1.2 s"), (119.9, "119.9 s"), (120, "2 min"), (7_199, "120 min"), (7_200, "2 h"),
     (86_400, "24 h"), (172_800, "48 h")],
)  # fmt: skip
def test_a_span_is_told_in_the_unit_that_it_has_two_of(seconds: float, expected: str) -> None:
    assert _span(seconds) == expected
