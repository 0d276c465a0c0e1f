"""A pool of threads that can grow and shrink while it works.

Celery's own pool of threads has one size for life. Here threads are made when there is work for them, and how much work
there is at once is decided by how many messages the consumer may have unacknowledged.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.concurrency.thread import TaskPool

MOST_THREADS = 5_000


class ElasticThreadPool(TaskPool):
    """Threads, up to `limit` of them at work."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executor: ThreadPoolExecutor
        self.executor.shutdown(wait=False)
        self.executor = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="task")

    def grow(self, n: int = 1) -> None:
        """Take `n` tasks more at once."""
        self.limit += n

    def shrink(self, n: int = 1) -> None:
        """Take `n` tasks fewer at once; what runs goes on."""
        self.limit -= n

    @property
    def num_processes(self) -> int:
        """How many tasks at once."""
        return int(self.limit)
