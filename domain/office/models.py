"""Tables: support_tickets, staff_tasks, campaigns, campaign_members, social_posts, calendar_events, exports, resources,
trial_bookings.
"""

from typing import Any

from sqlalchemy import Boolean, Column, Date, DateTime, Integer, Table, Text, Uuid, column, table
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


def _changed() -> list[Column[Any]]:
    """What people note when they move a record on, and when that was."""
    return [Column("note", Text, nullable=False), Column("changed_at", _Moment, nullable=False)]


support_tickets = _record(
    "support_tickets",
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("client_id", Uuid),
    Column("assignee", Text),
    *_changed(),
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
    *_changed(),
)

campaigns = _record(
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

social_posts = _record(
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
    *_changed(),
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

# Of the customer records, what is looked at and moved on here: their tables belong to another slice.
bookings = table("bookings", *map(column, ("id", "client_id", "session_id", "status", "created_at")))
payments = table(
    "payments",
    *map(
        column,
        ("id", "client_id", "amount", "currency", "kind", "method", "status", "paid_at", "task_id", "created_by",
         "reference", "note", "settled_at"),
    ),
)  # fmt: skip
