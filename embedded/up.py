"""`rota up`: all processes on one machine, for trying Rota out and for development.

Starts in this order: Postgres and Valkey (or the servers that DATABASE_URL and REDIS_URL name), the rehearsal model if
no provider is configured, the API; roles and migrations; the dispatcher and the workers and, while they load, an
organisation with a key and a demonstration gym. When these are ready, the duties' worker, beat and Flower are started,
and readiness is reported. A child that ends is restarted with a message, unless it cannot start as configured.
"""

import contextlib
import fcntl
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

import httpx2
import psutil

from core import engines
from core.clock import Stopwatch
from core.errors import Misconfigured
from core.settings import Settings, settings
from embedded.environments import environment_for
from embedded.postgres import EmbeddedPostgres
from embedded.processes import end_process, preferred_port, write_secret
from embedded.state import Running, StateFile, clear_state, is_shared, point_to, read_state, write_state
from embedded.supervisor import Child, Supervisor
from embedded.valkey import EmbeddedValkey

ORGANISATION, ORGANISATION_NAME, TIME_ZONE = "atlas", "Atlas Fitness", "Europe/Madrid"
_PORTS = {"api": 8080, "flower": 5555, "postgres": 54320, "valkey": 63790, "rehearsal": 8081}
_PATIENCE = 60.0
# Stopping takes at most 15 s: workers have 6 s to finish their steps, all our processes 10 s, the servers the rest.
_GRACE, _GRACE_OF_SERVERS, _DRAIN_GRACE = 14.0, 4.0, "6"
_WATCH_EVERY, _LOOK_EVERY = 0.2, 0.05
_FLOWER_USER = "rota"
_REQUESTS_PER_MINUTE = "60000"
_WELCOME_TOKENS = 1_000_000
_STARTS_PER_MINUTE = 6_000  # for one person on one machine; the default of 100 would be too low


@dataclass(frozen=True)
class Options:
    """The options of `rota up`."""

    data: Path
    port: int | None = None
    concurrency: int = 100
    workers: int = 1
    demonstration: bool = True


class StartFailed(Misconfigured):
    """Something did not start."""


