"""Measure how many tasks a second this machine does, from the first submission over HTTP to the end of the last task.

Starts a whole Rota on free ports with the rehearsal model, submits the demonstration messages in rounds, and prints a
table; `benchmarks/results/throughput.json` holds the same figures. Takes about two minutes. `rota up` raises the
organisation's rate limit to 6,000 tasks a minute.
"""

import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.installation import ROOT, Installation, cpu_seconds, installation

_ROUNDS, _SUBMITTERS, _PAGE = 3, 8, 200
_ENDED = ["succeeded", "failed", "cancelled", "expired"]


def main() -> None:
    """Measure, print, write."""
    with installation() as rota:
        rounds = [_round(rota) for _ in range(_ROUNDS)]
    _report(rounds)


def _round(rota: Installation) -> dict[str, Any]:
    lines = (ROOT / "examples" / "gym_messages.jsonl").read_text().splitlines()
    messages = [json.loads(line)["message"] for line in lines]
    with rota.client() as http:
        cpu = cpu_seconds(rota.data)
        started = time.monotonic()

        def submit(message: str) -> str:
            answer = http.post("/v1/tasks", json={"agent": "support-assistant", "input": {"message": message}})
            task_id: str = answer.raise_for_status().json()["id"]
            return task_id

        with ThreadPoolExecutor(_SUBMITTERS) as pool:
            ids = list(pool.map(submit, messages))
        submitted = time.monotonic() - started
        calls = _wait(http, ids)
        seconds = time.monotonic() - started
    used = {name: after - cpu.get(name, 0) for name, after in cpu_seconds(rota.data).items()}
    return {
        "tasks": len(ids),
        "model_calls": calls,
        "seconds": seconds,
        "tasks_per_second": len(ids) / seconds,
        "submissions_per_second": len(ids) / submitted,
        "cpu_ms_per_task": {name: 1000 * value / len(ids) for name, value in used.items() if value > 0},
    }


def _wait(http: httpx2.Client, ids: list[str]) -> int:
    """Wait until every task has ended; return how many model calls they made."""
    calls, waiting = 0, list(ids)
    while waiting:
        for start in range(0, len(waiting), _PAGE):
            asked = waiting[start : start + _PAGE]
            page = http.get("/v1/tasks", params={"id": asked, "status": _ENDED, "limit": _PAGE}).json()["tasks"]
            calls += sum(task["model_calls"] for task in page)
            ended = {task["id"] for task in page}
            waiting = [task_id for task_id in waiting if task_id not in ended]
        time.sleep(0.05)
    return calls


def _report(rounds: list[dict[str, Any]]) -> None:
    rates = [one["tasks_per_second"] for one in rounds]
    submissions = [one["submissions_per_second"] for one in rounds]
    print(f"{rounds[0]['tasks']} tasks a round, {rounds[0]['model_calls']} model calls, {len(rounds)} rounds")
    print(f"tasks/s        median {statistics.median(rates):6.1f}   from {min(rates):.1f} to {max(rates):.1f}")
    print(f"submissions/s  median {statistics.median(submissions):6.1f}")
    print("CPU ms a task, by process (last round):")
    for name, value in sorted(rounds[-1]["cpu_ms_per_task"].items(), key=lambda item: -item[1]):
        print(f"  {name:14} {value:6.1f}")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "throughput.json").write_text(json.dumps({"rounds": rounds}, indent=2))
