"""The Celery queues: one for each priority, and one for the system's own duties."""

from kombu import Queue

from domain.tasks.schemas import PRIORITIES

SYSTEM = "system"
TASK_QUEUES: tuple[str, ...] = PRIORITIES
ALL_QUEUES: tuple[str, ...] = (*TASK_QUEUES, SYSTEM)


def declared() -> list[Queue]:
    """Every queue, as Celery declares it."""
    return [Queue(name, routing_key=name) for name in ALL_QUEUES]
