"""Commands that run one of Rota's processes.

Each command imports what its process needs: the API must not load Celery, and `rota submit` must load neither.
"""

import math
import os
import signal
import socket
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import typer

from core.errors import Misconfigured
from core.logging import configure_logging
from core.memory import begin_loading, freeze_gc
from core.settings import settings
from embedded.processes import ensure_can_listen
from embedded.state import join_running

ConcurrencyOption = Annotated[
    int, typer.Option("--concurrency", "-c", min=1, max=5000, help="Maximum tasks running at once.")
]
_WELCOME_TOKENS = 1_000
_USUAL_PORTS = {"postgresql": 5432, "postgres": 5432, "redis": 6379, "rediss": 6379}

PortOption = Annotated[int | None, typer.Option(min=0, max=65535, help="TCP port.")]


Need = Literal["database_url", "system_database_url", "owner_database_url", "redis_url"]


def _prepare(*needs: Need) -> None:
    """If nothing is configured, join the `rota up` that runs here; then set up logging.

    Raises:
        Misconfigured: a server is needed but not configured, and none answers at the default address. A configured
            server may be down for a while: the processes wait for it.
    """
    begin_loading()
    join_running(*needs[:1])
    config = settings()
    configure_logging(level=config.log_level, as_json=config.log_json, secrets=config.secrets)
    told = config.model_fields_set | ({"redis_url"} if config.broker_url else set())
    for name in needs:
        url = getattr(config, name) or config.database_url  # the other logins to the database default to this one
        if told.isdisjoint({name, _DEFAULTS.get(name, name)}) and not _answers(url):
            raise Misconfigured(
                f"No `rota up` runs here, {name.upper()} is not set, and no server answers at {url}. "
                f"Start `rota up` first, or set {' and '.join(need.upper() for need in needs)}."
            )


_DEFAULTS = {"system_database_url": "database_url", "owner_database_url": "database_url"}


def _answers(url: str) -> bool:
    """Whether anything listens at the server's default address."""
    parts = urlsplit(url)
    port = parts.port or _USUAL_PORTS[parts.scheme]
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: PortOption = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Number of processes.")] = 1,
) -> None:
    """Serve the HTTP API."""
    import uvicorn

    _prepare("database_url")
    config = settings()
    address, chosen = host or config.api_host, config.api_port if port is None else port
    ensure_can_listen(address, chosen)
    if workers > 1:
        freeze_gc()  # this parent process; each worker process loads the application, and freezes, by itself
    uvicorn.run(
        "api.app:make_app",
        factory=True,
        host=address,
        port=chosen,
        workers=workers,
        http="api.connections:GuardedProtocol",
        ws="websockets-sansio",
        ws_max_size=config.max_body_bytes,
        ws_per_message_deflate=False,  # it holds memory for each connection
        timeout_keep_alive=math.ceil(config.idle_timeout),
        proxy_headers=False,  # the application handles them: uvicorn would trust any process of this machine
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
        server_header=False,
    )


def dispatcher() -> None:
    """Publish due tasks to the Celery queues. Of several dispatchers one leads; the others stand by."""
    _prepare("system_database_url", "redis_url")
    from workers.app import RUN_TASK, app
    from workers.broker import make_broker
    from workers.dispatcher import Dispatcher

    config = settings()
    made = Dispatcher(config, make_broker(app, task_name=RUN_TASK, url=config.broker))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: made.stop())
    freeze_gc()
    made.run()


def worker(
    concurrency: ConcurrencyOption = 100,
    queues: Annotated[
        str, typer.Option("--queues", "-q", help="Queues to serve, highest priority first.")
    ] = "critical,high,normal,low",
    pool: Annotated[str, typer.Option(help="threads; or prefork for CPU-bound work.")] = "threads",
    name: Annotated[str, typer.Option(help="Name of the worker; `rota workers scale` uses it.")] = "worker",
) -> None:
    """Run agents' tasks."""
    _prepare("database_url", "redis_url")
    from agents.tools import TOOLS
    from workers.app import app
    from workers.broker import is_redis
    from workers.queues import ALL_QUEUES

    TOOLS.names()  # fail here, and not in each task, if tools cannot be loaded
    if pool not in {"threads", "prefork"}:
        raise typer.BadParameter(f"there is no pool {pool}; use threads or prefork")
    unknown = set(queues.split(",")) - set(ALL_QUEUES)
    if unknown:
        raise typer.BadParameter(
            f"there is no queue {', '.join(sorted(unknown))}; the queues are {', '.join(ALL_QUEUES)}"
        )
    if pool == "threads" and is_redis(settings().broker):
        # The size of this pool is the consumer's prefetch limit, which RabbitMQ's quorum queues cannot change at run
        # time.
        app.conf.worker_pool = "workers.pool:ElasticThreadPool"
        choice = []
    else:
        choice = [f"--pool={pool}"]
    app.worker_main(
        ["worker", *choice, f"--concurrency={concurrency}", f"--queues={queues}",
         f"--hostname={name}-{os.getpid()}@%h",
         f"--loglevel={settings().log_level}", "--without-mingle", "--without-gossip", "--events"]
    )  # fmt: skip


