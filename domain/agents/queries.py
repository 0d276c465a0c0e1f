"""All SQL about agents."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, exists, func, insert, select, update

from core.rows import fetch_all, fetch_optional
from domain.agents.models import agents
from domain.agents.schemas import Agent

_VISIBLE = [column for column in agents.c if column.name not in {"org_id", "deleted_at"}]


def agents_by_name(connection: Connection) -> list[Agent]:
    """Return every agent, ordered by name."""
    statement = select(*_VISIBLE).where(agents.c.deleted_at.is_(None)).order_by(agents.c.name)
    return fetch_all(connection.execute(statement), Agent)


def agent_by_slug(connection: Connection, slug: str) -> Agent | None:
    """Return the agent called `slug`."""
    statement = select(*_VISIBLE).where(agents.c.slug == slug, agents.c.deleted_at.is_(None))
    return fetch_optional(connection.execute(statement), Agent)


def agent_by_id(connection: Connection, agent_id: UUID) -> Agent | None:
    """Return the agent with this id, even if it has been deleted: its tasks may still run."""
    return fetch_optional(connection.execute(select(*_VISIBLE).where(agents.c.id == agent_id)), Agent)


def has_existed(connection: Connection, slug: str) -> bool:
    """Whether an agent is called `slug`, or was before it was deleted."""
    return bool(connection.execute(select(exists().where(agents.c.slug == slug))).scalar_one())


def slugs(connection: Connection) -> set[str]:
    """Return the slugs in use."""
    return set(connection.execute(select(agents.c.slug).where(agents.c.deleted_at.is_(None))).scalars())


def insert_agent(connection: Connection, row: dict[str, Any]) -> None:
    """Add an agent."""
    now = func.rota_now()
    connection.execute(insert(agents).values(**row, created_at=now, updated_at=now))


def update_agent(connection: Connection, slug: str, changes: dict[str, Any]) -> bool:
    """Change an agent. Return False if no agent is called `slug`."""
    statement = (
        update(agents)
        .where(agents.c.slug == slug, agents.c.deleted_at.is_(None))
        .values(**changes, updated_at=func.rota_now())
    )
    return connection.execute(statement).rowcount == 1


def mark_deleted(connection: Connection, slug: str) -> bool:
    """Mark an agent as deleted and disable it: it gets no more tasks. Return False if no agent is called `slug`."""
    return update_agent(connection, slug, {"deleted_at": func.rota_now(), "enabled": False})
