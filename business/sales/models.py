"""Tables: products, quotes, carts."""

from sqlalchemy import Boolean, Column, DateTime, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from core.tables import metadata, org_column

_Moment = DateTime(timezone=True)

products = Table(
    "products",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("name", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("price", Numeric(10, 2), nullable=False),
    Column("currency", Text, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("changed_at", _Moment, nullable=False),
)

quotes = Table(
    "quotes",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("contact", Uuid, nullable=False),
    Column("title", Text, nullable=False),
    Column("amount", Numeric(10, 2), nullable=False),
    Column("currency", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("sent_at", _Moment, nullable=False),
    Column("valid_until", _Moment),
    Column("decided_at", _Moment),
    Column("changed_at", _Moment, nullable=False),
)

carts = Table(
    "carts",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("contact", Uuid, nullable=False),
    Column("items", JSONB, nullable=False),
    Column("amount", Numeric(10, 2), nullable=False),
    Column("currency", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("touched_at", _Moment, nullable=False),
    Column("decided_at", _Moment),
)
