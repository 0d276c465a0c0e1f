"""The periodic duties, each a thin task on the `system` queue: safe when fired twice, late, or together."""

import functools
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from celery import signals
from sqlalchemy.exc import DBAPIError

from agents.learning.learner import Learner
from core.db import system_transaction
from core.errors import RotaError
from core.logging import get_logger
from core.money import in_words
from core.settings import settings
from core.wakeup import wakeup
from domain.approvals import service as approvals
from domain.billing import service as billing
from domain.channels import delivery
from domain.channels import service as channels
from domain.channels.schemas import Event
from domain.dispatch import funding
from domain.followups import service as followups
from domain.followups import sweep as follow_up_sweep
from domain.office import endings
from domain.pacing import service as pacing
from domain.replies import service as replies
from domain.schedules import service as schedules
from domain.schedules.sweep import sweep
from domain.tasks import service as tasks
from domain.tenants import service as tenants
from domain.wallet import service as wallet
from domain.workers import service as workers
from workers.app import app

log = get_logger(__name__)
Done = TypeVar("Done")

_WORKERS_KEPT = timedelta(days=1)
_RUNS_KEPT = timedelta(days=90)


@app.task(name="rota.run_schedules")
def run_schedules() -> None:
    """Start what is due by schedules, and note which of their runs have ended."""
    with system_transaction() as connection:
        in_need = schedules.organisations_in_need(connection)
    started = sum(one.started for one in _for_each(in_need, "schedules not attended to", sweep))
    if started:
        wakeup.hint()
        log.info("started what was due", count=started)


@app.task(name="rota.plan_follow_ups")
def plan_follow_ups() -> None:
    """Plan what the rules of follow-ups find, and note what came of what was sent."""
    with system_transaction() as connection:
        with_rules = followups.organisations_with_rules(connection)
    _for_each(with_rules, "follow-ups not planned", follow_up_sweep.plan)


@app.task(name="rota.attend_follow_ups")
def attend_follow_ups() -> None:
    """Start what is due of follow-ups, and note what became of what is under way."""
    with system_transaction() as connection:
        in_need = followups.organisations_in_need(connection)
    done = _for_each(in_need, "follow-ups not attended to", lambda org: follow_up_sweep.attend(org, Learner().choose))
    started = sum(one.started for one in done)
    if started:
        wakeup.hint()
        log.info("started follow-ups", count=started)


@app.task(name="rota.attend_office")
def attend_office() -> None:
    """Hand over posts that are due, let lapse what nobody collected, carry campaigns on to their end."""
    with system_transaction() as connection:
        in_need = endings.organisations_in_need(connection)
    _for_each(in_need, "posts, charges and campaigns not attended to", endings.attend)


@app.task(name="rota.forget_runs")
def forget_runs() -> None:
    """Delete what is noted of runs that ended long ago."""

    def batch() -> int:
        with system_transaction() as connection:
            return schedules.forget_runs(connection, _RUNS_KEPT.days)

    _until_nothing_is_left("forgot runs of schedules", batch)


@app.task(name="rota.expire_tasks")
def expire_tasks() -> None:
    """End tasks whose time to start, or whose deadline, has passed, or whose agent was deleted, and withdraw what they
    asked people for.
    """

    def batch() -> int:
        with system_transaction() as connection:
            return tasks.expire_overdue(connection) + tasks.cancel_of_deleted(connection)

    if _until_nothing_is_left("expired tasks", batch):
        with system_transaction() as connection:  # apart: whoever votes locks the approval first, and then its task
            approvals.withdraw_ended(connection)
        wakeup.hint()  # what ended makes room


@app.task(name="rota.clean_up")
def clean_up() -> None:
    """Delete tasks that ended longer ago than they are kept."""
    config = settings()

    def batch() -> int:
        with system_transaction() as connection:
            return tasks.clean_up(connection, keep_succeeded=config.keep_succeeded, keep_failed=config.keep_failed)

    _until_nothing_is_left("deleted finished tasks", batch)


@app.task(name="rota.forget_workers")
def forget_workers() -> None:
    """Delete the rows of workers long gone."""
    with system_transaction() as connection:
        workers.forget_workers(connection, _WORKERS_KEPT)


@app.task(name="rota.forget_keys")
def forget_keys() -> None:
    """Delete concurrency keys that no task names any more."""

    def batch() -> int:
        with system_transaction() as connection:
            return tasks.forget_unused_keys(connection)

    _until_nothing_is_left("forgot concurrency keys", batch)


@app.task(name="rota.forget_bounds")
def forget_bounds() -> None:
    """Delete the counts that caps no longer ask for: of actions without a person, and of trees of tasks."""

    def batch() -> int:
        with system_transaction() as connection:
            return tasks.forget_unused_trees(connection)

    _until_nothing_is_left("forgot trees of tasks", batch)
    with system_transaction() as connection:
        approvals.forget_unattended(connection)


@app.task(name="rota.forget_replies")
def forget_replies() -> None:
    """Delete cached replies whose time is over."""
    with system_transaction() as connection:
        replies.forget_expired(connection)


@app.task(name="rota.deliver_messages")
def deliver_messages() -> None:
    """Begin to send what is in the outbox, and see to messages whose sender died. Waits for no receiver."""
    delivery.take_back_left_behind(_senders())
    _outbox().send_due()


