"""Tables: usage (one row per model call), usage totals, monthly bills, organisations' own prices, budgets."""

from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, Integer, Numeric, Table, Text, Uuid
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
    Column("is_estimated", Boolean, nullable=False),
    Column("is_unpriced", Boolean, nullable=False),
    Column("conversation", Text),
    Column("workflow_run", Uuid),
    Column("is_totalled", Boolean, nullable=False),
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

usage_totals = Table(
    "usage_totals",
    metadata,
    org_column(),
    Column("month", Date, primary_key=True),
    Column("dimension", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("model_calls", BigInteger, nullable=False),
    Column("rehearsal_calls", BigInteger, nullable=False),
    Column("estimated_calls", BigInteger, nullable=False),
    Column("unpriced_calls", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("base_cost", _Cost, nullable=False),
    Column("billed_cost", _Cost, nullable=False),
)

bills = Table(
    "bills",
    metadata,
    org_column(),
    Column("month", Date, primary_key=True),
    Column("closed_at", DateTime(timezone=True), nullable=False),
    Column("body", JSONB, nullable=False),
)

budgets = Table(
    "budgets",
    metadata,
    org_column(),
    Column("agent", Text, primary_key=True),
    Column("monthly_limit", _Cost, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)

budget_months = Table(
    "budget_months",
    metadata,
    org_column(),
    Column("agent", Text, primary_key=True),
    Column("month", Date, primary_key=True),
    Column("spent", _Cost, nullable=False),
    Column("held", _Cost, nullable=False),
    Column("alerted", Integer, nullable=False),
)

budget_holds = Table(
    "budget_holds",
    metadata,
    org_column(),
    Column("task_id", Uuid, primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("month", Date, primary_key=True),
    Column("reserved", _Cost, nullable=False),
    Column("spent", _Cost, nullable=False),
)
