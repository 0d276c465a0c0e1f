"""taskiq on Redis streams; its worker is `taskiq worker benchmarks.peers.taskiq_app:broker`. The job is synchronous and
runs in its threads.
"""

import asyncio
import sys

from taskiq_redis import RedisStreamBroker

from benchmarks.peers import job

broker = RedisStreamBroker(url=job.BROKER_URL)


@broker.task(task_name="run")
def run(job_id: str, message: str) -> None:
    """The job."""
    job.carry_out(job_id, message)


async def _submit_all() -> None:
    await broker.startup()
    places = asyncio.Semaphore(8)

    async def submit(number: int) -> None:
        async with places:
            message = f"When is spin? {number}"
            job_id = await asyncio.to_thread(job.accept, message)
            await run.kiq(job_id, message)

    await asyncio.gather(*(submit(number) for number in range(int(sys.argv[2]))))
    await broker.shutdown()


if __name__ == "__main__" and sys.argv[1] == "submit":
    asyncio.run(_submit_all())
