"""Table: providers."""

from sqlalchemy import Column, DateTime, LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY

from core.tables import metadata, org_column

providers = Table(
    "providers",
    metadata,
    org_column(),
    Column("name", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", LargeBinary),
    Column("models", ARRAY(Text), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)
