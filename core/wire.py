"""Prepared statements straight over libpq, for what every task runs.

A cursor of the driver lets go of the interpreter some fifteen times a statement, and each time another thread wakes up
to find it taken again: in a process of many threads that costs more than the statement. Here it is let go of once, or
a few times for several statements that go to the server as one message.
"""

import re
import select
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import FeatureNotSupported, InvalidSqlStatementName, error_from_result
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

_PLACE = re.compile(r"(?<![:\w]):([a-z_]+)")

Values = Mapping[str, Any]
Row = dict[str, Any]


class Statement:
    """SQL with its values as `:name`, which a wire prepares when it first runs it."""

    def __init__(self, sql: str) -> None:
        self.names = list(dict.fromkeys(_PLACE.findall(sql)))
        """the values it takes, in order"""
        numbers = {name: number for number, name in enumerate(self.names, start=1)}
        self.sql = _PLACE.sub(lambda place: f"${numbers[place[1]]}", sql).encode()


@dataclass(frozen=True)
class Rows:
    """What a statement gave."""

    all: list[Row]
    count: int
    """how many rows it returned or, where it returns none, how many it changed"""

    def first(self) -> Row | None:
        """The only row, or None."""
        return self.all[0] if self.all else None


@dataclass(eq=False)
class _Prepared:
    """A statement as one connection knows it."""

    name: bytes
    is_known: bool = False
    columns: list[str] = field(default_factory=list)


class Wire:
    """A connection of the driver's, which prepares nothing itself and of which nobody else makes use meanwhile."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._libpq: PGconn = connection.pgconn
        self._adapt = Transformer(connection)
        # What type a value has is said when a statement is prepared, so that it is once for each mixture of them.
        self._prepared: dict[tuple[Statement, tuple[int, ...]], _Prepared] = {}
        self._numbers = count(1)
        self._poll = select.poll()
        self._poll.register(self._libpq.socket, select.POLLIN)

    def is_living(self) -> bool:
        """Whether nothing is to be read, which from an idle server could only be its end."""
        return not self._poll.poll(0)

    def command(self, sql: bytes) -> None:
        """Run commands without values or rows, such as those that begin and end a transaction.

        Raises:
            psycopg.Error: as any statement does.
        """
        self._check(self._libpq.exec_(sql))

    def run(self, statement: Statement, values: Values) -> Rows:
        """Run a statement in the transaction that is open.

        Raises:
            psycopg.Error: as any statement does.
        """
        if self._libpq.transaction_status == TransactionStatus.IDLE:
            raise psycopg.ProgrammingError("no transaction is open on this connection")
        prepared, places = self._adapted(statement, values)
        try:
            if not prepared.is_known:
                self._check(self._libpq.prepare(prepared.name, statement.sql, self._adapt.types))
                prepared.is_known = True
            return self._rows(prepared, self._libpq.exec_prepared(prepared.name, places, self._adapt.formats))
        except (InvalidSqlStatementName, FeatureNotSupported):  # the server forgot it, or a column changed its type
            self._prepared.clear()
            raise

    def transact(self, *statements: tuple[Statement, Values]) -> Rows:
        """What the last of some statements gave, which are a transaction by themselves and one message to the server.

        Raises:
            psycopg.Error: as any statement does. Whatever is raised, the connection may be of no more use; and unless
                it is the server's answer, whether the transaction was carried out is not known.
        """
        self._libpq.enter_pipeline_mode()
        sent = [prepared for statement, values in statements for prepared in self._send(statement, values)]
        self._libpq.pipeline_sync()
        if not self._flush():
            self._poll.poll()  # nothing can be there yet
            self._libpq.consume_input()
        answers = [self._answer() for _ in sent]
        self._await_input()
        self._libpq.get_result()  # the end of the message
        self._libpq.exit_pipeline_mode()
        for prepared, answer in zip(sent, answers, strict=True):
            self._check(answer)  # what comes after the first that failed was not tried
            prepared.is_known = True
        return self._rows(sent[-1], answers[-1])

    def _send(self, statement: Statement, values: Values) -> list[_Prepared]:
        """Send a statement. Returns, for each answer that will come to it, what it is called."""
        prepared, places = self._adapted(statement, values)
        is_known = prepared.is_known
        if not is_known:
            self._libpq.send_prepare(prepared.name, statement.sql, self._adapt.types)
        self._libpq.send_query_prepared(prepared.name, places, self._adapt.formats)
        return [prepared] if is_known else [prepared, prepared]

    def _adapted(self, statement: Statement, values: Values) -> tuple[_Prepared, Sequence[Any]]:
        """The statement as it is prepared for such values, and these as the server takes them."""
        given = [values[name] for name in statement.names]
        places = self._adapt.dump_sequence(given, [PyFormat.AUTO] * len(given))
        key = (statement, self._adapt.types or ())
        if key not in self._prepared:
            self._prepared[key] = _Prepared(b"rota_%d" % next(self._numbers))
        return self._prepared[key], places

    def _flush(self) -> bool:
        """Send what is to be sent. Returns whether something was read meanwhile."""
        has_read = False
        while self._libpq.flush():  # the socket takes no more just now, perhaps because the server wants to be read
            self._poll.modify(self._libpq.socket, select.POLLIN | select.POLLOUT)
            self._poll.poll()
            self._poll.modify(self._libpq.socket, select.POLLIN)
            self._libpq.consume_input()
            has_read = True
        return has_read

    def _answer(self) -> PGresult:
        self._await_input()
        answer = self._libpq.get_result()
        if answer is None or self._libpq.get_result() is not None:  # each is followed by None, which is there already
            raise psycopg.InternalError("the server's answers are out of step")
        return answer

    def _await_input(self) -> None:
        """Until the next answer is there: to ask for it earlier would keep every thread waiting."""
        while self._libpq.is_busy():
            self._poll.poll()
            self._libpq.consume_input()

    def _check(self, result: PGresult) -> None:
        if result.status in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
            return
        if self._libpq.status != ConnStatus.OK and not result.error_field(DiagnosticField.SQLSTATE):
            raise psycopg.OperationalError(self._libpq.get_error_message())
        raise error_from_result(result)

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
