"""Run many concurrent tasks that wait for a slow model: two calls of two seconds each, so the ideal is four seconds.

500 tasks run on one worker process and 2,000 on two, beside peers that do the same job with as many threads. All tasks
are accepted while the agent is paused or the peer's workers are stopped; the clock runs from their release to the end
of the last one. `make bench ONLY=in_flight`; PEERS=celery_threads for some peers, PEERS=none for Rota alone.
"""

import os
import subprocess
import sys
import time
from typing import Any

import psutil

from benchmarks.installation import (
    ROOT,
    Installation,
    bar,
    cpu_of,
    cpu_seconds,
    installation,
    put_bench_agent,
    submit_bench,
    write_results,
)
from benchmarks.model_server import ModelServer, model_server
from benchmarks.peers.side import Peer, Side, celery, dramatiq, side, taskiq

_LATENCY, _CALLS = 2.0, 2
_IDEAL = _LATENCY * _CALLS
_CASES = ((500, 1), (2_000, 2))
_WORTH_TELLING = 0.1  # ms


def main() -> None:
    """Measure, print, write."""
    wanted = [name for name in os.environ.get("PEERS", "").split(",") if name]
    found = []
    with model_server(_LATENCY) as model, side() as others:
        for tasks, workers in _CASES:
            environment = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none"}
            with installation("--concurrency", str(tasks // workers), environment=environment) as rota:
                put_bench_agent(rota)
                found.append(_case(rota, model, tasks, workers))
            for peer in _peers(tasks // workers, workers):
                if not wanted or peer.name in wanted:
                    try:
                        found.append(_peer(others, peer, model, tasks, workers))
                    except RuntimeError as error:  # keep the figures of the other peers
                        print(f"{peer.name}, {tasks} tasks: {error}", file=sys.stderr)
    print(f"{'tasks':>6} {'workers':>8} {'':16} {'seconds':>8} {'of ideal':>9} {'MB/1,000':>9}   CPU ms a task")
    for one in found:
        parts = [f"{name} {ms:.1f}" for name, ms in one["cpu_ms_per_task"].items() if ms > _WORTH_TELLING]
        print(f"{one['tasks']:6} {one['workers']:8} {one['who']:16} {one['seconds']:8.1f} {one['of_ideal']:9.2f} "
              f"{one['mb_per_thousand']:9.0f}   {', '.join(parts)}")  # fmt: skip
    bars = [bar(f"{one['who']}, {one['tasks']:,} on {one['workers']}", [one["seconds"]]) for one in found]
    write_results("in_flight", found, f"seconds; {_IDEAL:g} are the ideal", bars)


def _peers(threads: int, processes: int) -> tuple[Peer, ...]:
    """Return the peers whose own workers run that many tasks concurrently in threads."""
    return celery("threads", threads), dramatiq(processes, threads), taskiq(processes, threads)


def _peer(others: Side, peer: Peer, model: ModelServer, tasks: int, workers: int) -> dict[str, Any]:
    started = workers if peer.pool else 1  # the others start their processes themselves
    made = others.round(peer, model, tasks, warm_up=50, workers=started, held=True)
    if made["count"] != tasks:
        raise RuntimeError(f"{made['count']} of {tasks} tasks succeeded")
    return _result(peer.name, tasks, workers, made["seconds"], made["resident"], made["used"])


def _result(
    who: str, tasks: int, workers: int, seconds: float, resident: int, used: dict[str, float]
) -> dict[str, Any]:
    return {
        "who": who,
        "tasks": tasks,
        "workers": workers,
        "seconds": seconds,
        "of_ideal": seconds / _IDEAL,
        "mb_per_thousand": resident / 1e6 / tasks * 1_000,
        "cpu_ms_per_task": {name: 1_000 * value / tasks for name, value in used.items()},
    }


def _case(rota: Installation, model: ModelServer, tasks: int, workers: int) -> dict[str, Any]:
    more = [_worker(rota, number, tasks // workers) for number in range(2, workers + 1)]
    try:
        rota.wait("SELECT 1 FROM workers WHERE stopped_at IS NULL HAVING count(*) < %s", workers + 1)
        submit_bench(rota, 50)
        rota.wait("SELECT 1 FROM tasks WHERE finished_at IS NULL LIMIT 1")
        rota.rota("pause", "agent", "bench")
        submit_bench(rota, tasks)
        processes = [psutil.Process(rota.process_id("worker")), *(psutil.Process(one.pid) for one in more)]
        before = _cpu(rota, model, processes)
        started = rota.query("SELECT clock_timestamp()")[0][0]
        rota.rota("resume", "agent", "bench")
        resident = 0
        while rota.query("SELECT 1 FROM tasks WHERE finished_at IS NULL LIMIT 1"):
            resident = max(resident, sum(process.memory_info().rss for process in processes))
            time.sleep(0.1)
        ((seconds,),) = rota.query(
            "SELECT extract(epoch FROM max(finished_at) - %s)::float FROM tasks WHERE started_at >= %s",
            started,
            started,
        )
        after = _cpu(rota, model, processes)
    finally:
        for one in more:
            one.terminate()
            one.wait(30)
    used = {name: after[name] - before[name] for name in after}
    return _result("Rota", tasks, workers, float(seconds), resident, used)


def _worker(rota: Installation, number: int, concurrency: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cli.main", "worker", "--name", f"agents-{number}"]
    environment = os.environ | rota.environment
    return subprocess.Popen(
        [*command, "--concurrency", str(concurrency)], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )


def _cpu(rota: Installation, model: ModelServer, workers: list[psutil.Process]) -> dict[str, float]:
    others = {name: value for name, value in cpu_seconds(rota.data).items() if name != "worker"}
    return others | {"workers": sum(map(cpu_of, workers)), "model": cpu_of(model.process)}
