"""Table: contacts."""

from sqlalchemy import Boolean, Column, Computed, DateTime, Table, Text, Uuid

from core.tables import metadata, org_column

_Moment = DateTime(timezone=True)

contacts = Table(
    "contacts",
    metadata,
    Column("id", Uuid, primary_key=True),
    org_column(),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("phone", Text),
    Column("status", Text, nullable=False),
    Column("language", Text),
    Column("location_id", Uuid),
    Column("time_zone", Text),
    Column("has_consented", Boolean, nullable=False),
    Column("opted_out_at", _Moment),
    Column("preferences_changed_at", _Moment),
    Column("created_at", _Moment, nullable=False),
    Column("updated_at", _Moment, nullable=False),
    Column("folded", Text, Computed("rota_fold(name || ' ' || email || ' ' || coalesce(phone, ''))")),
)
