"""dramatiq on Redis, likewise. Its worker is `dramatiq benchmarks.peers.dramatiq_app`."""

import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers import job

dramatiq.set_broker(RedisBroker(url=job.BROKER_URL))


@dramatiq.actor
def run(job_id: str, message: str) -> None:
    """The job."""
    job.carry_out(job_id, message)


if __name__ == "__main__" and sys.argv[1] == "submit":
    job.submit_all(lambda message: run.send(job.accept(message), message))
