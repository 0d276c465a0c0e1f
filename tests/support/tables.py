"""The tables of the migrated database, as it describes them."""

import functools

from sqlalchemy import MetaData, Table, Text
from sqlalchemy.dialects.postgresql.base import ischema_names

from core import engines

ischema_names["xid8"] = Text  # SQLAlchemy does not know it


@functools.cache
def tables() -> dict[str, Table]:
    """Every table, by name."""
    found = MetaData()
    found.reflect(engines.engine(engines.SYSTEM))
    return dict(found.tables)
