"""Table: agents."""

from sqlalchemy import Boolean, Column, DateTime, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from core.tables import metadata, org_column

agents = Table(
    "agents",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("slug", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("system_prompt", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("fallback_model", Text),
    Column("tools", ARRAY(Text), nullable=False),
    Column("mode", Text, nullable=False),
    Column("limits", JSONB, nullable=False),
    Column("retry", JSONB, nullable=False),
    Column("max_in_flight", Integer),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("deleted_at", DateTime(timezone=True)),
)