def beat(
    schedule: Annotated[Path, typer.Option(help="File in which beat stores its last runs.")] = Path(".rota/beat"),
) -> None:
    """Fire the periodic duties listed in beat_schedule.py."""
    _prepare("redis_url")
    from workers.app import app

    schedule.parent.mkdir(parents=True, exist_ok=True)
    freeze_gc()
    app.start(["beat", f"--schedule={schedule}", "--pidfile=", f"--loglevel={settings().log_level}"])


def flower(port: PortOption = None, address: Annotated[str, typer.Option()] = "127.0.0.1") -> None:
    """Serve Flower, a read-only view of Celery. Needs a password: ROTA_FLOWER_AUTH=user:password."""
    _prepare("redis_url")
    from workers.app import app
    from workers.flower import show_as_commands

    login = os.environ.get("ROTA_FLOWER_AUTH", "")
    if ":" not in login:
        raise typer.BadParameter("set ROTA_FLOWER_AUTH to user:password: Flower shows the arguments of tasks")
    show_as_commands()
    freeze_gc()
    chosen = 5555 if port is None else port
    ensure_can_listen(address, chosen)
    app.start(
        ["flower", f"--address={address}", f"--port={chosen}", f"--basic-auth={login}",
         "--read-only=true", "--max-tasks=10000", "--logging=warning"]
    )  # fmt: skip


def rehearsal(port: PortOption = None, host: Annotated[str, typer.Option()] = "127.0.0.1") -> None:
    """Serve the rehearsal model, a deterministic stand-in for both providers."""
    import uvicorn

    chosen = 8081 if port is None else port
    ensure_can_listen(host, chosen)
    uvicorn.run(
        "embedded.rehearsal.server:make_app",
        factory=True,
        host=host,
        port=chosen,
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=2,
    )


def migrate() -> None:
    """Create the database roles and run the migrations. Idempotent, and safe to run concurrently."""
    _prepare("owner_database_url")
    from core.migrations import migrate as run_migrations

    typer.echo(f"The database is at revision {run_migrations(settings())}.")


def setup(
    organisation: Annotated[str, typer.Argument(help="Slug of the organisation.")],
    name: Annotated[str | None, typer.Option(help="Name of the organisation.")] = None,
    time_zone: Annotated[str, typer.Option(help="IANA time zone.")] = "UTC",
    demonstration: Annotated[bool, typer.Option(help="Add demonstration data.")] = False,
    owner: Annotated[str | None, typer.Option(help="E-mail address of its owner.")] = None,
    prepaid: Annotated[
        bool | None,
        typer.Option(
            "--prepaid/--no-prepaid",
            help="Whether its tasks need prepaid tokens; default: no change, and not prepaid if new.",
        ),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=0, help="Initial tokens with --prepaid, added once; default: 1000.")
    ] = None,
    operator: Annotated[bool, typer.Option(help="Make the owner an operator of the installation.")] = False,
) -> None:
    """Create an organisation with the ready-made agents, and print its owner's API key."""
    if tokens and not prepaid:
        raise typer.BadParameter("--tokens needs --prepaid: add it, or leave --tokens out")
    _prepare("database_url")
    from embedded.organisation import set_up_organisation

    key = set_up_organisation(
        slug=organisation,
        name=name or organisation,
        time_zone=time_zone,
        with_demonstration=demonstration,
        owner_email=owner,
        is_operator=operator,
        is_prepaid=prepaid,
        welcome_tokens=(_WELCOME_TOKENS if tokens is None else tokens) if prepaid else 0,
    )
    typer.echo(key)


def up(
    data: Annotated[Path, typer.Option(help="Data folder.")] = Path(".rota"),
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the API; 0 for a free port for every server.")
    ] = None,
    concurrency: ConcurrencyOption = 100,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes; each uses at most one core.")] = 1,
    demonstration: Annotated[bool, typer.Option(help="Add demonstration data.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON when ready.")] = False,
) -> None:
    """Start servers and processes on this machine: API, dispatcher, workers, beat, Flower."""
    from cli import banner

    begin_loading()
    from embedded.state import Running
    from embedded.up import Options, Up

    def say(text: str) -> None:
        typer.secho(f"rota: {text}", err=True, dim=True)

    def greet(running: Running) -> None:
        freeze_gc()
        if as_json:
            sys.stdout.write(running.model_dump_json() + "\n")
            sys.stdout.flush()
        else:
            banner.greet(running)

    options = Options(data=data, port=port, concurrency=concurrency, workers=workers, demonstration=demonstration)
    Up(options, say).run(greet)


def doctor() -> None:
    """Check this set-up and say how to fix problems."""
    from cli.diagnosis import diagnose

    findings: list[Any] = diagnose(timedelta(seconds=3))
    for finding in findings:
        mark = typer.style("ok  ", fg="green") if finding.is_good else typer.style("FIX ", fg="red")
        typer.echo(f"{mark}{finding.what}" + ("" if finding.is_good else f"\n      → {finding.cure}"))
    raise typer.Exit(0 if all(finding.is_good for finding in findings) else 1)
