"""Bringing a database up to date: the three roles, then every migration, as `rota_owner`."""

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, create_engine, make_url, text

from core.db import APP, OWNER, SYSTEM, make_engine, role_url
from core.errors import Misconfigured
from core.settings import ROOT, Settings

_ROLES = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
_MAY_CREATE_ROLES = text("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")
# Several processes may start at once; one migrates, the others wait and find nothing to do.
_ONE_AT_A_TIME = text("SELECT pg_advisory_lock(hashtextextended('rota migrations', 0))")


def migrate(config: Settings) -> str:
    """Create what roles are missing, run every migration not yet run, and return the revision reached.

    Raises:
        Misconfigured: the login may neither act as `rota_owner` nor create roles.
    """
    ensure_roles(config)
    engine = make_engine(config, OWNER)
    try:
        with engine.connect() as connection:
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
            names = [OWNER, APP, SYSTEM]
            missing = set(names) - {row.rolname for row in connection.execute(_ROLES, {"names": names})}
            if not missing:
                return
            if not connection.execute(_MAY_CREATE_ROLES).scalar_one():
                raise Misconfigured(
                    f"The roles {', '.join(sorted(missing))} do not exist and this login may not create them. As a "
                    f"superuser, run: " + " ".join(f"CREATE ROLE {name};" for name in sorted(missing))
                    + f" GRANT {', '.join(names)} TO the login; GRANT CREATE ON SCHEMA public TO {OWNER};"
                )
            for name in sorted(missing):
                _create_role(connection, name)
    finally:
        engine.dispose()


def _create_role(connection: Connection, name: str) -> None:
    role = sql.Identifier(name)
    raw = connection.connection.driver_connection
    if raw is None:
        raise Misconfigured("The database connection was lost.")
    raw.execute(sql.SQL("CREATE ROLE {}").format(role))
    raw.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(role))
    if name == OWNER:
        raw.execute(sql.SQL("GRANT CREATE, USAGE ON SCHEMA public TO {}").format(role))


def current_revision(connection: Connection) -> str | None:
    """The revision the database is at, None before the first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def newest_revision() -> str:
    """The revision this code expects."""
    return ScriptDirectory.from_config(_alembic_config()).get_current_head() or ""


def _alembic_config() -> Config:
    return Config(str(ROOT / "alembic.ini"))
