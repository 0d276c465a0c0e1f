"""Measure a quota that all worker processes share: tasks of two calls each run against a model server that admits calls
by a token bucket and refuses the others with a correct `retry-after`.

Reports how much of the quota is used, how many calls are refused, and how often one call is tried.
`make bench ONLY=quota`; CASES=1/s for some cases.
"""

import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.installation import Installation, bar, installation, put_bench_agent, submit_bench, write_results
from benchmarks.model_server import model_server

_LATENCY, _CALLS = 0.5, 2


@dataclass(frozen=True)
class _Case:
    name: str
    rate: float
    """calls a second"""
    size: int
    """calls that may come at once when the bucket is full"""
    tasks: int


_CASES = (
    _Case("1/s", 1, 1, 100),
    _Case("60/min", 1, 60, 200),
    _Case("20/s", 20, 20, 1_000),
)


def main() -> None:
    """Measure, print, write."""
    wanted = [name for name in os.environ.get("CASES", "").split(",") if name]
    found = [_measure(case) for case in _CASES if not wanted or case.name in wanted]
    names = ("quota", "tasks", "seconds", "admitted", "refused", "share", "tries", "used")
    print("".join(f"{name:>10}" for name in names))
    for one in found:
        row = (one["quota"], one["tasks"], f"{one['seconds']:.0f}", one["admitted"], one["refused"],
               f"{one['refused_share']:.1%}", one["most_tries"], f"{one['used']:.0%}")  # fmt: skip
        print("".join(f"{value:>10}" for value in row))
    bars = [bar(f"{one['quota']}, {one['tasks']} tasks", [100 * one["used"]]) for one in found]
    write_results("quota", found, "percent of the quota used", bars)


def _measure(case: _Case) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="rota-quota-") as folder:
        journal = Path(folder) / "calls"
        with model_server(_LATENCY, str(journal), f"{case.rate},{case.size}") as model:
            environment = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none"}
            with installation("--workers", "2", environment=environment) as rota:
                put_bench_agent(rota)
                _run(rota, case)
        return _judged(case, journal)


def _run(rota: Installation, case: _Case) -> None:
    rota.wait("SELECT 1 FROM workers WHERE stopped_at IS NULL HAVING count(*) < 3")
    rota.rota("pause", "agent", "bench")
    submit_bench(rota, case.tasks, message="When is spin? nr")
    rota.rota("resume", "agent", "bench")
    rota.wait("SELECT 1 FROM tasks WHERE finished_at IS NULL LIMIT 1", seconds=3_600)
    failed = rota.query("SELECT count(*) FROM tasks WHERE status <> 'succeeded'")[0][0]
    if failed:
        raise RuntimeError(f"{failed} of {case.tasks} tasks did not succeed")


def _judged(case: _Case, journal: Path) -> dict[str, Any]:
    """Compute the result of a case from the model server's journal of calls."""
    calls = [line.split() for line in journal.read_text().splitlines()]
    tries: Counter[str] = Counter()
    most, states, times = 0, Counter[str](), [float(at) for _, at, _ in calls]
    for number, _, state in calls:
        states[state] += 1
        tries[number] += 1
        most = max(most, tries[number])
        if state == "admitted":
            tries[number] = 0  # the task's next line is a new call
    seconds = max(times) - min(times)
    return {
        "quota": case.name,
        "tasks": case.tasks,
        "seconds": seconds,
        "admitted": states["admitted"],
        "refused": states["refused"],
        "refused_share": states["refused"] / states["admitted"],
        "most_tries": most,
        "refused_at": [round(float(at) - min(times), 2) for _, at, state in calls if state == "refused"],
        "used": states["admitted"] / (case.rate * seconds + case.size),
    }
