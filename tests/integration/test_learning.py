"""Choices and their outcomes on a real database: each counts once, in its own arm, for its own organisation."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import Connection

from core import db
from core.ids import new_id
from domain.learning import service as learning
from domain.learning.schemas import NewChoice, Outcome, Tally
from tests.support.factories import make_organisation


@pytest.fixture
def connection(org: UUID) -> Iterator[Connection]:
    with db.transaction(org) as made:
        yield made


def note(connection: Connection, org: UUID, option: str = "short", **changes: object) -> UUID:
    known: dict[str, object] = {
        "policy": "follow-up quotes", "context": "client, step 1", "option": option,
        "options": {"short": (0, 0), "long": (0, 0)}, "propensity": 0.5, "is_exploration": False, "subject": new_id(),
    }  # fmt: skip
    return learning.note(connection, org, NewChoice.model_validate(known | changes))


def counts(connection: Connection) -> dict[str, tuple[int, int, int]]:
    """How often each option was chosen, succeeded and failed."""
    return {arm.option: (arm.chosen, arm.successes, arm.failures) for arm in learning.list_arms(connection)}


def test_an_outcome_counts_once_however_often_and_however_differently_it_is_told(
    org: UUID, connection: Connection
) -> None:
    choice = note(connection, org)
    for outcome in ("success", "success", "failure", "void"):
        learning.settle(connection, {choice: outcome})
    assert counts(connection) == {"short": (1, 1, 0)}
    (stored,) = learning.list_choices(connection)
    assert (stored.id, stored.outcome) == (choice, "success")
    assert stored.settled_at is not None


def test_an_outcome_told_by_two_at_once_counts_once(org: UUID) -> None:
    with db.transaction(org) as connection:
        choices = [note(connection, org, option) for option in ("short", "long") for _ in range(10)]

    def settle(order: int) -> None:
        with db.transaction(org) as connection:
            learning.settle(connection, dict.fromkeys(choices[::order], "success"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(settle, [1, -1, 1, -1]))
    with db.transaction(org) as connection:
        assert counts(connection) == {"short": (10, 10, 0), "long": (10, 10, 0)}


def test_several_outcomes_at_once_are_added_up_by_arm_and_void_teaches_nothing(
    org: UUID, connection: Connection
) -> None:
    told: list[Outcome] = ["success", "success", "failure", "void"]
    outcomes = {note(connection, org): outcome for outcome in told}
    elsewhere = note(connection, org, context="lead, step 1")
    learning.settle(connection, outcomes | {elsewhere: "failure", new_id(): "success"})
    learning.settle(connection, {})
    tallies = learning.known(connection, "follow-up quotes", "client, step 1", ["short", "never"])
    assert tallies == {"short": Tally("short", 2, 1), "never": Tally("never", 0, 0)}
    assert learning.known(connection, "follow-up quotes", "lead, step 1", ["short"])["short"].failures == 1
    assert learning.known(connection, "other", "client, step 1", ["short"]) == {"short": Tally("short")}
    [arm] = [one for one in learning.list_arms(connection) if one.context == "client, step 1"]
    assert arm.expected_rate == pytest.approx(3 / 5)  # (1 + 2) / (2 + 2 + 1)


def test_arms_count_what_was_explored_and_are_listed_by_policy(org: UUID, connection: Connection) -> None:
    for is_exploration in (True, False, True):
        note(connection, org, is_exploration=is_exploration)
    note(connection, org, policy="another")
    [arm] = learning.list_arms(connection, "follow-up quotes")
    assert (arm.chosen, arm.explored, arm.expected_rate) == (3, 2, 0.5)
    assert [one.policy for one in learning.list_arms(connection)] == ["another", "follow-up quotes"]
    assert learning.list_arms(connection, "unknown") == []


def test_choices_are_listed_in_pages_the_latest_first(org: UUID, connection: Connection) -> None:
    made = [note(connection, org) for _ in range(5)]
    other = note(connection, org, policy="another")
    listed: list[UUID] = []
    for wanted in (2, 2, 1):
        before = listed[-1] if listed else None
        page = learning.list_choices(connection, "follow-up quotes", before=before, limit=2)
        assert len(page) == wanted
        listed += [choice.id for choice in page]
    assert listed == made[::-1]
    assert learning.list_choices(connection, "follow-up quotes", before=listed[-1]) == []
    assert [choice.id for choice in learning.list_choices(connection, limit=2)] == [other, made[-1]]
    assert learning.list_choices(connection, "another")[0].options == {"short": (0, 0), "long": (0, 0)}


def test_one_organisation_learns_nothing_from_another(org: UUID) -> None:
    with db.transaction(org) as connection:
        choice = note(connection, org)
    other = make_organisation(f"org-{new_id().hex[-12:]}")
    with db.transaction(other) as connection:
        learning.settle(connection, {choice: "success"})
        assert learning.list_arms(connection) == []
        assert learning.list_choices(connection) == []
        assert learning.known(connection, "follow-up quotes", "client, step 1", ["short"])["short"] == Tally("short")
    with db.transaction(org) as connection:
        assert counts(connection) == {"short": (1, 0, 0)}
