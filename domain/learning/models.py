"""Tables: arms, choices."""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Double, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from core.tables import metadata, org_column

_Moment = DateTime(timezone=True)

arms = Table(
    "arms",
    metadata,
    org_column(),
    Column("policy", Text, primary_key=True),
    Column("context", Text, primary_key=True),
    Column("option", Text, primary_key=True),
    Column("successes", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("chosen", BigInteger, nullable=False),
    Column("explored", BigInteger, nullable=False),
    Column("changed_at", _Moment, nullable=False),
)

choices = Table(
    "choices",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("policy", Text, nullable=False),
    Column("context", Text, nullable=False),
    Column("option", Text, nullable=False),
    Column("options", JSONB, nullable=False),
    Column("propensity", Double, nullable=False),
    Column("is_exploration", Boolean, nullable=False),
    Column("subject", Uuid, nullable=False),
    Column("made_at", _Moment, nullable=False),
    Column("outcome", Text),
    Column("settled_at", _Moment),
)
