"""Usage, bills, budgets and the prices of models."""

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import StringConstraints

from agents.checks import agent_check
from core.db import transaction
from core.errors import InvalidInput
from core.text import Storable
from core.wakeup import wakeup
from domain.agents import service as agents
from domain.billing import service as billing
from domain.billing.export import as_csv
from domain.billing.schemas import AppliedPrice, Bill, Budget, BudgetFields, Price, PriceFields, UsageReport
from domain.dispatch import funding
from web.auth import Needs, Principal
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["billing"])

Reads = Annotated[Principal, Depends(Needs("billing:read"))]
Writes = Annotated[Principal, Depends(Needs("prices:write"))]
WritesBudgets = Annotated[Principal, Depends(Needs("budgets:write"))]


ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200), Storable]
ModelPath = Annotated[ModelName, Path(examples=["my-model"])]
MonthPath = Annotated[str, Path(pattern=r"^\d{4}-\d{2}$", examples=["2026-11"])]
SlugPath = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Month = Annotated[str, Query(pattern=r"^\d{4}-\d{2}$", examples=["2026-11"], description="default: the current month")]

_BILL: dict[str, Any] = {
    "model": Bill,
    "description": "The bill in the requested format.",
    "content": {"text/csv": {"schema": {"type": "string"}}},
}


@router.get("/usage", responses=describes(401, 422))
def usage(caller: Reads, month: Month | None = None) -> UsageReport:
    """Return a month's usage by model and by agent, and the totals of earlier months."""
    with caller.reading() as connection:
        return billing.usage_report(connection, caller.org_id, _first_day(month) if month else None)


def _first_day(month: str) -> date:
    try:
        return date.fromisoformat(f"{month}-01")
    except ValueError as error:
        raise InvalidInput(f"{month!r} is not a month. Write it as 2026-11.") from error


@router.get("/bills/{month}", responses=describes(401, 403, 422) | {200: _BILL})
def get_bill(
    month: MonthPath, caller: Reads, form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json"
) -> Response:
    """Return a month's bill as JSON or CSV: final if the month is closed, otherwise the current state."""
    with caller.reading() as connection:
        bill = billing.bill(connection, caller.org_id, _first_day(month))
    name = f'attachment; filename="rota-bill-{month}.{form}"'
    if form == "csv":
        return Response(as_csv(bill), media_type="text/csv; charset=utf-8", headers={"content-disposition": name})
    return Response(bill.model_dump_json(), media_type="application/json", headers={"content-disposition": name})


@router.get("/budgets", responses=describes(401, 403))
def list_budgets(caller: Reads) -> list[Budget]:
    """List the budgets and their current use."""
    with caller.reading() as connection:
        return billing.list_budgets(connection, caller.org_id)


@router.put("/budgets", responses=describes(401, 403, 422))
def set_organisation_budget(fields: BudgetFields, caller: WritesBudgets) -> list[Budget]:
    """Set the organisation's monthly budget. Tasks beyond it wait until it is raised or the month ends."""
    return _set_budget(caller, "", fields)


@router.put("/budgets/{agent}", responses=describes(401, 403, 404, 422))
def set_agent_budget(agent: SlugPath, fields: BudgetFields, caller: WritesBudgets) -> list[Budget]:
    """Set an agent's monthly budget."""
    with caller.reading() as connection:
        agents.get_agent(connection, agent)
    return _set_budget(caller, agent, fields)


def _set_budget(caller: Principal, agent: str, fields: BudgetFields) -> list[Budget]:
    with caller.writing(monthly_limit=str(fields.monthly_limit)) as connection:
        limits = {budget.agent: budget.monthly_limit for budget in billing.list_budgets(connection, caller.org_id)}
        found = billing.set_budget(connection, caller.org_id, agent, fields)
    if agent in limits and fields.monthly_limit > limits[agent]:  # a new or a lower limit frees nothing
        _go_on(caller)
    return found


@router.delete("/budgets", status_code=204, responses=describes(401, 403, 404))
def lift_organisation_budget(caller: WritesBudgets) -> None:
    """Remove the organisation's budget."""
    _lift_budget(caller, "")


@router.delete("/budgets/{agent}", status_code=204, responses=describes(401, 403, 404, 422))
def lift_agent_budget(agent: SlugPath, caller: WritesBudgets) -> None:
    """Remove an agent's budget."""
    _lift_budget(caller, agent)


def _lift_budget(caller: Principal, agent: str) -> None:
    with caller.writing() as connection:
        billing.remove_budget(connection, caller.org_id, agent)
    _go_on(caller)


def _go_on(caller: Principal) -> None:
    with transaction(caller.org_id) as connection:
        funding.resume_waiting(connection, caller.org_id)
    wakeup.hint()


@router.get("/prices", responses=describes(401))
def list_prices(
    caller: Reads, model: Annotated[list[ModelName] | None, Query(max_length=50)] = None
) -> list[AppliedPrice]:
    """List the prices that your organisation is billed, including the markup: of models with a price of your own, of
    models that your agents use, and of those given as `model`.
    """
    with caller.reading() as connection:
        used = [name for agent in agents.list_agents(connection) for name in (agent.model, agent.fallback_model)]
        return billing.list_prices(connection, caller.org_id, filter(None, [*used, *(model or [])]))


@router.put("/prices/{model:path}", responses=describes(401, 422))
def set_price(model: ModelPath, fields: PriceFields, caller: Writes) -> Price:
    """Set a price of your own for a model. Calls that are already billed do not change."""
    with caller.writing() as connection:
        return billing.set_price(connection, caller.org_id, model, fields)


@router.delete("/prices/{model:path}", status_code=204, responses=describes(401, 404, 422))
def remove_price(model: ModelPath, caller: Writes) -> None:
    """Remove your own price of a model; the public price applies again. Refused while an agent uses the model and no
    public price is known.
    """
    with caller.writing() as connection:
        billing.remove_price(connection, model)
        check = agent_check(connection)
        for agent in agents.list_agents(connection):
            if model in {agent.model, agent.fallback_model}:
                check(agent)  # raises, which rolls the removal back, if there is no public price
