"""Prepared statements sent straight over libpq, for queries that run very often.

A cursor of the driver releases the GIL some fifteen times per statement, and each time another thread wakes up to find
it taken again: in a process with many threads that costs more than the statement. Here it is released once, or a few
times for several statements that are sent to the server as one message.

The blocking functions of `psycopg.pq` release the GIL, except `get_result`: call it only after `is_busy` has returned
that it need not wait, or it blocks every thread of the process.
"""

import re
import select
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import (
    DuplicatePreparedStatement,
    FeatureNotSupported,
    InvalidSqlStatementName,
    error_from_result,
)
from psycopg.pq import DiagnosticField, ExecStatus, Format, PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

# The server dropped a statement, a column changed its type, or an interruption left our record of them incomplete.
_OUT_OF_STEP = (InvalidSqlStatementName, FeatureNotSupported, DuplicatePreparedStatement)
_ASTRAY = "the server's answers are not those that were asked for"
_PLACE = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")

Values = Mapping[str, Any]
Row = dict[str, Any]


class Statement:
    """SQL with parameters as `:name`. A wire prepares it when it first runs it."""

    def __init__(self, sql: str) -> None:
        self.names = list(dict.fromkeys(_PLACE.findall(sql)))
        """the names of its parameters, in order"""
        numbers = {name: number for number, name in enumerate(self.names, start=1)}
        self.sql = _PLACE.sub(lambda place: f"${numbers[place[1]]}", sql).encode()


@dataclass(frozen=True)
class Rows:
    """The result of a statement."""

    all: list[Row]
    count: int
    """the number of rows returned or, for a statement that returns none, the number of rows changed"""

    def first(self) -> Row | None:
        """Return the first row; None if there are no rows."""
        return self.all[0] if self.all else None


@dataclass(eq=False)
class _Prepared:
    """A statement as it is prepared on one connection."""

    name: bytes
    is_known: bool = False
    columns: list[str] = field(default_factory=list)


class _Call(NamedTuple):
    """A statement with its values, in the form that libpq takes."""

    prepared: _Prepared
    sql: bytes
    places: Sequence[Any]
    types: tuple[int, ...]
    formats: Sequence[Format]


