"""Rows of a result as typed records: a query names its record, and no bare row leaves `queries.py`."""

from typing import Any, TypeVar

from sqlalchemy import CursorResult

Record = TypeVar("Record")


def fetch_all(result: CursorResult[Any], record: type[Record]) -> list[Record]:
    """Return every row as a `record`: a dataclass or a model with one field for each column.

    Raises:
        TypeError: the columns are not the fields of the dataclass.
        ValidationError: a field of the model has no column, or does not take its value.
    """
    return [record(**row) for row in result.mappings()]


def fetch_one(result: CursorResult[Any], record: type[Record]) -> Record:
    """Return the only row as a `record`.

    Raises:
        NoResultFound: there is no row.
        MultipleResultsFound: there is more than one.
    """
    return record(**result.mappings().one())


def fetch_optional(result: CursorResult[Any], record: type[Record]) -> Record | None:
    """Return the only row as a `record`, or None if there is no row.

    Raises:
        MultipleResultsFound: there is more than one.
    """
    row = result.mappings().one_or_none()
    return None if row is None else record(**row)