class Up:
    """One run of `rota up`, from its start to its end."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self._options = options
        self._say = say
        self._data = options.data.resolve()
        with self._usable_data():
            # Other users may enter, as PostgreSQL's user must when root starts this; the secrets in it are 0600.
            self._data.mkdir(mode=0o711, parents=True, exist_ok=True)
            self._supervisor = Supervisor(self._data / "logs", say)
        self._taken: set[int] = set()
        self._moved: list[str] = []
        self._postgres: EmbeddedPostgres | None = None
        self._stop_wanted = False
        self._environment: dict[str, str] = {}

    def run(self, on_ready: Callable[[Running], None]) -> None:
        """Start everything, call `on_ready`, and supervise until SIGINT, SIGTERM or SIGHUP arrives.

        Raises:
            Misconfigured: something does not start; the message says what and where to look.
        """
        with self._usable_data():
            self._lock = self._lock_data()  # held until this process ends, however it ends
            self._end_leftovers()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            with self._usable_data():
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
        self._ensure_usable_settings()
        self._start_servers()
        self._start_rehearsal()
        # Imported while PostgreSQL starts: it takes as long, and nothing before needs it.
        import embedded.organisation  # noqa: F401
        from core.migrations import migrate

        self._await_database()
        config = self._config()
        api_port = self._port("api")
        self._child("api", "api", "--host", "127.0.0.1", "--port", str(api_port))  # not ready until migrated
        self._say("migrating the database")
        migrate(config)
        self._say("starting the dispatcher and the workers")
        running = self._start_workers(api_port)
        self._save(running)
        running = running.model_copy(update={"api_key": self._set_up_organisation()})  # while they get ready
        self._save(running)
        self._say("waiting for them")
        with _client(running) as client:
            self._await("the API", "api", lambda: _answers(client, "/health/ready"))
            self._await("the dispatcher", "dispatcher", lambda: _is_led(client))
            self._await("a worker", "worker", lambda: _has_agents_worker(client))
        self._start_rest(running)
        self._save(running)
        point_to(self._data)
        return None if self._stop_wanted else running

    @contextlib.contextmanager
    def _usable_data(self) -> Iterator[None]:
        """Turn an `OSError` within the block into `Misconfigured`, with a message about the data folder."""
        try:
            yield
        except OSError as error:
            raise Misconfigured(
                f"The data folder cannot be used: {error.strerror or error} ({error.filename or self._data}). "
                "Choose another: rota up --data FOLDER"
            ) from error

    def _ensure_usable_settings(self) -> None:
        """Raise for a wrong setting, or tools that do not load, before a child process is started and fails on it."""
        tools = self._config().tools
        if tools:
            from agents.tools.registry import load_tools

            load_tools(tools)

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
        self._postgres = postgres

    def _await_database(self) -> None:
        """Wait for the embedded server, if there is one, and create the database."""
        postgres = self._postgres
        if postgres is None:
            return
        self._await("PostgreSQL", "postgres", postgres.is_ready)
        postgres.create_database()
        self._environment |= {
            "DATABASE_URL": postgres.url(engines.APP),
            "ROTA_SYSTEM_DATABASE_URL": postgres.url(engines.SYSTEM),
            "ROTA_OWNER_DATABASE_URL": postgres.url(engines.OWNER),
        }

    def _port(self, name: str) -> int:
        usual = self._options.port if name == "api" and self._options.port is not None else _PORTS[name]
        wanted = 0 if self._options.port == 0 else usual
        port = preferred_port(wanted, self._taken)
        if wanted and port != wanted:
            self._moved.append(f"port {wanted} is taken: {name} is at {port}")
            self._say(self._moved[-1])
        return port

    def _base_environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name != "ROTA_REHEARSAL_URL"}
        environment["ROTA_SECRET_KEY"] = os.environ.get("ROTA_SECRET_KEY") or self._kept_secret("secret-key")
        environment["PYTHONUNBUFFERED"] = "1"
        environment.setdefault("ROTA_DRAIN_GRACE", _DRAIN_GRACE)
        environment.setdefault("ROTA_BLOBS_URL", (self._data.resolve() / "blobs").as_uri())
        for limit in ("KEY", "ORGANISATION"):
            environment.setdefault(f"ROTA_REQUESTS_PER_MINUTE_{limit}", _REQUESTS_PER_MINUTE)
        return environment

    def _kept_secret(self, name: str) -> str:
        path = self._data / name
        if not path.exists():
            write_secret(path, secrets.token_hex(32))
        return path.read_text().strip()

    def _config(self) -> Settings:
        """Apply the children's environment to this process, and return its settings."""
        os.environ.update(self._environment)
        settings.cache_clear()
        return settings()

    # ── the organisation ─────────────────────────────────────────────────────────────────────────────────────────────

    def _set_up_organisation(self) -> str:
        from embedded.organisation import set_up_organisation

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
            is_prepaid=True,
            welcome_tokens=_WELCOME_TOKENS,
            progress=self._say,
        )
        engines.dispose_engines()  # the children have connections of their own
        write_secret(path, key)
        return key

    # ── Rota's own processes ─────────────────────────────────────────────────────────────────────────────────────────

    def _start_rehearsal(self) -> None:
        if self._config().has_live_model:
            return
        port = self._port("rehearsal")
        self._environment["ROTA_REHEARSAL_URL"] = f"http://127.0.0.1:{port}"
        self._child("rehearsal", "rehearsal", "--port", str(port))

    def _start_workers(self, api_port: int) -> Running:
        """Start the dispatcher and the workers, without waiting for them."""
        flower_port = self._port("flower")
        flower_password = self._kept_secret("flower-password")[:20]
        self._environment["ROTA_FLOWER_AUTH"] = f"{_FLOWER_USER}:{flower_password}"
        self._child("dispatcher", "dispatcher")
        for number in range(1, self._options.workers + 1):
            name = "worker" if number == 1 else f"worker-{number}"
            self._child(name, "worker", "--name", "agents", "--concurrency", str(self._options.concurrency))
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
            moved=self._moved,
        )

    def _start_rest(self, running: Running) -> None:
        """Start the processes that readiness does not need. Started earlier, they would slow the others down."""
        self._child("worker-system", "worker", "--name", "system", "--concurrency", "2", "--queues", "system")
        self._child("beat", "beat", "--schedule", str(self._data / "beat"))
        self._child("flower", "flower", "--port", running.flower.rpartition(":")[2])

    def _child(self, name: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "cli.main", *arguments]
        self._supervisor.start(Child(name, lambda: command, lambda: environment_for(arguments[0], self._environment)))

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _await(self, what: str, child: str, is_ready: Callable[[], bool]) -> None:
        stopwatch = Stopwatch()
        while not is_ready():
            if self._stop_wanted:
                raise StartFailed("Stopped before everything was up.")
            self._supervisor.ensure_can_start(child)
            if stopwatch.elapsed().total_seconds() > _PATIENCE:
                raise StartFailed(f"{what} did not get ready in {_PATIENCE:g} s:\n{self._supervisor.log_tail(child)}")
            self._supervisor.watch()
            time.sleep(_LOOK_EVERY)

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
        """Lock the data folder, and return the lock. Raises Misconfigured if another `rota up` holds it."""
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
        """End the processes that a killed supervisor may have left behind."""
        state = read_state(self._data)
        if state is None:
            return
        for name, (pid, started_at) in state.children.items():
            if name != "postgres" and end_process(pid, started_at=started_at):
                self._say(f"ended {name}, left behind by a start that was killed")
        clear_state(self._data)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_wanted = True


def _client(running: Running) -> httpx2.Client:
    """Return a client for readiness checks. One serves all of them, since each new client would load certificates."""
    return httpx2.Client(
        base_url=running.api, headers={"authorization": f"Bearer {running.api_key}"}, timeout=5, trust_env=False,
        verify=False,
    )  # fmt: skip


def _answers(client: httpx2.Client, path: str) -> Any:
    """Return the API's answer at `path`; None if there is none, or if it is an error."""
    try:
        answer = client.get(path)
        return answer.json() if answer.is_success else None
    except (httpx2.HTTPError, json.JSONDecodeError):
        return None


def _is_led(client: httpx2.Client) -> bool:
    """Whether the API reports no problem, such as a missing leader, apart from workers that may still be starting."""
    health = _answers(client, "/health/detailed")
    return health is not None and not [problem for problem in health["problems"] if "worker" not in problem]


def _has_agents_worker(client: httpx2.Client) -> bool:
    """Whether the API lists a live worker that takes agents' tasks."""
    workers = _answers(client, "/v1/workers") or []
    return any(worker["status"] == "alive" and "normal" in worker["queues"] for worker in workers)
