"""A small pack, to show how one is written: a library that lends books. See docs/packs.md.

$ export PYTHONPATH=examples ROTA_PACKS=library
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Connection

from web.packs import Pack

if TYPE_CHECKING:
    from fastapi import APIRouter

    from agents.tools.registry import Tool
    from domain.followups.triggers import Trigger

_HERE = Path(__file__).parent


class Library(Pack):
    """Readers borrow books, and are reminded to bring them back."""

    migrations = _HERE / "migrations"
    catalogue = _HERE / "catalog"
    follow_up_rules = _HERE / "follow_up_rules.yaml"
    contact_kinds: Mapping[str, str] = {"reader": "readers:read"}
    roles: Mapping[str, Sequence[str]] = {"manager": ["readers:*", "loans:*"], "staff": ["readers:*", "loans:*"]}

    def tools(self) -> "Sequence[Tool]":
        """What agents can do."""
        from library.tools import TOOLS

        return TOOLS

    def routers(self) -> "Sequence[APIRouter]":
        """Routes of the API."""
        from library.routes import router

        return (router,)

    def triggers(self) -> "Sequence[type[Trigger]]":
        """What follow-ups begin with."""
        from library.triggers import LoanOverdue

        return (LoanOverdue,)

    def contacts_behind(self, connection: Connection, ids: list[UUID]) -> list[UUID]:
        """The readers whose loans have these ids."""
        from library import loans

        return loans.readers_of(connection, ids)


PACK = Library()
