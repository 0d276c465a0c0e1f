"""The periodic duties, each a thin task on the `system` queue: safe when fired twice, late, or together."""

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from agents.learning.learner import Learner
from core.db import system_transaction
from core.errors import RotaError
from core.logging import get_logger
from core.settings import settings
from core.wakeup import wakeup
from domain.approvals import service as approvals
from domain.billing import service as billing
from domain.channels import delivery
from domain.channels import service as channels
from domain.channels.schemas import Event
from domain.followups import service as followups
from domain.followups import sweep as follow_up_sweep
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


@app.task(name="rota.forget_runs")
def forget_runs() -> None:
    """Delete what is noted of runs that ended long ago."""

    def batch() -> int:
        with system_transaction() as connection:
            return schedules.forget_runs(connection, _RUNS_KEPT.days)

    _until_nothing_is_left("forgot runs of schedules", batch)


@app.task(name="rota.expire_tasks")
def expire_tasks() -> None:
    """End queued tasks whose time to start has passed."""

    def batch() -> int:
        with system_transaction() as connection:
            return tasks.expire_overdue(connection)

    _until_nothing_is_left("expired tasks", batch)


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


@app.task(name="rota.forget_replies")
def forget_replies() -> None:
    """Delete cached replies whose time is over."""
    with system_transaction() as connection:
        replies.forget_expired(connection)


@app.task(name="rota.deliver_messages")
def deliver_messages() -> None:
    """Send what is in the outbox, and see to messages whose sender died."""
    if _delivering.acquire(blocking=False):  # so that slow mail servers take no more than one thread of the duties
        try:
            delivery.take_back_left_behind(_senders())
            delivery.deliver_due(_senders())
        finally:
            _delivering.release()


_delivering = threading.Lock()


@functools.cache
def _senders() -> delivery.Senders:
    return delivery.make_senders(settings())


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
    """Let go on what waits for money that is there again: released by others, or a new month's. A top-up does so at
    once.
    """
    with system_transaction() as connection:
        for_funds = {org: wallet.balance(connection, org) for org in tasks.organisations_waiting(connection, "funds")}
        for_budget = {org: billing.room(connection, org) for org in tasks.organisations_waiting(connection, "budget")}
    for org, balance in for_funds.items():
        if not balance.owed:
            with system_transaction() as connection:
                tasks.wake_what_fits(connection, org, "funds", Decimal(balance.available))
    for org, room in for_budget.items():
        with system_transaction() as connection:
            wake_within(connection, org, room)


def wake_within(connection: Connection, org: UUID, room: Mapping[str, Decimal]) -> None:
    """Let go on what the budgets cover: of each agent that has one of its own, within both; all where there is none."""
    whole = room.get("")
    for agent, left in room.items():
        if agent:
            tasks.wake_what_fits(connection, org, "budget", left if whole is None else min(left, whole), agent=agent)
    if set(room) <= {""}:
        tasks.wake_what_fits(connection, org, "budget", whole)
    elif whole is None or whole > 0:
        tasks.wake_what_fits(connection, org, "budget", whole, except_for=[agent for agent in room if agent])


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
            body=f"${crossed.used:.2f} of ${crossed.monthly_limit:.2f}. At 100 % its tasks wait.",
            data={"agent": crossed.agent, "share": crossed.share, "used": str(crossed.used)},
        )
        with system_transaction() as connection:
            if billing.note_told(connection, crossed):
                people = tenants.holders_of(connection, crossed.org_id, ["owner", "manager"])
                channels.tell(connection, crossed.org_id, [person["id"] for person in people], event)


def _for_each(organisations: Iterable[UUID], trouble: str, see_to: Callable[[UUID], Done]) -> list[Done]:
    """See to organisations one by one; the trouble of one does not keep the others."""
    done = []
    for org in organisations:
        try:
            done.append(see_to(org))
        except (RotaError, DBAPIError):
            log.exception(trouble, org=str(org))
    return done


def _until_nothing_is_left(what: str, batch: Callable[[], int]) -> None:
    """In batches, each its own short transaction, so that nobody waits long for a lock."""
    total = 0
    while done := batch():
        total += done
    if total:
        log.info(what, count=total)
