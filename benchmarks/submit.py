"""Measure how many tasks a second are accepted over HTTP, beside a bare FastAPI endpoint: a psycopg insert and commit.

Both run on one uvicorn process and the same Postgres, in turn, with 1, 16 and 64 connections; Rota also runs with Redis
frozen. The agent is paused, so that nothing else runs. `make bench ONLY=submit`.
"""

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.installation import ROOT, Installation, bar, installation, put_bench_agent, write_results
from benchmarks.load import post
from embedded.processes import free_port

_SECONDS, _ROUNDS, _CONNECTIONS = 4.0, 3, (1, 16, 64)
_BODY = b'{"agent": "bench", "input": {"message": "When is spin?"}}'
_UNLIMITED = {"ROTA_REQUESTS_PER_MINUTE_KEY": "10000000", "ROTA_REQUESTS_PER_MINUTE_ORGANISATION": "10000000"}


def main() -> None:
    """Measure, print, write."""
    found: list[dict[str, Any]] = []
    with installation(environment=_UNLIMITED) as rota:
        put_bench_agent(rota)
        rota.rota("pause", "agent", "bench")
        ours = (f"{rota.ready['api']}/v1/tasks", rota.ready["api_key"])
        with _bare(rota) as url:
            found += [_compare(ours, (url, ""), connections) for connections in _CONNECTIONS]
        valkey = rota.process_id("valkey")
        os.kill(valkey, signal.SIGSTOP)
        try:
            found.append({"connections": "16, Redis frozen", "rota": _load(*ours, 16)})
        finally:
            os.kill(valkey, signal.SIGCONT)
    print(
        f"{'connections':>18}"
        + f" {'/s':>8} {'p50 ms':>7} {'p99 ms':>7}" * 2
        + f" {'share':>6}   Rota, then the bare endpoint"
    )
    for one in found:
        mine, bare = one["rota"], one.get("bare")
        line = f"{one['connections']:>18} {mine['rate']:8.0f} {mine['p50']:7.1f} {mine['p99']:7.1f}"
        if bare:
            line += f" {bare['rate']:8.0f} {bare['p50']:7.1f} {bare['p99']:7.1f} {mine['rate'] / bare['rate']:6.2f}"
        print(line)
    bars = [
        bar(f"{side}, {one['connections']} connections", [one[side]["rate"]])
        for one in found
        for side in ("rota", "bare")
        if side in one
    ]
    write_results("submit", found, "submissions a second", bars)


def _compare(ours: tuple[str, str], bare: tuple[str, str], connections: int) -> dict[str, Any]:
    rounds = [(_load(*ours, connections), _load(*bare, connections)) for _ in range(_ROUNDS)]
    return {
        "connections": connections,
        "rota": _median([mine for mine, _ in rounds]),
        "bare": _median([theirs for _, theirs in rounds]),
    }


def _median(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


@contextmanager
def _bare(rota: Installation) -> Iterator[str]:
    table = "CREATE TABLE bare_tasks (id uuid PRIMARY KEY, agent text NOT NULL, input jsonb NOT NULL)"
    rota.execute(table, role="OWNER")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.bare_api:app", "--port", str(port), "--no-access-log"]
    environment = os.environ | {"BARE_DATABASE_URL": rota.environment["ROTA_OWNER_DATABASE_URL"]}
    with subprocess.Popen([*command, "--log-level", "warning"], cwd=ROOT, env=environment) as process:
        try:
            time.sleep(3)
            yield f"http://127.0.0.1:{port}/tasks"
        finally:
            process.terminate()


def _load(url: str, key: str, connections: int) -> dict[str, float]:
    """Return requests a second, and their median and 99th percentile in ms, over `connections` connections with one
    request at a time each.
    """
    ends = time.monotonic() + _SECONDS
    requests = iter(lambda: (key, _BODY if time.monotonic() < ends else b""), (key, b""))
    took = asyncio.run(post(url, requests, connections=connections))
    cuts = statistics.quantiles(took, n=100)
    return {"rate": len(took) / _SECONDS, "p50": 1_000 * cuts[49], "p99": 1_000 * cuts[98]}
