"""Database upgrades: create the three roles, then run every migration as `rota_owner`."""

from pathlib import Path
from typing import Any

import psycopg
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from alembic import command
from core.engines import APP, OWNER, SYSTEM, connect_options, make_engine, role_url
from core.errors import Misconfigured, Unavailable
from core.packs import load
from core.settings import ROOT, Settings

# An installed wheel has the migrations within this package, because `alembic` beside it is the library there; a
# checkout has them beside this package.
_FOLDERS = (ROOT / "core" / "alembic", ROOT / "alembic")
_OLDEST_SERVER = 15_00_00
_ROLES = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
# USAGE, not MEMBER: since PostgreSQL 16 the creator of a role is a member of it, but may not yet SET ROLE to it.
_MAY_BECOME = text("SELECT pg_has_role(current_user, :role, 'USAGE')")
_MAY_CREATE = text("SELECT has_schema_privilege(:role, 'public', 'CREATE')")
# Several processes may start at the same time: one migrates, the others wait and find nothing to do.
_ONE_AT_A_TIME = text("SELECT pg_advisory_lock(hashtextextended('rota migrations', 0))")


def migrate(config: Settings) -> str:
    """Create the missing roles, run the pending migrations, and return the revision reached.

    Raises:
        Unavailable: the database does not answer.
        Misconfigured: the login may neither act as `rota_owner` nor create roles; Rota cannot use this database; or the
            database refused a migration.
    """
    try:
        _ensure_usable(config)
        ensure_roles(config)
        return _upgrade(config)
    except (OperationalError, psycopg.OperationalError) as error:
        said = error.orig if isinstance(error, OperationalError) else error
        raise Unavailable(f"The database does not answer: {str(said).strip()}") from error
    except DBAPIError as error:
        raise Misconfigured(f"The database refuses a migration: {str(error.orig).strip()}") from error


def unusable(encoding: str, version: int, revision: str | None) -> str | None:
    """Return why Rota cannot use a database with this encoding, on a server of this version (150004 is 15.4), at this
    revision; None if it can.
    """
    if encoding != "UTF8":
        return (
            f"The database has the encoding {encoding}, which cannot hold every text. Rota needs UTF8: "
            "CREATE DATABASE rota ENCODING 'UTF8' TEMPLATE template0;"
        )
    if version < _OLDEST_SERVER:
        return f"The server is PostgreSQL {version // 10_000}.{version % 10_000}. Rota needs 15 or newer."
    if revision is not None and revision not in _revisions():
        return (
            f"The database is at revision {revision}, which this version of Rota does not know: a newer one migrated "
            f"it. Use that version again, or restore a backup; this one goes up to {newest_revision()}."
        )
    return None


def _upgrade(config: Settings) -> str:
    engine = make_engine(config, OWNER)
    try:
        with engine.connect() as connection:
            connection.execute(text("SET statement_timeout = 0"))  # migrating, or waiting for the lock, may take long
            connection.execute(_ONE_AT_A_TIME)
            connection.commit()
            alembic = _alembic_config()
            alembic.attributes["connection"] = connection
            command.upgrade(alembic, "head")
            connection.commit()
            for name, folder in _pack_migrations(config):
                _upgrade_pack(connection, name, folder)
            return current_revision(connection) or ""
    finally:
        engine.dispose()


def _pack_migrations(config: Settings) -> list[tuple[str, Path]]:
    """Return the name and the migrations folder of each pack that has migrations."""
    packs = zip(config.packs, load(tuple(config.packs)), strict=True)
    return [(name.replace(".", "_"), pack.migrations) for name, pack in packs if pack.migrations is not None]


def _upgrade_pack(connection: Connection, name: str, folder: Path) -> None:
    """Run the migrations of a pack. Its revision is kept in a version table of its own, apart from the platform's."""
    alembic = _alembic_config()
    alembic.set_main_option("version_locations", str(folder).replace("%", "%%"))
    alembic.attributes |= {"connection": connection, "version_table": f"alembic_version_{name}"}
    command.upgrade(alembic, "heads")
    connection.commit()


def revision_of(connection: psycopg.Connection[Any]) -> str | None:
    """Return the revision of a database; None before the first migration, or if this login may not read it."""
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
        return None
    return row[0] if row else None


def _ensure_usable(config: Settings) -> None:
    # Without SQLAlchemy, which fails on a database without an encoding before the encoding can be read.
    with psycopg.connect(role_url(config, OWNER), autocommit=True, **connect_options(config)) as connection:
        encoding = connection.info.parameter_status("server_encoding") or ""
        if problem := unusable(encoding, connection.info.server_version, revision_of(connection)):
            raise Misconfigured(problem)


def ensure_roles(config: Settings) -> None:
    """Create `rota_owner`, `rota_app` and `rota_system` if they are missing, and let the login act as them."""
    url = make_url(role_url(config, OWNER)).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(_ONE_AT_A_TIME)
            names = [OWNER, APP, SYSTEM]
            present = {row.rolname for row in connection.execute(_ROLES, {"names": names})}
            try:
                for name in names:
                    if name not in present:
                        _run(connection, "CREATE ROLE {}", name)
                for name in names:
                    shares_login = make_url(role_url(config, name)).username == url.username != name
                    if shares_login and not connection.execute(_MAY_BECOME, {"role": name}).scalar_one():
                        _run(connection, "GRANT {} TO CURRENT_USER", name)
                if not connection.execute(_MAY_CREATE, {"role": OWNER}).scalar_one():
                    _run(connection, "GRANT CREATE, USAGE ON SCHEMA public TO {}", OWNER)
            except ProgrammingError as error:
                raise Misconfigured(
                    f"This login may not set up Rota's roles ({str(error.orig).strip()}). As a superuser of this "
                    f"database, run: CREATE ROLE {OWNER}; CREATE ROLE {APP}; CREATE ROLE {SYSTEM}; "
                    f"GRANT {OWNER}, {APP}, {SYSTEM} TO {url.username}; GRANT CREATE ON SCHEMA public TO {OWNER};"
                ) from error
    finally:
        engine.dispose()


def _run(connection: Connection, statement: str, role: str) -> None:
    connection.exec_driver_sql(statement.format(f'"{role}"'))


def current_revision(connection: Connection) -> str | None:
    """Return the revision of the database; None before the first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def newest_revision() -> str:
    """Return the revision that this code expects."""
    return ScriptDirectory.from_config(_alembic_config()).get_current_head() or ""


def _revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions()}


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def migrations_folder() -> Path:
    """Return the folder of the migrations.

    Raises:
        Misconfigured: this installation of Rota has no migrations.
    """
    for folder in _FOLDERS:
        if (folder / "env.py").exists():
            return folder
    raise Misconfigured(f"The migrations are missing from {_FOLDERS[0]}: install Rota anew.")
