"""Table: trial_bookings. And of other tables, what is looked at and moved on here."""

from sqlalchemy import Column, Text, Uuid, column, table

from core.tables import record_table

trial_bookings = record_table(
    "trial_bookings",
    Column("lead_id", Uuid, nullable=False),
    Column("session_id", Uuid, nullable=False),
    Column("status", Text, nullable=False),
)

# Their tables belong to `crm`.
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
# fmt: skip
