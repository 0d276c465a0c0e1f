"""Statements straight over libpq: the same as through the driver, and the connection as good as before."""

import os
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.pq import ExecStatus, TransactionStatus
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core import db, engines, prepared
from core.errors import Unavailable
from core.ids import new_id
from core.settings import Settings
from core.wakeup import CHANNEL
from core.wire import Rows, Statement, Wire
from tests.support.servers import wait_until
from workers.dispatcher import _take_hints

_ONE = Statement("SELECT 1 AS one")
_ECHO = Statement("SELECT :value AS value")
_DIVIDE = Statement("SELECT 10 / CAST(:by AS int) AS found")
_SLEEP = Statement("SELECT pg_sleep(60)")


@pytest.fixture
def raw(config: Settings) -> Iterator[psycopg.Connection[Any]]:
    with engines.dedicated_connection(engines.SYSTEM) as connection:
        yield connection


@pytest.fixture
def wire(raw: psycopg.Connection[Any]) -> Wire:
    return Wire(raw)


def _in_transaction(wire: Wire, statement: Statement, values: dict[str, Any]) -> Rows:
    wire.command(b"BEGIN")
    found = wire.run(statement, values)
    wire.command(b"COMMIT")
    return found


def test_values_go_in_order_and_may_be_used_twice() -> None:
    statement = Statement("SELECT :b, CAST(:a AS text), :b::int, '12:30', a::text FROM t WHERE x = :a")
    assert statement.names == ["b", "a"]
    assert statement.sql == b"SELECT $1, CAST($2 AS text), $1::int, '12:30', a::text FROM t WHERE x = $2"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", "Ñandú 100 % 'quoted' \\ :name"),
        ("text", None),
        ("int", 7),
        ("bigint", 1 << 40),
        ("numeric", Decimal("12.3400")),
        ("boolean", False),
        ("uuid", new_id()),
        ("bytea", b"\x00\xff"),
        ("date", date(2026, 3, 29)),
        ("timestamptz", datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        ("interval", timedelta(days=1, microseconds=1)),
        ("uuid[]", [new_id(), new_id()]),
        ("uuid[]", []),
        ("int[]", [1, 70_000, 1 << 30]),
    ],
)
def test_values_come_back_as_through_the_driver(
    wire: Wire, raw: psycopg.Connection[Any], kind: str, value: object
) -> None:
    statement = Statement(f"SELECT CAST(:value AS {kind}) AS value")
    through_driver = raw.execute(f"SELECT CAST(%s AS {kind}) AS value".encode(), (value,)).fetchone()
    for _ in range(2):  # prepared, and used again
        assert wire.transact((statement, {"value": value})).all == [through_driver] == [{"value": value}]
        assert _in_transaction(wire, statement, {"value": value}).first() == through_driver


def test_one_statement_takes_values_of_several_types(wire: Wire) -> None:
    statement = Statement("SELECT CAST(:value AS bigint) + 1 AS value")
    for value in (1, 100_000, 1 << 40, 2):
        assert wire.transact((statement, {"value": value})).first() == {"value": value + 1}
    assert wire.transact((statement, {"value": None})).first() == {"value": None}


def test_rows_and_changes_are_counted(wire: Wire) -> None:
    numbers = Statement("SELECT n, n * n AS squared FROM generate_series(1, CAST(:most AS int)) AS n")
    found = wire.transact((numbers, {"most": 3}))
    assert (found.count, found.all[-1]) == (3, {"n": 3, "squared": 9})
    assert wire.transact((numbers, {"most": 0})).first() is None
    wire.command(b"CREATE TEMPORARY TABLE things AS SELECT n FROM generate_series(1, 5) AS n")
    assert wire.transact((Statement("UPDATE things SET n = n WHERE n > :n"), {"n": 2})) == Rows([], 3)


def test_long_values_pass_both_ways(wire: Wire) -> None:
    long = os.urandom(1 << 20) * 8
    statement = Statement("SELECT CAST(:value AS bytea) AS value, repeat('x', 9000) AS more")
    for _ in range(2):
        found = wire.transact((_ONE, {}), (_ECHO, {"value": "first"}), (statement, {"value": long})).first()
        assert found == {"value": long, "more": "x" * 9000}
    assert (_in_transaction(wire, statement, {"value": long}).first() or {})["value"] == long


