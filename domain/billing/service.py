"""Verbs on prices and usage."""

from datetime import date
from uuid import UUID

from sqlalchemy import Connection

from core.errors import NotFound
from domain.billing import queries
from domain.billing.schemas import MonthTotal, Price, PriceFields, UsageLine, UsageReport

_HISTORY_MONTHS = 24


def own_price(connection: Connection, model: str) -> Price | None:
    """The organisation's own price for `model`, where it has one."""
    row = queries.own_price(connection, model)
    return Price(**row) if row else None


def list_prices(connection: Connection) -> list[Price]:
    """The organisation's own prices."""
    return [Price(**row) for row in queries.own_prices(connection)]


def set_price(connection: Connection, org: UUID, model: str, fields: PriceFields) -> Price:
    """Set the organisation's own price for `model`. What was billed keeps the price it was billed at."""
    queries.put_price(connection, {"org_id": org, "model": model, **fields.model_dump()})
    row = queries.own_price(connection, model)
    if row is None:
        raise NotFound("The price was removed again at once.")
    return Price(**row)


def remove_price(connection: Connection, model: str) -> None:
    """Return to the public price.

    Raises:
        NotFound: the organisation has no price of its own for `model`.
    """
    if not queries.delete_price(connection, model):
        raise NotFound(f"There is no price of your own for {model!r}.")


def usage_report(connection: Connection, month: date | None = None) -> UsageReport:
    """The usage of the month that `month` lies in (default: the present one), and of the months before."""
    first = (month or queries.current_month(connection)).replace(day=1)
    whole = dict(queries.usage_of_month(connection, first))
    rehearsal_calls = whole.pop("rehearsal_calls")
    return UsageReport(
        month=first,
        total=MonthTotal(month=first, **whole),
        rehearsal_calls=rehearsal_calls,
        by_model=[UsageLine(**row) for row in queries.usage_of_month_by(connection, first, "model")],
        by_agent=[UsageLine(**row) for row in queries.usage_of_month_by(connection, first, "agent")],
        history=[MonthTotal(**row) for row in queries.usage_by_month(connection, _HISTORY_MONTHS)],
    )
