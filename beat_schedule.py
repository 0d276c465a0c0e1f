"""What beat runs, and when. Data only; the duties themselves are in `workers/periodic.py`.

Time for tasks lives in Postgres: a duty that fires late, twice or on two beats at once changes nothing.
"""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Duty:
    """A periodic duty: the Celery task it is, how often it runs, and why."""

    name: str
    task: str
    every: timedelta
    why: str


DUTIES = (
    Duty("run-schedules", "rota.run_schedules", timedelta(seconds=1), "what is due starts; what ended is noted"),
    Duty(
        "expire-tasks",
        "rota.expire_tasks",
        timedelta(seconds=2),
        "a task past its expiry or deadline ends where people see it",
    ),
    Duty("deliver-messages", "rota.deliver_messages", timedelta(seconds=1), "what is in the outbox leaves"),
    Duty("plan-follow-ups", "rota.plan_follow_ups", timedelta(minutes=1), "what rules find is planned"),
    Duty(
        "attend-follow-ups",
        "rota.attend_follow_ups",
        timedelta(seconds=5),
        "what is due is written",
    ),
    Duty("attend-office", "rota.attend_office", timedelta(seconds=5), "posts, charges and campaigns come to their end"),
    Duty("expire-approvals", "rota.expire_approvals", timedelta(seconds=5), "what nobody decides goes on up, or ends"),
    Duty("release-holds", "rota.release_holds", timedelta(seconds=5), "tokens not spent are free; dead workers' too"),
    Duty("wake-funded", "rota.wake_funded", timedelta(minutes=1), "what waits for money that is there again goes on"),
    Duty("total-usage", "rota.total_usage", timedelta(seconds=10), "bills are read from totals; ended months close"),
    Duty("watch-budgets", "rota.watch_budgets", timedelta(seconds=15), "people hear of it before the money is gone"),
    Duty(
        "watch-providers",
        "rota.watch_providers",
        timedelta(seconds=15),
        "operators hear of exhausted quotas and rejected keys",
    ),
    Duty("charge-fees", "rota.charge_fees", timedelta(minutes=10), "the monthly fee, once a month whatever runs twice"),
    Duty("clean-up", "rota.clean_up", timedelta(minutes=10), "finished tasks leave after a day or a week; bills stay"),
    Duty("forget-workers", "rota.forget_workers", timedelta(minutes=10), "rows of workers long gone clutter the list"),
    Duty("forget-runs", "rota.forget_runs", timedelta(hours=1), "runs of schedules are kept for three months"),
    Duty("forget-bounds", "rota.forget_bounds", timedelta(hours=1), "counts of agents' actions that no cap asks for"),
    Duty("forget-keys", "rota.forget_keys", timedelta(hours=1), "concurrency keys that no task names any more"),
    Duty(
        "forget-replies", "rota.forget_replies", timedelta(minutes=10), "cached replies are kept as long as agents say"
    ),
)
