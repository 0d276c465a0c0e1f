"""The broker: publish due tasks, and detect when it has lost messages.

The broker need not be durable (docs/decisions/0001). A loss is detected, not guessed: a marker key or a queue of ours
is gone, or a task published seconds ago is neither claimed nor on its queue any more.
"""

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

import redis
from amqp.exceptions import AMQPError
from celery import Celery
from kombu import Connection
from kombu.exceptions import KombuError

from core.errors import Unavailable
from domain.tasks.schemas import Due
from workers.queues import TASK_QUEUES


class EagerConnection(Connection):
    """A connection to the broker that retries soon after it is lost. Celery's own waits 2 s, then 4, then 6."""

    # kombu's type stubs want whole seconds.
    def _ensure_connection(  # type: ignore[override]
        self,
        errback: Any = None,
        max_retries: int | None = None,
        interval_start: float = 0.2,
        interval_step: float = 0.3,
        interval_max: float = 2.0,
        **more: Any,
    ) -> Any:
        return super()._ensure_connection(
            errback,
            max_retries,
            interval_start,  # type: ignore[arg-type]
            interval_step,  # type: ignore[arg-type]
            interval_max,  # type: ignore[arg-type]
            **more,
        )


Published = tuple[UUID, int, str]
"""task, claim number, queue"""

_EPOCH = "rota:epoch"
# Seconds. Shorter than a leader's lease: a leader that waits for a frozen broker must not itself look frozen.
_PATIENCE = 1.5
_AWAY = (KombuError, redis.RedisError, AMQPError, OSError)


def is_redis(url: str) -> bool:
    """Whether `url` names a Redis server rather than RabbitMQ."""
    return urlsplit(url).scheme in {"redis", "rediss", "unix"}


def transport_options(url: str) -> dict[str, Any]:
    """Return kombu's transport options for the broker at `url`."""
    if is_redis(url):
        return {
            # A message is a hint, and a lost one is published again. So kombu need not record unacknowledged messages
            # in Redis, which takes two round trips for each.
            "ack_emulation": False,
            "socket_timeout": _PATIENCE,
            "socket_connect_timeout": _PATIENCE,
            "queue_order_strategy": "priority",
            "health_check_interval": 25,
        }
    return {"confirm_publish": True, "connect_timeout": 5, "read_timeout": 25, "write_timeout": 5}


def make_broker(app: Celery, *, task_name: str, url: str) -> "Broker":
    """Create the broker client for `url`."""
    return (RedisBroker if is_redis(url) else RabbitBroker)(app, task_name=task_name, url=url)


class Broker(ABC):
    """The Celery queues of agents' tasks."""

    def __init__(self, app: Celery, *, task_name: str, url: str) -> None:
        self._app = app
        self._task_name = task_name
        self._url = url

    def connect(self) -> None:
        """Connect in advance, so that the first message need not wait. If the broker does not answer, the first message
        connects.
        """
        with contextlib.suppress(*_AWAY), self._app.producer_pool.acquire(block=True, timeout=5) as producer:
            if producer.connection is not None:
                producer.connection.ensure_connection(max_retries=1)
            _ = self._app.amqp.router, self._app.amqp.create_task_message

    def publish(self, due: Iterable[Due]) -> None:
        """Put a message for each task on its queue, in order.

        Raises:
            Unavailable: the broker does not answer. Some messages may have been published; duplicates do no harm.
        """
        try:
            with self._app.producer_pool.acquire(block=True, timeout=5) as producer, _batch(producer):
                for task in due:
                    self._app.send_task(
                        self._task_name,
                        args=(str(task.org_id), str(task.id), task.claim),
                        task_id=f"{task.id}.{task.claim}",
                        queue=task.queue,
                        shadow=task.agent,  # Flower shows each agent's work under its own name
                        producer=producer,
                        ignore_result=True,
                    )
        except _AWAY as error:
            raise Unavailable("The broker does not take messages.") from error

    @abstractmethod
    def has_forgotten(self) -> bool:
        """Return whether the broker was emptied or replaced since the last call. A broker without our marker, and
        RabbitMQ at the first call, count as emptied.

        Raises:
            Unavailable: the broker does not answer.
        """

    @abstractmethod
    def depths(self) -> dict[str, int]:
        """Return how many messages wait on each queue, stale ones included.

        Raises:
            Unavailable: the broker does not answer.
        """

    @abstractmethod
    def published(self) -> set[Published] | None:
        """Return the messages that wait on the queues, which are kept short; None for a broker that cannot list
        messages without consuming them.

        Raises:
            Unavailable: the broker does not answer.
        """


class RedisBroker(Broker):
    """Redis or Valkey: each queue is a list."""

    def __init__(self, app: Celery, *, task_name: str, url: str) -> None:
        super().__init__(app, task_name=task_name, url=url)
        self._redis = redis.Redis.from_url(url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE)

    def has_forgotten(self) -> bool:
        try:
            return bool(self._redis.set(_EPOCH, "1", nx=True))
        except redis.RedisError as error:
            raise Unavailable("Redis does not answer.") from error

    def depths(self) -> dict[str, int]:
        try:
            return {queue: self._redis.llen(queue) for queue in TASK_QUEUES}
        except redis.RedisError as error:
            raise Unavailable("Redis does not answer.") from error

    def published(self) -> set[Published] | None:
        try:
            messages = [(m, q) for q in TASK_QUEUES for m in cast("list[bytes]", self._redis.lrange(q, 0, -1))]
        except redis.RedisError as error:
            raise Unavailable("Redis does not answer.") from error
        return {(*key, queue) for message, queue in messages if (key := _task_of(message))}


class RabbitBroker(Broker):
    """RabbitMQ with quorum queues. These survive a restart, so a missing queue means that the broker was replaced."""

    def __init__(self, app: Celery, *, task_name: str, url: str) -> None:
        super().__init__(app, task_name=task_name, url=url)
        self._is_known = False

    def has_forgotten(self) -> bool:
        """Return True at the first call of this process, and when one of our queues is missing. Declares the queues, so
        that they exist from now on.
        """
        try:
            with self._app.connection_for_write() as connection, connection.channel() as channel:
                is_any_gone = not self._is_known
                for queue in self._app.amqp.queues.values():
                    is_any_gone |= not _exists(connection, queue.name)
                    queue(channel).declare()
        except _AWAY as error:
            raise Unavailable("RabbitMQ does not answer.") from error
        self._is_known = True
        return is_any_gone

    def depths(self) -> dict[str, int]:
        try:
            with self._app.connection_for_write() as connection:
                channel: Any = connection.channel()
                return {queue: channel.queue_declare(queue, passive=True).message_count for queue in TASK_QUEUES}
        except _AWAY as error:
            raise Unavailable("RabbitMQ does not answer.") from error

    def published(self) -> set[Published] | None:
        return None


def _batch(producer: Any) -> AbstractContextManager[Any]:
    """Batch what is published within the block into one write, if the broker is Redis. kombu's type stubs lack it."""
    batch: AbstractContextManager[Any] = producer.batch()
    return batch


def _exists(connection: Any, queue: str) -> bool:
    try:
        with connection.channel() as channel:  # a failed passive declaration closes its channel
            channel.queue_declare(queue, passive=True)
    except AMQPError:
        return False
    return True


def _task_of(message: bytes) -> tuple[UUID, int] | None:
    """Return the task and the claim that a message names; None for a message that another program left on the queue."""
    try:
        task_id, _, claim = json.loads(message)["headers"]["id"].partition(".")
        return UUID(task_id), int(claim)
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
