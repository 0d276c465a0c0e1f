"""The Celery queues: one for each priority, and one for the duties."""

from kombu import Queue

from domain.tasks.schemas import PRIORITIES, Priority

SYSTEM = "system"
TASK_QUEUES: tuple[Priority, ...] = PRIORITIES
ALL_QUEUES: tuple[str, ...] = (*TASK_QUEUES, SYSTEM)


def declared(broker_url: str) -> list[Queue]:
    """Return the declarations of all queues. On RabbitMQ they are quorum queues, which survive the loss of a node."""
    arguments = {"x-queue-type": "quorum"} if broker_url.startswith("amqp") else None
    return [Queue(name, routing_key=name, queue_arguments=arguments) for name in ALL_QUEUES]
