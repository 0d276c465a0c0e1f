"""Table: cached_replies."""

from sqlalchemy import Column, DateTime, LargeBinary, Table
from sqlalchemy.dialects.postgresql import JSONB

from core.tables import metadata, org_column

cached_replies = Table(
    "cached_replies",
    metadata,
    org_column(),
    Column("digest", LargeBinary, primary_key=True),
    Column("reply", JSONB, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)
