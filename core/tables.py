"""The one collection of tables, and the column every tenant's table has."""

from sqlalchemy import Column, MetaData, Uuid

metadata = MetaData()


def org_column() -> Column[object]:
    """`org_id`: the organisation a row belongs to, on which its row-level security stands."""
    return Column("org_id", Uuid, nullable=False)
