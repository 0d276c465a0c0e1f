"""A thread pool that can grow and shrink while it runs.

The size of Celery's own thread pool is fixed. Here threads are created when there is work for them, and concurrency is
limited by how many unacknowledged messages the consumer may have.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.concurrency.thread import TaskPool

MOST_THREADS = 5_000


class ElasticThreadPool(TaskPool):
    """A pool in which up to `limit` threads work."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executor: ThreadPoolExecutor
        self.executor.shutdown(wait=False)
        self.executor = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="task")

    def grow(self, n: int = 1) -> None:
        """Raise the concurrency by `n`."""
        self.limit += n

    def shrink(self, n: int = 1) -> None:
        """Lower the concurrency by `n`; running tasks continue."""
        self.limit -= n

    @property
    def num_processes(self) -> int:
        """The concurrency: how many tasks may run at the same time."""
        return int(self.limit)
