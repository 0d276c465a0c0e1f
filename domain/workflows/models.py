"""Tables: workflows, workflow_runs."""

from sqlalchemy import Column, DateTime, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from core.tables import metadata, org_column

workflows = Table(
    "workflows",
    metadata,
    org_column(),
    Column("slug", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("steps", JSONB, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)

workflow_runs = Table(
    "workflow_runs",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("slug", Text, nullable=False),
    Column("variables", JSONB, nullable=False),
    Column("tasks", ARRAY(Uuid), nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False),
)
