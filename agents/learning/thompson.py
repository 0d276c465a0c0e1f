"""Thompson sampling for options that succeed or fail. Pure: posteriors and a source of chance in, a choice out.

Each option's rate of success has a Beta posterior, which begins as Beta(1, 1): anything may be. To choose, a rate is
drawn from each posterior, and the option with the highest is taken (Thompson 1933; Agrawal & Goyal 2012). So an option
is tried as often as it may still turn out to be the best: no schedule of exploring is needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log, log1p
from random import Random

_PRIOR = 1.0
_CELLS = 512
"""parts of the interval from 0 to 1 that propensities are summed over"""


@dataclass(frozen=True)
class Posterior:
    """What is known of an option: how often it succeeded and failed. The rate of success is Beta(1 + s, 1 + f)."""

    successes: int = 0
    failures: int = 0

    @property
    def mean(self) -> float:
        """The rate of success that is to be expected."""
        return (_PRIOR + self.successes) / (2 * _PRIOR + self.successes + self.failures)

    def draw(self, chance: Random) -> float:
        """A rate that it may have."""
        return chance.betavariate(_PRIOR + self.successes, _PRIOR + self.failures)

    def after(self, *, success: bool) -> "Posterior":
        """What is known once one more outcome is."""
        return Posterior(self.successes + success, self.failures + (not success))


@dataclass(frozen=True)
class Choice:
    """An option that was taken: how probable that was, and whether another looked better."""

    option: str
    propensity: float
    is_exploration: bool


def draw(posteriors: Mapping[str, Posterior], chance: Random) -> str:
    """The option whose drawn rate is highest."""
    if not posteriors:
        raise ValueError("there is no option to choose from")
    return max(posteriors, key=lambda option: posteriors[option].draw(chance))


def choose(posteriors: Mapping[str, Posterior], chance: Random) -> Choice:
    """Take an option, and say how probable that was. It explores when another has the higher expected rate."""
    option = draw(posteriors, chance)
    best = max(posterior.mean for posterior in posteriors.values())
    return Choice(option, propensities(posteriors)[option], posteriors[option].mean < best)


def propensities(posteriors: Mapping[str, Posterior]) -> dict[str, float]:
    """How probable it is that each option is taken: that its rate is the highest. They add up to 1.

    P(i is taken) = ∫ f_i(x) · Π_{j≠i} F_j(x) dx, summed over 512 cells; within a cell ties are shared evenly.
    """
    masses = {option: _masses(posterior) for option, posterior in posteriors.items()}
    found = dict.fromkeys(posteriors, 0.0)
    below = dict.fromkeys(posteriors, 0.0)
    for cell in range(_CELLS):
        for option in posteriors:
            product = masses[option][cell]
            for other in posteriors:
                if other != option:
                    product *= below[other] + masses[other][cell] / 2
            found[option] += product
        for option in posteriors:
            below[option] += masses[option][cell]
    total = sum(found.values())
    return {option: value / total for option, value in found.items()}


def _masses(posterior: Posterior) -> list[float]:
    """The share of a posterior that lies in each cell: its density at the middle, made to add up to 1."""
    highest = _log_density(posterior, _mode(posterior))
    densities = [exp(_log_density(posterior, (cell + 0.5) / _CELLS) - highest) for cell in range(_CELLS)]
    total = sum(densities)
    return [density / total for density in densities]


def _log_density(posterior: Posterior, rate: float) -> float:
    return posterior.successes * log(rate) + posterior.failures * log1p(-rate)


def _mode(posterior: Posterior) -> float:
    tries = posterior.successes + posterior.failures
    mode = posterior.successes / tries if tries else 0.5
    return min(max(mode, 0.5 / _CELLS), 1 - 0.5 / _CELLS)
