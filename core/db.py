"""The database: all access goes through this module, and only its transactions commit.

Three roles are used, none of them a superuser: `rota_app` for everything done for one organisation, limited to its rows
by row-level security; `rota_system` for the dispatcher, beat and heartbeats; `rota_owner` for migrations.
"""

import contextlib
import json
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import psycopg.errors
import psycopg.rows
import sqlalchemy.exc
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from core.errors import Unavailable
from core.settings import Settings, settings
from core.wire import Rows, Statement, Wire

APP, SYSTEM, OWNER = "rota_app", "rota_system", "rota_owner"

_engines: dict[str, Engine] = {}
_making = threading.Lock()

_BEGIN_ALONE = Statement("SELECT set_config('app.org', :org, true), set_config('synchronous_commit', :durable, true)")
_BEGIN_WITH_KEY = Statement("SELECT set_config('app.key', :key, true), set_config('synchronous_commit', 'off', true)")
_SET_LOCATIONS = text("SELECT set_config('app.locations', :locations, true)")


@contextlib.contextmanager
def transaction(org: UUID, locations: Collection[UUID] = (), *, durable: bool = True) -> Iterator[Connection]:
    """Open a transaction that sees and writes only the rows of organisation `org`. Commits at the end.

    If `locations` are given, `limit_to` applies them. A transaction that is not `durable` commits without waiting for
    the disk: if the server crashes, those of the last half second are lost. Use it for work that is then done again,
    such as a claim.

    Raises:
        Unavailable: the database does not answer.
    """
    with _begin(APP, str(org), durable=durable) as connection:
        if locations:
            limit_to(connection, locations)
        yield connection


def limit_to(connection: Connection, locations: Collection[UUID]) -> None:
    """Hide the rows of all other locations for the rest of this transaction. Without `locations`, nothing is hidden.

    If there are `locations`, rows without a location are hidden too: they belong to the organisation as a whole.
    """
    connection.execute(_SET_LOCATIONS, {"locations": ",".join(sorted(map(str, locations)))})


@contextlib.contextmanager
def system_transaction(*, durable: bool = True) -> Iterator[Connection]:
    """Open a transaction across organisations: for the dispatcher, the reaper, beat, heartbeats, and set-up."""
    with _begin(SYSTEM, "", durable=durable) as connection:
        yield connection


@contextlib.contextmanager
def _begin(role: str, org: str, *, durable: bool = True) -> Iterator[Connection]:
    first = f"BEGIN; SET LOCAL app.org = '{org}'" + ("" if durable else "; SET LOCAL synchronous_commit = off")
    with _as_unavailable(), _connect(role, first) as connection:
        yield connection
        _wire(connection).command(b"COMMIT")


@contextlib.contextmanager
def undone(connection: Connection) -> Iterator[None]:
    """Run the block within a savepoint that is rolled back at the end. The block sees its own writes; afterwards the
    transaction goes on without them.
    """
    savepoint = connection.begin_nested()
    try:
        yield
    finally:
        savepoint.rollback()


@contextlib.contextmanager
def transaction_on(connection: Connection) -> Iterator[None]:
    """Open a transaction on a connection of `engine_on`. Commits at the end.

    Raises:
        psycopg.Error: the database does not answer, or refuses to commit.
    """
    wire = _wire(connection)
    wire.command(b"BEGIN")
    try:
        yield
    except BaseException:
        with contextlib.suppress(psycopg.Error):  # the connection is lost, and the transaction with it
            wire.command(b"ROLLBACK")
        raise
    wire.command(b"COMMIT")


@contextlib.contextmanager
def _as_unavailable() -> Iterator[None]:
    """Turn an outage of the database, or an exhausted pool, into `Unavailable`. Other errors pass through."""
    try:
        yield
    except sqlalchemy.exc.TimeoutError as error:
        raise Unavailable("Every connection to the database is in use.") from error
    except DBAPIError as error:
        if _is_outage(error.orig) or error.connection_invalidated:
            raise Unavailable("The database does not answer.") from error
        raise
    except psycopg.Error as error:
        if _is_outage(error):
            raise Unavailable("The database does not answer.") from error
        raise


def _connect(role: str, first: str) -> Connection:
    """Return a connection on which `first` has begun a transaction. `first` is one message to the server: the driver
    would send its own BEGIN separately, so it is in autocommit.

    A restart of the server breaks the connections in the pool, which the first statement finds out. Nothing was done
    before it, so it is retried once on a new connection: a restart of the database causes no error.
    """
    connection = engine(role).connect()
    try:
        _wire(connection).command(first.encode())
    except psycopg.OperationalError:
        connection.invalidate()
        connection.close()
        connection = engine(role).connect()
        try:
            _wire(connection).command(first.encode())
        except psycopg.Error:
            connection.close()
            raise
    return connection


