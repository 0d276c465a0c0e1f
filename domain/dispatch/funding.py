"""Resume tasks that wait for money once it is available again.

The same rule applies to every source: a top-up, a correction, a budget that was raised or removed, tokens that other
tasks released, a new month.
"""

from decimal import Decimal
from uuid import UUID

from sqlalchemy import Connection

from domain.billing import service as billing
from domain.tasks import service as tasks
from domain.tenants import service as tenants
from domain.wallet import service as wallet


def organisations_waiting(connection: Connection) -> list[UUID]:
    """Return the organisations with tasks that wait for tokens or for a budget."""
    return tasks.organisations_waiting(connection, "funds", "budget")


def resume_waiting(connection: Connection, org: UUID) -> int:
    """Queue tasks of an organisation that wait for tokens or for a budget and can pay now: the longest waiting first,
    and no more than the available amount covers in total. Resumes none while fees are owed. Returns how many tasks
    were queued.

    Call it in a transaction of its own, for the reason given in `tasks.wake_what_fits`.
    """
    if not tenants.get_organisation(connection, org).is_prepaid:
        return len(tasks.wake_what_fits(connection, org, "funds")) + _within_budgets(connection, org)
    balance = wallet.balance(connection, org)
    if balance.owed or balance.available <= 0:
        return 0
    woken = tasks.wake_what_fits(connection, org, "funds", Decimal(balance.available))
    # A task that a budget resumes must still pay for its next model call from the wallet.
    pays_for_calls = balance.available - sum(woken) >= wallet.prices(connection)["internal_llm_call"]
    return len(woken) + (_within_budgets(connection, org) if pays_for_calls else 0)


def _within_budgets(connection: Connection, org: UUID) -> int:
    """Queue tasks that wait for a budget. Agents with their own budget come first, one after the other, within that and
    the organisation's; then all others, within the organisation's. Returns how many tasks were queued.
    """
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
