"""The Celery application: its settings, its single task for agents' work, and the life cycle of a worker process."""

import logging
import sys
import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery import Celery, signals

from agents.llm.models import Models
from agents.work import Workplace
from beat_schedule import BEAT_SCHEDULE
from core.engines import dispose_engines
from core.logging import configure_logging
from core.memory import freeze_gc
from core.settings import settings
from domain.workers.schemas import Beat
from workers import broker, queues
from workers.contained import ContainedTask
from workers.duties import DUTIES
from workers.executor import Executor
from workers.pool import ElasticThreadPool
from workers.presence import Presence
from workers.watchdog import Watchdog, end_after
from workers.words import RedisSink

RUN_TASK = "rota.run_task"
_LAST_MOMENTS = timedelta(seconds=3)
# Seconds after which a thread that waits for the GIL wakes up to request it. Python's default, 5 ms, suits a few
# threads: with hundreds, the wake-ups take a fifth of the time. Our threads release the GIL long before, at every wait.
_SWITCH_INTERVAL = 0.05


class DutyTask(ContainedTask):
    """A task that sends no events to Flower: duties run every second, and would hide the agents' tasks there."""

    send_events = False


def make_app() -> "Celery[Any]":
    """Create the Celery application: no results, no ETA, no retries of Celery's own; a message is only a hint."""
    config = settings()
    made = Celery("rota", broker=config.broker, task_cls="workers.app:DutyTask")
    made.amqp.Connection = broker.EagerConnection
    made.conf.update(
        task_acks_late=True,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_publish_retry=False,
        task_create_missing_queues=False,
        task_queues=queues.declared(config.broker),
        task_default_queue="normal",
        task_send_sent_event=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_consumer="workers.consumer:Consumer",
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=broker.transport_options(config.broker),
        timezone="UTC",
        beat_schedule=BEAT_SCHEDULE,
    )
    for duty in DUTIES:
        made.task(name=duty.task)(duty.run)
    return made


app = make_app()


@app.task(name=RUN_TASK, send_events=True)
def run_task(org: str, task_id: str, claim: int) -> None:
    """Execute the agent task `task_id` of organisation `org`, if its claim number is still `claim`."""
    worker().execute(UUID(org), UUID(task_id), claim)


def worker() -> Executor:
    """Return the executor of this process. It is created at first use, once, even if several threads call at the same
    time.
    """
    with _making:
        if not _made:
            config = settings()
            watchdog = Watchdog(config, _resize)
            models = Models(config)
            if _identity["queues"] != [queues.SYSTEM]:  # duties call no model, and importing the SDKs takes a second
                models.warm_up()
            workplace = Workplace.open(models, threads=max(16, _identity["concurrency"]))

            def on_beat(presence: Presence, beat: Beat) -> None:
                watchdog.follow(presence, beat)
                workplace.gates.learn(beat.known)

            presence = Presence(
                **_identity,
                interval=timedelta(seconds=config.heartbeat_interval),
                lease=timedelta(seconds=config.worker_lease),
                vitals=watchdog.vitals,
                on_beat=on_beat,
            )
            presence.start()
            sink = RedisSink(config.redis_url)
            if _identity["queues"] != [queues.SYSTEM]:
                sink.start()
            _made.append((presence, Executor(presence, workplace, sink)))
        return _made[0][1]


_making = threading.Lock()
_made: list[tuple[Presence, Executor]] = []
_identity: dict[str, Any] = {"name": "worker", "queues": [], "concurrency": 1, "pool": "threads"}
_consumers: list[Any] = []


def _resize(concurrency: int) -> None:
    """Set how many messages the consumer of this process takes at the same time."""
    for consumer in _consumers:
        change = concurrency - consumer.pool.num_processes
        (consumer.pool.grow if change > 0 else consumer.pool.shrink)(abs(change))
        consumer._update_prefetch_count(change)  # noqa: SLF001  what Celery's own remote control calls


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    config = settings()
    configure_logging(level=config.log_level, as_json=config.log_json, secrets=config.secrets)
    for name in ("celery.worker.strategy", "celery.app.trace"):  # they log for every message what we log for every task
        logging.getLogger(name).setLevel(logging.WARNING)


@signals.celeryd_after_setup.connect
def _remember_identity(sender: str, instance: Any, **_: Any) -> None:
    called = sender.partition("@")[0]
    is_prefork = "prefork" in instance.pool_cls.__module__
    _identity.update(
        name=called.rpartition("-")[0] or called,  # without the process id that keeps Celery's names apart
        queues=[queue for queue in queues.ALL_QUEUES if queue in instance.app.amqp.queues.consume_from],
        concurrency=1 if is_prefork else instance.concurrency,  # each child process is a worker
        pool="prefork" if is_prefork else "elastic" if instance.pool_cls is ElasticThreadPool else "threads",
    )


@signals.worker_ready.connect
def _be_present(sender: Any, **_: Any) -> None:
    if _identity["pool"] != "prefork":  # in a prefork pool, the child processes are the workers
        sys.setswitchinterval(_SWITCH_INTERVAL)
        _consumers.append(sender)
        worker()
    freeze_gc()


@signals.worker_process_init.connect
def _begin_child(**_: Any) -> None:
    """Give a forked child process its own connections and threads."""
    dispose_engines()
    _made.clear()
    worker()
    freeze_gc()


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    """Drain: finish the running steps, not the tasks; the tasks return to the queue without using up an attempt."""
    grace = timedelta(seconds=settings().drain_grace)
    for presence, _executor in _made:
        presence.drain(grace)
        end_after(grace + _LAST_MOMENTS, code=70)  # a stuck thread would keep the process alive for ever


@signals.worker_shutdown.connect
def _leave(**_: Any) -> None:
    for presence, _executor in _made:
        presence.stop()


@signals.worker_process_shutdown.connect
def _leave_child(**_: Any) -> None:
    _leave()
