"""A whole Rota in real processes, started by the very command that people use."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from core.model_providers import PROVIDERS
from core.settings import ROOT
from embedded.processes import remove_tree
from embedded.state import read_state
from tests.support.models import Director
from tests.support.servers import wait_until

_OTHERS = ("ROTA_", "COLUMNS", *(f"{name.upper()}_" for name in PROVIDERS))
_CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}


class Installation:
    """A running `rota up` and the ways in."""

    def __init__(self, data: Path, environment: dict[str, str] | None = None, *options: str) -> None:
        self.data = data
        self.options = options
        data.mkdir(mode=0o711, exist_ok=True)
        home = data / "home"
        home.mkdir(exist_ok=True)
        self.environment = _CLEAN | {"ROTA_CONFIG": os.devnull, "HOME": str(home)} | (environment or {})
        self.environment.pop("XDG_STATE_HOME", None)
        self.process: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}

    def start(self) -> float:
        """Start, wait for the one line that says it is ready, and return the seconds that took."""
        started = time.monotonic()
        with (self.data / "up.log").open("a") as log:
            command = [sys.executable, "-m", "cli.main", "up", "--data", str(self.data), "--port", "0", "--json"]
            self.process = subprocess.Popen(
                [*command, *self.options],
                cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.data / "up.log").read_text()
        self.ready = json.loads(line)
        self.http = httpx2.Client(
            base_url=self.ready["api"], headers={"authorization": f"Bearer {self.ready['api_key']}"}, timeout=30,
            trust_env=False,
        )  # fmt: skip
        return time.monotonic() - started

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Stop it, and return the seconds that took."""
        assert self.process is not None
        assert self.process.stdout is not None
        started = time.monotonic()
        with contextlib.suppress(AttributeError):
            self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(30)
        self.process.stdout.close()
        return time.monotonic() - started

    @property
    def speaking(self) -> dict[str, str]:
        """The environment of a `rota` command that speaks to this installation."""
        return self.environment | {"ROTA_API_URL": self.ready["api"], "ROTA_API_KEY": self.ready["api_key"]}

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A `rota` command in a folder where nothing but the state file can lead it here."""
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=ROOT, text=True, capture_output=True, timeout=120, check=False, env=self.speaking,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def submit(self, message: str, agent: str = "support-assistant", **more: Any) -> str:
        """A task's id."""
        answer = self.http.post("/v1/tasks", json={"agent": agent, "input": {"message": message}} | more)
        assert answer.status_code == 202, answer.text
        task_id: str = answer.json()["id"]
        return task_id

    def task(self, task_id: str) -> dict[str, Any]:
        """The task with its journal."""
        found: dict[str, Any] = self.http.get(f"/v1/tasks/{task_id}").json()
        return found

    def ended(self, task_id: str, seconds: float = 30) -> dict[str, Any]:
        """The task when it has ended."""

        def look() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] in {"succeeded", "failed", "cancelled", "expired"} else None

        found: dict[str, Any] = wait_until(look, seconds=seconds, what=f"task {task_id} ends")
        return found

    def process_id(self, name: str) -> int:
        """The process id of a child."""
        state = read_state(self.data)
        assert state is not None
        return state.children[name][0]

    def all_process_ids(self) -> list[int]:
        """Everything that runs, the supervisor first."""
        state = read_state(self.data)
        assert state is not None
        return [state.pid, *(pid for pid, _ in state.children.values())]

    @property
    def director(self) -> Director:
        """Direction of the rehearsal model."""
        state = read_state(self.data)
        assert state is not None
        return Director(state.environment["ROTA_REHEARSAL_URL"])

    @contextlib.contextmanager
    def database(self) -> Iterator[psycopg.Connection[Any]]:
        """The database with the system's role, which sees every row."""
        state = read_state(self.data)
        assert state is not None
        with psycopg.connect(state.environment["ROTA_SYSTEM_DATABASE_URL"], autocommit=True) as connection:
            yield connection

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows."""
        with self.database() as connection:
            return connection.execute(statement.encode(), values).fetchall()


@contextlib.contextmanager
def installation(data: Path, environment: dict[str, str] | None = None, *options: str) -> Iterator[Installation]:
    """A running installation, ended and removed afterwards."""
    made = Installation(data, environment, *options)
    try:
        made.start()
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.stop()
        remove_tree(data)
