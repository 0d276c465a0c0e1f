"""The SQLAlchemy metadata of all tables, and the columns that many of them share."""

from typing import Any

from sqlalchemy import Column, DateTime, MetaData, Table, Text, Uuid

metadata = MetaData()


def org_column() -> Column[object]:
    """Return the column `org_id`: the organisation that a row belongs to. Row-level security filters by it."""
    return Column("org_id", Uuid, nullable=False)


def record_table(name: str, *columns: Column[Any]) -> Table:
    """Return a table whose rows record what created them: the task, and the agent by its slug."""
    return Table(
        name,
        metadata,
        Column("id", Uuid, primary_key=True),
        org_column(),
        Column("task_id", Uuid),
        Column("created_by", Text),
        Column("created_at", DateTime(timezone=True), nullable=False),
        *columns,
    )
