"""Operations on agents. The callback `check` validates what depends on the tool registry and the price table."""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from core.errors import Conflict, InvalidInput, NotFound
from core.ids import new_id
from domain.agents import queries
from domain.agents.schemas import Agent, AgentChange, AgentFields

Check = Callable[[AgentFields], None]
"""Raises InvalidInput if a tool of the agent does not exist or a model of it has no price."""


def list_agents(connection: Connection) -> list[Agent]:
    """Return every agent, ordered by name."""
    return queries.agents_by_name(connection)


def get_agent(connection: Connection, slug: str) -> Agent:
    """Return the agent called `slug`.

    Raises:
        NotFound: there is none; the message lists the agents that exist.
    """
    found = queries.agent_by_slug(connection, slug)
    if found is None:
        raise unknown_agent(connection, slug)
    return found


def ensure_known(connection: Connection, slug: str) -> None:
    """Ensure that there is an agent called `slug`, or that there was one: what it did can still be read.

    Raises:
        NotFound: there never was one; the message lists the agents that exist.
    """
    if not queries.has_existed(connection, slug):
        raise unknown_agent(connection, slug)


def agent_of_task(connection: Connection, agent_id: UUID) -> Agent:
    """Return the agent of a task, even if it has been deleted."""
    found = queries.agent_by_id(connection, agent_id)
    if found is None:
        raise NotFound("The agent of this task is gone.")
    return found


def unknown_agent(connection: Connection, slug: str) -> NotFound:
    """Return the error for an agent that does not exist. The message lists the agents that do."""
    known = ", ".join(sorted(queries.slugs(connection))) or "none yet"
    return NotFound(f"There is no agent {slug!r}. The agents here: {known}.")


def create_agent(connection: Connection, org: UUID, fields: AgentFields, check: Check) -> Agent:
    """Add an agent.

    Raises:
        InvalidInput: a tool does not exist, or a model has no price.
        Conflict: the slug is taken.
    """
    check(fields)
    try:
        queries.insert_agent(connection, {"id": new_id(), "org_id": org, **_stored(fields)})
    except IntegrityError as error:
        raise Conflict(f"There is an agent {fields.slug!r} already. Choose another slug.") from error
    return get_agent(connection, fields.slug)


def change_agent(connection: Connection, slug: str, change: AgentChange, check: Check) -> Agent:
    """Change the fields that are set in `change`. Running tasks keep the fields that they started with.

    Raises:
        NotFound: there is no such agent.
        InvalidInput: the changed agent would be invalid.
    """
    before = get_agent(connection, slug)
    changes = change.model_dump(exclude_unset=True)
    whole = before.model_dump(include=set(AgentFields.model_fields)) | changes
    for name in ("limits", "retry"):  # in these, too, fields that are not sent keep their values
        if changes.get(name) is not None:
            whole[name] = getattr(before, name).model_dump() | changes[name]
    try:
        fields = AgentFields.model_validate(whole)
    except ValidationError as error:
        named = ", ".join(str(problem["loc"][0]) for problem in error.errors())
        raise InvalidInput(f"These cannot be null: {named}. Leave out what should stay as it is.") from error
    if changes.keys() & {"model", "fallback_model", "tools"}:
        check(fields)
    stored = _stored(fields)
    queries.update_agent(connection, slug, {name: stored[name] for name in changes})
    return get_agent(connection, slug)


def delete_agent(connection: Connection, slug: str) -> None:
    """Delete an agent: it gets no new tasks. The caller must cancel its open tasks (`tasks.cancel_of_deleted`).

    Raises:
        NotFound: there is no such agent.
    """
    if not queries.mark_deleted(connection, slug):
        raise unknown_agent(connection, slug)


def seed_agents(connection: Connection, org: UUID, catalogue: Iterable[AgentFields], check: Check) -> list[str]:
    """Add the agents of `catalogue` whose slugs are not in use yet. Return the slugs added."""
    present = queries.slugs(connection)
    missing = [fields for fields in catalogue if fields.slug not in present]
    for fields in missing:
        create_agent(connection, org, fields, check)
    return [fields.slug for fields in missing]


def _stored(fields: AgentFields) -> dict[str, Any]:
    stored = fields.model_dump(exclude={"limits", "retry"})
    return stored | {
        "limits": fields.limits.model_dump(mode="json"),
        "retry": fields.retry.model_dump(mode="json"),
    }
