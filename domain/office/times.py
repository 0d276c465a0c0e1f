"""Formatting times in the organisation's time zone. Pure."""

from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def in_zone(record: "DataclassInstance", zone: ZoneInfo) -> dict[str, Any]:
    """Return a record as the plain data of a tool's result, with its times formatted in the organisation's zone."""
    values = ((field.name, getattr(record, field.name)) for field in fields(record))
    return {name: shown(value, zone) if isinstance(value, datetime) else value for name, value in values}


def shown(moment: datetime, zone: ZoneInfo) -> str:
    """Format the moment in the organisation's zone, to the minute."""
    return moment.astimezone(zone).isoformat(timespec="minutes")
