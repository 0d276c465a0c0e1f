"""Measure the overhead of Rota beside what people would use instead, with a model that answers at once.

The job is the same everywhere: a task is durably accepted; two model calls go through the official SDK to a local
server, with one tool call between them; result and bill are stored in Postgres. Rota does it with its journal, fencing,
admission and billing; each peer as its documentation recommends, in a separate environment that the first run creates.
All take turns for several rounds. The time runs from the acceptance of the first task to the end of the last one, both
by the database's clock. `make bench ONLY=overhead`; PEERS=celery_prefork,dbos for some, ROUNDS and TASKS for more.
"""

import contextlib
import os
import statistics
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.installation import (
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
from benchmarks.peers.side import Peer, Side, celery, dramatiq, python, side, taskiq

_ROUNDS, _TASKS, _WARM_UP = int(os.environ.get("ROUNDS", "3")), int(os.environ.get("TASKS", "600")), 100
_PATIENCE = 90.0

PEERS = (
    celery("prefork", 2),
    celery("threads", 16),
    dramatiq(processes=2, threads=8),
    taskiq(processes=2),
    Peer("procrastinate", ("procrastinate>=3.10,<4",), "procrastinate_app", python("procrastinate_app"), 16,
         needs_set_up=True),
    Peer("dbos", ("dbos>=3.4,<4",), "dbos_app", python("dbos_app"), 16),
)  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    wanted = [name for name in os.environ.get("PEERS", "").split(",") if name]
    peers = [peer for peer in PEERS if not wanted or peer.name in wanted]
    found: dict[str, list[dict[str, Any]]] = {"rota": [], **{peer.name: [] for peer in peers}}
    with model_server() as model, _rota(model) as rota, side() as others:
        for number in range(_ROUNDS):
            found["rota"].append(rota.round(_TASKS))
            for peer in peers:
                found[peer.name].append(_round(others, peer, model))
            print(f"round {number + 1} of {_ROUNDS} done", file=sys.stderr)
    _report(found)


# ── Rota ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Rota:
    """Rota with the agent that does the job."""

    def __init__(self, rota: Installation, model: ModelServer) -> None:
        self._rota = rota
        self._model = model
        put_bench_agent(rota)
        self.round(_WARM_UP)

    def round(self, tasks: int) -> dict[str, Any]:
        """Run one round; return tasks a second, and CPU by process."""
        before = cpu_seconds(self._rota.data) | {"model": cpu_of(self._model.process)}
        started = self._rota.query("SELECT clock_timestamp()")[0][0]
        submitter = submit_bench(self._rota, tasks)
        self._rota.wait("SELECT 1 FROM tasks WHERE finished_at IS NULL LIMIT 1", seconds=_PATIENCE)
        ((count, seconds),) = self._rota.query(
            "SELECT count(*), extract(epoch FROM max(finished_at) - min(created_at))::float FROM tasks "
            "WHERE created_at >= %s AND status = 'succeeded'", started,
        )  # fmt: skip
        after = cpu_seconds(self._rota.data) | {"model": cpu_of(self._model.process)}
        used = {name: after[name] - before.get(name, 0) for name in after} | {"submitter": submitter}
        return _result(tasks, count, seconds, used)


@contextlib.contextmanager
def _rota(model: ModelServer) -> Iterator[_Rota]:
    # Two worker processes, like the peers that have several.
    environment = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none"}
    with installation("--workers", "2", environment=environment) as made:
        yield _Rota(made, model)


# ── the others ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _round(others: Side, peer: Peer, model: ModelServer) -> dict[str, Any]:
    made = others.round(peer, model, _TASKS, warm_up=_WARM_UP)
    return _result(_TASKS, made["count"], made["seconds"], made["used"])


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _result(tasks: int, count: int, seconds: float, used: dict[str, float]) -> dict[str, Any]:
    if count != tasks:
        raise RuntimeError(f"{count} of {tasks} tasks succeeded")
    return {
        "tasks": tasks,
        "seconds": seconds,
        "tasks_per_second": tasks / seconds,
        "cpu_ms_per_task": {name: 1000 * value / tasks for name, value in used.items() if value > 0},
    }


def _report(found: dict[str, list[dict[str, Any]]]) -> None:
    rates = {name: [one["tasks_per_second"] for one in rounds] for name, rounds in found.items()}
    ratios = {
        name: statistics.median(mine / theirs for mine, theirs in zip(rates["rota"], theirs_all, strict=True))
        for name, theirs_all in rates.items()
        if name != "rota"
    }
    print(f"{_TASKS} tasks a round, {_ROUNDS} rounds, the model answering at once")
    print(f"{'':16} {'tasks/s':>8} {'from':>7} {'to':>7} {'rota / it':>10}   CPU ms a task")
    for name, values in sorted(rates.items(), key=lambda item: -statistics.median(item[1])):
        used = {
            process: statistics.median(one["cpu_ms_per_task"].get(process, 0) for one in found[name])
            for process in found[name][0]["cpu_ms_per_task"]
        }
        parts = ", ".join(f"{process} {ms:.1f}" for process, ms in sorted(used.items(), key=lambda item: -item[1]))
        ratio = f"{ratios[name]:10.2f}" if name in ratios else f"{'':10}"
        print(f"{name:16} {statistics.median(values):8.1f} {min(values):7.1f} {max(values):7.1f} {ratio}   {parts}")
    bars = [bar(name, values) for name, values in sorted(rates.items(), key=lambda item: -statistics.median(item[1]))]
    write_results("overhead", {"ratios": ratios, "rounds": found}, "tasks a second, the model answering at once", bars)
