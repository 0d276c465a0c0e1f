"""What errors of the database mean: an outage, a refusal of values, or a fault of ours."""

import contextlib
from collections.abc import Iterator

import psycopg
import psycopg.errors
import sqlalchemy.exc
from sqlalchemy.exc import DBAPIError

from core.errors import Unavailable


@contextlib.contextmanager
def as_unavailable() -> Iterator[None]:
    """Turn an outage of the database, or an exhausted pool, into `Unavailable`. Other errors pass through."""
    try:
        yield
    except sqlalchemy.exc.TimeoutError as error:
        raise Unavailable("Every connection to the database is in use.") from error
    except DBAPIError as error:
        if is_outage(error.orig) or error.connection_invalidated:
            raise Unavailable("The database does not answer.") from error
        raise
    except psycopg.Error as error:
        if is_outage(error):
            raise Unavailable("The database does not answer.") from error
        raise


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


def is_outage(error: BaseException | None) -> bool:
    """Whether the server is unreachable or a standby. A statement that exceeded its time-out does not count."""
    if isinstance(error, psycopg.errors.QueryCanceled):
        return False
    return isinstance(error, psycopg.OperationalError | psycopg.errors.ReadOnlySqlTransaction)
