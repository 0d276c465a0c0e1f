"""What Rota costs beside what people would use instead, the model answering at once.

The job is the same everywhere: a task durably accepted; two calls of the model through the official SDK to a local
server, with one tool call between them; result and bill in Postgres. Rota does it with its journal, fencing, admission
and billing; each peer as its documentation recommends, in an environment of its own, made at the first run. All take
turns, several rounds; the clock runs from the first task's acceptance to the last one's end, both by the database's
clock. `make bench ONLY=overhead`; PEERS=celery_prefork,dbos for some, ROUNDS and TASKS for more.
"""

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.environments import programs
from benchmarks.installation import (
    ROOT,
    Installation,
    bar,
    cpu_of,
    cpu_seconds,
    installation,
    put_bench_agent,
    run_to_its_end,
    submit_bench,
    write_results,
)
from benchmarks.model_server import ModelServer, model_server
from benchmarks.peers.tables import TABLES
from embedded.postgres import SUPERUSER, EmbeddedPostgres
from embedded.processes import free_port, spawn
from embedded.valkey import EmbeddedValkey

_SHARED = ("openai>=3,<4", "sqlalchemy>=2.1,<2.2", "psycopg[binary,pool]>=3.3,<4")
_ROUNDS, _TASKS, _WARM_UP = int(os.environ.get("ROUNDS", "3")), int(os.environ.get("TASKS", "600")), 100
_PATIENCE, _START = 90.0, 5.0


@dataclass(frozen=True)
class Peer:
    """Something else that does the job: what is installed, and how its worker is started."""

    name: str
    packages: tuple[str, ...]
    module: str
    worker: tuple[str, ...]
    concurrency: int
    pool: str = ""
    needs_set_up: bool = False


def _python(module: str) -> tuple[str, ...]:
    return ("python", "-m", f"benchmarks.peers.{module}", "worker")


PEERS = (
    Peer("celery_prefork", ("celery[redis]==5.7.0",), "celery_app", _python("celery_app"), 2, "prefork"),
    Peer("celery_threads", ("celery[redis]==5.7.0",), "celery_app", _python("celery_app"), 16, "threads"),
    Peer("dramatiq", ("dramatiq[redis]>=2.2,<3",), "dramatiq_app",
         ("dramatiq", "benchmarks.peers.dramatiq_app", "--processes", "2", "--threads", "8"), 8),
    Peer("taskiq", ("taskiq>=0.13,<0.14", "taskiq-redis>=1.2,<2"), "taskiq_app",
         ("taskiq", "worker", "benchmarks.peers.taskiq_app:broker", "--workers", "2", "--log-level", "WARNING"), 8),
    Peer("procrastinate", ("procrastinate>=3.10,<4",), "procrastinate_app", _python("procrastinate_app"), 16,
         needs_set_up=True),
    Peer("dbos", ("dbos>=3.4,<4",), "dbos_app", _python("dbos_app"), 16),
)  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    wanted = [name for name in os.environ.get("PEERS", "").split(",") if name]
    peers = [peer for peer in PEERS if not wanted or peer.name in wanted]
    found: dict[str, list[dict[str, Any]]] = {"rota": [], **{peer.name: [] for peer in peers}}
    with model_server() as model, _rota(model) as rota, _servers() as servers:
        for number in range(_ROUNDS):
            found["rota"].append(rota.round(_TASKS))
            for peer in peers:
                found[peer.name].append(servers.round(peer, model, _TASKS))
            print(f"round {number + 1} of {_ROUNDS} done", file=sys.stderr)
    _report(found)


# ── Rota ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Rota:
    """Rota, with the agent that does the job."""

    def __init__(self, rota: Installation, model: ModelServer) -> None:
        self._rota = rota
        self._model = model
        put_bench_agent(rota)
        self.round(_WARM_UP)

    def round(self, tasks: int) -> dict[str, Any]:
        """One round: tasks a second, and CPU by process."""
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
    with installation(environment={"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none"}) as made:
        yield _Rota(made, model)


# ── the others ───────────────────────────────────────────────────────────────────────────────────────────────────────


