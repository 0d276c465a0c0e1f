"""What Redis holds: publishing due tasks, and noticing when Redis has forgotten some.

Redis is not asked to remember (docs/decisions/0001). That it forgot is noticed, not guessed: a mark put there is
gone, or a task published seconds ago is neither claimed nor on its queue any more.
"""

import contextlib
import json
from collections.abc import Iterable
from typing import Any, cast
from uuid import UUID

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from core.errors import Unavailable
from domain.tasks.schemas import Due
from workers.queues import TASK_QUEUES

_EPOCH = "rota:epoch"


class Broker:
    """The Celery queues of agents' tasks."""

    def __init__(self, app: Celery, *, task_name: str, redis_url: str) -> None:
        self._app = app
        self._task_name = task_name
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=5, socket_connect_timeout=5)

    def connect(self) -> None:
        """Do now what the first message would otherwise wait for. Where Redis is away it is done with that message."""
        with (
            contextlib.suppress(OperationalError, redis.RedisError, OSError),
            self._app.producer_pool.acquire(block=True, timeout=5) as producer,
        ):
            if producer.connection is not None:
                producer.connection.ensure_connection(max_retries=1)
            _ = self._app.amqp.router, self._app.amqp.create_task_message

    def publish(self, due: Iterable[Due]) -> None:
        """Put a message for each task on the queue of its priority, in order.

        Raises:
            Unavailable: Redis does not answer. Some messages may be there all the same; doubles do no harm.
        """
        try:
            with self._app.producer_pool.acquire(block=True, timeout=5) as producer:
                for task in due:
                    self._app.send_task(
                        self._task_name,
                        args=(str(task.org_id), str(task.id), task.claim),
                        task_id=f"{task.id}.{task.claim}",
                        queue=task.priority,
                        shadow=task.agent,  # Flower shows each agent's work under its own name
                        producer=producer,
                        ignore_result=True,
                    )
        except (OperationalError, redis.RedisError, OSError) as error:
            raise Unavailable("Redis does not take messages.") from error

    def has_forgotten(self) -> bool:
        """Whether Redis was emptied or replaced since this was last asked. The first time counts as emptied.

        Raises:
            Unavailable: Redis does not answer.
        """
        try:
            return bool(self._redis.set(_EPOCH, "1", nx=True))
        except redis.RedisError as error:
            raise Unavailable("Redis does not answer.") from error

    def published(self) -> set[tuple[UUID, int]]:
        """The tasks, with their claim numbers, that wait on the queues. They are kept short, so this is cheap.

        Raises:
            Unavailable: Redis does not answer.
        """
        try:
            messages = [m for queue in TASK_QUEUES for m in cast("list[bytes]", self._redis.lrange(queue, 0, -1))]
        except redis.RedisError as error:
            raise Unavailable("Redis does not answer.") from error
        return {key for message in messages if (key := _task_of(json.loads(message)))}


def _task_of(message: dict[str, Any]) -> tuple[UUID, int] | None:
    task_id, _, claim = str(message.get("headers", {}).get("id", "")).partition(".")
    try:
        return UUID(task_id), int(claim)
    except ValueError:
        return None
