"""Times as the gym's clock shows them. Pure."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import RowMapping


def in_zone(row: RowMapping | dict[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    """The row with its times as the gym's clock shows them."""
    return {name: shown(value, zone) if isinstance(value, datetime) else value for name, value in row.items()}


def shown(moment: datetime, zone: ZoneInfo) -> str:
    """The moment by the gym's clock, to the minute."""
    return moment.astimezone(zone).isoformat(timespec="minutes")
