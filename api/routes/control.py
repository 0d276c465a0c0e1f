"""Control of the queues: pauses, limits, workers, statistics."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from core.db import system_transaction
from core.errors import NotFound
from core.settings import settings
from core.text import Storable
from core.wakeup import wakeup
from domain.dispatch import service as dispatch
from domain.dispatch.schemas import LimitsView, Pause, PauseKind, ProviderLimitView
from domain.tasks import service as tasks
from domain.tasks.schemas import QueueStatistics
from domain.tenants import service as tenants
from domain.tenants.permissions import GOVERN
from domain.workers import service as workers
from domain.workers.schemas import Concurrency, ScaledWorkers, Worker
from web.auth import Needs, Principal
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["control"])

Name = Annotated[str, Path(min_length=1, max_length=100), Storable]
Limit = Annotated[int, Field(ge=1, le=10_000_000)] | None


Reads = Annotated[Principal, Depends(Needs("queues:read"))]
ReadsLimits = Annotated[Principal, Depends(Needs("queues:read", at_a_location=True))]
ReadsWorkers = Annotated[Principal, Depends(Needs("workers:read", at_a_location=True))]
Writes = Annotated[Principal, Depends(Needs("queues:write"))]
Operator = Annotated[Principal, Depends(Needs(GOVERN))]


class NewPause(BaseModel):
    """What to pause."""

    model_config = ConfigDict(extra="forbid")

    kind: PauseKind
    name: Annotated[str, Storable] = Field(
        default="", max_length=100, description="the priority or the agent's slug; empty for the organisation"
    )
    reason: Annotated[str, Storable] | None = Field(default=None, max_length=500)


class LimitsChange(BaseModel):
    """Limits to change. Fields that are not sent keep their values; null lifts a limit."""

    model_config = ConfigDict(extra="forbid")

    weight: int = Field(default=1, ge=1, le=1000)
    max_in_flight: Limit = None
    starts_per_minute: Limit = None


class ProviderLimits(BaseModel):
    """The limits of a provider or a model; null for none."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Storable] = Field(default="", max_length=200, description="empty for all models together")
    max_in_flight: Limit = None
    starts_per_minute: Limit = None


class Scale(BaseModel):
    """The number of tasks that each worker runs at once."""

    model_config = ConfigDict(extra="forbid")

    concurrency: Concurrency


@router.get("/queues", responses=describes(401))
def list_queues(caller: Reads) -> list[QueueStatistics]:
    """Report the state of each queue for this organisation, now and over the last 15 minutes."""
    with caller.reading() as connection:
        paused = {pause.name for pause in dispatch.pauses(connection) if pause.kind == "queue"}
        found = tasks.queue_statistics(connection)
    return [one.model_copy(update={"paused": one.priority in paused}) for one in found]


@router.get("/pauses", responses=describes(401))
def list_pauses(caller: Reads) -> list[Pause]:
    """List the pauses."""
    with caller.reading() as connection:
        return dispatch.pauses(connection)


@router.post("/pauses", responses=describes(401, 404, 422))
def pause(wanted: NewPause, caller: Writes) -> Pause:
    """Pause a queue, an agent or the whole organisation: no task starts, running tasks continue. Idempotent."""
    with caller.writing() as connection:
        made = dispatch.pause(connection, caller.org_id, wanted.kind, wanted.name, wanted.reason)
    wakeup.hint()  # tasks that are published and unclaimed are unpublished
    return made


@router.delete("/pauses/organisation", status_code=204, responses=describes(401, 404))
def resume_organisation(caller: Writes) -> None:
    """Resume the organisation."""
    _resume(caller, "organisation", "")


@router.delete("/pauses/{kind}/{name}", status_code=204, responses=describes(401, 404, 422))
def resume(kind: PauseKind, name: Name, caller: Writes) -> None:
    """Resume a queue or an agent."""
    _resume(caller, kind, name)


def _resume(caller: Principal, kind: PauseKind, name: str) -> None:
    with caller.writing() as connection:
        if not dispatch.resume(connection, caller.org_id, kind, name):
            raise NotFound(f"The {kind} {name} is not paused.".replace("  ", " "))
    wakeup.hint()


@router.get("/limits", responses=describes(401))
def get_limits(caller: ReadsLimits) -> LimitsView:
    """Return this organisation's limits and their current use. Tasks beyond a limit wait; none is refused."""
    with caller.reading() as connection:
        return dispatch.limits(connection, caller.org_id)


@router.patch("/organisations/{slug}/limits", responses=describes(401, 403, 404, 422))
def change_limits(slug: Name, change: LimitsChange, caller: Operator) -> LimitsView:
    """Change an organisation's limits and weight. For operators."""
    with system_transaction() as connection:
        caller.note(connection)
        org = tenants.organisation_called(connection, slug).id
        changed = dispatch.set_organisation_limits(connection, org, change.model_dump(exclude_unset=True))
    wakeup.hint()
    return changed


@router.get("/provider-limits", responses=describes(401, 403))
def list_provider_limits(_: Operator) -> list[ProviderLimitView]:
    """List the limits of providers, their current use and their pace. For operators."""
    with system_transaction() as connection:
        return dispatch.provider_limits(connection)


@router.put("/provider-limits/{provider:path}", responses=describes(401, 403, 422))
def set_provider_limits(provider: Name, limits: ProviderLimits, caller: Operator) -> list[ProviderLimitView]:
    """Limit the tasks of a provider or of one of its models. For operators.

    Name an endpoint of the installation by its name, and an organisation's own endpoint as `organisation/name`.
    """
    with system_transaction() as connection:
        caller.note(connection)
        dispatch.set_provider_limits(connection, provider, limits.model_dump())
        found = dispatch.provider_limits(connection)
    wakeup.hint()
    return found


@router.get("/workers", responses=describes(401))
def list_workers(caller: ReadsWorkers) -> list[Worker]:
    """List the workers and the tasks of this organisation that they run."""
    with caller.reading() as connection:
        return workers.list_workers(connection, _lease())


@router.delete("/workers/{name}/concurrency", status_code=204, responses=describes(401, 403, 404, 422))
def unscale_workers(name: Name, caller: Operator) -> None:
    """Reset the concurrency of the workers of that name: from their next start they use the one they are started with.
    For operators.
    """
    with system_transaction() as connection:
        caller.note(connection)
        workers.unscale(connection, name)


@router.put("/workers/{name}/concurrency", status_code=202, responses=describes(401, 403, 404, 409, 422))
def scale_workers(name: Name, wanted: Scale, caller: Operator) -> ScaledWorkers:
    """Set the concurrency of every worker of that name. Takes effect within seconds. For operators."""
    with system_transaction() as connection:
        caller.note(connection)
        return workers.scale(connection, name, wanted.concurrency, _lease())


def _lease() -> timedelta:
    return timedelta(seconds=settings().worker_lease)
