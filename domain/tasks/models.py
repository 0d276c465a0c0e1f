"""Table: tasks, as far as lists filter on it. What changes a task's state is plain SQL in `queries.py`."""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Integer, LargeBinary, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ENUM, JSONB

from core.tables import metadata, org_column
from domain.tasks.schemas import PRIORITIES, STATUSES

tasks = Table(
    "tasks",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("agent_id", Uuid, nullable=False),
    Column("agent", Text, nullable=False),
    Column("status", ENUM(*STATUSES, name="task_status", create_type=False), nullable=False),
    Column("priority", ENUM(*PRIORITIES, name="task_priority", create_type=False), nullable=False),
    Column("input", JSONB, nullable=False),
    Column("result", JSONB),
    Column("error", JSONB),
    Column("waiting_for", Text),
    Column("idempotency_key", Text),
    Column("request_digest", LargeBinary),
    Column("run_after", DateTime(timezone=True), nullable=False),
    Column("deadline", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
    Column("dispatched_at", DateTime(timezone=True)),
    Column("claim", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("worker", Text),
    Column("cancel_requested_at", DateTime(timezone=True)),
    Column("concurrency_key", Text),
    Column("key_position", BigInteger),
    Column("parked", Boolean, nullable=False),
    Column("queue", ENUM(*PRIORITIES, name="task_priority", create_type=False)),
    Column("provider", Text),
    Column("model", Text),
    Column("fingerprint", Text),
    Column("parent_id", Uuid),
    Column("parent_seq", Integer),
    Column("origin_id", Uuid),
    Column("model_calls", Integer, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("billed_cost", Numeric(20, 10), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
)
