"""The other side of a comparison: a peer at work, on servers set up like Rota's and in an environment of its own, made
at the first run.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.environments import programs
from benchmarks.installation import ROOT, cpu_of, run_to_its_end
from benchmarks.model_server import ModelServer
from benchmarks.peers.tables import TABLES
from embedded.postgres import SUPERUSER, EmbeddedPostgres
from embedded.processes import free_port, spawn
from embedded.valkey import EmbeddedValkey

_SHARED = ("openai>=3,<4", "sqlalchemy>=2.1,<2.2", "psycopg[binary,pool]>=3.3,<4")
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


def python(module: str) -> tuple[str, ...]:
    """The worker of a peer whose module starts it."""
    return ("python", "-m", f"benchmarks.peers.{module}", "worker")


def celery(pool: str, concurrency: int) -> Peer:
    """Bare Celery."""
    return Peer(f"celery_{pool}", ("celery[redis]==5.7.0",), "celery_app", python("celery_app"), concurrency, pool)


def dramatiq(processes: int, threads: int) -> Peer:
    """dramatiq."""
    size = ("--processes", str(processes), "--threads", str(threads))
    worker = ("dramatiq", "benchmarks.peers.dramatiq_app", *size)
    return Peer("dramatiq", ("dramatiq[redis]>=2.2,<3",), "dramatiq_app", worker, threads)


def taskiq(processes: int, threads: int | None = None) -> Peer:
    """taskiq, with as many threads as it takes by itself or another number."""
    size = ("--max-threadpool-threads", str(threads), "--max-async-tasks", str(threads)) if threads else ()
    worker = ("taskiq", "worker", "benchmarks.peers.taskiq_app:broker", "--workers", str(processes), *size)
    packages = ("taskiq>=0.13,<0.14", "taskiq-redis>=1.2,<2")
    return Peer("taskiq", packages, "taskiq_app", (*worker, "--log-level", "WARNING"), threads or 8)


class Side:
    """A Postgres and a Valkey for the peers."""

    def __init__(self, postgres: EmbeddedPostgres, processes: dict[str, psutil.Process], redis_url: str) -> None:
        self._postgres = postgres
        self._processes = processes
        self._redis_url = redis_url

    def round(
        self, peer: Peer, model: ModelServer, tasks: int, *, warm_up: int, workers: int = 1, held: bool = False
    ) -> dict[str, Any]:
        """One round of a peer with a worker of its own, or several, warmed up: how long it took from the first task's
        acceptance, or where they are `held` until all are accepted from then on, to the last one's end; CPU seconds by
        process; and the most memory that the workers had.
        """
        environment = {
            "PEER_DATABASE_URL": self._url().replace("postgresql://", "postgresql+psycopg://"),
            "PEER_MODEL_URL": model.url, "PEER_REDIS_URL": self._redis_url, "PEER_POOL": peer.pool,
            "PEER_CONCURRENCY": str(peer.concurrency), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        there = programs(peer.module.removesuffix("_app"), (*peer.packages, *_SHARED))
        self._empty()
        if peer.needs_set_up:
            run_to_its_end([str(there / "python"), "-m", f"benchmarks.peers.{peer.module}", "set-up"], environment)
        command = [str(there / peer.worker[0]), *peer.worker[1:]]
        submit = [str(there / "python"), "-m", f"benchmarks.peers.{peer.module}", "submit"]
        with contextlib.ExitStack() as stack:
            running = [stack.enter_context(_running(command, environment)) for _ in range(workers)]
            time.sleep(_START)
            run_to_its_end([*submit, str(warm_up)], environment)
            self._wait(warm_up)
            watched = {"model": model.process, **self._processes}
            before = {name: cpu_of(one) for name, one in watched.items()} | {"worker": sum(map(cpu_of, running))}
            if held:
                _signal(running, signal.SIGSTOP)
            submitter = run_to_its_end([*submit, str(tasks)], environment)
            began = self._now()
            _signal(running, signal.SIGCONT)
            resident = self._wait(warm_up + tasks, running)
            after = {name: cpu_of(one) for name, one in watched.items()} | {"worker": sum(map(cpu_of, running))}
        with psycopg.connect(self._url()) as connection:
            row = connection.execute(
                "SELECT count(*), extract(epoch FROM max(finished_at) - coalesce(%s, min(created_at)))::float FROM "
                "(SELECT * FROM jobs WHERE status = 'succeeded' ORDER BY created_at DESC LIMIT %s) AS last",
                [began if held else None, tasks],
            ).fetchone()
        count, seconds = row or (0, 0.0)
        used = {name: after[name] - before[name] for name in after} | {"submitter": submitter}
        return {"count": count, "seconds": seconds, "used": used, "resident": resident}

    def _url(self) -> str:
        return self._postgres.url(SUPERUSER)

    def _empty(self) -> None:
        with psycopg.connect(self._url(), autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("DROP SCHEMA IF EXISTS dbos CASCADE")
            connection.execute("CREATE SCHEMA public")
            connection.execute(TABLES.encode())

    def _now(self) -> Any:
        with psycopg.connect(self._url()) as connection:
            return (connection.execute("SELECT clock_timestamp()").fetchone() or (None,))[0]

    def _wait(self, tasks: int, running: list[psutil.Process] | None = None) -> int:
        """Until so many tasks have succeeded. The most bytes that the processes had in memory meanwhile."""
        ends, resident = time.monotonic() + _PATIENCE, 0
        with psycopg.connect(self._url(), autocommit=True) as connection:
            done = "SELECT 1 FROM jobs WHERE status = 'succeeded' HAVING count(*) >= %s"
            while connection.execute(done, [tasks]).fetchone() is None:
                if time.monotonic() > ends:
                    raise RuntimeError("the peer does not finish")
                resident = max(resident, sum(map(_resident, running or [])))
                time.sleep(0.05)
        return resident


@contextlib.contextmanager
def side() -> Iterator[Side]:
    """The servers, ended and removed afterwards."""
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
        yield Side(postgres, processes, valkey.url())


@contextlib.contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[psutil.Process]:
    """A worker, which with all of its processes is a group of its own."""
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, start_new_session=True) as worker:
        try:
            yield psutil.Process(worker.pid)
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.wait(5)


def _signal(running: list[psutil.Process], number: signal.Signals) -> None:
    for worker in running:
        os.killpg(worker.pid, number)


def _resident(worker: psutil.Process) -> int:
    total = 0
    for one in (worker, *worker.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended as we looked
            total += int(one.memory_info().rss)
    return total
