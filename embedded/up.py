"""`rota up`: everything on one machine, for a person's first contact and for development.

In order: Postgres and Valkey (or the servers that DATABASE_URL and REDIS_URL name), roles and migrations, an
organisation with a key and a demonstration gym, the rehearsal model where no provider is configured, then the API, the
dispatcher, the workers, beat and Flower. A child that dies is started again, and said so.
"""

import fcntl
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

import httpx2
import psutil

from core import db
from core.clock import Stopwatch
from core.errors import Misconfigured
from core.migrations import migrate
from core.settings import Settings, settings
from embedded.organisation import set_up_organisation
from embedded.postgres import EmbeddedPostgres
from embedded.processes import end_process, preferred_port, write_secret
from embedded.state import Running, StateFile, clear_state, is_shared, point_to, read_state, write_state
from embedded.supervisor import Child, Supervisor
from embedded.valkey import EmbeddedValkey

ORGANISATION, ORGANISATION_NAME, TIME_ZONE = "atlas", "Atlas Fitness", "Europe/Madrid"
_PORTS = {"api": 8080, "flower": 5555, "postgres": 54320, "valkey": 63790, "rehearsal": 8081}
_PATIENCE = 60.0
# Within 15 s: workers may finish their steps for 6, everything of ours is down after 10, the servers get the rest.
_GRACE, _GRACE_OF_SERVERS, _DRAIN_GRACE = 14.0, 4.0, "6"
_WATCH_EVERY = 0.2
_FLOWER_USER = "rota"
_REQUESTS_PER_MINUTE = "60000"
_WELCOME_TOKENS = 1_000_000
_STARTS_PER_MINUTE = 6_000  # of one person on one machine; an organisation's default, 100, would only be in the way


@dataclass(frozen=True)
class Options:
    """What a person can choose."""

    data: Path
    port: int | None = None
    concurrency: int = 100
    workers: int = 1
    demonstration: bool = True


class StartFailed(Misconfigured):
    """Something did not start."""


