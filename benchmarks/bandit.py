"""Compare the regret of Thompson sampling with theory and with uniform play: T = 10,000, the mean of 300 seeded runs.

The regret of a run is Σ (best rate - rate of the option taken). Lai and Robbins (1985) show that no consistent policy
does better, as T grows, than ln T · Σ Δ_i / KL(rate_i, best rate). Uniform play loses T · mean(Δ).
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from math import log
from random import Random
from statistics import fmean, stdev
from typing import Any

from agents.learning.thompson import Posterior, draw
from benchmarks.installation import write_results

_TURNS, _RUNS = 10_000, 300
_PROBLEMS: dict[str, tuple[float, ...]] = {
    ".9 / .6": (0.9, 0.6),
    ".9 / .8 / .7": (0.9, 0.8, 0.7),
    ".55 / .45": (0.55, 0.45),
    "ten: .5, nine of .4": (0.5, *[0.4] * 9),
}
_DELAY = 100


def main() -> None:
    """Measure, print, write."""
    found: list[dict[str, Any]] = []
    print(f"{'rates':<22}{'at once':>18}{f'every {_DELAY}':>18}{'uniform':>10}{'ln T · ΣΔ/KL':>15}")
    with ProcessPoolExecutor() as pool:
        for name, rates in _PROBLEMS.items():
            row: dict[str, Any] = {"rates": name, "uniform": _TURNS * fmean(max(rates) - rate for rate in rates)}
            for what, delay in (("at once", 1), (f"every {_DELAY}", _DELAY)):
                regrets = list(pool.map(partial(regret, rates, delay=delay), range(_RUNS), chunksize=10))
                row[what] = {"mean": fmean(regrets), "standard error": stdev(regrets) / _RUNS**0.5}
            row["lower bound"] = log(_TURNS) * sum(_price(rate, max(rates)) for rate in rates if rate < max(rates))
            found.append(row)
            told = [f"{row[k]['mean']:.1f} ± {row[k]['standard error']:.1f}" for k in ("at once", f"every {_DELAY}")]
            print(f"{name:<22}{told[0]:>18}{told[1]:>18}{row['uniform']:>10.0f}{row['lower bound']:>15.1f}", flush=True)
    write_results("bandit", found)


def regret(rates: Sequence[float], seed: int, *, delay: int) -> float:
    """Return the regret of one run in which outcomes become known every `delay` turns."""
    chance = Random(seed)
    known = {str(number): Posterior() for number in range(len(rates))}
    pending: list[tuple[str, bool]] = []
    lost, best = 0.0, max(rates)
    for turn in range(1, _TURNS + 1):
        option = draw(known, chance)
        rate = rates[int(option)]
        lost += best - rate
        pending.append((option, chance.random() < rate))
        if turn % delay == 0:
            for tried, success in pending:
                known[tried] = known[tried].after(success=success)
            pending.clear()
    return lost


def _price(rate: float, best: float) -> float:
    """Return the cost of distinguishing an option from the best one: Δ / KL."""
    divergence = rate * log(rate / best) + (1 - rate) * log((1 - rate) / (1 - best))
    return (best - rate) / divergence