def driver(connection: Connection) -> psycopg.Connection[Any]:
    """Return the driver's own connection."""
    found = connection.connection.driver_connection
    assert isinstance(found, psycopg.Connection)  # noqa: S101  for the type checker: there is no other driver
    return found


@dataclass(frozen=True)
class SingleStatement:
    """Runs a `PreparedQuery` as a transaction of its own, for organisation `org`. The statement is sent together with
    the beginning and the end of the transaction: one round trip instead of three.
    """

    org: UUID
    durable: bool = True


class PreparedQuery:
    """A statement that runs very often. It is sent straight over libpq, which costs a fraction of SQLAlchemy's way."""

    def __init__(self, sql: str) -> None:
        """`sql` names its parameters as `:name`."""
        self.statement = Statement(sql)

    def run(self, at: Connection | SingleStatement, values: Mapping[str, Any]) -> Rows:
        """Run the statement and return its result, with rows by column name.

        Raises:
            DBAPIError: the statement failed.
            Unavailable: the database does not answer; only for a `SingleStatement`. It may have been carried out.
        """
        if isinstance(at, SingleStatement):
            begin = {"org": str(at.org), "durable": "on" if at.durable else "off"}
            return _in_one_trip((_BEGIN_ALONE, begin), (self.statement, values))
        with _as_sqlalchemy_has_it():
            return _wire(at).run(self.statement, values)


def run_with_key(key_id: UUID, *statements: "tuple[PreparedQuery, Mapping[str, Any]]") -> Rows:
    """Run prepared queries as one transaction in one round trip, and return the result of the last. At its beginning
    the transaction sees only the row of one API key: a key is looked up before its organisation is known. Not durable.

    Raises:
        Unavailable: the database does not answer.
    """
    return _in_one_trip(
        (_BEGIN_WITH_KEY, {"key": str(key_id)}), *((one.statement, values) for one, values in statements)
    )


def _in_one_trip(*statements: tuple[Statement, Mapping[str, Any]]) -> Rows:
    """Run statements as one transaction, and return the result of the last."""
    with _as_unavailable(), _living(engine(APP)) as connection, _as_sqlalchemy_has_it():
        wire = _wire(connection)
        try:
            return wire.transact(*statements)
        except BaseException:
            if not wire.is_at_rest():
                connection.invalidate()  # the next user of the connection would read the answers that are still to come
            raise


def _living(pool: Engine) -> Connection:
    """Return a connection that is still open: a restart of the server closes all those in the pool. Each connection in
    the pool is tried at most once; then the pool opens a new one.
    """
    for _ in range(settings().database_pool_size):
        connection = pool.connect()
        if _wire(connection).is_living():
            return connection
        connection.invalidate()
        connection.close()
    return pool.connect()


def _wire(connection: Connection) -> Wire:
    """Return the wire of a connection. It is created once and kept as long as the connection is open."""
    known = connection.info
    if "wire" not in known:
        known["wire"] = Wire(driver(connection))
    wire: Wire = known["wire"]
    return wire


@contextlib.contextmanager
def _as_sqlalchemy_has_it() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise DBAPIError(None, None, error, hide_parameters=True) from error


_REFUSED = {
    "42501": "It may not be done there: the record would lie outside the location, or the organisation, of the task.",
    "23505": "There is such a record already.",
    "23503": "It refers to a record that is not there.",
    "23514": "A value is not one of those that are allowed.",
    "23502": "A value is missing.",
}
_OTHER_REFUSAL = "It does not fit the records that there are."


def refusal_of(error: DBAPIError) -> str | None:
    """Return why the database refused a write, in words without values; None if the error is a fault instead."""
    state = getattr(error.orig, "sqlstate", None) or ""
    if is_refusal(error) or state == "42501":
        return _REFUSED.get(state, _OTHER_REFUSAL)
    return None


def is_refusal(error: BaseException) -> bool:
    """Whether the database refused a statement because of its values, so that its transaction is rolled back."""
    return isinstance(error, DBAPIError) and isinstance(error.orig, psycopg.DataError | psycopg.IntegrityError)


def _is_outage(error: BaseException | None) -> bool:
    """Whether the server is unreachable or a standby. A statement that exceeded its time-out does not count."""
    if isinstance(error, psycopg.errors.QueryCanceled):
        return False
    return isinstance(error, psycopg.OperationalError | psycopg.errors.ReadOnlySqlTransaction)


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


def dump_json(value: Any) -> str:
    """Return JSON as it is stored: compact, not ASCII-escaped; ids, dates and decimals as strings."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)


def dispose_engines() -> None:
    """Close this process's pools (before a fork, at the end of a test)."""
    for role in (APP, SYSTEM, OWNER):
        if role in _engines:
            _engines.pop(role).dispose()
