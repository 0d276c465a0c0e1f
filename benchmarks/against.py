"""Compare the cost of a plain task in this checkout and in another one, in paired rounds.

The speed of a machine changes by the minute, so rounds alternate, and the ratio of each pair counts, not the figures.
The cost is the CPU time that the API, the dispatcher, the workers, Flower and the servers use for a task: two model
calls, one tool call.

    make bench ONLY=against OTHER=../rota-before     # a checkout in which `make test` or `make run` was run once
"""

import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.installation import write_results

_PAIRS, _TASKS = int(os.environ.get("ROUNDS", "10")), int(os.environ.get("TASKS", "400"))
# Not ours, or busy by the clock and not by the task: in a short round that alone would decide.
_LEFT_OUT = {"model", "submitter", "beat", "worker-system"}
# Runs in each checkout, with what both have: a round for each line of its input.
_SIDE = """
import json, sys
from benchmarks.model_server import model_server
from benchmarks.overhead import _rota
with model_server() as model, _rota(model) as rota:
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(rota.round(int(line))), flush=True)
"""


def _ensure_same_python(folders: list[Path]) -> None:
    """Refuse to compare environments of different Pythons: builds of one version differ by an eighth in speed."""
    asked = "import sys, sysconfig; print(sys.version, sys.base_prefix, sysconfig.get_config_var('CONFIG_ARGS'))"
    told = {
        subprocess.run(
            [str(folder / ".venv" / "bin" / "python"), "-c", asked], capture_output=True, text=True, check=True
        ).stdout
        for folder in folders
    }
    if len(told) > 1:
        sys.exit(
            "The two environments were made by different Pythons. Make both anew with the same one: make clean test"
        )


class _Side:
    """One checkout, with its installation running."""

    def __init__(self, folder: Path) -> None:
        command = [str(folder / ".venv" / "bin" / "python"), "-c", _SIDE]
        self._process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._answer()

    def cost(self, tasks: int) -> float:
        """Run one round and return the milliseconds of CPU per task."""
        assert self._process.stdin is not None  # noqa: S101  for the type checker
        self._process.stdin.write(f"{tasks}\n")
        self._process.stdin.flush()
        used: dict[str, Any] = json.loads(self._answer())["cpu_ms_per_task"]
        return float(sum(value for name, value in used.items() if name not in _LEFT_OUT))

    def _answer(self) -> str:
        assert self._process.stdout is not None  # noqa: S101  as above
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a checkout does not run: try `make run` in it")
        return line

    def stop(self) -> None:
        """End the installation."""
        assert self._process.stdin is not None  # noqa: S101  as above
        self._process.stdin.close()
        self._process.wait(60)


def main() -> None:
    """Measure, print, write."""
    other = os.environ.get("OTHER")
    if not other:
        sys.exit("Name the other checkout: make bench ONLY=against OTHER=../rota-before")
    folders = [Path.cwd(), Path(other).resolve()]
    _ensure_same_python(folders)
    sides = [_Side(folder) for folder in folders]
    pairs: list[tuple[float, float]] = []
    try:
        for side in sides:
            side.cost(_TASKS)  # what is loaded at first use is no cost of a task
        for number in range(_PAIRS):
            order = sides if number % 2 else sides[::-1]  # neither is always the first
            found = {side: side.cost(_TASKS) for side in order}
            pairs.append((found[sides[0]], found[sides[1]]))
            print(f"pair {number + 1}: {pairs[-1][0]:.2f} ms here, {pairs[-1][1]:.2f} ms there", file=sys.stderr)
    finally:
        for side in sides:
            side.stop()
    low, middle, high = interval([here / there for here, there in pairs])
    print(f"CPU ms per task, here / there: {middle:.3f} (95 % interval {low:.3f} to {high:.3f}, {len(pairs)} pairs)")
    write_results("against", {"pairs": pairs, "ratio": middle, "low": low, "high": high})


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Return the low end, the geometric mean and the high end of the 95 % interval (Student's t, on logarithms)."""
    logs = [math.log(ratio) for ratio in ratios]
    middle, spread = statistics.mean(logs), statistics.stdev(logs) / math.sqrt(len(logs))
    reach = _T[min(len(logs) - 1, len(_T) - 1)] * spread
    return math.exp(middle - reach), math.exp(middle), math.exp(middle + reach)


# 97.5 % quantiles of Student's t by degrees of freedom, from 0 (none) on; beyond 20 the last.
_T = (
    math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
