"""Measure what listeners cost tasks, at a fixed rate: rounds in which every task has a listener alternate with rounds
in which none has.

`make bench ONLY=listening`. A listener follows one task from its first event to its last, words included; a hundred
listen at most. The time of a task is from its acceptance to its end, by the database's clock.
"""

import os
import statistics
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2

from benchmarks.installation import Installation, installation, put_bench_agent, submit_bench, write_results
from benchmarks.model_server import model_server

_PAIRS, _PER_SECOND, _SECONDS = int(os.environ.get("ROUNDS", "6")), int(os.environ.get("RATE", "30")), 10
_LISTENERS = 100
_TIMES = """
    SELECT 1000 * extract(epoch FROM finished_at - created_at)::float FROM tasks
     WHERE created_at >= %s AND status = 'succeeded'
"""


def main() -> None:
    """Measure, print, write."""
    rounds: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    with model_server() as model:
        environment = {
            "OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none", "ROTA_REQUESTS_PER_MINUTE_KEY": "100000",
            "ROTA_REQUESTS_PER_MINUTE_ORGANISATION": "100000",
        }  # fmt: skip
        with installation("--workers", "2", environment=environment) as rota:
            put_bench_agent(rota)
            submit_bench(rota, 200)
            rota.wait("SELECT 1 FROM tasks WHERE finished_at IS NULL LIMIT 1")
            for number in range(_PAIRS):
                for is_listened_to in (False, True) if number % 2 else (True, False):
                    rounds[is_listened_to].append(_round(rota, is_listened_to=is_listened_to))
    _report(rounds)


def _report(rounds: dict[bool, list[dict[str, float]]]) -> None:
    found: dict[str, Any] = {"nobody listens": rounds[False], "all are listened to": rounds[True]}
    print(f"{_PER_SECOND} tasks a second, {_PAIRS} pairs of rounds of {_SECONDS} s")
    for part in ("p50", "p99"):
        ratios = [heard[part] / alone[part] for alone, heard in zip(rounds[False], rounds[True], strict=True)]
        found[f"ratio of {part}"] = statistics.median(ratios)
        alone, heard = (statistics.median(one[part] for one in rounds[which]) for which in (False, True))
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{part}: {alone:.0f} ms, listened to {heard:.0f} ms; ratio {found[f'ratio of {part}']:.2f} ({each})")
    bars = [
        (f"{name}, {part}", *_spread([one[part] for one in found[name]]))
        for name in ("nobody listens", "all are listened to")
        for part in ("p50", "p99")
    ]
    write_results("listening", found, "ms from the acceptance of a task to its end", bars)


def _spread(values: list[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


def _round(rota: Installation, *, is_listened_to: bool) -> dict[str, float]:
    """Submit at the fixed rate; return the percentiles of the tasks' times, in ms, and how many had a listener."""
    started = rota.query("SELECT clock_timestamp()")[0][0]
    listening: list[Future[bool]] = []
    with (
        ThreadPoolExecutor(_LISTENERS) as threads,
        rota.client() as http,
        httpx2.Client(limits=httpx2.Limits(max_connections=_LISTENERS), timeout=60, trust_env=False) as streams,
    ):
        begin = time.monotonic()
        for number in range(_PER_SECOND * _SECONDS):
            time.sleep(max(0, begin + number / _PER_SECOND - time.monotonic()))
            answer = http.post("/v1/tasks", json={"agent": "bench", "input": {"message": "When is spin?"}})
            if is_listened_to:
                listening.append(threads.submit(_listen, streams, rota, answer.raise_for_status().json()["id"]))
        rota.wait("SELECT 1 FROM tasks WHERE finished_at IS NULL LIMIT 1")
        unheard = sum(not one.result() for one in listening)
    if unheard:
        raise RuntimeError(f"{unheard} listeners of {len(listening)} did not hear the end of their task")
    times = [value for (value,) in rota.query(_TIMES, started)]
    return {
        "p50": statistics.median(times), "p99": statistics.quantiles(times, n=100)[98],
        "listeners": float(len(listening)),
    }  # fmt: skip


def _listen(streams: httpx2.Client, rota: Installation, task: str) -> bool:
    """Follow a task; return whether its end was heard."""
    headers = {"authorization": f"Bearer {rota.ready['api_key']}", "accept": "text/event-stream"}
    with streams.stream("GET", f"{rota.ready['api']}/v1/tasks/{task}/events", headers=headers) as response:
        return any(line == "event: task.ended" for line in response.iter_lines())
