"""Measure how long a task is interrupted when its worker is killed: from kill -9 until it runs again on the worker that
`rota up` starts as a replacement. `make bench ONLY=recovery`.
"""

import os
import signal
import statistics
import time

from benchmarks.installation import Installation, bar, installation, put_bench_agent, write_results
from benchmarks.model_server import model_server

_TIMES, _LATENCY = 5, 2.0


def main() -> None:
    """Measure, print, write."""
    with model_server(_LATENCY) as model:
        environment = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none"}
        with installation(environment=environment) as rota:
            put_bench_agent(rota)
            seconds = [_once(rota) for _ in range(_TIMES)]
    print(f"from kill -9 to running again: median {statistics.median(seconds):.1f} s, "
          f"from {min(seconds):.1f} to {max(seconds):.1f} s, {_TIMES} times")  # fmt: skip
    bars = [bar("a worker killed with -9", seconds)]
    write_results("recovery", {"seconds": seconds}, "seconds until its task runs again", bars)


def _once(rota: Installation) -> float:
    with rota.client() as http:
        body = {"agent": "bench", "input": {"message": "When is spin?"}}
        task = http.post("/v1/tasks", json=body).raise_for_status().json()["id"]
    _wait(rota, "SELECT 1 FROM tasks WHERE id = %s AND status = 'running'", task)
    time.sleep(_LATENCY / 4)  # in the middle of its call
    os.kill(rota.process_id("worker"), signal.SIGKILL)
    killed = time.monotonic()
    _wait(rota, "SELECT 1 FROM tasks WHERE id = %s AND status = 'running' AND claim > 1", task)
    found = time.monotonic() - killed
    _wait(rota, "SELECT 1 FROM tasks WHERE id = %s AND status = 'succeeded'", task)
    return found


def _wait(rota: Installation, statement: str, task: str) -> None:
    ends = time.monotonic() + 60
    while not rota.query(statement, task):
        if time.monotonic() > ends:
            raise RuntimeError("the task does not go on")
        time.sleep(0.02)