def test_several_statements_are_one_transaction_whose_first_error_is_told(
    wire: Wire, raw: psycopg.Connection[Any]
) -> None:
    raw.execute("CREATE TEMPORARY TABLE things (n int)")
    insert = Statement("INSERT INTO things VALUES (:n)")
    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero):
            wire.transact((insert, {"n": 1}), (_DIVIDE, {"by": 0}), (_ECHO, {"value": "never"}))
        assert wire.is_at_rest()
        assert raw.execute("SELECT count(*) AS n FROM things").fetchone() == {"n": 0}
    assert wire.transact((insert, {"n": 1}), (_DIVIDE, {"by": 5}), (_ECHO, {"value": "x"})).first() == {"value": "x"}
    assert raw.execute("SELECT count(*) AS n FROM things").fetchone() == {"n": 1}


def test_a_statement_may_be_run_twice_in_a_transaction_of_its_own(wire: Wire, raw: psycopg.Connection[Any]) -> None:
    raw.execute("CREATE TEMPORARY TABLE things (n int)")
    insert = Statement("INSERT INTO things VALUES (:n)")
    for _ in range(2):
        assert wire.transact((insert, {"n": 1}), (insert, {"n": 2})).count == 1
    assert raw.execute("SELECT sum(n) AS n FROM things").fetchone() == {"n": 6}


def test_what_cannot_be_committed_is_an_error(wire: Wire, raw: psycopg.Connection[Any]) -> None:
    raw.execute("CREATE TEMPORARY TABLE things (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        wire.transact((Statement("INSERT INTO things VALUES (:n), (:n)"), {"n": 1}))
    assert not wire.is_at_rest()
    raw.close()  # as its pool would


def test_an_error_in_a_transaction_leaves_it_to_be_rolled_back(wire: Wire, raw: psycopg.Connection[Any]) -> None:
    for _ in range(2):
        wire.command(b"BEGIN")
        with pytest.raises(psycopg.errors.DivisionByZero):
            wire.run(_DIVIDE, {"by": 0})
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            wire.run(_DIVIDE, {"by": 1})
        wire.command(b"ROLLBACK")
    assert _in_transaction(wire, _DIVIDE, {"by": 2}).first() == {"found": 5}
    assert raw.info.transaction_status == TransactionStatus.IDLE


def test_without_a_transaction_nothing_is_run(wire: Wire) -> None:
    with pytest.raises(psycopg.ProgrammingError, match="no transaction is open"):
        wire.run(_ONE, {})


def test_a_value_that_is_missing_or_cannot_be_sent_is_an_error_before_anything_is_sent(
    wire: Wire, raw: psycopg.Connection[Any]
) -> None:
    wire.command(b"BEGIN")
    with pytest.raises(KeyError, match="by"):
        wire.run(_DIVIDE, {})
    with pytest.raises(psycopg.ProgrammingError, match="cannot adapt type 'object'"):
        wire.run(_ECHO, {"value": object()})
    assert wire.run(_ONE, {}).first() == {"one": 1}
    assert raw.info.transaction_status == TransactionStatus.INTRANS


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_server_that_goes_is_an_outage(wire: Wire, raw: psycopg.Connection[Any], is_alone: bool) -> None:
    backend = raw.info.backend_pid

    def end_it() -> None:
        with db.system_transaction() as connection:
            sleeping = text("SELECT 1 FROM pg_stat_activity WHERE pid = :pid AND wait_event = 'PgSleep'")
            wait_until(lambda: connection.execute(sleeping, {"pid": backend}).scalar())
            connection.execute(text("SET LOCAL ROLE NONE"))
            connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})

    ending = threading.Thread(target=end_it)
    ending.start()
    if not is_alone:
        wire.command(b"BEGIN")
    with pytest.raises(psycopg.OperationalError):
        wire.transact((_SLEEP, {})) if is_alone else wire.run(_SLEEP, {})
    ending.join()
    assert not wire.is_living()
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError):
            wire.command(b"BEGIN")


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_statement_whose_columns_changed_fails_once(wire: Wire, raw: psycopg.Connection[Any], is_alone: bool) -> None:
    raw.execute("CREATE TEMPORARY TABLE things AS SELECT 1 AS n")
    everything = Statement("SELECT * FROM things")
    assert _in_transaction(wire, everything, {}).first() == {"n": 1}
    raw.execute("ALTER TABLE things ALTER n TYPE text")
    if not is_alone:
        wire.command(b"BEGIN")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        wire.transact((everything, {})) if is_alone else wire.run(everything, {})
    wire.command(b"ROLLBACK")
    assert _in_transaction(wire, everything, {}).first() == {"n": "1"}


