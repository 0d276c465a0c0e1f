"""Bills: total usage, close past months, warn before a budget is spent."""

from core.db import system_transaction
from core.money import in_words
from domain.billing import service as billing
from domain.channels import service as channels
from domain.channels.schemas import Notice
from domain.tenants import service as tenants


def total_usage() -> None:
    """Add new usage to the totals that bills are read from."""
    done = billing.TOTALLED_AT_ONCE
    while done == billing.TOTALLED_AT_ONCE:
        with system_transaction() as connection:
            done = billing.total_usage(connection)


def close_months() -> None:
    """Close the bills of months that are over."""
    with system_transaction() as connection:
        billing.close_months(connection)


def watch_budgets() -> None:
    """Tell owners and managers of budgets that reached 50, 80 or 100 percent."""
    with system_transaction() as connection:
        found = billing.crossed_budgets(connection)
    for crossed in found:
        whose = f"of {crossed.agent}" if crossed.agent else "of the organisation"
        notice = Notice(
            kind="budget.crossed",
            title=f"{crossed.share} % of the monthly budget {whose} is spent",
            body=f"{in_words(crossed.used)} of {in_words(crossed.monthly_limit)}. At 100 % its tasks wait.",
            data={"agent": crossed.agent, "share": crossed.share, "used": str(crossed.used)},
        )
        with system_transaction() as connection:
            if billing.note_told(connection, crossed):
                people = tenants.holders_of(connection, crossed.org_id, ["owner", "manager"])
                channels.tell(connection, crossed.org_id, [person.id for person in people], notice)
