"""Tables: wallets, holds, wallet_entries, fees."""

from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, Integer, Table, Text, Uuid

from core.tables import metadata, org_column

wallets = Table(
    "wallets",
    metadata,
    org_column(),
    Column("balance", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("owed", BigInteger, nullable=False),
)

holds = Table(
    "holds",
    metadata,
    Column("task_id", Uuid, primary_key=True),
    org_column(),
    Column("reserved", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("held_at", DateTime(timezone=True), nullable=False),
    Column("is_over", Boolean, nullable=False),
)

wallet_entries = Table(
    "wallet_entries",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("item", Text),
    Column("quantity", Integer),
    Column("task_id", Uuid),
    Column("seq", Integer),
    Column("reference", Text),
    Column("refunds", Uuid),
    Column("user_id", Uuid),
    Column("note", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

fees = Table(
    "fees",
    metadata,
    org_column(),
    Column("month", Date, primary_key=True),
    Column("tokens", BigInteger, nullable=False),
    Column("charged_at", DateTime(timezone=True), nullable=False),
)
