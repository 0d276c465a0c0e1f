"""Tables: schedules, schedule_runs, schedulers. What changes them is plain SQL in `queries.py`."""

from sqlalchemy import Boolean, Column, DateTime, Integer, Interval, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from core.tables import metadata, org_column

schedules = Table(
    "schedules",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("slug", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("times", JSONB, nullable=False),
    Column("task", JSONB, nullable=False),
    Column("starts_at", DateTime(timezone=True)),
    Column("ends_at", DateTime(timezone=True)),
    Column("jitter", Interval, nullable=False),
    Column("overlap", Text, nullable=False),
    Column("catch_up", Interval, nullable=False),
    Column("pause_after_failures", Integer),
    Column("remaining_runs", Integer),
    Column("monthly_budget", Numeric),
    Column("is_paused", Boolean, nullable=False),
    Column("note", Text),
    Column("failures_in_a_row", Integer, nullable=False),
    Column("next_at", DateTime(timezone=True)),
    Column("due_at", DateTime(timezone=True)),
    Column("event", Text),
    Column("user_id", Uuid, nullable=False),
    Column("scopes", ARRAY(Text)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)

schedule_runs = Table(
    "schedule_runs",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("schedule_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("scheduled_for", DateTime(timezone=True), nullable=False),
    Column("status", Text, nullable=False),
    Column("overlap", Text, nullable=False),
    Column("reason", Text),
    Column("missed", Integer),
    Column("event_key", Text),
    Column("payload", JSONB),
    Column("task_id", Uuid),
    Column("billed_cost", Numeric),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
)

schedulers = Table(
    "schedulers",
    metadata,
    org_column(),
    Column("stopped_at", DateTime(timezone=True), nullable=False),
    Column("note", Text),
)
