"""Tables: usage (one row a model call, never changed), prices (an organisation's own)."""

from sqlalchemy import Boolean, Column, DateTime, Integer, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from core.tables import metadata, org_column

_Cost = Numeric(20, 10)

usage = Table(
    "usage",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("task_id", Uuid, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("step_id", Uuid, nullable=False),
    Column("agent_id", Uuid, nullable=False),
    Column("agent", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("cache_write_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("base_cost", _Cost, nullable=False),
    Column("markup", Numeric(6, 4), nullable=False),
    Column("billed_cost", _Cost, nullable=False),
    Column("price", JSONB, nullable=False),
    Column("is_rehearsal", Boolean, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

prices = Table(
    "prices",
    metadata,
    org_column(),
    Column("model", Text, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("input_per_million", _Cost, nullable=False),
    Column("output_per_million", _Cost, nullable=False),
    Column("cached_per_million", _Cost),
    Column("cache_write_per_million", _Cost),
    Column("context_window", Integer),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)
