"""The API application."""

import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from agents.tools import TOOLS
from api import openapi
from api.edge import AnswerHead, JsonBodies, KnownHosts, TrustProxies
from api.metrics import CountRequests
from api.routes import (
    agents,
    approvals,
    audit,
    billing,
    channels,
    control,
    followups,
    office,
    operations,
    people,
    providers,
    schedules,
    tasks,
    wallet,
    workflows,
)
from core.engines import APP, SYSTEM, engine
from core.logging import configure_logging
from core.memory import freeze_gc
from core.packs import installed
from core.settings import settings
from web import problems
from web.rate_limits import LimitStrangers, limits, reset_limits

_DESCRIPTION = """
Rota puts AI agents on shift. Submit a task, and an agent perceives, decides, acts and learns. Every step is
written down, every model call is billed exactly once.

A task exists when `POST /v1/tasks` has answered. Whatever goes wrong is told in a problem document (RFC 9457).
"""


def make_app() -> FastAPI:
    """Return the application, ready to serve.

    Raises:
        Misconfigured: a required setting is missing.
    """
    config = settings()
    configure_logging(level=config.log_level, as_json=config.log_json)
    _ = config.pepper, TOOLS.names()  # fail at the start, not at the first request, if something is missing
    # Serves the documentation page's scripts itself: FastAPI's own page loads them from the internet.
    app = FastAPIOffline(
        title="Rota",
        version=importlib.metadata.version("rota"),
        description=_DESCRIPTION,
        lifespan=_warm,
        redoc_url=None,
        generate_unique_id_function=openapi.operation_id,
        redirect_slashes=False,  # a redirect would name the host that the request named
    )
    problems.install(app)
    app.add_middleware(AnswerHead)
    app.add_middleware(JsonBodies)
    app.add_middleware(problems.LimitBodies, most=config.max_body_bytes)
    app.add_middleware(LimitStrangers)
    app.add_middleware(KnownHosts, allowed=config.allowed_hosts)
    app.add_middleware(TrustProxies, proxies=config.trusted_proxies)
    app.add_middleware(CountRequests)
    for part in (
        tasks, approvals, agents, schedules, followups, office, workflows, wallet, billing, control, channels, people,
        providers, audit,
    ):  # fmt: skip
        app.include_router(part.router)
    for pack in installed():
        for router in pack.routers():
            app.include_router(router)
    app.include_router(operations.router)
    app.include_router(operations.public)
    # FastAPI's own way to extend its OpenAPI description.
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _warm(_: FastAPI) -> AsyncIterator[None]:
    """Create the database engines and start the rate limits now: the first request would otherwise wait for them."""
    engine(APP)
    engine(SYSTEM)
    limits().start()
    freeze_gc()
    yield
    limits().stop()
    reset_limits()
