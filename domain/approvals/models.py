"""Tables: policies, approvals, votes."""

from sqlalchemy import JSON, Column, DateTime, Integer, LargeBinary, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from core.tables import metadata, org_column

_Moment = DateTime(timezone=True)

policies = Table(
    "policies",
    metadata,
    org_column(),
    Column("rules", JSONB, nullable=False),
    Column("asks", JSONB, nullable=False),
    Column("caps", JSONB),
    Column("changed_at", _Moment, nullable=False),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("task_id", Uuid, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("location_id", Uuid),
    Column("tool", Text, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("proposed", JSON, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("decision", JSONB, nullable=False),
    Column("asks", JSONB, nullable=False),
    Column("stage", Integer, nullable=False),
    Column("needed", Integer, nullable=False),
    Column("expires_at", _Moment, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("decided_at", _Moment),
    Column("decided_by", Uuid),
    Column("reason", Text),
    Column("used_at", _Moment),
    Column("used_by_task", Uuid),
    Column("used_by_seq", Integer),
    Column("linked_task", Uuid),
    Column("edits", JSON, nullable=False),
)

votes = Table(
    "votes",
    metadata,
    Column("approval_id", Uuid, primary_key=True),
    org_column(),
    Column("user_id", Uuid, primary_key=True),
    Column("stage", Integer, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("words", Text),
    Column("voted_at", _Moment, nullable=False),
)
