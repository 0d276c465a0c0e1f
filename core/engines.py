"""Connections to the database, by role: pools, and connections of their own. No role is a superuser.

`rota_app` does everything that is done for one organisation, limited to its rows by row-level security; `rota_system`
is for the dispatcher, beat and heartbeats; `rota_owner` is for migrations.
"""

import threading
from typing import Any

import psycopg
import psycopg.rows
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.pool import StaticPool

from core.json_text import dump_json
from core.settings import Settings, settings

APP, SYSTEM, OWNER = "rota_app", "rota_system", "rota_owner"

_engines: dict[str, Engine] = {}
_making = threading.Lock()


def engine(role: str) -> Engine:
    """Return this process's connection pool for `role`, created at first use and never shared across a fork."""
    if role not in _engines:
        with _making:
            _engines.setdefault(role, make_engine(settings(), role))
    return _engines[role]


def make_engine(config: Settings, role: str) -> Engine:
    """Create a pool whose connections act as `role`, with time-outs that keep a lost client from holding locks."""
    made = create_engine(
        make_url(role_url(config, role)).set(drivername="postgresql+psycopg"),
        pool_size=config.database_pool_size,
        max_overflow=0,
        pool_timeout=config.statement_timeout,
        pool_use_lifo=True,
        json_serializer=dump_json,
        hide_parameters=True,  # they are customers' data, and errors end up in logs
        connect_args=connect_options(config),
    )

    @event.listens_for(made, "connect")
    def _become(dbapi_connection: Any, _record: Any) -> None:
        become(dbapi_connection, role)
        dbapi_connection.autocommit = role != OWNER  # `_connect` begins transactions; migrations leave it to the driver

    return made


def role_url(config: Settings, role: str) -> str:
    """Return the URL to connect with for `role`: its own, or the application's."""
    special = {SYSTEM: config.system_database_url, OWNER: config.owner_database_url}
    return special.get(role) or config.database_url


def connect_options(config: Settings) -> dict[str, Any]:
    """Return the libpq options that every connection of ours uses."""
    milliseconds = int(config.statement_timeout * 1000)
    return {
        "connect_timeout": 5,
        "application_name": "rota",
        "client_encoding": "UTF8",  # without it, a database without an encoding returns text as bytes
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        # Only prepared queries are prepared, never by the driver: if the driver had prepared a statement, it would drop
        # all prepared statements on the server after a rollback.
        "prepare_threshold": None,
        "options": f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={milliseconds}"
        " -c timezone=UTC",
    }


def become(connection: psycopg.Connection[Any], role: str) -> None:
    """Switch `connection` to `role`, unless its login is that role (one login may serve all three roles)."""
    autocommit = connection.autocommit
    connection.autocommit = True
    try:
        with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
            current = cursor.execute("SELECT current_user").fetchone()
        if current is not None and current[0] != role:
            connection.execute(f"SET ROLE {role}".encode())
    finally:
        connection.autocommit = autocommit


def dedicated_connection(role: str) -> psycopg.Connection[dict[str, Any]]:
    """Open a connection outside the pools, in autocommit: for LISTEN, NOTIFY, advisory locks and heartbeats."""
    config = settings()
    connection = psycopg.connect(
        role_url(config, role),
        autocommit=True,
        row_factory=psycopg.rows.dict_row,
        **connect_options(config),
    )
    become(connection, role)
    return connection


def engine_on(connection: psycopg.Connection[Any]) -> Engine:
    """Return an SQLAlchemy engine that uses `connection` and never opens another: once it is lost, no further statement
    can run. From now on the rows of `connection` are tuples.
    """
    connection.row_factory = psycopg.rows.tuple_row
    return create_engine(
        "postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool, json_serializer=dump_json
    )


def dispose_engines() -> None:
    """Close this process's pools (before a fork, at the end of a test)."""
    for role in (APP, SYSTEM, OWNER):
        if role in _engines:
            _engines.pop(role).dispose()
