"""Bringing a database up to date: the three roles, then every migration, as `rota_owner`."""

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from alembic import command
from core.db import APP, OWNER, SYSTEM, make_engine, role_url
from core.errors import Misconfigured, Unavailable
from core.settings import ROOT, Settings

_ROLES = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
# Not MEMBER: since PostgreSQL 16 whoever creates a role is a member of it that may not yet become it.
_MAY_BECOME = text("SELECT pg_has_role(current_user, :role, 'USAGE')")
_MAY_CREATE = text("SELECT has_schema_privilege(:role, 'public', 'CREATE')")
# Several processes may start at once; one migrates, the others wait and find nothing to do.
_ONE_AT_A_TIME = text("SELECT pg_advisory_lock(hashtextextended('rota migrations', 0))")


def migrate(config: Settings) -> str:
    """Create what roles are missing, run every migration not yet run, and return the revision reached.

    Raises:
        Unavailable: the database does not answer.
        Misconfigured: the login may neither act as `rota_owner` nor create roles.
    """
    try:
        ensure_roles(config)
        return _upgrade(config)
    except OperationalError as error:
        raise Unavailable(f"The database does not answer: {str(error.orig).strip()}") from error


def _upgrade(config: Settings) -> str:
    engine = make_engine(config, OWNER)
    try:
        with engine.connect() as connection:
            connection.execute(text("SET statement_timeout = 0"))  # whoever migrates first may take its time
            connection.execute(_ONE_AT_A_TIME)
            connection.commit()
            alembic = _alembic_config()
            alembic.attributes["connection"] = connection
            command.upgrade(alembic, "head")
            connection.commit()
            return current_revision(connection) or ""
    finally:
        engine.dispose()


def ensure_roles(config: Settings) -> None:
    """Create `rota_owner`, `rota_app` and `rota_system` where they are missing, and let the login act as them."""
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
    """The revision the database is at, None before the first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def newest_revision() -> str:
    """The revision this code expects."""
    return ScriptDirectory.from_config(_alembic_config()).get_current_head() or ""


def _alembic_config() -> Config:
    return Config(str(ROOT / "alembic.ini"))
