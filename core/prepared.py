"""Statements that run all the time: prepared, and sent straight over libpq."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from core.engines import APP, engine
from core.refusals import as_unavailable
from core.settings import settings
from core.wire import Rows, Statement, Wire

_BEGIN_ALONE = Statement("SELECT set_config('app.org', :org, true), set_config('synchronous_commit', :durable, true)")
_BEGIN_WITH_KEY = Statement("SELECT set_config('app.key', :key, true), set_config('synchronous_commit', 'off', true)")


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
            return wire_of(at).run(self.statement, values)


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
    with as_unavailable(), _living(engine(APP)) as connection, _as_sqlalchemy_has_it():
        wire = wire_of(connection)
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
        if wire_of(connection).is_living():
            return connection
        connection.invalidate()
        connection.close()
    return pool.connect()


def wire_of(connection: Connection) -> Wire:
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
