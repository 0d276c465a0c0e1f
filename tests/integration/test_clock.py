"""The database's time: it costs a statement nothing, and when the clock is moved everybody sees it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from core import db
from core.ids import new_id
from core.prepared import PreparedQuery
from tests.support.clock import Clock, movable_clock

HOUR = timedelta(hours=1)
_NOTE = PreparedQuery("INSERT INTO audit_log (id, org_id, verb, subject) VALUES (:id, :org, 'noted', 'x') RETURNING at")
_TIME = PreparedQuery("SELECT rota_now() AS at, rota_clock() AS exactly")


@pytest.fixture
def clock() -> Iterator[Clock]:
    with movable_clock() as made:
        yield made


def noted(connection: Connection, org: UUID) -> datetime:
    row = _NOTE.run(connection, {"id": new_id(), "org": org}).first()
    assert row is not None
    at: datetime = row["at"]
    return at


def times(connection: Connection) -> tuple[datetime, datetime]:
    row = _TIME.run(connection, {}).first()
    assert row is not None
    return row["at"], row["exactly"]


@pytest.mark.parametrize(("function", "read"), [("rota_now", "now()"), ("rota_clock", "clock_timestamp()")])
@pytest.mark.parametrize("ahead", [timedelta(0), 3 * HOUR])
def test_reading_the_time_is_part_of_a_statement_and_no_query_of_its_own(
    org: UUID, clock: Clock, function: str, read: str, ahead: timedelta
) -> None:
    clock.move(ahead)
    with db.transaction(org) as connection:
        plan = "\n".join(connection.execute(text(f"EXPLAIN VERBOSE SELECT {function}()")).scalars())
    assert read in plan
    assert function not in plan


def test_a_moved_clock_is_seen_by_statements_that_were_prepared_before(org: UUID, clock: Clock) -> None:
    with db.transaction(org) as connection:
        # Often enough that the server keeps one plan for all.
        before = [(noted(connection, org), *times(connection)) for _ in range(10)][-1]
    clock.move(HOUR)
    with db.transaction(org) as connection:
        after = noted(connection, org), *times(connection)
    assert all(HOUR <= late - early < 2 * HOUR for early, late in zip(before, after, strict=True))
    clock.move(-HOUR)
    with db.transaction(org) as connection:
        again = noted(connection, org), *times(connection)
    assert all(timedelta(0) <= late - early < HOUR for early, late in zip(before, again, strict=True))
