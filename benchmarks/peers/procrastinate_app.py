"""procrastinate, a queue in Postgres: deferring a job is accepting it."""

import asyncio
import sys

import procrastinate

from benchmarks.peers import job

_URL = job.URL.replace("postgresql+psycopg://", "postgresql://")
app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=_URL), import_paths=["benchmarks.peers.procrastinate_app"]
)


@app.task(name="run")
def run(job_id: str, message: str) -> None:
    """The job."""
    job.carry_out(job_id, message)


def _submit_all() -> None:
    connector = procrastinate.SyncPsycopgConnector(conninfo=_URL, max_size=8)
    with app.replace_connector(connector) as sync, sync.open():
        job.submit_all(lambda message: run.defer(job_id=job.accept(message), message=message))


async def _work() -> None:
    async with app.open_async():
        await app.run_worker_async(concurrency=job.CONCURRENCY, wait=True, delete_jobs="successful")


async def _set_up() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


if __name__ == "__main__":
    if sys.argv[1] == "submit":
        _submit_all()
    elif sys.argv[1] == "set-up":
        asyncio.run(_set_up())
    else:
        asyncio.run(_work())
