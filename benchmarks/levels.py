"""Measure the service levels for waiting on one machine: 20 threads, tasks of 100 ms.

The cases are: submitting while Redis is frozen; one task beside another organisation's 20,000; an urgent task among
four loaded priorities; a thousand messages of fifty conversations; cancelling in the middle of a model call; stopping
the workers in turn for two minutes. The rate limit of the organisations (100 tasks a minute by default) is lifted.
Takes about six minutes.
"""

import contextlib
import functools
import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2

from benchmarks.installation import ROOT, Installation, Organisation, installation, organisation, write_results
from core import db
from domain.tasks import service as tasks
from domain.tasks.schemas import SubmissionContext, TaskInput, TaskSubmission

THREADS = 20
_MODEL = "claude-haiku-4-5;slow=0.1"
_SLOW_MODEL = "claude-haiku-4-5;slow=30"
_BACKLOG, _PORTION = 20_000, 500
_MESSAGES, _CONVERSATIONS = 1_000, 50
_UNENDED = "SELECT 1 FROM tasks WHERE status IN ('queued', 'running', 'waiting') LIMIT 1"
_ROLLING_SECONDS = 120


def main() -> None:
    """Measure, print, write."""
    found: dict[str, Any] = {}
    with installation("--concurrency", str(THREADS)) as rota:
        rota.adopt()
        crowd, single = organisation(rota, "crowd", _MODEL), organisation(rota, "single", _MODEL)
        measurements: tuple[tuple[str, Callable[[], dict[str, Any]]], ...] = (
            ("submitting, Redis frozen", lambda: submitting(rota, crowd)),
            ("a conversation in order", lambda: conversations(rota, crowd)),
            ("one beside 20,000", lambda: one_beside_many(rota, crowd, single)),
            ("an urgent one among four priorities", lambda: urgent(rota, crowd)),
            ("cancelling inside a model call", lambda: cancelling(rota, crowd)),
            ("every worker stopped in turn", lambda: rolling(rota, crowd)),
        )
        for name, measure in measurements:
            print(f"{name} ...", flush=True)
            found[name] = measure()
            for what, value in found[name].items():
                print(f"  {what:60} {value}", flush=True)
    write_results("levels", found)


def submitting(rota: Installation, crowd: Organisation) -> dict[str, Any]:
    """Measure the time of a submission, first as usual, then with Redis frozen."""
    usual = _times(crowd, 300)
    pid = rota.process_id("valkey")
    os.kill(pid, signal.SIGSTOP)
    try:
        frozen = _times(crowd, 300)
    finally:
        os.kill(pid, signal.SIGCONT)
    rota.wait(_UNENDED)
    return {
        "p50 / p99 as usual, ms": f"{statistics.median(usual):.1f} / {_p99(usual):.1f}",
        "p50 / p99 with Redis frozen, ms": f"{statistics.median(frozen):.1f} / {_p99(frozen):.1f}",
        "ratio of p99": round(_p99(frozen) / _p99(usual), 2),
    }


def _times(organisation: Organisation, number: int) -> list[float]:
    found = []
    for _ in range(number):
        started = time.monotonic()
        organisation.submit()
        found.append(1000 * (time.monotonic() - started))
        time.sleep(0.01)
    return found


def conversations(rota: Installation, crowd: Organisation) -> dict[str, Any]:
    """Run a thousand shuffled messages of fifty conversations: each in order, different ones concurrently."""
    turns = [number % _CONVERSATIONS for number in range(_MESSAGES)]
    random.Random(1).shuffle(turns)
    started = time.monotonic()
    accepted: dict[str, list[str]] = {}
    for number in turns:
        accepted.setdefault(f"talk-{number}", []).append(crowd.submit(concurrency_key=f"talk-{number}"))
    submitted = time.monotonic() - started
    rota.wait(_UNENDED, seconds=300)
    seconds = time.monotonic() - started
    rows = rota.query(
        "SELECT t.concurrency_key, t.id::text, min(a.started_at), max(a.ended_at) FROM tasks t "
        "JOIN attempts a ON a.task_id = t.id WHERE t.concurrency_key LIKE 'talk-%%' AND t.org_id = %s "
        "GROUP BY 1, 2 ORDER BY 3", crowd.id,
    )  # fmt: skip
    wrong = overlaps = 0
    for key, expected in accepted.items():
        ran = [row for row in rows if row[0] == key]
        wrong += [row[1] for row in ran] != expected
        overlaps += sum(after[2] < before[3] for before, after in itertools.pairwise(ran))
    return {
        "conversations out of order": wrong,
        "messages that began before the one before had ended": overlaps,
        "most conversations at once": _most_at_once([(row[2], row[3]) for row in rows]),
        "seconds to submit / until all had ended": f"{submitted:.1f} / {seconds:.1f}",
    }


