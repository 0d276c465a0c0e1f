"""A whole Rota for a measurement, started by the command that people use, and ended afterwards."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from embedded.state import read_state

ROOT = Path(__file__).resolve().parent.parent


class Installation:
    """A running `rota up` and the ways in."""

    def __init__(self, data: Path, ready: dict[str, Any]) -> None:
        self.data = data
        self.ready = ready
        state = read_state(data)
        if state is None:
            raise RuntimeError("rota up keeps no state")
        self.environment = os.environ | state.environment

    def client(self, key: str | None = None) -> httpx2.Client:
        """The API, with the organisation's key or another."""
        headers = {"authorization": f"Bearer {key or self.ready['api_key']}"}
        return httpx2.Client(base_url=self.ready["api"], headers=headers, timeout=60, trust_env=False)

    def rota(self, *arguments: str) -> str:
        """What a `rota` command prints."""
        command = [sys.executable, "-m", "cli.main", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def process_id(self, name: str) -> int:
        """The process id of a child; 0 while none is there."""
        state = read_state(self.data)
        return state.children.get(name, (0, 0.0))[0] if state else 0

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows, seen with the system's role."""
        with psycopg.connect(self.environment["ROTA_SYSTEM_DATABASE_URL"], autocommit=True) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def wait(self, statement: str, *values: Any, seconds: float = 120) -> None:
        """Wait until a query returns nothing."""
        ends = time.monotonic() + seconds
        while self.query(statement, *values):
            if time.monotonic() > ends:
                raise RuntimeError(f"still there after {seconds:g} s: {statement}")
            time.sleep(0.1)


@contextlib.contextmanager
def installation(*options: str, environment: dict[str, str] | None = None) -> Iterator[Installation]:
    """A Rota on free ports, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="rota-bench-") as folder:
        data = Path(folder)
        data.chmod(0o711)
        command = [sys.executable, "-m", "cli.main", "up", "--data", folder, "--port", "0", "--json", *options]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | (environment or {})
        ) as up:
            try:
                line = up.stdout.readline() if up.stdout else ""
                yield Installation(data, json.loads(line))
            finally:
                up.send_signal(signal.SIGINT)
