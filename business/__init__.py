"""The pack that ships with Rota: a gym. Its records, tools, agents, routes, follow-ups and demonstration data."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from web.packs import Pack

if TYPE_CHECKING:
    from fastapi import APIRouter

    from agents.tools.registry import Tool
    from core.duties import Duty
    from domain.events.kinds import EventKind
    from domain.followups.triggers import Trigger

_HERE = Path(__file__).parent


class Gym(Pack):
    """A gym: clients and leads, classes and bookings, memberships and payments, quotes and carts."""

    catalogue = _HERE / "catalog"
    follow_up_rules = _HERE / "followups" / "built_in.yaml"
    contact_kinds: Mapping[str, str] = {"client": "clients:read", "lead": "leads:read"}
    left: Mapping[str, str] = {"cancelled": "has cancelled"}
    roles: Mapping[str, Sequence[str]] = {
        "manager": ["clients:*", "leads:*", "bookings:*", "classes:*", "sales:*", "payments:*"],
        "staff": ["clients:write", "leads:*", "bookings:*", "sales:*"],
    }

    def tools(self) -> "Sequence[Tool]":
        """Return the tools of a gym."""
        from business.tools import TOOLS

        return TOOLS

    def routers(self) -> "Sequence[APIRouter]":
        """Return the gym's routes."""
        from business.routes import ROUTERS

        return ROUTERS

    def triggers(self) -> "Sequence[type[Trigger]]":
        """Return the triggers of the gym's follow-ups."""
        from business.followups.triggers import TRIGGERS

        return TRIGGERS

    def event_kinds(self) -> "Sequence[EventKind]":
        """Return what staff are notified of about payments."""
        from business.sales.events import KINDS

        return KINDS

    def duties(self) -> "Sequence[Duty]":
        """Return the gym's duties: charges that are not collected lapse."""
        from business.duties import DUTIES

        return DUTIES

    def contacts_behind(self, connection: Connection, ids: list[UUID]) -> list[UUID]:
        """Return the clients whose payments and bookings have these ids."""
        from business.crm import service as crm

        return crm.clients_behind(connection, ids)

    def has_records(self, connection: Connection) -> bool:
        """Whether the organisation has a client."""
        from business.crm import service as crm

        return crm.has_clients(connection)

    def seed_demonstration(
        self, connection: Connection, org: UUID, *, zone: ZoneInfo, today: date, progress: Callable[[str], None]
    ) -> None:
        """Insert a gym with a year of history. If there are clients already, only add new sessions of its classes."""
        from business.crm import service as crm

        crm.seed_demonstration(connection, org, zone=zone, today=today, progress=progress)


PACK = Gym()
