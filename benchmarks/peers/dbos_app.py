"""DBOS: a durable workflow, each call a step."""

import sys
import threading
from typing import Any

from dbos import DBOS, DBOSClient, EnqueueOptions

from benchmarks.peers import job

_URL = job.URL.replace("postgresql+psycopg://", "postgresql://")
ask, search, finish = DBOS.step()(job.ask), DBOS.step()(job.search), DBOS.step()(job.finish)
_STEPS = {job.ask: ask, job.search: search, job.finish: finish}


@DBOS.workflow()
def run(job_id: str, message: str) -> None:
    """The job."""

    def call(function: Any, *given: Any) -> Any:
        return _STEPS[function](*given)

    job.carry_out(job_id, message, call=call)


if __name__ == "__main__":
    if sys.argv[1] == "submit":
        client = DBOSClient(system_database_url=_URL)
        options: EnqueueOptions = {"queue_name": "jobs", "workflow_name": run.__qualname__, "app_version": "bench"}
        job.submit_all(lambda message: client.enqueue(options, job.accept(message), message))
    else:
        DBOS(
            config={"name": "peer", "system_database_url": _URL, "application_version": "bench", "log_level": "WARNING"}
        )
        DBOS.launch()
        DBOS.register_queue("jobs", worker_concurrency=job.CONCURRENCY, polling_interval_sec=0.05)
        threading.Event().wait()
