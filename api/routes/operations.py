"""Health and metrics of the installation."""

from datetime import timedelta
from typing import Annotated, Any, Literal

import redis
from fastapi import APIRouter, Depends, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from sqlalchemy.exc import ProgrammingError

from api.metrics import exposition
from core.clock import Stopwatch
from core.db import system_transaction
from core.errors import RotaError
from core.migrations import newest_revision
from core.settings import settings
from domain.monitoring import service as monitoring
from domain.monitoring.schemas import Leader, TaskCount, WorkerCount, WorkerNotAccepting
from domain.pacing import service as pacing
from domain.pacing.schemas import Alert, Standing
from domain.tenants.permissions import GOVERN
from web.auth import Needs, Principal
from web.problems import describes

public = APIRouter(tags=["operations"])
router = APIRouter(tags=["operations"])

Reads = Annotated[Principal, Depends(Needs("health:read", at_a_location=True))]

_LEADER_SILENT_SECONDS = 10


class Health(BaseModel):
    """Whether this process can serve requests."""

    status: Literal["ok", "degraded", "down"]
    problems: list[str] = []


class DetailedHealth(Health):
    """The state of all components of the installation."""

    database_ms: int | None
    redis_ms: int | None
    revision: str | None
    expected_revision: str
    model: Literal["rehearsal", "live", "none"]
    leaders: list[Leader]
    workers: list[WorkerCount]
    not_accepting: list[WorkerNotAccepting] = Field(
        description="workers that claim no tasks although tasks wait for them"
    )
    unfinished: list[TaskCount]
    paces: list[Standing] = Field(
        description="for operators: models whose calls are paced, because their provider limits us or is down"
    )


@public.get("/", include_in_schema=False)
def front() -> RedirectResponse:
    """Redirect a browser to the documentation."""
    return RedirectResponse("/docs")


@public.get("/health")
def live() -> Health:
    """Liveness: this process answers. Checks no other server, so that an outage elsewhere does not restart it."""
    return Health(status="ok")


@public.get("/health/ready", responses={503: {"model": Health, "description": "Not ready; `problems` says why."}})
def ready(response: Response) -> Health:
    """Readiness: the database answers and is migrated. Redis is not checked: tasks are accepted without it."""
    problems: list[str] = []
    try:
        with system_transaction() as connection:
            revision = monitoring.revision(connection)
        if revision != newest_revision():
            problems.append(
                f"the database is at revision {revision}, this code needs {newest_revision()}: rota migrate"
            )
    except RotaError as error:
        problems.append(error.message)
    except ProgrammingError:
        problems.append("the database is not set up yet: rota migrate")
    if problems:
        response.status_code = 503
        response.headers["retry-after"] = "2"
    return Health(status="down" if problems else "ok", problems=problems)


@router.get("/health/detailed", responses=describes(401))
def detailed(caller: Reads) -> DetailedHealth:
    """Return the state of servers, dispatcher, workers and backlog."""
    config = settings()
    problems: list[str] = []
    seen: dict[str, Any] = {"database_ms": None, "revision": None, "paces": []}
    seen |= {"leaders": [], "workers": [], "not_accepting": [], "unfinished": []}
    paces: list[Standing] = []
    alerts: list[Alert] = []
    stopwatch = Stopwatch()
    try:
        with system_transaction() as connection:
            seen["revision"] = monitoring.revision(connection)
            seen["database_ms"] = stopwatch.milliseconds()
            seen["leaders"] = monitoring.leaders(connection)
            paces, alerts = pacing.standings(connection), pacing.alerts(connection)
            seen["paces"] = paces if caller.may(GOVERN) else []
            lease = timedelta(seconds=config.worker_lease)
            seen["workers"] = monitoring.workers(connection, lease)
            seen["not_accepting"] = monitoring.workers_not_accepting(connection, lease)
            # Only operators may see the backlog of all organisations.
            seen["unfinished"] = monitoring.unfinished(connection) if caller.may(GOVERN) else []
    except RotaError as error:
        problems.append(error.message)
    redis_ms = _redis_milliseconds()
    problems += _problems(seen, redis_ms)
    down = {pace.provider: pace.since for pace in paces if pace.cause == "outage"}
    problems += [
        f"{provider} is down or cannot be reached (since {since:%H:%M} UTC): tasks wait, or use their fallback model."
        for provider, since in down.items()
    ]
    problems += [f"{alert.what} (since {alert.since:%Y-%m-%d %H:%M} UTC). {alert.cure}" for alert in alerts]
    is_down = seen["database_ms"] is None
    return DetailedHealth(
        status="down" if is_down else "degraded" if problems else "ok",
        problems=problems,
        redis_ms=redis_ms,
        expected_revision=newest_revision(),
        model="rehearsal" if config.is_rehearsal else "live" if config.has_live_model else "none",
        **seen,
    )


def _problems(seen: dict[str, Any], redis_ms: int | None) -> list[str]:
    problems: list[str] = []
    if redis_ms is None:
        problems.append("Redis does not answer: tasks are accepted, and start when it is back.")
    if not any(leader.silent_seconds < _LEADER_SILENT_SECONDS for leader in seen["leaders"]):
        problems.append("No dispatcher is running: start one with `rota dispatcher`.")
    if not any(count.status == "alive" for count in seen["workers"]):
        problems.append("No worker is alive: start one with `rota worker`.")
    problems += [worker.problem for worker in seen["not_accepting"]]
    return problems


def _redis_milliseconds() -> int | None:
    stopwatch = Stopwatch()
    client = redis.Redis.from_url(settings().redis_url, socket_timeout=1, socket_connect_timeout=1)
    try:
        client.ping()
    except redis.RedisError:
        return None
    finally:
        client.close()
    return stopwatch.milliseconds()


@public.get("/metrics", response_class=PlainTextResponse)
def metrics() -> Response:
    """Return Prometheus metrics: requests of this process, state of queues and workers."""
    return Response(exposition(), media_type=CONTENT_TYPE_LATEST)
