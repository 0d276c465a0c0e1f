"""Tables: support_tickets, staff_tasks, campaigns, campaign_members, social_posts, calendar_events, exports, resources,
trial_bookings.
"""

from typing import Any

from sqlalchemy import Boolean, Column, Date, DateTime, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from core.tables import metadata, org_column

_Moment = DateTime(timezone=True)


def _record(name: str, *columns: Column[Any]) -> Table:
    """A table whose rows say who made them: the task, and the agent by its slug."""
    return Table(
        name,
        metadata,
        Column("id", Uuid, primary_key=True),
        org_column(),
        Column("task_id", Uuid),
        Column("created_by", Text),
        Column("created_at", _Moment, nullable=False),
        *columns,
    )


support_tickets = _record(
    "support_tickets",
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("client_id", Uuid),
    Column("assignee", Text),
)

staff_tasks = _record(
    "staff_tasks",
    Column("title", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("assignee", Text),
    Column("due_on", Date),
    Column("status", Text, nullable=False),
    Column("lead_id", Uuid),
    Column("client_id", Uuid),
)

campaigns = _record(
    "campaigns",
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("audience", JSONB, nullable=False),
    Column("message", Text, nullable=False),
    Column("status", Text, nullable=False),
)

campaign_members = Table(
    "campaign_members",
    metadata,
    Column("campaign_id", Uuid, primary_key=True),
    Column("client_id", Uuid, primary_key=True),
    org_column(),
)

social_posts = _record(
    "social_posts",
    Column("platform", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("media_url", Text),
    Column("scheduled_at", _Moment),
    Column("status", Text, nullable=False),
)

calendar_events = _record(
    "calendar_events",
    Column("kind", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("starts_at", _Moment, nullable=False),
    Column("ends_at", _Moment, nullable=False),
    Column("location", Text),
    Column("lead_id", Uuid),
    Column("client_id", Uuid),
    Column("status", Text, nullable=False),
)

exports = _record(
    "exports",
    Column("what", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("is_complete", Boolean, nullable=False),
    Column("made_within", Text, nullable=False),
)

resources = _record(
    "resources",
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_at", _Moment, nullable=False),
    Column("deleted_at", _Moment),
)

trial_bookings = _record(
    "trial_bookings",
    Column("lead_id", Uuid, nullable=False),
    Column("session_id", Uuid, nullable=False),
    Column("status", Text, nullable=False),
)
