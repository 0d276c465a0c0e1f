"""Every process of a Rota, each in a slot that starts another when one ends, as an orchestrator would."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx2
import psycopg
import redis

from core import engines
from core.migrations import migrate
from core.settings import ROOT, Settings, settings
from embedded.postgres import EmbeddedPostgres
from embedded.processes import free_port, remove_tree, spawn
from embedded.valkey import EmbeddedValkey
from tests.support.servers import SECRET_KEY, wait_until

# What is committed must outlive an immediate stop of the server; it need not outlive the machine.
_POSTGRES = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "on"}
# A process whose clock is wrong by so many hours.
_SKEWED = """
import datetime, sys, time_machine
wrong = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours={hours})
time_machine.travel(wrong, tick=True).start()
sys.argv[0] = "rota"
from cli.main import run
run()
"""
_PAUSE = 0.2


class Slot:
    """A place for one process. While it is kept, whatever ends there is started again."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], logs: Path) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.next_environment: dict[str, str] = {}
        """for the next process only"""
        self.deaths: list[int] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._log = logs / f"{name}.log"
        self._kept = True
        self._held = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name=f"slot-{name}", daemon=True)
        self._start()
        self._thread.start()

    @property
    def pid(self) -> int:
        """The process there now."""
        assert self.process is not None
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @contextlib.contextmanager
    def held_down(self) -> Iterator[None]:
        """Within, what ends is not started again."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def restarted(self, since: int, seconds: float = 60) -> None:
        """Wait until another process than `since` is there."""
        wait_until(lambda: self.pid != since and self.process and self.process.poll() is None, seconds=seconds)

    def close(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it for good."""
        self._kept = False
        assert self.process is not None
        self.send(signal.SIGCONT)
        self.send(number)
        try:
            self.process.wait(25)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _start(self) -> None:
        environment = self.environment | self.next_environment
        self.next_environment = {}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def _keep(self) -> None:
        while self._kept:
            assert self.process is not None
            if self.process.poll() is not None and not self._held and self._kept:
                self.deaths.append(self.process.returncode)
                time.sleep(_PAUSE)
                if self._kept:
                    self._start()
            time.sleep(0.02)