class _Servers:
    """A Postgres and a Valkey for the peers, set up like Rota's."""

    def __init__(self, postgres: EmbeddedPostgres, processes: dict[str, psutil.Process], redis_url: str) -> None:
        self._postgres = postgres
        self._processes = processes
        self._redis_url = redis_url

    def _url(self) -> str:
        return self._postgres.url(SUPERUSER)

    def round(self, peer: Peer, model: ModelServer, tasks: int) -> dict[str, Any]:
        """One round of a peer, with its own worker, warmed up."""
        environment = {
            "PEER_DATABASE_URL": self._url().replace("postgresql://", "postgresql+psycopg://"),
            "PEER_MODEL_URL": model.url, "PEER_REDIS_URL": self._redis_url, "PEER_POOL": peer.pool,
            "PEER_CONCURRENCY": str(peer.concurrency), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        programs = _environment(peer)
        self._empty()
        python = str(programs / "python")
        if peer.needs_set_up:
            run_to_its_end([python, "-m", f"benchmarks.peers.{peer.module}", "set-up"], environment)
        command = [str(programs / peer.worker[0]), *peer.worker[1:]]
        with subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, start_new_session=True) as worker:
            try:
                time.sleep(_START)
                submit = [python, "-m", f"benchmarks.peers.{peer.module}", "submit"]
                run_to_its_end([*submit, str(_WARM_UP)], environment)
                self._wait(_WARM_UP)
                watched = {"worker": psutil.Process(worker.pid), "model": model.process, **self._processes}
                before = {name: cpu_of(process) for name, process in watched.items()}
                submitter = run_to_its_end([*submit, str(tasks)], environment)
                self._wait(_WARM_UP + tasks)
                used = {name: cpu_of(process) - before[name] for name, process in watched.items()}
            finally:
                _end_all(worker)
        with psycopg.connect(self._url()) as connection:
            row = connection.execute(
                "SELECT count(*), extract(epoch FROM max(finished_at) - min(created_at))::float FROM "
                "(SELECT * FROM jobs WHERE status = 'succeeded' ORDER BY created_at DESC LIMIT %s) AS last", [tasks],
            ).fetchone()  # fmt: skip
        count, seconds = row or (0, 0.0)
        return _result(tasks, count, seconds, used | {"submitter": submitter})

    def _empty(self) -> None:
        with psycopg.connect(self._url(), autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("DROP SCHEMA IF EXISTS dbos CASCADE")
            connection.execute("CREATE SCHEMA public")
            connection.execute(TABLES.encode())

    def _wait(self, tasks: int) -> None:
        ends = time.monotonic() + _PATIENCE
        with psycopg.connect(self._url(), autocommit=True) as connection:
            done = "SELECT 1 FROM jobs WHERE status = 'succeeded' HAVING count(*) >= %s"
            while connection.execute(done, [tasks]).fetchone() is None:
                if time.monotonic() > ends:
                    raise RuntimeError("the peer does not finish")
                time.sleep(0.05)


@contextlib.contextmanager
def _servers() -> Iterator[_Servers]:
    with tempfile.TemporaryDirectory(prefix="rota-peers-") as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        home.chmod(0o711)
        postgres = EmbeddedPostgres(home / "pg", port=free_port())
        valkey = EmbeddedValkey(home / "valkey", port=free_port())
        processes = {}
        for name, server, user in (("postgres", postgres, postgres.user), ("valkey", valkey, None)):
            server.prepare()
            log = stack.enter_context((home / f"{name}.log").open("ab"))
            process = spawn(server.command(), env={"LC_ALL": "C"}, log=log, user=user)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            while not server.is_ready():
                time.sleep(0.05)
            processes[name] = psutil.Process(process.pid)
        postgres.create_database()
        stack.callback(postgres.remove)
        yield _Servers(postgres, processes, valkey.url())


def _environment(peer: Peer) -> Path:
    """The programs of a peer's own environment."""
    return programs(peer.module.removesuffix("_app"), (*peer.packages, *_SHARED))


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _end_all(worker: subprocess.Popen[bytes]) -> None:
    """End a worker with all of its processes, which are a group of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(5)


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
