"""Tables: channels, webhooks, templates, outbox, whatsapp_conversations, troubled_receivers,
inbox, notifications."""

from sqlalchemy import Boolean, Column, Computed, DateTime, Integer, LargeBinary, Table, Text, Uuid
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
    Column("disabled_because", Text),
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
    Column("receiver", Text, Computed("coalesce(webhook_id::text, channel)")),
    Column("is_rehearsal", Boolean, nullable=False),
    Column("conversation_id", Uuid),
)

whatsapp_conversations = Table(
    "whatsapp_conversations",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("number", Text, nullable=False),
    Column("opened_by", Text, nullable=False),
    Column("opened_at", _Moment, nullable=False),
    Column("message_id", Uuid),
    Column("task_id", Uuid),
    Column("seq", Integer),
)

troubled_receivers = Table(
    "troubled_receivers",
    metadata,
    org_column(),
    Column("receiver", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("since", _Moment, nullable=False),
    Column("error", Text),
    Column("retry_at", _Moment, nullable=False),
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
    Column("kind", Text, nullable=False),
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
