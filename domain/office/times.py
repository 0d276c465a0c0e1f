"""Formatting times by the gym's clock. Pure."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import RowMapping


def in_zone(row: RowMapping | dict[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    """Return the row with its times formatted by the gym's clock."""
    return {name: shown(value, zone) if isinstance(value, datetime) else value for name, value in row.items()}


def shown(moment: datetime, zone: ZoneInfo) -> str:
    """Format the moment by the gym's clock, to the minute."""
    return moment.astimezone(zone).isoformat(timespec="minutes")
