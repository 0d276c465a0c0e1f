"""The API application."""

import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from agents.tools import TOOLS
from api import openapi
from api.edge import AnswerHead, CrossOrigin, JsonBodies, KnownHosts, TrustProxies, body_limit
from api.metrics import CountRequests
from api.openai_wire.errors import OpenAIErrors
from api.routes import (
    agents,
    approvals,
    attachments,
    audit,
    billing,
    broadcasts,
    channels,
    control,
    conversations,
    events,
    feedback,
    followups,
    office,
    openai,
    openai_conversations,
    openai_responses,
    operations,
    people,
    providers,
    publishable_keys,
    retention,
    schedules,
    tasks,
    visitor_conversations,
    visitors,
    wallet,
    workflows,
)
from api.sockets.server import PATH, SocketServer
from core.engines import APP, SYSTEM, engine
from core.logging import configure_logging
from core.memory import freeze_gc
from core.packs import installed
from core.settings import settings
from web import problems
from web.rate_limits import LimitStrangers, limits, reset_limits

_DESCRIPTION = """
Rota runs tasks with AI agents: an agent perceives, decides, acts and learns. Every step is recorded in a journal, and
every recorded model call is billed exactly once.

A task is durable when `POST /v1/tasks` has answered. Every error is a problem document (RFC 9457).
"""


def make_app() -> FastAPI:
    """Return the application, ready to serve.

    Raises:
        Misconfigured: a required setting is missing.
    """
    config = settings()
    configure_logging(level=config.log_level, as_json=config.log_json, secrets=config.secrets)
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
    app.add_middleware(OpenAIErrors)  # within: HEAD is answered without the body, and with its length
    app.add_middleware(AnswerHead)
    app.add_middleware(JsonBodies)
    app.add_middleware(problems.LimitBodies, most=body_limit(config))
    app.add_middleware(LimitStrangers)
    app.add_middleware(KnownHosts, allowed=config.allowed_hosts)
    app.add_middleware(CrossOrigin, allowed=config.allowed_origins)
    app.add_middleware(TrustProxies, proxies=config.trusted_proxies)
    app.add_middleware(OpenAIErrors)  # and around the others, which refuse by themselves
    app.add_middleware(CountRequests)
    for part in (
        tasks, approvals, agents, schedules, followups, office, workflows, wallet, billing, control, channels, people,
        providers, audit, retention, broadcasts, events, conversations, feedback, attachments, openai, openai_responses,
        openai_conversations, publishable_keys, visitors, visitor_conversations,
    ):  # fmt: skip
        app.include_router(part.router)
    for pack in installed():
        for router in pack.routers():
            app.include_router(router)
    app.include_router(operations.router)
    app.include_router(operations.public)
    app.mount(PATH, SocketServer(config))
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
