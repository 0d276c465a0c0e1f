"""The periodic duties: the name of each, how often it runs, why, and its function.

Beat reads this list through `beat_schedule.py`; `workers/app.py` makes each a Celery task on the `system` queue.
"""

from datetime import timedelta

from core.duties import Duty
from core.packs import installed
from workers.duties import (
    approvals,
    bills,
    follow_ups,
    messages,
    money,
    office,
    overdue,
    providers,
    pruning,
    retention,
    schedules,
)

_PLATFORM = (
    Duty(
        "run-schedules",
        timedelta(seconds=1),
        "schedules that are due start, and ended runs are recorded",
        schedules.run_schedules,
    ),
    Duty("deliver-messages", timedelta(seconds=1), "messages leave the outbox", messages.deliver_messages),
    Duty("post-events", timedelta(seconds=1), "webhooks are posted what happens", messages.post_events),
    Duty(
        "reclaim-messages",
        timedelta(seconds=5),
        "messages whose sender died are sent after all",
        messages.reclaim_messages,
    ),
    Duty(
        "expire-tasks",
        timedelta(seconds=2),
        "a task past its expiry or deadline ends where people see it",
        overdue.expire_tasks,
    ),
    Duty(
        "expire-abandoned",
        timedelta(minutes=1),
        "no task waits for ever for a client that has gone",
        overdue.expire_abandoned,
    ),
    Duty(
        "cancel-tasks-of-deleted",
        timedelta(seconds=2),
        "no task waits for an agent that was deleted",
        overdue.cancel_tasks_of_deleted,
    ),
    Duty(
        "withdraw-approvals",
        timedelta(seconds=2),
        "no approval stays open for a task that has ended",
        approvals.withdraw_approvals,
    ),
    Duty("expire-approvals", timedelta(seconds=5), "overdue approvals escalate or expire", approvals.expire_approvals),
    Duty("wake-decided", timedelta(seconds=5), "no task waits for a decision that was made", approvals.wake_decided),
    Duty("plan-follow-ups", timedelta(minutes=1), "what the rules find is planned", follow_ups.plan_follow_ups),
    Duty(
        "attend-follow-ups", timedelta(seconds=5), "follow-ups that are due are written", follow_ups.attend_follow_ups
    ),
    Duty("attend-office", timedelta(seconds=5), "posts, exports and campaigns come to their end", office.attend_office),
    Duty(
        "subtract-ended-holds",
        timedelta(seconds=5),
        "tokens reserved for tasks that ended can be spent",
        money.subtract_ended_holds,
    ),
    Duty(
        "release-holds",
        timedelta(seconds=5),
        "tokens reserved for tasks of dead workers can be spent",
        money.release_holds,
    ),
    Duty(
        "pay-arrears",
        timedelta(seconds=5),
        "fees that are owed are paid when there are tokens again",
        money.pay_arrears,
    ),
    Duty("wake-funded", timedelta(minutes=1), "tasks go on when the money they wait for is there", money.wake_funded),
    Duty(
        "charge-fees", timedelta(minutes=10), "each prepaid organisation pays its monthly fee once", money.charge_fees
    ),
    Duty("total-usage", timedelta(seconds=10), "bills are read from totals, not from every call", bills.total_usage),
    Duty("close-months", timedelta(seconds=10), "the bill of a month that is over stays as it is", bills.close_months),
    Duty("watch-budgets", timedelta(seconds=15), "people hear of a budget before it is spent", bills.watch_budgets),
    Duty("watch-wallets", timedelta(seconds=15), "people hear of a wallet before it is empty", money.watch_wallets),
    Duty(
        "watch-providers",
        timedelta(seconds=15),
        "operators hear of exhausted quotas and rejected keys",
        providers.watch_providers,
    ),
    Duty(
        "clean-up", timedelta(minutes=10), "finished tasks are kept for a day or a week; bills stay", pruning.clean_up
    ),
    Duty("forget-workers", timedelta(minutes=10), "workers that are long gone leave the list", pruning.forget_workers),
    Duty(
        "forget-replies",
        timedelta(minutes=10),
        "cached replies are kept as long as their agents say",
        pruning.forget_replies,
    ),
    Duty(
        "forget-paces",
        timedelta(minutes=10),
        "the pace of a model that is not called is of no use",
        pruning.forget_paces,
    ),
    Duty(
        "purge-conversations",
        timedelta(seconds=5),
        "the words of a conversation that was deleted are deleted",
        pruning.purge_conversations,
    ),
    Duty(
        "remove-blobs",
        timedelta(seconds=5),
        "a file that was deleted is deleted from its storage",
        pruning.remove_blobs,
    ),
    Duty(
        "forget-uploads",
        timedelta(minutes=10),
        "a file that was uploaded and not sent is kept for a day",
        pruning.forget_uploads,
    ),
    Duty("forget-events", timedelta(minutes=10), "events are kept for a day, or as long as set", pruning.forget_events),
    Duty(
        "forget-visitors",
        timedelta(minutes=10),
        "visitors that are long gone are deleted, with their conversations",
        pruning.forget_visitors,
    ),
    Duty(
        "forget-audit",
        timedelta(hours=1),
        "lines of the audit log are kept as long as their organisation says",
        retention.forget_audit,
    ),
    Duty(
        "delete-idle-conversations",
        timedelta(hours=1),
        "conversations are kept as long as their organisation says",
        retention.delete_idle_conversations,
    ),
    Duty("forget-runs", timedelta(hours=1), "runs of schedules are kept for three months", pruning.forget_runs),
    Duty("forget-trees", timedelta(hours=1), "counts of task trees go with their last task", pruning.forget_trees),
    Duty(
        "forget-unattended",
        timedelta(hours=1),
        "counts of actions go when no cap asks for them",
        pruning.forget_unattended,
    ),
    Duty("forget-keys", timedelta(hours=1), "concurrency keys go with their last task", pruning.forget_keys),
)

DUTIES: tuple[Duty, ...] = (*_PLATFORM, *(duty for pack in installed() for duty in pack.duties()))
