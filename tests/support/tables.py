"""The tables of the migrated database, as it describes them."""

import functools

from sqlalchemy import MetaData, Table

from core import db


@functools.cache
def tables() -> dict[str, Table]:
    """Every table, by name."""
    found = MetaData()
    found.reflect(db.engine(db.SYSTEM))
    return dict(found.tables)
