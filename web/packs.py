"""What a pack may contain: the only interface between the platform and a business."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

if TYPE_CHECKING:  # a worker serves no routes, and must not load what they need
    from fastapi import APIRouter

    from agents.tools.registry import Tool
    from core.duties import Duty
    from domain.events.kinds import EventKind
    from domain.followups.triggers import Trigger


class Pack:
    """A business on the platform. Derive from it, override what the business has, and name an instance `PACK` in the
    package's `__init__.py`.

    The methods import what they return: every process loads the pack, and most need only a part of it.
    """

    migrations: Path | None = None
    """a folder of Alembic migrations, which run after the platform's"""
    catalogue: Path | None = None
    """a folder of ready-made agents, one YAML file each"""
    follow_up_rules: Path | None = None
    """a YAML file of follow-up rules, by slug"""
    contact_kinds: Mapping[str, str] = {}
    """kinds of contacts, each with the permission to read them"""
    left: Mapping[str, str] = {}
    """statuses of contacts who have left, each with a phrase for it (`has cancelled`): they never get advertising"""
    roles: Mapping[str, Sequence[str]] = {}
    """permissions beyond the platform's, by built-in role"""

    def tools(self) -> "Sequence[Tool]":
        """Return the tools for agents."""
        return ()

    def routers(self) -> "Sequence[APIRouter]":
        """Return routers for the API; their routes are served under `/v1`."""
        return ()

    def triggers(self) -> "Sequence[type[Trigger]]":
        """Return the triggers for follow-up rules."""
        return ()

    def event_kinds(self) -> "Sequence[EventKind]":
        """Return the kinds of events of this business, beyond the platform's."""
        return ()

    def duties(self) -> "Sequence[Duty]":
        """Return the duties: periodic work."""
        return ()

    def contacts_behind(self, connection: Connection, ids: list[UUID]) -> list[UUID]:  # noqa: ARG002
        """Return the contacts whose records, such as payments, have these ids: an action on a record concerns its
        contact.
        """
        return []

    def has_records(self, connection: Connection) -> bool:  # noqa: ARG002
        """Whether the organisation of this transaction has any record of this business."""
        return False

    def seed_demonstration(
        self, connection: Connection, org: UUID, *, zone: ZoneInfo, today: date, progress: Callable[[str], None]
    ) -> None:
        """Fill an empty organisation with realistic records, or bring those that an earlier call made up to date."""
