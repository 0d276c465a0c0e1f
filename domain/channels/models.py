"""Tables: channels, webhooks, templates, outbox, inbox, notifications."""

from sqlalchemy import Boolean, Column, DateTime, Integer, LargeBinary, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from core.tables import metadata, org_column

_Moment = DateTime(timezone=True)

channels = Table(
    "channels",
    metadata,
    org_column(),
    Column("kind", Text, primary_key=True),
    Column("settings", JSONB, nullable=False),
    Column("secret", LargeBinary),
    Column("changed_at", _Moment, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("url", Text, nullable=False),
    Column("events", ARRAY(Text), nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("disabled_at", _Moment),
)

templates = Table(
    "templates",
    metadata,
    org_column(),
    Column("name", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("changed_at", _Moment, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("channel", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("contact", Uuid),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("webhook_id", Uuid),
    Column("status", Text, nullable=False),
    Column("send_after", _Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text),
    Column("task_id", Uuid),
    Column("seq", Integer),
    Column("created_at", _Moment, nullable=False),
    Column("sending_since", _Moment),
    Column("sent_at", _Moment),
    Column("leave_by", _Moment),
    Column("is_unwanted", Boolean, nullable=False),
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("contact", Uuid, nullable=False),
    Column("channel", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("outside_id", Text),
    Column("received_at", _Moment, nullable=False),
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("user_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("read_at", _Moment),
)
