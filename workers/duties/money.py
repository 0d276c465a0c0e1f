"""Wallets: release holds that are no longer needed, collect arrears and fees, resume tasks that wait for money."""

from uuid import UUID

from core.db import system_transaction
from core.duties import for_each
from domain.billing import service as billing
from domain.dispatch import funding
from domain.wallet import service as wallet
from domain.wallet.schemas import DueFee


def subtract_ended_holds() -> None:
    """Subtract the holds of ended tasks from what their wallets have reserved."""
    with system_transaction() as connection:
        spent_from = wallet.organisations_with_ended_holds(connection)
    # One transaction per organisation: it locks the wallet's row, and the organisation's tasks wait for that lock.
    for_each(spent_from, "ended holds not subtracted", _subtract)


def _subtract(org: UUID) -> None:
    with system_transaction(durable=False) as connection:
        wallet.subtract_ended_holds(connection, org)


def release_holds() -> None:
    """Release the holds and reserves that remain of tasks whose worker died."""
    with system_transaction() as connection:
        left = wallet.holds_left_behind(connection)
    for_each(left, "hold not released", _release)


def _release(task: UUID) -> None:
    with system_transaction() as connection:
        if wallet.release_left_behind(connection, task):
            billing.release_reserves(connection, task)


def pay_arrears() -> None:
    """Pay the fees that are owed with tokens that are available again."""
    with system_transaction() as connection:
        owing = wallet.organisations_owing(connection)
    for_each(owing, "arrears not paid", _pay)


def _pay(org: UUID) -> None:
    with system_transaction() as connection:
        wallet.pay_arrears(connection, org)


def wake_funded() -> None:
    """Queue tasks that wait for money which is now available: released by other tasks, or a new month's budget.

    A top-up or a raised budget wakes them at once, without this duty.
    """
    with system_transaction() as connection:
        waiting = funding.organisations_waiting(connection)
    for_each(waiting, "tasks that wait for money not looked at", _resume)


def _resume(org: UUID) -> int:
    with system_transaction() as connection:
        return funding.resume_waiting(connection, org)


def charge_fees() -> None:
    """Charge the monthly fees that are due, once each."""
    with system_transaction() as connection:
        due = wallet.fees_due(connection)
    for_each(due, "monthly fee not charged", _charge)


def _charge(due: DueFee) -> None:
    with system_transaction() as connection:
        wallet.charge_fee(connection, due.org_id, due.month)
