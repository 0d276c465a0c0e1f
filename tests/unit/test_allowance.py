"""What blocks a lane: each limit at its edge, which block is named first, and that counting is undone exactly."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.dispatch.allowance import Allowance, switched_off
from domain.dispatch.schemas import Block, Counts, Lane, OrganisationLimit, ProviderLimit, Rules, Unclaimed

A, B, CLERK, OTHER = (UUID(int=number) for number in (1, 2, 10, 11))
OPENAI, MODEL = ("openai", ""), ("openai", "m")
LIMITS, BEFORE = "openai m limits how often it is called", "are made for now, and those before it come first."


def lane(**more: Any) -> Lane:
    values: dict[str, Any] = {
        "priority": "normal", "org_id": A, "agent": "clerk", "agent_id": CLERK, "provider": "openai", "model": "m",
    }  # fmt: skip
    return Lane(**values | more)


def unclaimed(of: Lane, number: int = 0) -> Unclaimed:
    return Unclaimed(UUID(int=100 + number), of.org_id, of.agent_id, of.provider, of.model, of.priority)


EDGES: dict[str, tuple[Rules, Counts, Block]] = {
    "tasks of the organisation in flight": (
        Rules(organisations={A: OrganisationLimit(max_in_flight=2)}),
        Counts(organisations={A: 1, B: 9}),
        Block("organisation", "The organisation has 2 tasks in flight, its limit."),
    ),
    "starts of the organisation": (
        Rules(organisations={A: OrganisationLimit(starts_per_minute=5, started=3)}),
        Counts(unclaimed={A: 1, B: 9}),
        Block("rate", "The organisation has started, or is about to start, its 5 tasks of this minute."),
    ),
    "tasks of the agent in flight": (
        Rules(agents={CLERK: 2}),
        Counts(agents={CLERK: 1, OTHER: 9}),
        Block("agent", "The agent clerk has 2 tasks in flight, its limit."),
    ),
    "tasks of the provider in flight": (
        Rules(providers={OPENAI: ProviderLimit(max_in_flight=2)}),
        Counts(providers={OPENAI: 1, MODEL: 9}),
        Block("provider", "2 tasks are in flight at openai, its limit."),
    ),
    "tasks of the model in flight": (
        Rules(providers={MODEL: ProviderLimit(max_in_flight=2)}),
        Counts(providers={OPENAI: 9, MODEL: 1}),
        Block("provider", "2 tasks are in flight at openai m, its limit.", "m"),
    ),
    "starts of the provider": (
        Rules(providers={OPENAI: ProviderLimit(starts_per_minute=5, started=3)}),
        Counts(unclaimed_providers={OPENAI: 1, MODEL: 9}),
        Block("provider_rate", "5 tasks have started at openai within a minute, its limit."),
    ),
    "starts of the model": (
        Rules(providers={MODEL: ProviderLimit(starts_per_minute=5, started=3)}),
        Counts(unclaimed_providers={OPENAI: 9, MODEL: 1}),
        Block("provider_rate", "5 tasks have started at openai m within a minute, its limit.", "m"),
    ),
    "room of a paced model": (
        Rules(providers={MODEL: ProviderLimit(cause="limit", rate=0.5, room=2)}),
        Counts(unclaimed_providers={OPENAI: 9, MODEL: 1}),
        Block(
            "held",
            f"{LIMITS}: 30 calls a minute {BEFORE}",
            "m",
        ),
    ),
    "share of the slots": (
        Rules(priorities={"normal": 2}),
        Counts(priorities={"normal": 1, "low": 9}),
        Block(
            "share",
            "2 tasks of priority normal are in flight; the workers' other slots are kept for more urgent ones.",
        ),
    ),
}


@pytest.mark.parametrize("name", EDGES)
def test_a_limit_allows_the_last_task_and_blocks_the_next_with_the_reason(name: str) -> None:
    rules, counts, expected = EDGES[name]
    allowance = Allowance(rules, counts)
    assert allowance.block(lane()) is None
    allowance.take(lane())
    assert allowance.block(lane()) == expected
    if expected.by != "share":  # a share counts tasks by priority, which giving back leaves alone
        allowance.give_back(unclaimed(lane()))
        assert allowance.block(lane()) is None
        allowance.keep(unclaimed(lane()))
        assert allowance.block(lane()) == expected


@pytest.mark.parametrize("name", EDGES)
def test_a_limit_blocks_nobody_to_whom_it_does_not_apply(name: str) -> None:
    rules, counts, _ = EDGES[name]
    allowance = Allowance(rules, counts)
    allowance.take(lane())
    other = lane(org_id=B, agent="other", agent_id=OTHER, provider="mistral", model="n", priority="low")
    assert allowance.block(other) is None


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (ProviderLimit(cause="outage", rate=1, held_for=2.04), "openai m is down: the next call is made in 2.0 s."),
        (ProviderLimit(cause="outage", rate=2, room=0), f"openai m is down: 120 calls a minute {BEFORE}"),
        (ProviderLimit(cause="limit", held_for=3), f"{LIMITS}: the next call is made in 3.0 s."),
        (ProviderLimit(cause="outage", rate=2, room=1), None),
        (ProviderLimit(cause="outage", rate=2, room=None), None),
        (ProviderLimit(cause=None, rate=2, room=0), None),
    ],
)  # fmt: skip
def test_a_pace_says_until_when_or_how_often(limit: ProviderLimit, expected: str | None) -> None:
    block = Allowance(Rules(providers={MODEL: limit}), Counts()).block(lane())
    assert (block and (block.by, block.why, block.model)) == (expected and ("held", expected, "m"))


@pytest.mark.parametrize(
    ("pause", "reason", "expected"),
    [
        (("organisation", ""), "", "The organisation is paused."),
        (("organisation", ""), "audit", "The organisation is paused (audit)."),
        (("queue", "normal"), "", "The queue normal is paused."),
        (("agent", "clerk"), "being rewritten", "The agent clerk is paused (being rewritten)."),
    ],
)
def test_a_pause_says_what_is_paused_and_why(pause: tuple[Any, str], reason: str, expected: str) -> None:
    rules = Rules(pauses={(A, *pause): reason})
    assert Allowance(rules, Counts()).block(lane()) == Block("paused", expected)
    assert Allowance(rules, Counts()).block(lane(org_id=B)) is None


def test_the_block_that_is_named_is_what_a_person_has_to_change_first() -> None:
    rules: dict[str, Any] = {
        "pauses": {(A, "agent", "clerk"): ""},
        "organisations": {A: OrganisationLimit(max_in_flight=0)},
        "agents": {CLERK: 0},
        "providers": {MODEL: ProviderLimit(max_in_flight=0)},
        "priorities": {"normal": 0},
    }
    assert Allowance(Rules(**rules), Counts()).block(lane(is_off=True)) == switched_off(lane(is_off=True))
    named = []
    while block := Allowance(Rules(**rules), Counts()).block(lane()):
        named.append(block.by)
        rules.pop(next(iter(rules)))
    assert named == ["paused", "organisation", "agent", "provider", "share"]


_lanes = st.builds(
    lane,
    org_id=st.sampled_from([A, B]),
    agent_id=st.sampled_from([CLERK, OTHER]),
    provider=st.sampled_from(["openai", "mistral"]),
    model=st.sampled_from(["m", "n"]),
    priority=st.sampled_from(["normal", "low"]),
)


@given(taken=st.lists(_lanes, max_size=4), published=st.lists(_lanes, max_size=4), asked=_lanes)
def test_what_is_given_back_and_kept_again_changes_no_answer(
    taken: list[Lane], published: list[Lane], asked: Lane
) -> None:
    rules = Rules(
        organisations={A: OrganisationLimit(max_in_flight=3, starts_per_minute=4)},
        agents={CLERK: 2},
        providers={MODEL: ProviderLimit(max_in_flight=2), ("mistral", ""): ProviderLimit(starts_per_minute=3)},
        priorities={"low": 2},
    )
    allowance = Allowance(rules, Counts())
    for one in taken:
        allowance.take(one)
    before = allowance.block(asked)
    for number, one in enumerate(published):
        allowance.give_back(unclaimed(one, number))
    for number, one in enumerate(reversed(published)):
        allowance.keep(unclaimed(one, number))
    assert allowance.block(asked) == before
