"""The tables of the migrated database, as it describes them."""

import functools

from sqlalchemy import MetaData, Table

from core import engines


@functools.cache
def tables() -> dict[str, Table]:
    """Every table, by name."""
    found = MetaData()
    found.reflect(engines.engine(engines.SYSTEM))
    return dict(found.tables)