def _most_at_once(spans: list[tuple[Any, Any]]) -> int:
    events = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    most = running = 0
    for _, change in events:
        running += change
        most = max(most, running)
    return most


def one_beside_many(rota: Installation, crowd: Organisation, single: Organisation) -> dict[str, Any]:
    """Submit another organisation's tasks while 20,000 are queued and the threads are busy; measure their waits."""
    _submit_backlog(crowd)
    rota.wait("SELECT 1 WHERE (SELECT count(*) FROM tasks WHERE status = 'running') < %s", THREADS // 2)
    waits = []
    for _ in range(20):
        waits.append(single.waited(single.submit()))
        time.sleep(0.2)
    done = len(rota.query("SELECT 1 FROM tasks WHERE org_id = %s AND status = 'succeeded'", crowd.id))
    left = rota.query("SELECT count(*) FROM tasks WHERE status = 'queued'")[0][0]
    _cancel_all(crowd)
    rota.wait(_UNENDED)
    return {
        "median / worst wait of 20, ms": f"{statistics.median(waits):.0f} / {max(waits):.0f}",
        "tasks of the crowd still queued at the end": left,
        "tasks of the crowd done meanwhile": done,
    }


def _submit_backlog(crowd: Organisation) -> None:
    """Submit the backlog in portions in Python: over HTTP this would take longer than the measurement."""
    submission = TaskSubmission(agent="brief", input=TaskInput(message="hello"))
    for _ in range(_BACKLOG // _PORTION):
        with db.transaction(crowd.id) as connection:
            for _ in range(_PORTION):
                tasks.submit(connection, submission, SubmissionContext(user_id=crowd.owner))


def _cancel_all(organisation: Organisation) -> None:
    wanted = {"filter": {"status": ["queued"]}, "limit": 1_000}
    while organisation.http.post("/v1/tasks/cancel", json=wanted).raise_for_status().json()["changed"]:
        pass


def urgent(rota: Installation, crowd: Organisation) -> dict[str, Any]:
    """Measure the wait of critical tasks while all four priorities are loaded and some threads are free."""
    with _load(lambda number: crowd.submit(priority=("critical", "high", "normal", "low")[number % 4]), per_second=35):
        waits, busy = [], []
        for _ in range(40):
            time.sleep(0.3)
            running = rota.query("SELECT count(*) FROM tasks WHERE status = 'running'")[0][0]
            wait = crowd.waited(crowd.submit(priority="critical"))
            if running < THREADS:
                waits.append(wait)
                busy.append(running)
    rota.wait(_UNENDED)
    return {
        "median / worst wait of the urgent, ms": f"{statistics.median(waits):.0f} / {max(waits):.0f}",
        "measured while threads were free, of 40": len(waits),
        "threads busy, median": statistics.median(busy),
    }


def cancelling(rota: Installation, crowd: Organisation) -> dict[str, Any]:
    """Cancel tasks in the middle of a slow model call."""
    price = {"provider": "anthropic", "input_per_million": "1", "output_per_million": "5"}
    crowd.http.put(f"/v1/prices/{_SLOW_MODEL}", json=price).raise_for_status()
    crowd.http.patch("/v1/agents/brief", json={"model": _SLOW_MODEL}).raise_for_status()
    seconds = []
    for _ in range(20):
        task_id = crowd.submit()
        _wait_for(functools.partial(rota.query, "SELECT 1 FROM steps WHERE task_id = %s", task_id))
        crowd.http.post(f"/v1/tasks/{task_id}/cancel").raise_for_status()
        rota.wait("SELECT 1 FROM tasks WHERE id = %s AND status = 'running'", task_id)
        seconds += rota.query(
            "SELECT extract(epoch FROM finished_at - cancel_requested_at)::float FROM tasks "
            "WHERE id = %s AND status = 'cancelled'", task_id,
        )  # fmt: skip
    crowd.http.patch("/v1/agents/brief", json={"model": _MODEL}).raise_for_status()
    taken = [row[0] for row in seconds]
    return {
        "cancelled of 20": len(taken),
        "asked to ended, median / worst, s": f"{statistics.median(taken):.2f} / {max(taken):.2f}",
    }


def rolling(rota: Installation, crowd: Organisation) -> dict[str, Any]:
    """Run two workers for two minutes, and stop one of them every few seconds."""
    started = rota.query("SELECT rota_now()")[0][0]
    stops = 0
    with _worker(rota) as restart, _load(lambda _: crowd.submit(), per_second=15):
        ends = time.monotonic() + _ROLLING_SECONDS
        while time.monotonic() < ends:
            time.sleep(5)
            if stops % 2:
                restart()
            else:
                before = rota.process_id("worker")
                os.kill(before, signal.SIGTERM)
                _wait_for(functools.partial(_is_replaced, rota, before))
            stops += 1
    rota.wait(_UNENDED)
    outcomes = dict(
        rota.query("SELECT outcome, count(*) FROM attempts WHERE started_at > %s GROUP BY 1 ORDER BY 1", started)
    )
    waits = rota.query(
        "SELECT percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (ORDER BY extract(epoch FROM waited)) "
        "FROM attempts WHERE started_at > %s", started,
    )[0][0]  # fmt: skip
    whole = rota.query(
        "SELECT percentile_cont(ARRAY[0.5, 0.99, 1]) "
        "WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - created_at)) FROM tasks WHERE created_at > %s",
        started,
    )[0][0]
    wasted = rota.query(
        "SELECT count(*) FROM attempts WHERE started_at > %s AND counted AND outcome <> 'succeeded'", started
    )
    return {
        "workers stopped": stops,
        "attempts by outcome": outcomes,
        "attempts used up for nothing": wasted[0][0],
        "wait for a start, p50 / p99 / worst, s": " / ".join(f"{value:.2f}" for value in waits),
        "accepted to ended, p50 / p99 / worst, s": " / ".join(f"{value:.2f}" for value in whole),
    }


@contextlib.contextmanager
def _worker(rota: Installation) -> Iterator[Callable[[], None]]:
    """Run a second worker process; the yielded function replaces it by a new one, as a rollout does."""
    command = [sys.executable, "-m", "cli.main", "worker", "--name", "second", "--concurrency", str(THREADS)]
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        running.append(
            subprocess.Popen(
                command, cwd=ROOT, env=rota.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        )
        _wait_for(lambda: _is_alive(rota, "second"))

    def restart() -> None:
        running[-1].terminate()
        running[-1].wait(30)
        start()

    start()
    try:
        yield restart
    finally:
        running[-1].terminate()
        running[-1].wait(30)


def _is_replaced(rota: Installation, before: int) -> bool:
    return rota.process_id("worker") not in {0, before} and _is_alive(rota, "agents")


def _is_alive(rota: Installation, name: str) -> bool:
    return bool(
        rota.query(
            "SELECT 1 FROM workers WHERE name = %s AND stopped_at IS NULL AND draining_because IS NULL "
            "AND last_seen_at > rota_now() - interval '3 s'", name,
        )
    )  # fmt: skip


def _wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise RuntimeError("it does not come about")
        time.sleep(0.05)


@contextlib.contextmanager
def _load(submit: Callable[[int], Any], *, per_second: float) -> Iterator[None]:
    """Submit at a steady rate in the background."""
    stop = threading.Event()

    def run() -> None:
        number, started = 0, time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            while not stop.wait(max(0, started + number / per_second - time.monotonic())):
                pool.submit(_tolerantly, submit, number)
                number += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _tolerantly(submit: Callable[[int], Any], number: int) -> None:
    with contextlib.suppress(httpx2.HTTPError):
        submit(number)


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]
