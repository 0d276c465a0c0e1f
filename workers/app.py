"""The Celery application: its settings, its one task for agents' work, and the life of a worker process."""

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery import Celery, signals
from celery.schedules import schedule as every

import beat_schedule
from agents.llm.models import Models
from agents.sink import NobodyListens
from agents.work import Workplace
from core.db import dispose_engines
from core.logging import configure_logging
from core.settings import settings
from workers import queues
from workers.executor import Executor
from workers.presence import Presence

RUN_TASK = "rota.run_task"


def make_app() -> Celery:
    """Celery as Rota uses it: no results, no ETA, no retries of its own; a message is only a hint."""
    config = settings()
    made = Celery("rota", broker=config.redis_url, include=["workers.periodic"])
    made.conf.update(
        task_acks_late=True,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_publish_retry=False,
        task_create_missing_queues=False,
        task_queues=queues.declared(),
        task_default_queue="normal",
        task_send_sent_event=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": 3600,
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
            "queue_order_strategy": "priority",
            "health_check_interval": 25,
        },
        timezone="UTC",
        beat_schedule={
            duty.name: {
                "task": duty.task,
                "schedule": every(duty.every),
                # A tick nobody took in time is not worth taking: the next one is due.
                "options": {"queue": queues.SYSTEM, "expires": duty.every.total_seconds()},
            }
            for duty in beat_schedule.DUTIES
        },
    )
    return made


app = make_app()


@app.task(name=RUN_TASK)
def run_task(org: str, task_id: str, claim: int) -> None:
    """Do the agent task `task_id` of organisation `org`, if it still stands at claim number `claim`."""
    worker().execute(UUID(org), UUID(task_id), claim)


def worker() -> Executor:
    """The executor of this process, made at first use: by one thread, however many ask at once."""
    with _making:
        if not _made:
            config = settings()
            presence = Presence(
                name=_identity["name"],
                queues=_identity["queues"],
                concurrency=_identity["concurrency"],
                interval=timedelta(seconds=config.heartbeat_interval),
                lease=timedelta(seconds=config.worker_lease),
            )
            presence.start()
            models = Models(config)
            models.warm_up()
            _made.append((presence, Executor(presence, Workplace.open(models), NobodyListens())))
        return _made[0][1]


_making = threading.Lock()
_made: list[tuple[Presence, Executor]] = []
_identity: dict[str, Any] = {"name": "worker", "queues": [], "concurrency": 1}


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    configure_logging(level=settings().log_level, as_json=settings().log_json)


@signals.celeryd_after_setup.connect
def _remember_identity(sender: str, instance: Any, **_: Any) -> None:
    _identity.update(
        name=sender, queues=sorted(instance.app.amqp.queues.consume_from), concurrency=instance.concurrency
    )


@signals.worker_ready.connect
def _be_present(sender: Any, **_: Any) -> None:
    if type(sender.pool).__module__ != "celery.concurrency.prefork":  # there the children are the workers
        worker()


@signals.worker_process_init.connect
def _begin_child(**_: Any) -> None:
    """A forked child starts with connections and threads of its own."""
    dispose_engines()
    _made.clear()
    worker()


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    """Finish no task, only steps: what is in hand goes back to the queue without using up an attempt."""
    for presence, _executor in _made:
        presence.drain(timedelta(seconds=settings().drain_grace))


@signals.worker_shutdown.connect
def _leave(**_: Any) -> None:
    for presence, _executor in _made:
        presence.stop()


@signals.worker_process_shutdown.connect
def _leave_child(**_: Any) -> None:
    _leave()
