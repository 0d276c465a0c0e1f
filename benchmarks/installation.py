"""Start a complete Rota for a benchmark with the command that people use, and stop it afterwards."""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import psutil
import psycopg

from benchmarks.environments import programs
from core import db
from core.settings import settings
from domain.wallet import service as wallet
from domain.wallet.schemas import TopUp
from embedded.state import read_state

ROOT = Path(__file__).resolve().parent.parent
_TOKENS = 100_000_000  # more than any benchmark spends


class Installation:
    """A running `rota up`, with access to its API, commands and database."""

    def __init__(self, data: Path, ready: dict[str, Any]) -> None:
        self.data = data
        self.ready = ready
        state = read_state(data)
        if state is None:
            raise RuntimeError("rota up keeps no state")
        self.environment = os.environ | state.environment

    def client(self, key: str | None = None) -> httpx2.Client:
        """Return an API client that uses the organisation's key or another."""
        headers = {"authorization": f"Bearer {key or self.ready['api_key']}"}
        return httpx2.Client(base_url=self.ready["api"], headers=headers, timeout=60, trust_env=False)

    def rota(self, *arguments: str) -> str:
        """Run a `rota` command and return what it prints."""
        command = [sys.executable, "-m", "cli.main", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def process_id(self, name: str) -> int:
        """Return the process id of a child; 0 while it does not exist."""
        state = read_state(self.data)
        return state.children.get(name, (0, 0.0))[0] if state else 0

    def adopt(self) -> None:
        """Point this process at the installation's database."""
        os.environ |= {
            name: value for name, value in self.environment.items() if name.startswith(("ROTA_", "DATABASE_"))
        }
        settings.cache_clear()

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a query with the system's role and return its rows."""
        with psycopg.connect(self.environment["ROTA_SYSTEM_DATABASE_URL"], autocommit=True) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def execute(self, statement: str, *values: Any, role: str = "SYSTEM") -> None:
        """Run a statement without a time-out, with the system's role or another."""
        with psycopg.connect(self.environment[f"ROTA_{role}_DATABASE_URL"], autocommit=True) as connection:
            connection.execute("SET statement_timeout = 0")
            connection.execute(statement.encode(), values)

    def wait(self, statement: str, *values: Any, seconds: float = 120) -> None:
        """Wait until a query returns nothing."""
        ends = time.monotonic() + seconds
        while self.query(statement, *values):
            if time.monotonic() > ends:
                raise RuntimeError(f"still there after {seconds:g} s: {statement}")
            time.sleep(0.1)


@contextlib.contextmanager
def installation(*options: str, environment: dict[str, str] | None = None) -> Iterator[Installation]:
    """Run a Rota on free ports, in a folder that is removed afterwards."""
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


class Organisation:
    """An organisation with an agent `brief`, each of whose tasks is one call of its model."""

    def __init__(self, rota: Installation, slug: str, key: str) -> None:
        self.rota = rota
        self.slug = slug
        self.http = rota.client(key)
        self.id = rota.query("SELECT id FROM organisations WHERE slug = %s", slug)[0][0]
        self.owner = rota.query("SELECT id FROM users WHERE org_id = %s", self.id)[0][0]

    def submit(self, message: str = "hello", **more: Any) -> str:
        """Submit a task and return its id."""
        answer = self.http.post("/v1/tasks", json={"agent": "brief", "input": {"message": message}} | more)
        task_id: str = answer.raise_for_status().json()["id"]
        return task_id

    def waited(self, task_id: str, seconds: float = 60) -> float:
        """Wait until a task starts; return the milliseconds from its acceptance to its start."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            rows = self.rota.query(
                "SELECT extract(epoch FROM started_at - created_at)::float * 1000 FROM tasks "
                "WHERE id = %s AND started_at IS NOT NULL", task_id,
            )  # fmt: skip
            if rows:
                return float(rows[0][0])
            time.sleep(0.01)
        raise RuntimeError("it does not start")


def organisation(rota: Installation, slug: str, model: str) -> Organisation:
    """Create an organisation with an agent on `model`, without a rate limit and with ample tokens, so that only the
    work is measured.
    """
    made = Organisation(rota, slug, rota.rota("setup", slug))
    rota.rota("limits", "organisation", slug, "--per-minute", "none")
    with db.system_transaction() as connection:
        wallet.top_up(connection, made.id, TopUp(tokens=_TOKENS))
    price = {"provider": "anthropic", "input_per_million": "1", "output_per_million": "5"}
    made.http.put(f"/v1/prices/{model}", json=price).raise_for_status()
    fields = {"slug": "brief", "name": "Brief", "role": "Test", "description": "Answers.", "system_prompt": "Answer."}
    made.http.post("/v1/agents", json=fields | {"model": model}).raise_for_status()
    return made


def cpu_seconds(data: Path) -> dict[str, float]:
    """Return the CPU seconds used by each process of the installation, with its children."""
    state = read_state(data)
    return {name: cpu_of(psutil.Process(pid)) for name, (pid, _) in (state.children if state else {}).items()}


def cpu_of(process: psutil.Process) -> float:
    """Return the CPU seconds used by a process and its children, including ended ones."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def put_bench_agent(rota: Installation, **more: Any) -> None:
    """Create the agent `bench`, each of whose tasks is two model calls and one tool call, and lift the rate limit.
    `more` are fields of the agent.
    """
    with rota.client() as http:
        price = {"provider": "openai", "input_per_million": "1", "output_per_million": "5"}
        http.put("/v1/prices/bench-model", json=price).raise_for_status()
        agent = {
            "slug": "bench", "name": "Bench", "role": "Test", "description": "Answers.", "model": "bench-model",
            "system_prompt": "Answer. " * 60, "tools": ["search_classes"],
        }  # fmt: skip
        http.post("/v1/agents", json=agent | more).raise_for_status()
    slug = rota.query("SELECT slug FROM organisations ORDER BY created_at LIMIT 1")[0][0]
    rota.rota("limits", "organisation", slug, "--per-minute", "none")


def submit_bench(
    rota: Installation,
    tasks: int,
    *,
    keys: list[str] | None = None,
    agent: str = "bench",
    message: str = "When is spin?",
) -> float:
    """Submit tasks to `bench` or another agent from a separate process, with each of `keys` in turn. Return the CPU
    seconds that this process used.
    """
    command = [sys.executable, "-m", "benchmarks.submitter", rota.ready["api"], agent, str(tasks), message]
    return run_to_its_end(command, {}, "\n".join(keys or [rota.ready["api_key"]]))


def run_to_its_end(command: list[str], environment: dict[str, str], said: str = "") -> float:
    """Run a program with `said` as its standard input; return the CPU seconds that it used."""
    before = os.times()
    subprocess.run(command, cwd=ROOT, env=os.environ | environment, input=said, text=True, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


Bar = tuple[str, float, float, float]
"""a bar of a plot: label, value, and the lowest and highest value of the rounds"""


def bar(label: str, rounds: list[float]) -> Bar:
    """Return a bar with the median of some rounds and their spread."""
    return (label, statistics.median(rounds), min(rounds), max(rounds))


def write_results(name: str, found: Any, unit: str = "", bars: Sequence[Bar] = ()) -> None:
    """Write the results into `benchmarks/results`: as JSON and, if there are `bars`, as a plot."""
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps(found, indent=2, default=str))
    if not bars:
        return
    asked = json.dumps({"title": name.replace("_", " "), "unit": unit, "bars": bars})
    try:
        python = programs("plot", ("matplotlib>=3.10,<4",)) / "python"
        drawing = [str(python), "benchmarks/plot.py", str(results / f"{name}.svg")]
        subprocess.run(drawing, cwd=ROOT, input=asked, text=True, check=True)
    except subprocess.CalledProcessError as error:  # the table and the JSON exist without it
        print(f"no plot: {error}", file=sys.stderr)