class Cluster:
    """All of it: two servers, the world outside, two dispatchers, three workers, one for duties, two beats, an API."""

    def __init__(self, home: Path, *, lease: float, threads: int) -> None:
        self.home = home
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.logs = home / "logs"
        self.logs.mkdir()
        self.lease = lease
        self.threads = threads
        self.slots: dict[str, Slot] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        self._stack.callback(remove_tree, self.home)
        self._stack.callback(engines.dispose_engines)
        self.postgres = EmbeddedPostgres(self.home / "pg", port=free_port(), options=_POSTGRES)
        self.postgres.prepare()
        self._stack.callback(self.postgres.remove)
        self._postgres_process: subprocess.Popen[bytes] | None = None
        self.start_postgres()
        self._stack.callback(self.stop_postgres)
        self.postgres.create_database()
        self.valkey = EmbeddedValkey(self.home / "valkey", port=free_port())
        self.valkey.prepare()
        self.start_redis()
        self._stack.callback(self.kill_redis)
        self.world = f"http://127.0.0.1:{free_port()}"
        self.environment = self._environment()
        os.environ.update({n: v for n, v in self.environment.items() if n.startswith(("ROTA_", "DATABASE", "REDIS"))})
        settings.cache_clear()
        self.config: Settings = settings()
        migrate(self.config)
        self._slot("world", [sys.executable, "-m", "tests.acceptance.faults.world", self.world.rpartition(":")[2]])
        self.api = f"http://127.0.0.1:{free_port()}"
        self._rota("api", "api", "--port", self.api.rpartition(":")[2])
        for number, hours in ((1, 0), (2, -1)):
            self._rota(f"dispatcher-{number}", "dispatcher", hours=hours)
        for number, hours in ((1, 0), (2, 0), (3, 1)):
            self._rota(
                f"worker-{number}", "worker", "--name", "agents", "--concurrency", str(self.threads), hours=hours,
                # One of them has fewer connections than threads: the pool is exhausted all the time.
                more={"ROTA_DATABASE_POOL_SIZE": "3"} if number == 2 else {},
            )  # fmt: skip
        self._rota("worker-system", "worker", "--name", "system", "--queues", "system", "--concurrency", "2")
        for number in (1, 2):
            self._rota(f"beat-{number}", "beat", "--schedule", str(self.home / f"beat-{number}"))
        self.http = httpx2.Client(base_url=self.api, timeout=10, trust_env=False)
        self._stack.callback(self.http.close)
        wait_until(lambda: _answers(f"{self.api}/health/ready"), seconds=60, what="the API answers")
        wait_until(lambda: _answers(f"{self.world}/control/report"), seconds=60, what="the world is there")
        wait_until(lambda: len(self.living_workers()) >= 4, seconds=60, what="the workers are there")

    def _environment(self) -> dict[str, str]:
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("ROTA_", "OPENAI_", "ANTHROPIC_"))}
        return kept | {
            "ROTA_CONFIG": os.devnull,
            "DATABASE_URL": self.postgres.url(engines.APP),
            "ROTA_SYSTEM_DATABASE_URL": self.postgres.url(engines.SYSTEM),
            "ROTA_OWNER_DATABASE_URL": self.postgres.url(engines.OWNER),
            "REDIS_URL": self.valkey.url(),
            "ROTA_SECRET_KEY": SECRET_KEY,
            "ROTA_WORKER_LEASE": str(self.lease),
            "ROTA_DRAIN_GRACE": "6",
            "ROTA_REQUESTS_PER_MINUTE_KEY": "6000",
            "ROTA_TOOLS": '["tests.acceptance.faults.tools:TOOLS"]',
            "OPENAI_API_KEY": "none-needed",
            "OPENAI_BASE_URL": f"{self.world}/v1",
            "FAULTS_WORLD": self.world,
            "ROTA_PRIVATE_NETWORKS": '["127.0.0.0/8"]',  # where the receivers of messages are
            "PYTHONUNBUFFERED": "1",
        }

    def _slot(self, name: str, command: list[str], more: dict[str, str] | None = None) -> None:
        slot = self.slots[name] = Slot(name, command, self.environment | (more or {}), self.logs)
        self._stack.callback(slot.close, signal.SIGKILL)

    def _rota(self, name: str, *arguments: str, hours: int = 0, more: dict[str, str] | None = None) -> None:
        entry = ["-c", _SKEWED.format(hours=hours)] if hours else ["-m", "cli.main"]
        self._slot(name, [sys.executable, *entry, *arguments], more)

    # ── servers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def start_postgres(self) -> None:
        """Start the database and wait until it answers."""
        with (self.logs / "postgres.log").open("ab") as log:
            self._postgres_process = spawn(
                self.postgres.command(), env={"LC_ALL": "C"}, log=log, user=self.postgres.user,
                parting_signal=None,
            )  # fmt: skip
        wait_until(self.postgres.is_ready, seconds=60, what="PostgreSQL is ready")

    def stop_postgres(self) -> None:
        """Stop the database at once, as if its process had been killed: no client is asked, nothing is flushed."""
        assert self._postgres_process is not None
        self._postgres_process.send_signal(signal.SIGQUIT)
        self._postgres_process.wait(20)

    def start_redis(self) -> None:
        """Start Redis, empty."""
        with (self.logs / "valkey.log").open("ab") as log:
            self.redis_process = spawn(self.valkey.command(), env={}, log=log, parting_signal=None)
        wait_until(self.valkey.is_ready, what="Valkey is ready")

    def kill_redis(self) -> None:
        """Kill Redis; all it held is gone."""
        self.redis_process.send_signal(signal.SIGCONT)
        self.redis_process.kill()
        self.redis_process.wait(10)

    def redis(self) -> redis.Redis:
        """A connection to Redis."""
        return redis.Redis.from_url(self.valkey.url(), socket_timeout=2, socket_connect_timeout=2)

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows, seen with the system's role."""
        with psycopg.connect(self.postgres.url(engines.SYSTEM), autocommit=True, connect_timeout=5) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def living_workers(self) -> dict[int, str]:
        """Process id → worker id, of those heard of lately."""
        try:
            rows = self.query(
                "SELECT pid, id FROM workers WHERE stopped_at IS NULL AND last_seen_at > rota_now() - interval '5 s'"
            )
        except psycopg.Error:
            return {}
        return dict(rows)

    def workers(self) -> list[Slot]:
        """The slots of the agents' workers."""
        return [self.slots[f"worker-{number}"] for number in (1, 2, 3)]

    def leader(self) -> Slot | None:
        """The slot of the dispatcher that leads."""
        rows = self.query("SELECT process FROM leaders WHERE duty = 'dispatcher'")
        pid = int(rows[0][0].rpartition(":")[2]) if rows else 0
        return next((slot for name, slot in self.slots.items() if name.startswith("disp") and slot.pid == pid), None)

    def report(self) -> dict[str, Any]:
        """What the world outside saw."""
        found: dict[str, Any] = httpx2.get(f"{self.world}/control/report", trust_env=False, timeout=30).json()
        return found

    def set_mode(self, mode: str, seconds: float) -> None:
        """Have the model make trouble for a while."""
        self._control("mode", {"mode": mode, "seconds": seconds})

    def have_tools_raise(self, seconds: float) -> None:
        """Have every other tool raise something for a while."""
        self._control("tools_raise", {"seconds": seconds})

    def _control(self, what: str, body: dict[str, Any]) -> None:
        httpx2.post(f"{self.world}/control/{what}", json=body, trust_env=False).raise_for_status()

    def set_outage(self, seconds: float) -> None:
        """Have the model answer nobody for a while."""
        httpx2.post(f"{self.world}/control/outage", json={"seconds": seconds}, trust_env=False).raise_for_status()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=2, trust_env=False).status_code == httpx2.codes.OK
    except httpx2.HTTPError:
        return False
