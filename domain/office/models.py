"""Tables: support_tickets, staff_tasks, campaigns, campaign_members, social_posts, calendar_events, exports,
resources.
"""

from typing import Any

from sqlalchemy import Boolean, Column, Date, DateTime, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from core.tables import metadata, org_column, record_table

_Moment = DateTime(timezone=True)


def _changed() -> list[Column[Any]]:
    """Return the columns for the note of the last change by people, and its time."""
    return [Column("note", Text, nullable=False), Column("changed_at", _Moment, nullable=False)]


support_tickets = record_table(
    "support_tickets",
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("client_id", Uuid),
    Column("assignee", Text),
    *_changed(),
)

staff_tasks = record_table(
    "staff_tasks",
    Column("title", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("assignee", Text),
    Column("due_on", Date),
    Column("status", Text, nullable=False),
    Column("lead_id", Uuid),
    Column("client_id", Uuid),
    *_changed(),
)

campaigns = record_table(
    "campaigns",
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("audience", JSONB, nullable=False),
    Column("message", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("launched_by", Uuid),
    Column("launched_at", _Moment),
    Column("ended_at", _Moment),
    Column("made_within", Text, nullable=False),
    *_changed(),
)

campaign_members = Table(
    "campaign_members",
    metadata,
    Column("campaign_id", Uuid, primary_key=True),
    Column("client_id", Uuid, primary_key=True),
    org_column(),
    Column("status", Text, nullable=False),
    Column("message_id", Uuid),
    Column("reason", Text),
)

social_posts = record_table(
    "social_posts",
    Column("platform", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("media_url", Text),
    Column("scheduled_at", _Moment),
    Column("status", Text, nullable=False),
    Column("handed_over_at", _Moment),
    Column("url", Text),
    Column("made_within", Text, nullable=False),
    *_changed(),
)

calendar_events = record_table(
    "calendar_events",
    Column("kind", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("starts_at", _Moment, nullable=False),
    Column("ends_at", _Moment, nullable=False),
    Column("location", Text),
    Column("lead_id", Uuid),
    Column("client_id", Uuid),
    Column("status", Text, nullable=False),
    *_changed(),
)

exports = record_table(
    "exports",
    Column("what", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("is_complete", Boolean, nullable=False),
    Column("made_within", Text, nullable=False),
)

resources = record_table(
    "resources",
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_at", _Moment, nullable=False),
    Column("deleted_at", _Moment),
)
