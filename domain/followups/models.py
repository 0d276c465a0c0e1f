"""Tables: follow_up_rules, follow_ups."""

from sqlalchemy import Boolean, Column, DateTime, Integer, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from core.tables import metadata, org_column

_Moment = DateTime(timezone=True)

follow_up_rules = Table(
    "follow_up_rules",
    metadata,
    org_column(),
    Column("slug", Text, primary_key=True),
    Column("fields", JSONB, nullable=False),
    Column("is_on", Boolean, nullable=False),
    Column("on_since", _Moment),
    Column("user_id", Uuid, nullable=False),
    Column("scopes", ARRAY(Text)),
    Column("changed_at", _Moment, nullable=False),
)

follow_ups = Table(
    "follow_ups",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("rule", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("subject", Uuid, nullable=False),
    Column("contact", Uuid, nullable=False),
    Column("begun_at", _Moment, nullable=False),
    Column("facts", JSONB, nullable=False),
    Column("channel", Text),
    Column("variant", Text),
    Column("choice_id", Uuid),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("wanted_at", _Moment, nullable=False),
    Column("due_at", _Moment),
    Column("task_id", Uuid),
    Column("message_id", Uuid),
    Column("sent_at", _Moment),
    Column("answered_at", _Moment),
    Column("converted_at", _Moment),
    Column("revenue", Numeric(12, 2)),
    Column("currency", Text),
    Column("is_settled", Boolean, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("ended_at", _Moment),
)
