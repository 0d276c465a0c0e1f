"""Transactions: they commit here, and, where one statement is a transaction by itself, in `core/prepared.py`."""

import contextlib
from collections.abc import Collection, Iterator
from uuid import UUID

import psycopg
from sqlalchemy import Connection, text

from core.engines import APP, SYSTEM, engine
from core.prepared import wire_of
from core.refusals import as_unavailable

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
    with as_unavailable(), _connect(role, first) as connection:
        yield connection
        wire_of(connection).command(b"COMMIT")


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
    wire = wire_of(connection)
    wire.command(b"BEGIN")
    try:
        yield
    except BaseException:
        with contextlib.suppress(psycopg.Error):  # the connection is lost, and the transaction with it
            wire.command(b"ROLLBACK")
        raise
    wire.command(b"COMMIT")


def _connect(role: str, first: str) -> Connection:
    """Return a connection on which `first` has begun a transaction. `first` is one message to the server: the driver
    would send its own BEGIN separately, so it is in autocommit.

    A restart of the server breaks the connections in the pool, which the first statement finds out. Nothing was done
    before it, so it is retried once on a new connection: a restart of the database causes no error.
    """
    connection = engine(role).connect()
    try:
        wire_of(connection).command(first.encode())
    except psycopg.OperationalError:
        connection.invalidate()
        connection.close()
        connection = engine(role).connect()
        try:
            wire_of(connection).command(first.encode())
        except psycopg.Error:
            connection.close()
            raise
    return connection
