"""Thompson sampling: what it learns, what it takes, and that the propensities it states are the true ones."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.learning.thompson import Posterior, choose, draw, propensities


@pytest.mark.parametrize(
    ("posterior", "mean"),
    [(Posterior(), 0.5), (Posterior(1, 0), 2 / 3), (Posterior(0, 1), 1 / 3), (Posterior(98, 0), 0.99)],
)
def test_the_expected_rate_begins_in_the_middle_and_follows_what_happened(posterior: Posterior, mean: float) -> None:
    assert posterior.mean == pytest.approx(mean)


def test_an_outcome_is_counted_on_its_side() -> None:
    assert Posterior(2, 3).after(success=True) == Posterior(3, 3)
    assert Posterior(2, 3).after(success=False) == Posterior(2, 4)


@pytest.mark.parametrize(
    "posteriors",
    [
        {"a": Posterior(), "b": Posterior()},
        {"a": Posterior(3, 1), "b": Posterior(1, 3)},
        {"a": Posterior(50, 50), "b": Posterior(2, 1), "c": Posterior(0, 4)},
        {"a": Posterior(5000, 5000), "b": Posterior(5050, 4950), "c": Posterior(0, 0)},
    ],
)
def test_propensities_are_how_often_each_is_taken(posteriors: dict[str, Posterior]) -> None:
    chance = Random(4)
    taken = Counter(draw(posteriors, chance) for _ in range(20_000))
    for option, propensity in propensities(posteriors).items():
        assert taken[option] / 20_000 == pytest.approx(propensity, abs=0.015)


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        # A rate is above one that is anywhere from 0 to 1 as often as it is high: by its mean.
        (Posterior(), Posterior(), 1 / 2),
        (Posterior(1, 0), Posterior(), 2 / 3),
        (Posterior(0, 1), Posterior(), 1 / 3),
        (Posterior(5, 2), Posterior(), 6 / 9),
        (Posterior(30, 70), Posterior(), 31 / 102),
        # Of Beta(a, 1) and Beta(b, 1) the first is higher with probability a / (a + b).
        (Posterior(4, 0), Posterior(1, 0), 5 / 7),
        (Posterior(0, 4), Posterior(0, 1), 2 / 7),
        (Posterior(100_000, 0), Posterior(0, 100_000), 1),  # as many as that are no trouble
    ],
)
def test_propensities_of_two_by_formula(one: Posterior, other: Posterior, wanted: float) -> None:
    found = propensities({"one": one, "other": other})
    assert found == pytest.approx({"one": wanted, "other": 1 - wanted}, abs=1e-4)


counts = st.integers(0, 2_000)


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.text("abcdef", min_size=1), st.builds(Posterior, counts, counts), min_size=1, max_size=6))
def test_propensities_add_up_and_none_is_negative(posteriors: dict[str, Posterior]) -> None:
    found = propensities(posteriors)
    assert set(found) == set(posteriors)
    assert sum(found.values()) == pytest.approx(1)
    assert all(value >= 0 for value in found.values())


def test_options_of_which_as_much_is_known_are_as_probable() -> None:
    found = propensities({name: Posterior(4, 2) for name in "abc"})
    assert found["a"] == pytest.approx(1 / 3)
    assert found["b"] == pytest.approx(1 / 3)


def test_it_says_when_it_explores() -> None:
    posteriors = {"good": Posterior(30, 10), "bad": Posterior(10, 30)}
    chance = Random(1)
    for _ in range(200):
        choice = choose(posteriors, chance)
        assert choice.is_exploration == (choice.option == "bad")
        assert choice.propensity == pytest.approx(propensities(posteriors)[choice.option])
    even = choose({"a": Posterior(), "b": Posterior()}, chance)
    assert not even.is_exploration


def test_an_only_option_is_certain() -> None:
    choice = choose({"a": Posterior(1, 9)}, Random(1))
    assert choice.option == "a"
    assert choice.propensity == pytest.approx(1)
    assert not choice.is_exploration


def test_there_must_be_an_option() -> None:
    with pytest.raises(ValueError, match=r"^there is no option to choose from$"):
        choose({}, Random(1))


def test_it_comes_to_take_what_is_better() -> None:
    rates, chance = {"a": 0.8, "b": 0.3}, Random(7)
    known = {name: Posterior() for name in rates}
    taken = Counter[str]()
    for _ in range(1_000):
        option = draw(known, chance)
        taken[option] += 1
        known[option] = known[option].after(success=chance.random() < rates[option])
    assert taken["a"] > 950
