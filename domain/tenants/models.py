"""Tables: organisations, api_keys."""

from sqlalchemy import Column, DateTime, Integer, LargeBinary, Numeric, Table, Text, Uuid

from core.tables import metadata, org_column

organisations = Table(
    "organisations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("slug", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("markup", Numeric(6, 4), nullable=False),
    Column("weight", Integer, nullable=False),
    Column("max_in_flight", Integer),
    Column("starts_per_minute", Integer),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("name", Text, nullable=False),
    Column("secret_digest", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
)
