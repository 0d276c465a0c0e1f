"""Table: audit_log."""

from sqlalchemy import Column, DateTime, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from core.tables import metadata, org_column

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("user_id", Uuid),
    Column("key_id", Uuid),
    Column("agent", Text),
    Column("verb", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("task_id", Uuid),
    Column("seq", Integer),
    Column("details", JSONB, nullable=False),
)
