"""Table: trial_bookings. Also the columns of other tables that are read and updated here."""

from sqlalchemy import Column, Text, Uuid, column, table

from core.tables import record_table

trial_bookings = record_table(
    "trial_bookings",
    Column("lead_id", Uuid, nullable=False),
    Column("session_id", Uuid, nullable=False),
    Column("status", Text, nullable=False),
)

# The columns of customer records that are read and updated here. Their tables belong to `crm`.
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