class Up:
    """One `rota up`, from its start to its end."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self._options = options
        self._say = say
        self._data = options.data.resolve()
        # Others may pass through, as PostgreSQL's user must when root starts this; the secrets in it are 0600.
        self._data.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._supervisor = Supervisor(self._data / "logs", say)
        self._taken: set[int] = set()
        self._stop_wanted = False
        self._environment: dict[str, str] = {}

    def run(self, on_ready: Callable[[Running], None]) -> None:
        """Start everything, call `on_ready`, and look after it until SIGINT or SIGTERM comes.

        Raises:
            Misconfigured: something does not start; the message says what and where to look.
        """
        self._lock = self._lock_data()  # until this process ends, however it ends
        self._end_leftovers()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            running = self._start()
            if running is not None:
                on_ready(running)
            self._look_after(running)
        finally:
            self._say("stopping")
            self._supervisor.stop(grace=_GRACE, for_servers=_GRACE_OF_SERVERS)
            clear_state(self._data)

    def _start(self) -> Running | None:
        self._environment = self._base_environment()
        self._start_servers()
        config = self._config()
        self._say("migrating the database")
        migrate(config)
        self._start_rehearsal()
        running = self._start_rota()
        self._save(running)
        running = running.model_copy(update={"api_key": self._set_up_organisation()})  # while the others get ready
        self._save(running)
        self._await("the API", "api", lambda: _answers(f"{running.api}/health/ready"))
        self._await("the dispatcher and a worker", "worker", lambda: _is_at_work(running))
        point_to(self._data)
        return None if self._stop_wanted else running

    # ── servers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start_servers(self) -> None:
        given_database, given_redis = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
        postgres = None if given_database else EmbeddedPostgres(self._data, port=self._port("postgres"))
        valkey = None if given_redis else EmbeddedValkey(self._data, port=self._port("valkey"))
        if postgres:
            self._say("starting PostgreSQL")
            postgres.prepare()
            self._supervisor.start(
                Child(
                    "postgres",
                    postgres.command,
                    lambda: {"LC_ALL": "C"},
                    user=postgres.user,
                    stop_signal=postgres.parting_signal,
                    is_server=True,
                )
            )
        if valkey:
            valkey.prepare()
            self._supervisor.start(
                Child("valkey", valkey.command, dict, stop_signal=valkey.parting_signal, is_server=True)
            )
            self._await("Valkey", "valkey", valkey.is_ready)
            self._environment["REDIS_URL"] = valkey.url()
        if postgres:
            self._await("PostgreSQL", "postgres", postgres.is_ready)
            postgres.create_database()
            self._environment |= {
                "DATABASE_URL": postgres.url(db.APP),
                "ROTA_SYSTEM_DATABASE_URL": postgres.url(db.SYSTEM),
                "ROTA_OWNER_DATABASE_URL": postgres.url(db.OWNER),
            }

    def _port(self, name: str) -> int:
        return preferred_port(0 if self._options.port == 0 else _PORTS[name], self._taken)

    def _base_environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name != "ROTA_REHEARSAL_URL"}
        environment["ROTA_SECRET_KEY"] = os.environ.get("ROTA_SECRET_KEY") or self._kept_secret("secret-key")
        environment["PYTHONUNBUFFERED"] = "1"
        environment.setdefault("ROTA_DRAIN_GRACE", _DRAIN_GRACE)
        for limit in ("KEY", "ORGANISATION"):
            environment.setdefault(f"ROTA_REQUESTS_PER_MINUTE_{limit}", _REQUESTS_PER_MINUTE)
        return environment

    def _kept_secret(self, name: str) -> str:
        path = self._data / name
        if not path.exists():
            write_secret(path, secrets.token_hex(32))
        return path.read_text().strip()

    def _config(self) -> Settings:
        """The settings that the children will have, for this process as well."""
        os.environ.update(self._environment)
        settings.cache_clear()
        return settings()

    # ── the organisation ─────────────────────────────────────────────────────────────────────────────────────────────

    def _set_up_organisation(self) -> str:
        path = self._data / "api-key"
        kept = path.read_text().strip() if path.exists() else ""
        key = set_up_organisation(
            slug=ORGANISATION,
            name=ORGANISATION_NAME,
            time_zone=TIME_ZONE,
            with_demonstration=self._options.demonstration,
            kept_key=kept,
            starts_per_minute=_STARTS_PER_MINUTE,
            is_operator=True,
            welcome_tokens=_WELCOME_TOKENS,
            progress=self._say,
        )
        db.dispose_engines()  # the children have connections of their own
        write_secret(path, key)
        return key

    # ── Rota's own processes ─────────────────────────────────────────────────────────────────────────────────────────

    def _start_rehearsal(self) -> None:
        if self._config().has_live_model:
            return
        port = self._port("rehearsal")
        self._environment["ROTA_REHEARSAL_URL"] = f"http://127.0.0.1:{port}"
        self._child("rehearsal", "rehearsal", "--port", str(port))

    def _start_rota(self) -> Running:
        wanted = self._options.port if self._options.port is not None else _PORTS["api"]
        api_port = preferred_port(wanted, self._taken)
        flower_port = self._port("flower")
        flower_password = self._kept_secret("flower-password")[:20]
        self._environment["ROTA_FLOWER_AUTH"] = f"{_FLOWER_USER}:{flower_password}"
        self._child("api", "api", "--host", "127.0.0.1", "--port", str(api_port))
        self._child("dispatcher", "dispatcher")
        for number in range(1, self._options.workers + 1):
            name = "worker" if number == 1 else f"worker-{number}"
            self._child(name, "worker", "--name", "agents", "--concurrency", str(self._options.concurrency))
        self._child("worker-system", "worker", "--name", "system", "--concurrency", "2", "--queues", "system")
        self._child("beat", "beat", "--schedule", str(self._data / "beat"))
        self._child("flower", "flower", "--port", str(flower_port))
        config = self._config()
        return Running(
            api=f"http://127.0.0.1:{api_port}",
            api_key="",
            flower=f"http://127.0.0.1:{flower_port}",
            flower_auth=f"{_FLOWER_USER}:{flower_password}",
            database=config.database_url,
            redis=config.redis_url,
            model="rehearsal" if config.is_rehearsal else "live",
            data=str(self._data),
            starts_per_minute=_STARTS_PER_MINUTE,
        )

    def _child(self, name: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "cli.main", *arguments]
        self._supervisor.start(Child(name, lambda: command, lambda: self._environment))

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _await(self, what: str, child: str, is_ready: Callable[[], bool]) -> None:
        stopwatch = Stopwatch()
        while not is_ready():
            if self._stop_wanted:
                raise StartFailed("Stopped before everything was up.")
            if stopwatch.elapsed().total_seconds() > _PATIENCE:
                raise StartFailed(f"{what} did not get ready in {_PATIENCE:g} s:\n{self._supervisor.log_tail(child)}")
            self._supervisor.watch()
            time.sleep(0.02)

    def _look_after(self, running: Running | None) -> None:
        processes = self._supervisor.processes()
        while not self._stop_wanted:
            self._supervisor.watch()
            now = self._supervisor.processes()
            if running is not None and now != processes:
                processes = now
                self._save(running)
            time.sleep(_WATCH_EVERY)

    def _save(self, running: Running) -> None:
        write_state(
            self._data,
            StateFile(
                running=running,
                pid=os.getpid(),
                started_at=psutil.Process().create_time(),
                environment={name: value for name, value in self._environment.items() if is_shared(name)},
                children=self._supervisor.processes(),
            ),
        )

    def _lock_data(self) -> IO[bytes]:
        """Refuse to run twice on one folder."""
        lock = (self._data / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise Misconfigured(
                f"Rota runs on {self._data} already. Stop it first, or choose another --data."
            ) from error
        return lock

    def _end_leftovers(self) -> None:
        """End what a killed supervisor may have left behind."""
        state = read_state(self._data)
        if state is None:
            return
        for name, (pid, started_at) in state.children.items():
            if name != "postgres" and end_process(pid, started_at=started_at):
                self._say(f"ended {name}, left behind by a start that was killed")
        clear_state(self._data)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_wanted = True


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=2, trust_env=False).status_code == httpx2.codes.OK
    except httpx2.HTTPError:
        return False


def _is_at_work(running: Running) -> bool:
    """Whether a dispatcher leads and a worker lives, as the API sees it."""
    try:
        answer = httpx2.get(
            f"{running.api}/health/detailed",
            headers={"authorization": f"Bearer {running.api_key}"},
            timeout=5,
            trust_env=False,
        )
        seen: dict[str, Any] = answer.json()
        return answer.status_code == httpx2.codes.OK and not seen["problems"] and _has_agents_worker(running)
    except (httpx2.HTTPError, json.JSONDecodeError, KeyError, TypeError):
        return False


def _has_agents_worker(running: Running) -> bool:
    answer = httpx2.get(
        f"{running.api}/v1/workers",
        headers={"authorization": f"Bearer {running.api_key}"},
        timeout=5,
        trust_env=False,
    )
    return any(worker["status"] == "alive" and "normal" in worker["queues"] for worker in answer.json())
