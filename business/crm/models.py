"""Tables: clients, leads, classes, class_sessions, bookings, subscriptions, payments.

Names, addresses and statuses of clients and leads are in `contacts`."""

from sqlalchemy import Column, Computed, Date, DateTime, Integer, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY

from core.tables import metadata, org_column

_Moment = DateTime(timezone=True)


def _folded(words: str) -> Column[str]:
    """Return the generated column that searches look into, without case and accents."""
    return Column("folded", Text, Computed(f"rota_fold({words})"))


clients = Table(
    "clients",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("tags", ARRAY(Text), nullable=False),
    Column("notes", Text, nullable=False),
    Column("joined_on", Date, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("updated_at", _Moment, nullable=False),
)

leads = Table(
    "leads",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("source", Text, nullable=False),
    Column("interest", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("updated_at", _Moment, nullable=False),
    _folded("interest"),
)

classes = Table(
    "classes",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("name", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("duration_minutes", Integer, nullable=False),
    Column("capacity", Integer, nullable=False),
    _folded("name || ' ' || category || ' ' || description"),
)

class_sessions = Table(
    "class_sessions",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("class_id", Uuid, nullable=False),
    Column("instructor", Text, nullable=False),
    Column("room", Text, nullable=False),
    Column("starts_at", _Moment, nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("location_id", Uuid),
)

bookings = Table(
    "bookings",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("client_id", Uuid, nullable=False),
    Column("session_id", Uuid, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", _Moment, nullable=False),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("client_id", Uuid, nullable=False),
    Column("plan", Text, nullable=False),
    Column("amount", Numeric(10, 2), nullable=False),
    Column("currency", Text, nullable=False),
    Column("period", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_on", Date, nullable=False),
    Column("renews_on", Date),
    Column("ended_on", Date),
)

payments = Table(
    "payments",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("client_id", Uuid, nullable=False),
    Column("subscription_id", Uuid),
    Column("amount", Numeric(10, 2), nullable=False),
    Column("currency", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("paid_at", _Moment, nullable=False),
    Column("task_id", Uuid),
    Column("created_by", Text),
    Column("reference", Text),
    Column("note", Text, nullable=False),
    Column("settled_at", _Moment),
)
