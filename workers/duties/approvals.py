"""Approvals that end without a vote, and tasks whose approval is decided."""

from uuid import UUID

from core.db import system_transaction
from core.duties import for_each
from domain.approvals import service as approvals


def expire_approvals() -> None:
    """Escalate, deny or expire overdue approvals."""
    with system_transaction() as connection:
        overdue = approvals.overdue(connection)
    for_each(overdue, "approval not expired", _expire)


def _expire(approval: UUID) -> None:
    with system_transaction() as connection:
        approvals.expire(connection, approval)


def withdraw_approvals() -> None:
    """Withdraw the open approvals of tasks that have ended.

    Not in the transaction that ends a task: a vote locks the approval first and its task second, so locking them the
    other way round could deadlock.
    """
    with system_transaction() as connection:
        approvals.withdraw_ended(connection)


def wake_decided() -> None:
    """Queue tasks that still wait although their approval is decided: a crash between the two writes left them."""
    with system_transaction() as connection:
        approvals.wake_decided(connection)
