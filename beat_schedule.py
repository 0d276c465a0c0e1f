"""What beat runs, and when: the schedule in Celery's form, made from the registry of duties (`workers/duties/`).

Time for tasks lives in Postgres: a duty that fires late, twice or on two beats at once changes nothing.
"""

from typing import Any

from celery.schedules import schedule

from workers import queues
from workers.duties import DUTIES

BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    duty.name: {
        "task": duty.task,
        "schedule": schedule(duty.every),
        # A tick that no worker took in time is dropped: the next one is due.
        "options": {"queue": queues.SYSTEM, "expires": duty.every.total_seconds()},
    }
    for duty in DUTIES
}
