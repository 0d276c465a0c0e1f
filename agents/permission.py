"""What the user whom a task is for may do with a tool: read from the database, whatever model or request say."""

from uuid import UUID

from sqlalchemy import Connection

from agents.tools.registry import Tool
from agents.work import Work
from core.errors import NotPermitted
from domain.channels import service as channels
from domain.tenants import service as tenants
from domain.tenants.permissions import Reach


def ensure_permitted(
    connection: Connection, user: UUID, location: UUID | None, tool: Tool, scopes: list[str] | None = None
) -> Reach:
    """Return where a user may use `tool`. A task submitted with a key of few `scopes` does no more than these allow.

    Raises:
        NotPermitted: nowhere.
    """
    reach = tenants.reach_of(connection, user, tool.permission, scopes).at(location)
    if reach.is_nowhere:
        raise NotPermitted(f"The person you work for may not do this: it needs the permission {tool.permission}.")
    return reach


def reach_in_task(connection: Connection, work: Work, tool: Tool) -> Reach:
    """Return where the user of a task may use `tool` in it.

    Raises:
        NotPermitted: nowhere; or its effect reaches people outside, the rehearsal model answered in this task, and the
            organisation is not a demonstration. The outbox checks messages again.
    """
    reach = ensure_permitted(connection, work.task.user_id, work.task.location_id, tool, work.task.scopes)
    if tool.reaches_people:
        channels.refuse_rehearsed(connection, work.task.org_id, [work.task.id])
    return reach