# ── on the pool's connections ────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_undone_takes_no_prepared_statement_along(org: UUID) -> None:
    seen = prepared.PreparedQuery("SELECT count(*) AS agents FROM agents WHERE org_id = :org")
    slow = text("SELECT slug FROM agents")

    def look(*, is_undone: bool) -> dict[str, Any] | None:
        with db.transaction(org) as connection:
            connection.execute(slow)
            found = seen.run(connection, {"org": org}).first()
            with pytest.raises(DBAPIError), connection.begin_nested():
                connection.execute(text("SELECT 1 / 0"))
            assert seen.run(connection, {"org": org}).first() == found
            if is_undone:
                raise RuntimeError
        return found

    for _ in range(3):
        with pytest.raises(RuntimeError):
            look(is_undone=True)
        assert (look(is_undone=False) or {})["agents"] > 0


@pytest.mark.usefixtures("org")  # nothing of an earlier test is left
def test_on_a_connection_of_its_own_a_transaction_is_carried_out_or_undone(raw: psycopg.Connection[Any]) -> None:
    count = prepared.PreparedQuery("SELECT count(*) AS n FROM provider_limits")
    limit = text("INSERT INTO provider_limits (provider, model, max_in_flight) VALUES ('openai', :model, 1)")
    with engines.engine_on(raw).connect() as connection:
        with db.transaction_on(connection):
            connection.execute(limit, {"model": "kept"})
            assert count.run(connection, {}).first() == {"n": 1}

        def write_and_fail() -> None:
            with db.transaction_on(connection):
                connection.execute(limit, {"model": "undone"})
                raise RuntimeError

        with pytest.raises(RuntimeError):
            write_and_fail()
        with db.transaction_on(connection):
            assert count.run(connection, {}).first() == {"n": 1}


def test_a_refusal_costs_no_connection(org: UUID) -> None:
    ask = prepared.PreparedQuery("SELECT pg_backend_pid() AS pid")
    before = ask.run(prepared.SingleStatement(org), {}).first()
    with pytest.raises(DBAPIError):
        prepared.PreparedQuery("SELECT 1 / CAST(:by AS int)").run(prepared.SingleStatement(org), {"by": 0})
    assert ask.run(prepared.SingleStatement(org), {}).first() == before


def test_a_connection_that_died_in_the_pool_costs_no_error(org: UUID) -> None:
    ask = prepared.PreparedQuery("SELECT pg_backend_pid() AS pid")
    pid = (ask.run(prepared.SingleStatement(org), {}).first() or {})["pid"]
    with engines.dedicated_connection(engines.APP) as other:
        other.execute("RESET ROLE")
        other.execute("SELECT pg_terminate_backend(%s)", (pid,))
        gone = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
        wait_until(lambda: other.execute(gone, (pid,)).fetchone() is None)
    found = ask.run(prepared.SingleStatement(org), {}).first() or {}
    assert found["pid"] != pid


@pytest.mark.parametrize("is_hot", [True, False])
def test_who_idles_too_long_in_a_transaction_finds_an_outage(org: UUID, is_hot: bool) -> None:
    def idle() -> None:
        with db.transaction(org) as connection:
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 20"))
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with engines.dedicated_connection(engines.SYSTEM) as other:
                gone = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
                wait_until(lambda: other.execute(gone, (pid,)).fetchone() is None)
            if is_hot:
                prepared.PreparedQuery("SELECT 1 AS one").run(connection, {})
            else:
                connection.execute(text("SELECT 1"))

    with pytest.raises(Unavailable):
        idle()


@pytest.mark.parametrize("reader", ["the driver", "the wire", "nobody"])
def test_hints_are_heard_once_whoever_read_them(raw: psycopg.Connection[Any], wire: Wire, reader: str) -> None:
    raw.execute(f"LISTEN {CHANNEL}".encode())
    with engines.dedicated_connection(engines.APP) as other:
        other.execute(f"NOTIFY {CHANNEL}".encode())
    wait_until(lambda: not wire.is_living())  # it has come
    if reader == "the driver":
        raw.execute("SELECT 1")
    elif reader == "the wire":
        wire.transact((_ONE, {}))
    assert _take_hints(raw)
    assert not _take_hints(raw)


def test_an_error_that_is_not_the_servers_means_that_the_connection_is_lost(wire: Wire) -> None:
    class Lost:
        """What libpq returns when a crashed server closes the connection: an error without an SQLSTATE."""

        status = ExecStatus.FATAL_ERROR

        def error_field(self, _: object) -> None:
            return None

        def get_error_message(self, *_: object) -> str:
            return "server closed the connection unexpectedly"

    with pytest.raises(psycopg.OperationalError):
        wire._check(Lost())  # type: ignore[arg-type]
