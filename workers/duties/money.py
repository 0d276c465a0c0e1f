"""Wallets: release holds that are no longer needed, collect arrears and fees, warn before a wallet is empty, resume
tasks that wait for money.
"""

from uuid import UUID

from core.db import system_transaction
from core.duties import for_each
from domain.billing import service as billing
from domain.channels import service as channels
from domain.channels.schemas import Notice
from domain.dispatch import funding
from domain.tenants import service as tenants
from domain.wallet import service as wallet
from domain.wallet.schemas import DueFee, LowWallet


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


def watch_wallets() -> None:
    """Tell owners and managers when 80, 95 or 100 percent of the prepaid tokens are spent."""
    with system_transaction() as connection:
        found = wallet.low_wallets(connection)
    for_each(found, "a low wallet not told of", _tell)


def _tell(low: LowWallet) -> None:
    notice = Notice(
        kind="wallet.low",
        title=f"{low.share} % of the tokens are spent: {low.tokens} are left",
        body="Without tokens, tasks wait until some are bought.",
        data={"share": low.share, "tokens": low.tokens, "filled": low.filled},
    )
    with system_transaction() as connection:
        if wallet.note_told(connection, low):
            people = tenants.holders_of(connection, low.org_id, ["owner", "manager"])
            channels.tell(connection, low.org_id, [person.id for person in people], notice)


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
