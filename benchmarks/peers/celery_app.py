"""Bare Celery on Redis: a row is written, a message published, and the row updated. Pool by PEER_POOL."""

import os
import sys
from typing import Any

from celery import Celery

from benchmarks.peers import job

app = Celery("peer", broker=job.BROKER_URL)
app.conf.update(
    task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True
)


@app.task
def run(job_id: str, message: str) -> None:
    """The job."""
    job.carry_out(job_id, message)


def submit(message: str) -> Any:
    """Accept, then publish."""
    run.delay(job.accept(message), message)


if __name__ == "__main__":
    if sys.argv[1] == "submit":
        job.submit_all(submit)
    else:
        pool = os.environ.get("PEER_POOL", "prefork")
        app.worker_main(["worker", f"--pool={pool}", f"--concurrency={job.CONCURRENCY}", "--loglevel=warning",
                         "--without-mingle", "--without-gossip", "-E"])  # fmt: skip
