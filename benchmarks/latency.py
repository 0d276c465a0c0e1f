"""Measure the time from the answer to a submission to the task's first model call: idle, and at half load.

`make bench ONLY=latency`.
"""

import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.installation import Installation, installation, put_bench_agent, submit_bench, write_results
from benchmarks.model_server import model_server

_TASKS, _PAUSE, _FULL_LOAD = 200, 0.05, 300


def main() -> None:
    """Measure, print, write."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "calls"
        with model_server(journal=str(journal)) as model:
            environment = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none"}
            with installation(environment=environment) as rota:
                put_bench_agent(rota)
                submit_bench(rota, 100)
                rota.wait("SELECT 1 FROM tasks WHERE finished_at IS NULL LIMIT 1")
                found["idle"] = _measure(rota, journal, 1_000_000)
                half = _rate(rota) / 2
                stop = threading.Event()
                load = threading.Thread(target=_load, args=(rota, half, stop))
                load.start()
                time.sleep(2)
                found["half load"] = _measure(rota, journal, 2_000_000)
                stop.set()
                load.join()
    print(f"{'':10} {'p50 ms':>8} {'p99 ms':>8}")
    for name, one in found.items():
        print(f"{name:10} {one['p50']:8.1f} {one['p99']:8.1f}")
    print(f"half load: {half:.0f} tasks a second")
    bars = [
        (f"{name}, {part}", one[part], one[part], one[part]) for name, one in found.items() for part in ("p50", "p99")
    ]
    write_results("latency", found | {"half_load": half}, "ms from the answer to the first model call", bars)


def _rate(rota: Installation) -> float:
    """Return tasks a second at full load."""
    started = rota.query("SELECT clock_timestamp()")[0][0]
    submit_bench(rota, _FULL_LOAD)
    rota.wait("SELECT 1 FROM tasks WHERE finished_at IS NULL LIMIT 1")
    ((seconds,),) = rota.query(
        "SELECT extract(epoch FROM max(finished_at) - min(created_at))::float FROM tasks WHERE created_at >= %s",
        started,
    )
    return _FULL_LOAD / float(seconds)


def _load(rota: Installation, rate: float, stop: threading.Event) -> None:
    with rota.client() as http:
        while not stop.wait(1 / rate):
            http.post("/v1/tasks", json={"agent": "bench", "input": {"message": "When is spin?"}}).raise_for_status()


def _measure(rota: Installation, journal: Path, first: int) -> dict[str, Any]:
    answered = {}
    with rota.client() as http:
        for number in range(first, first + _TASKS):
            body = {"agent": "bench", "input": {"message": f"When is spin? nr-{number}"}}
            http.post("/v1/tasks", json=body).raise_for_status()
            answered[number] = time.time()
            time.sleep(_PAUSE)
    rota.wait("SELECT 1 FROM tasks WHERE finished_at IS NULL AND strpos(input ->> 'message', 'nr-') > 0")
    called: dict[int, float] = {}
    for line in journal.read_text().splitlines():
        number_text, moment, _ = line.split()
        if number_text.isdecimal():
            called.setdefault(int(number_text), float(moment))
    waits = [1_000 * (called[number] - moment) for number, moment in answered.items()]
    return {"p50": statistics.median(waits), "p99": statistics.quantiles(waits, n=100)[98], "tasks": _TASKS}
