"""Agents and the tools they can have."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel

from agents.catalogue import load_catalogue
from agents.checks import agent_check
from agents.tools import TOOLS
from agents.tools.registry import Risk, parameter_schema
from core.wakeup import wakeup
from domain.agents import service as agents
from domain.agents.schemas import Agent, AgentChange, AgentFields
from domain.tasks import service as tasks
from domain.tasks.schemas import AgentStatistics
from domain.wallet.schemas import PriceItem
from web.auth import Needs, Principal
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["agents"])

Reads = Annotated[Principal, Depends(Needs("agents:read", at_a_location=True))]
Writes = Annotated[Principal, Depends(Needs("agents:write"))]

SlugPath = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", examples=["support-assistant"])]


class ToolView(BaseModel):
    """A tool and its declared properties."""

    name: str
    category: str
    description: str
    parameters: dict[str, Any]
    permission: str
    price: PriceItem | None
    changes_world: bool
    risk: Risk
    sends_outside: bool
    moves_money: bool


class Seeded(BaseModel):
    """The ready-made agents that were added."""

    added: list[str]


@router.get("/agents", responses=describes(401))
def list_agents(caller: Reads) -> list[Agent]:
    """List all agents by name."""
    with caller.reading() as connection:
        return agents.list_agents(connection)


@router.post("/agents", status_code=201, responses=describes(401, 409, 422))
def create_agent(fields: AgentFields, caller: Writes, response: Response) -> Agent:
    """Add an agent. Its tools must exist and its models must have a price."""
    with caller.writing() as connection:
        agent = agents.create_agent(connection, caller.org_id, fields, agent_check(connection))
    response.headers["location"] = f"/v1/agents/{agent.slug}"
    return agent


@router.get("/agent-statistics", responses=describes(401))
def agent_statistics(caller: Reads) -> list[AgentStatistics]:
    """Return statistics of each agent for the last 30 days."""
    with caller.reading() as connection:
        return tasks.agent_statistics(connection)


@router.post("/agents/seed", responses=describes(401))
def seed_agents(caller: Writes) -> Seeded:
    """Add the ready-made agents that are missing."""
    with caller.writing() as connection:
        return Seeded(added=agents.seed_agents(connection, caller.org_id, load_catalogue(), agent_check(connection)))


@router.get("/agents/{slug}", responses=describes(401, 404, 422))
def get_agent(slug: SlugPath, caller: Reads) -> Agent:
    """Return one agent."""
    with caller.reading() as connection:
        return agents.get_agent(connection, slug)


@router.patch("/agents/{slug}", responses=describes(401, 404, 422))
def change_agent(slug: SlugPath, change: AgentChange, caller: Writes) -> Agent:
    """Change the fields that are sent. Tasks that have started keep their prompt and model. A disabled agent (`enabled:
    false`) starts no tasks, and its running tasks stop at their next step.
    """
    with caller.writing() as connection:
        changed = agents.change_agent(connection, slug, change, agent_check(connection))
    wakeup.hint()
    return changed


@router.delete("/agents/{slug}", status_code=204, responses=describes(401, 404, 422))
def delete_agent(slug: SlugPath, caller: Writes) -> None:
    """Delete an agent and cancel its unfinished tasks. Running tasks stop at their next step."""
    with caller.writing() as connection:
        agents.delete_agent(connection, slug)
        tasks.cancel_of_deleted(connection)
    wakeup.hint()


@router.get("/tools", responses=describes(401))
def list_tools(caller: Reads) -> list[ToolView]:  # noqa: ARG001  the permission is all that is needed of the caller
    """List all tools that agents can use."""
    return [
        ToolView(
            name=tool.name,
            category=tool.category,
            description=tool.description,
            parameters=parameter_schema(tool.parameters),
            permission=tool.permission,
            price=tool.price,
            changes_world=tool.changes_world,
            risk=tool.risk,
            sends_outside=tool.sends_outside,
            moves_money=tool.moves_money,
        )
        for tool in TOOLS
    ]
