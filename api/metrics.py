"""Prometheus metrics: this process counts its own requests; the rest is read from the database at every scrape."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import ProgrammingError

from core.clock import Stopwatch
from core.db import system_transaction
from core.errors import RotaError
from core.settings import settings
from domain.monitoring import service as monitoring
from web.feed import feed

# A client may send any method name, and each new label value is a series that is never dropped.
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_registry = CollectorRegistry()
_requests = Counter("rota_http_requests", "Requests answered", ["method", "route", "status"], registry=_registry)
_refused_connections = Counter(
    "rota_http_refused_connections", "Connections refused before any work", ["status"], registry=_registry
)
_seconds = Histogram(
    "rota_http_request_seconds",
    "Time to answer",
    ["method", "route"],
    registry=_registry,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)


class _Installation(Collector):
    """The state of queues and workers, read from the database at every scrape."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("rota_database_up", "Whether the database answers")
        try:
            with system_transaction() as connection:
                unfinished = monitoring.unfinished(connection)
                lease = timedelta(seconds=settings().worker_lease)
                workers = monitoring.workers(connection, lease)
                not_accepting = monitoring.workers_not_accepting(connection, lease)
        except (RotaError, ProgrammingError):  # the database is down, or not set up yet
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        tasks = GaugeMetricFamily("rota_tasks", "Unfinished tasks", labels=["status", "priority"])
        oldest = GaugeMetricFamily("rota_task_oldest_seconds", "Age of the oldest", labels=["status", "priority"])
        for count in unfinished:
            tasks.add_metric([count.status, count.priority], count.tasks)
            oldest.add_metric([count.status, count.priority], count.oldest_seconds)
        processes = GaugeMetricFamily("rota_workers", "Worker processes", labels=["status"])
        slots = GaugeMetricFamily("rota_worker_slots", "Tasks they can have in hand", labels=["status"])
        for group in workers:
            processes.add_metric([group.status], group.workers)
            slots.add_metric([group.status], group.concurrency)
        deaf = GaugeMetricFamily("rota_workers_not_accepting", "Workers that claim nothing though tasks wait for them")
        deaf.add_metric([], len(not_accepting))
        yield from (tasks, oldest, processes, slots, deaf)


_registry.register(_Installation())
_streams = Gauge("rota_event_streams", "Listeners of the feed of events", registry=_registry)
_streams.set_function(lambda: feed.size)


def exposition() -> bytes:
    """Return all metrics in the Prometheus text format."""
    return generate_latest(_registry)


def count_refused_connection(status: int) -> None:
    """Count a connection that was refused with this status."""
    _refused_connections.labels(int(status)).inc()


class CountRequests:
    """ASGI middleware: counts requests by route, not by path, so that ids do not become labels."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stopwatch = Stopwatch()
        status = 500

        async def watching(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watching)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            _requests.labels(method, route, status).inc()
            _seconds.labels(method, route).observe(stopwatch.elapsed().total_seconds())
