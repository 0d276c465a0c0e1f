"""What an error of the database means: an outage, a refusal of values, or a fault of ours."""

from typing import Any

import psycopg
import pytest
import sqlalchemy.exc
from psycopg import errors
from sqlalchemy.exc import DBAPIError

from core.errors import Unavailable
from core.refusals import as_unavailable, is_outage, is_refusal, refusal_of


def wrapped(error: BaseException, **more: Any) -> DBAPIError:
    """The error as SQLAlchemy raises it."""
    return DBAPIError(None, None, error, **more)


OUTAGES = [
    psycopg.OperationalError("connection refused"),
    errors.AdminShutdown(),
    errors.CannotConnectNow(),
    errors.TooManyConnections(),
    errors.ReadOnlySqlTransaction(),  # a standby after a failover
]
NO_OUTAGES = [
    errors.QueryCanceled(),  # the statement was too slow; the server is well
    errors.UniqueViolation(),
    errors.NumericValueOutOfRange(),
    errors.UndefinedTable(),
    errors.InsufficientPrivilege(),
]


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: type(error).__name__)
def test_an_outage_becomes_unavailable_and_keeps_its_cause(error: psycopg.Error) -> None:
    assert is_outage(error)
    for raised in (error, wrapped(error)):
        with pytest.raises(Unavailable, match="does not answer") as caught, as_unavailable():
            raise raised
        assert caught.value.__cause__ is raised


@pytest.mark.parametrize("error", NO_OUTAGES, ids=lambda error: type(error).__name__)
def test_other_errors_of_the_database_pass_through(error: psycopg.Error) -> None:
    assert not is_outage(error)
    for raised in (error, wrapped(error)):
        with pytest.raises(type(raised)) as caught, as_unavailable():
            raise raised
        assert caught.value is raised


def test_a_connection_that_was_lost_is_an_outage_whatever_the_error() -> None:
    lost = wrapped(psycopg.InterfaceError("the connection is closed"), connection_invalidated=True)
    with pytest.raises(Unavailable), as_unavailable():
        raise lost


def test_a_pool_without_a_free_connection_says_so() -> None:
    with pytest.raises(Unavailable, match="Every connection to the database is in use"), as_unavailable():
        raise sqlalchemy.exc.TimeoutError


@pytest.mark.parametrize("error", [None, OSError(), TimeoutError(), ValueError()])
def test_what_is_no_error_of_the_database_is_no_outage(error: BaseException | None) -> None:
    assert not is_outage(error)
    if error is not None:
        with pytest.raises(type(error)), as_unavailable():
            raise error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.UniqueViolation(), "such a record already"),
        (errors.ForeignKeyViolation(), "refers to a record that is not there"),
        (errors.CheckViolation(), "not one of those that are allowed"),
        (errors.NotNullViolation(), "A value is missing"),
        (errors.InsufficientPrivilege(), "outside the location, or the organisation"),
        (errors.NumericValueOutOfRange(), "does not fit the records"),
        (errors.StringDataRightTruncation(), "does not fit the records"),
        (errors.ExclusionViolation(), "does not fit the records"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else None,
)
def test_a_refusal_is_told_in_words_without_the_values(error: psycopg.Error, words: str) -> None:
    found = refusal_of(wrapped(type(error)("Key (email)=(ana@example.com) already exists.")))
    assert found is not None
    assert words in found
    assert "ana@example.com" not in found


@pytest.mark.parametrize(
    "error", [errors.UndefinedColumn(), errors.SyntaxError(), errors.QueryCanceled(), errors.DeadlockDetected()]
)
def test_a_fault_of_ours_is_no_refusal(error: psycopg.Error) -> None:
    assert refusal_of(wrapped(error)) is None
    assert not is_refusal(wrapped(error))


def test_only_refused_values_leave_a_batch_undone() -> None:
    # Anything else may have been carried out, or would fail again for each item.
    assert is_refusal(wrapped(errors.UniqueViolation()))
    assert is_refusal(wrapped(errors.InvalidTextRepresentation()))
    assert not is_refusal(wrapped(errors.InsufficientPrivilege()))
    assert not is_refusal(errors.UniqueViolation())  # not as SQLAlchemy raises it
    assert not is_refusal(ValueError())