class Wire:
    """Runs statements on a connection of the driver, which must not prepare any itself. The driver's lock is not taken,
    so no other thread may use the connection at the same time.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._libpq: PGconn = connection.pgconn
        self._adapt = Transformer(connection)
        # The types of the values are fixed when a statement is prepared, so it is prepared once for each combination.
        self._prepared: dict[tuple[Statement, tuple[int, ...]], _Prepared] = {}
        self._numbers = count(1)
        self._poll = select.poll()
        self._poll.register(self._libpq.socket, select.POLLIN)

    def is_living(self) -> bool:
        """Whether there is nothing to read: an idle server sends something only when it ends the connection."""
        return not self._poll.poll(0)

    def command(self, sql: bytes) -> None:
        """Run commands without values or rows, such as those that begin and end a transaction.

        Raises:
            psycopg.Error: a command failed.
        """
        self._check(self._libpq.exec_(sql))

    def is_at_rest(self) -> bool:
        """Whether no transaction is open and no result is pending."""
        idle = self._libpq.transaction_status == TransactionStatus.IDLE
        return idle and self._libpq.pipeline_status == PipelineStatus.OFF

    def run(self, statement: Statement, values: Values) -> Rows:
        """Run a statement in the open transaction.

        Raises:
            psycopg.Error: the statement failed, or no transaction is open.
        """
        if self._libpq.transaction_status == TransactionStatus.IDLE:
            raise psycopg.ProgrammingError("no transaction is open on this connection")
        call = self._adapted(statement, values)
        prepared = call.prepared
        if not prepared.is_known:
            self._check(self._libpq.prepare(prepared.name, call.sql, call.types))
            prepared.is_known = True
        return self._rows(prepared, self._libpq.exec_prepared(prepared.name, call.places, call.formats))

    def transact(self, *statements: tuple[Statement, Values]) -> Rows:
        """Run statements as one transaction, sent to the server as one message, and return the result of the last.

        Raises:
            psycopg.Error: a statement failed. Unless the error is the server's answer, the transaction may have been
                committed. If the connection is not at rest afterwards, it cannot be used any more.
        """
        calls = [self._adapted(statement, values) for statement, values in statements]
        self._libpq.enter_pipeline_mode()
        parsed: set[_Prepared] = set()
        sent = [prepared for call in calls for prepared in self._send(call, parsed)]
        self._libpq.pipeline_sync()
        if not self._flush():
            # Nothing was read since the last part was sent, so there is input to wait for.
            self._poll.poll()
            self._libpq.consume_input()
        answers = [self._answer() for _ in sent]
        self._await_input()
        end = self._libpq.get_result()
        if end is None:
            raise psycopg.InternalError(_ASTRAY)
        if end.status != ExecStatus.PIPELINE_SYNC:  # it could not be committed
            raise error_from_result(end)
        self._libpq.exit_pipeline_mode()
        for prepared, answer in zip(sent, answers, strict=True):
            self._check(answer)  # raises for the first that failed; the statements after it were not run
            prepared.is_known = True
        return self._rows(sent[-1], answers[-1])

    def _send(self, call: _Call, parsed: set[_Prepared]) -> list[_Prepared]:
        """Send a statement, and before it the request to prepare it, if it is neither prepared nor in `parsed`. Return
        the prepared statement once for each answer that will come.
        """
        prepared = call.prepared
        is_new = not prepared.is_known and prepared not in parsed
        if is_new:
            parsed.add(prepared)
            self._libpq.send_prepare(prepared.name, call.sql, call.types)
        self._libpq.send_query_prepared(prepared.name, call.places, call.formats)
        return [prepared, prepared] if is_new else [prepared]

    def _adapted(self, statement: Statement, values: Values) -> _Call:
        """Return the call of the statement with these values adapted for libpq."""
        given = [values[name] for name in statement.names]
        places = self._adapt.dump_sequence(given, [PyFormat.AUTO] * len(given))
        types = self._adapt.types or ()
        if (statement, types) not in self._prepared:
            self._prepared[statement, types] = _Prepared(b"rota_%d" % next(self._numbers))
        return _Call(self._prepared[statement, types], statement.sql, places, types, self._adapt.formats or ())

    def _flush(self) -> bool:
        """Send all pending output. Return whether input was read in the meantime."""
        has_read = False
        while self._libpq.flush():  # the socket is full, perhaps because the server waits for us to read
            self._poll.modify(self._libpq.socket, select.POLLIN | select.POLLOUT)
            self._poll.poll()
            self._poll.modify(self._libpq.socket, select.POLLIN)
            self._libpq.consume_input()
            has_read = True
        return has_read

    def _answer(self) -> PGresult:
        self._await_input()
        answer = self._libpq.get_result()
        if answer is None or self._libpq.get_result() is not None:  # None follows each result, and has already arrived
            raise psycopg.InternalError(_ASTRAY)
        return answer

    def _await_input(self) -> None:
        """Wait until the next result has arrived: calling `get_result` earlier would block every thread."""
        while self._libpq.is_busy():
            self._poll.poll()
            self._libpq.consume_input()

    def _check(self, result: PGresult) -> None:
        if result.status in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
            return
        if not result.error_field(DiagnosticField.SQLSTATE):  # not of the server: the connection is lost
            raise psycopg.OperationalError(self._libpq.get_error_message())
        error = error_from_result(result)
        if isinstance(error, _OUT_OF_STEP):
            self._prepared.clear()
        raise error

    def _rows(self, prepared: _Prepared, result: PGresult) -> Rows:
        self._check(result)
        if result.status == ExecStatus.COMMAND_OK:
            return Rows([], result.command_tuples or 0)
        if not prepared.columns:
            prepared.columns = [(result.fname(number) or b"").decode() for number in range(result.nfields)]
        columns = prepared.columns
        self._adapt.set_pgresult(result)
        found = self._adapt.load_rows(0, result.ntuples, lambda row: dict(zip(columns, row, strict=True)))
        self._adapt.set_pgresult(None)
        return Rows(found, result.ntuples)
