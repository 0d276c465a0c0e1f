"""The one collection of tables, and the columns that many of them have."""

from typing import Any

from sqlalchemy import Column, DateTime, MetaData, Table, Text, Uuid

metadata = MetaData()


def org_column() -> Column[object]:
    """`org_id`: the organisation a row belongs to, on which its row-level security stands."""
    return Column("org_id", Uuid, nullable=False)


def record_table(name: str, *columns: Column[Any]) -> Table:
    """A table whose rows say who made them: the task, and the agent by its slug."""
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
