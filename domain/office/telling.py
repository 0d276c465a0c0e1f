"""Notifying people about work of agents that a person must continue."""

from uuid import UUID

from sqlalchemy import Connection

from domain.channels import service as channels
from domain.channels.schemas import Notice
from domain.tenants import service as tenants

_MANAGERS = ["owner", "manager"]


def tell_managers(connection: Connection, org: UUID, notice: Notice, *, written_by: UUID | None = None) -> None:
    """Notify owners and managers of an event, and post it to the webhooks subscribed to it. `written_by` is the task
    whose text the event contains.
    """
    people = tenants.holders_of(connection, org, _MANAGERS)
    channels.tell(connection, org, [person.id for person in people], notice, written_by=written_by)
