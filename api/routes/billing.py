"""What it costs: usage and prices."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import StringConstraints

from agents.checks import agent_check
from api.auth import Needs, Principal
from api.problems import describes
from core.errors import InvalidInput
from core.text import Storable
from domain.agents import service as agents
from domain.billing import service as billing
from domain.billing.schemas import Price, PriceFields, UsageReport

router = APIRouter(prefix="/v1", tags=["billing"])

Reads = Annotated[Principal, Depends(Needs("billing:read"))]
Writes = Annotated[Principal, Depends(Needs("prices:write"))]


ModelPath = Annotated[str, Path(examples=["my-model"]), StringConstraints(min_length=1, max_length=200), Storable]
Month = Annotated[str, Query(pattern=r"^\d{4}-\d{2}$", examples=["2026-11"], description="default: the present month")]


@router.get("/usage", responses=describes(401, 422))
def usage(caller: Reads, month: Month | None = None) -> UsageReport:
    """Usage of a month, by model and by agent, and of the months before it."""
    with caller.reading() as connection:
        return billing.usage_report(connection, caller.org_id, _first_day(month) if month else None)


def _first_day(month: str) -> date:
    try:
        return date.fromisoformat(f"{month}-01")
    except ValueError as error:
        raise InvalidInput(f"{month!r} is no month. Write it like 2026-11.") from error


@router.get("/prices", responses=describes(401))
def list_prices(caller: Reads) -> list[Price]:
    """This organisation's own prices. Every other model goes by the public table."""
    with caller.reading() as connection:
        return billing.list_prices(connection)


@router.put("/prices/{model:path}", responses=describes(401, 422))
def set_price(model: ModelPath, fields: PriceFields, caller: Writes) -> Price:
    """Set a price of your own for a model. What was billed keeps the price it was billed at."""
    with caller.writing() as connection:
        return billing.set_price(connection, caller.org_id, model, fields)


@router.delete("/prices/{model:path}", status_code=204, responses=describes(401, 404, 422))
def remove_price(model: ModelPath, caller: Writes) -> None:
    """Return to the public price. Refused while an agent uses the model and nobody else knows a price for it."""
    with caller.writing() as connection:
        billing.remove_price(connection, model)
        check = agent_check(connection)
        for agent in agents.list_agents(connection):
            if model in {agent.model, agent.fallback_model}:
                check(agent)  # raises, and so undoes the removal, where no public price takes over
