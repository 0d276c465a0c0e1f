"""Real servers for tests: Postgres, Valkey and the rehearsal model, on free ports, ended by their process ids."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from core import engines
from core.migrations import migrate
from core.settings import ROOT, Settings, settings
from embedded.postgres import EmbeddedPostgres
from embedded.processes import free_port, remove_tree, spawn
from embedded.valkey import EmbeddedValkey
from web.rate_limits import reset_limits

# Tests throw their data away; waiting for the disk would only make them slow.
_CARELESS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
SECRET_KEY = "a secret key for tests"


def wait_until(condition: Callable[[], Any], *, seconds: float = 20, what: str = "") -> Any:
    """The first truthy value of `condition`, asked again and again; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        time.sleep(0.02)


@contextlib.contextmanager
def postgres(home: Path, *, version: int = 18, with_roles: bool = True) -> Iterator[EmbeddedPostgres]:
    """A running cluster with the database `rota`, empty; without roles, with the superuser alone."""
    server = EmbeddedPostgres(home, port=free_port(), version=version, options=_CARELESS)
    server.prepare()
    with (home / "postgres.log").open("ab") as log:
        process = spawn(server.command(), env={"LC_ALL": "C"}, log=log, user=server.user, parting_signal=signal.SIGQUIT)
    try:
        wait_until(server.is_ready, what="PostgreSQL is ready")
        if with_roles:
            server.create_database()
        yield server
    finally:
        _end(process, signal.SIGQUIT)
        server.remove()
        remove_tree(home)


@contextlib.contextmanager
def valkey(home: Path, *, port: int | None = None) -> Iterator[EmbeddedValkey]:
    """A running Valkey."""
    server = EmbeddedValkey(home, port=port or free_port())
    server.prepare()
    with (home / "valkey.log").open("ab") as log:
        process = spawn(server.command(), env={}, log=log)
    try:
        wait_until(server.is_ready, what="Valkey is ready")
        yield server
    finally:
        _end(process, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    process.send_signal(number)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def serving(app: Any, *, port: int | None = None, **options: Any) -> Iterator[str]:
    """An ASGI application on a free port, in a thread; its URL. uvicorn may be given further options."""
    port = port or free_port()
    usual: dict[str, Any] = {"log_level": "critical", "lifespan": "on", "timeout_graceful_shutdown": 1, "ws": "none"}
    server = uvicorn.Server(uvicorn.Config(app, port=port, **(usual | options)))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, what="the server started")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@contextlib.contextmanager
def api_command(log: Path, **settings: str) -> Iterator[str]:
    """A process of `rota api` on this process's servers; its URL."""
    port = free_port()
    environment = os.environ | {f"ROTA_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "cli.main", "api", "--port", str(port)]
    with log.open("ab") as written:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=written, stderr=written)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _is_up(url), seconds=90, what="the API answers")
        yield url
    finally:
        _end(process, signal.SIGTERM)


def _is_up(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def configure(postgres_server: EmbeddedPostgres, redis_url: str, blobs: Path) -> Settings:
    """Point this process at the servers, and migrate the database."""
    os.environ |= {
        "DATABASE_URL": postgres_server.url(engines.APP),
        "ROTA_SYSTEM_DATABASE_URL": postgres_server.url(engines.SYSTEM),
        "ROTA_OWNER_DATABASE_URL": postgres_server.url(engines.OWNER),
        "REDIS_URL": redis_url,
        "ROTA_SECRET_KEY": SECRET_KEY,
        "ROTA_DATABASE_POOL_SIZE": "30",
        "ROTA_BLOBS_URL": blobs.as_uri(),
    }
    settings.cache_clear()
    migrate(settings())
    return settings()


@contextlib.contextmanager
def configured(**changes: str) -> Iterator[Settings]:
    """This process with other settings, by the names of their environment variables without the prefix."""
    variables = {f"ROTA_{name.upper()}": value for name, value in changes.items()}
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ |= variables
    settings.cache_clear()
    reset_limits()
    try:
        yield settings()
    finally:
        for name in variables:
            del os.environ[name]
        os.environ |= before
        settings.cache_clear()
        reset_limits()
