"""Money that is there again: which of the tasks that wait for it go on.

One answer for every way in which it may come: a top-up, a correction, a budget raised or lifted, tokens that other
tasks gave back, a new month.
"""

from decimal import Decimal
from uuid import UUID

from sqlalchemy import Connection

from domain.billing import service as billing
from domain.tasks import service as tasks
from domain.tenants import service as tenants
from domain.wallet import service as wallet


def organisations_waiting(connection: Connection) -> list[UUID]:
    """The organisations with tasks that wait for money."""
    return tasks.organisations_waiting(connection, "funds", "budget")


def resume_waiting(connection: Connection, org: UUID) -> int:
    """Queue the tasks of an organisation that wait for tokens or for a budget and can pay now: the longest waiting
    first, together no more than there is. None while fees are owed. Returns how many go on.

    In a transaction of its own, as `tasks.wake_what_fits`.
    """
    if not tenants.get_organisation(connection, org).is_prepaid:
        return len(tasks.wake_what_fits(connection, org, "funds")) + _within_budgets(connection, org)
    balance = wallet.balance(connection, org)
    if balance.owed or balance.available <= 0:
        return 0
    woken = tasks.wake_what_fits(connection, org, "funds", Decimal(balance.available))
    # A task that a budget lets go on pays for its next model call like any other.
    pays_for_calls = balance.available - sum(woken) >= wallet.prices(connection)["internal_llm_call"]
    return len(woken) + (_within_budgets(connection, org) if pays_for_calls else 0)


def _within_budgets(connection: Connection, org: UUID) -> int:
    """Agents with a budget of their own within both, one after the other; then all others within the organisation's."""
    room = billing.room(connection, org)
    left = room.pop("", None)
    count = 0
    for agent, own in sorted(room.items()):
        woken = _wake(connection, org, own if left is None else min(own, left), agent=agent)
        count += len(woken)
        left = None if left is None else left - sum(woken)
    return count + len(_wake(connection, org, left, except_for=list(room)))


def _wake(
    connection: Connection,
    org: UUID,
    room: Decimal | None,
    *,
    agent: str | None = None,
    except_for: list[str] | None = None,
) -> list[Decimal]:
    if room is not None and room <= 0:
        return []
    return tasks.wake_what_fits(connection, org, "budget", room, agent=agent, except_for=except_for or ())