@functools.cache
def _outbox() -> delivery.Outbox:
    return delivery.Outbox(_senders())


@functools.cache
def _senders() -> delivery.Senders:
    return delivery.make_senders(settings())


@signals.worker_shutting_down.connect
def _take_no_more_messages(**_: Any) -> None:
    """Begin to send nothing more; what is in hand has the time that a stopping worker has."""
    if _outbox.cache_info().currsize:
        _outbox().stop()


@app.task(name="rota.expire_approvals")
def expire_approvals() -> None:
    """Escalate, deny or expire what nobody decided in time, and close what is open of tasks that have ended."""

    with system_transaction() as connection:
        overdue = approvals.overdue(connection)
    for approval in overdue:
        try:
            with system_transaction() as connection:
                approvals.expire(connection, approval)
        except (RotaError, DBAPIError):  # one that cannot be must not keep the others
            log.exception("approval not expired", approval=str(approval))
    with system_transaction() as connection:
        approvals.withdraw_ended(connection)
        approvals.wake_decided(connection)


@app.task(name="rota.release_holds")
def release_holds() -> None:
    """Release what is still promised to tasks whose worker died, and pay fees that are owed with what is free again."""
    with system_transaction() as connection:
        spent_from = wallet.organisations_to_take_off(connection)
    for org in spent_from:  # each for itself: its tasks wait for the row meanwhile
        with system_transaction(durable=False) as connection:
            wallet.take_off_what_is_over(connection, org)
    with system_transaction() as connection:
        left = wallet.holds_left_behind(connection)
        owing = wallet.organisations_owing(connection)
    for task in left:
        with system_transaction() as connection:
            if wallet.release_left_behind(connection, task):
                billing.release_reserves(connection, task)
    for org in owing:
        with system_transaction() as connection:
            wallet.pay_arrears(connection, org)


@app.task(name="rota.wake_funded")
def wake_funded() -> None:
    """Let go on what waits for money that is there again: released by others, or a new month's. A top-up or a raised
    budget does so at once.
    """
    with system_transaction() as connection:
        waiting = funding.organisations_waiting(connection)
    _for_each(waiting, "tasks that wait for money not looked at", _let_go_on)


def _let_go_on(org: UUID) -> int:
    with system_transaction() as connection:
        return funding.let_go_on(connection, org)


@app.task(name="rota.charge_fees")
def charge_fees() -> None:
    """Charge the monthly fees that are due, once each."""
    with system_transaction() as connection:
        due = wallet.fees_due(connection)
    for org, month in due:
        with system_transaction() as connection:
            wallet.charge_fee(connection, org, month)


@app.task(name="rota.total_usage")
def total_usage() -> None:
    """Add usage to the totals that bills are read from, and close the months that are over."""
    done = billing.TOTALLED_AT_ONCE
    while done == billing.TOTALLED_AT_ONCE:
        with system_transaction() as connection:
            done = billing.total_usage(connection)
    with system_transaction() as connection:
        billing.close_months(connection)


@app.task(name="rota.watch_budgets")
def watch_budgets() -> None:
    """Tell owners and managers of budgets that reached 50, 80 or 100 percent."""
    with system_transaction() as connection:
        found = billing.crossed_budgets(connection)
    for crossed in found:
        whose = f"of {crossed.agent}" if crossed.agent else "of the organisation"
        event = Event(
            kind="budget.crossed",
            title=f"{crossed.share} % of the monthly budget {whose} is spent",
            body=f"{in_words(crossed.used)} of {in_words(crossed.monthly_limit)}. At 100 % its tasks wait.",
            data={"agent": crossed.agent, "share": crossed.share, "used": str(crossed.used)},
        )
        with system_transaction() as connection:
            if billing.note_told(connection, crossed):
                people = tenants.holders_of(connection, crossed.org_id, ["owner", "manager"])
                channels.tell(connection, crossed.org_id, [person["id"] for person in people], event)


@app.task(name="rota.watch_providers")
def watch_providers() -> None:
    """Tell operators of providers whose quota is exhausted or that reject the key, once until they work again."""
    with system_transaction() as connection:
        pacing.forget(connection)
        found = pacing.take_untold(connection)
        people = tenants.operators(connection) if found else {}
        for alert in found:
            log.error("provider needs a person", provider=alert.provider, kind=alert.kind, said=alert.message)
            event = Event(
                kind=f"provider.{alert.kind}",
                title=alert.what,
                body=f"{alert.message}\n{alert.cure}",
                data={"provider": alert.provider, "since": alert.since.isoformat()},
            )
            for org, operators in people.items():
                channels.tell(connection, org, operators, event)


def _for_each(organisations: Iterable[UUID], trouble: str, see_to: Callable[[UUID], Done]) -> list[Done]:
    """See to organisations one by one; the trouble of one does not keep the others."""
    done = []
    for org in organisations:
        try:
            done.append(see_to(org))
        except (RotaError, DBAPIError):
            log.exception(trouble, org=str(org))
    return done


def _until_nothing_is_left(what: str, batch: Callable[[], int]) -> int:
    """In batches, each its own short transaction, so that nobody waits long for a lock. Returns how many there were."""
    total = 0
    while done := batch():
        total += done
    if total:
        log.info(what, count=total)
    return total
