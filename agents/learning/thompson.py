"""Thompson sampling for options that succeed or fail. Pure functions of posteriors and a source of randomness.

Each option's success rate has a Beta posterior, which starts as Beta(1, 1), the uniform distribution. To choose, a rate
is drawn from each posterior, and the option with the highest is taken (Thompson 1933; Agrawal & Goyal 2012). An option
is tried as often as it may still turn out to be the best, so no exploration schedule is needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log, log1p
from random import Random

_PRIOR = 1.0
_CELLS = 512
"""number of cells of the interval from 0 to 1 over which propensities are summed"""


@dataclass(frozen=True)
class Posterior:
    """How often an option succeeded and failed. Its success rate is distributed as Beta(1 + s, 1 + f)."""

    successes: int = 0
    failures: int = 0

    @property
    def mean(self) -> float:
        """The expected success rate."""
        return (_PRIOR + self.successes) / (2 * _PRIOR + self.successes + self.failures)

    def draw(self, chance: Random) -> float:
        """Draw a success rate."""
        return chance.betavariate(_PRIOR + self.successes, _PRIOR + self.failures)

    def after(self, *, success: bool) -> "Posterior":
        """Return the posterior after one more outcome."""
        return Posterior(self.successes + success, self.failures + (not success))


@dataclass(frozen=True)
class Choice:
    """An option that was taken, the probability of that, and whether another had a higher expected rate."""

    option: str
    propensity: float
    is_exploration: bool


def draw(posteriors: Mapping[str, Posterior], chance: Random) -> str:
    """Return the option whose drawn rate is highest."""
    if not posteriors:
        raise ValueError("there is no option to choose from")
    return max(posteriors, key=lambda option: posteriors[option].draw(chance))


def choose(posteriors: Mapping[str, Posterior], chance: Random) -> Choice:
    """Take an option, with the probability of that. It is exploration if another has a higher expected rate."""
    option = draw(posteriors, chance)
    best = max(posterior.mean for posterior in posteriors.values())
    return Choice(option, propensities(posteriors)[option], posteriors[option].mean < best)


def propensities(posteriors: Mapping[str, Posterior]) -> dict[str, float]:
    """Return the probability that each option is taken, which is that its rate is the highest. They add up to 1.

    P(i is taken) = ∫ f_i(x) · Π_{j≠i} F_j(x) dx, summed over 512 cells; ties within a cell are shared evenly.
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
    """Return the share of a posterior in each cell: the density at its middle, normalised to add up to 1."""
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
