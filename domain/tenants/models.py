"""Tables: organisations, users, locations, roles, grants, api_keys."""

from sqlalchemy import Boolean, Column, DateTime, Integer, LargeBinary, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY

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
    Column("prepaid_since", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("is_demonstration", Boolean, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("email", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("is_operator", Boolean, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("disabled_at", DateTime(timezone=True)),
)

locations = Table(
    "locations",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("slug", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

roles = Table(
    "roles",
    metadata,
    org_column(),
    Column("name", Text, primary_key=True),
    Column("permissions", ARRAY(Text), nullable=False),
    Column("is_built_in", Boolean, nullable=False),
)

grants = Table(
    "grants",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("user_id", Uuid, nullable=False),
    Column("role", Text, nullable=False),
    Column("location_id", Uuid),
    Column("granted_at", DateTime(timezone=True), nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("user_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("secret_digest", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
    Column("replaced_by", Uuid),
)
