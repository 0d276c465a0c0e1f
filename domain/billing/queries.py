"""All SQL about prices and usage. Usage rows themselves are written with their step (domain/tasks/queries.py)."""

from datetime import date
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from domain.billing.models import prices

_PRICE = [column for column in prices.c if column.name != "org_id"]


def own_price(connection: Connection, model: str) -> RowMapping | None:
    """The organisation's own price for `model`."""
    return connection.execute(select(*_PRICE).where(prices.c.model == model)).mappings().one_or_none()


def own_prices(connection: Connection) -> list[RowMapping]:
    """Every price of the organisation's own."""
    return list(connection.execute(select(*_PRICE).order_by(prices.c.model)).mappings())


def put_price(connection: Connection, row: dict[str, Any]) -> None:
    """Set the organisation's price for a model."""
    statement = insert(prices).values(**row, updated_at=func.rota_now())
    changed = {name: statement.excluded[name] for name in (*row, "updated_at") if name not in {"org_id", "model"}}
    connection.execute(statement.on_conflict_do_update(index_elements=["org_id", "model"], set_=changed))


def delete_price(connection: Connection, model: str) -> bool:
    """Remove the organisation's price for `model`. False when it had none."""
    return connection.execute(delete(prices).where(prices.c.model == model)).rowcount == 1


_SUMS = """
    count(*) AS model_calls,
    coalesce(sum(input_tokens), 0) AS input_tokens,
    coalesce(sum(cached_tokens), 0) AS cached_tokens,
    coalesce(sum(output_tokens), 0) AS output_tokens,
    coalesce(sum(base_cost), 0) AS base_cost,
    coalesce(sum(billed_cost), 0) AS billed_cost
"""
_OF_MONTH = "created_at >= CAST(:month AS date) AND created_at < CAST(:month AS date) + interval '1 month'"


def current_month(connection: Connection) -> date:
    """The first day of the present month (UTC)."""
    found: date = connection.execute(text("SELECT date_trunc('month', rota_now())::date")).scalar_one()
    return found


def usage_of_month(connection: Connection, month: date) -> RowMapping:
    """All usage of the month that begins on `month`."""
    statement = text(
        f"SELECT {_SUMS}, count(*) FILTER (WHERE is_rehearsal) AS rehearsal_calls FROM usage WHERE {_OF_MONTH}"  # noqa: S608
    )
    return connection.execute(statement, {"month": month}).mappings().one()


def usage_of_month_by(connection: Connection, month: date, column: str) -> list[RowMapping]:
    """Usage of a month, by `column` (model or agent), dearest first."""
    if column not in {"model", "agent"}:
        raise ValueError(column)
    statement = text(
        f"SELECT {column}, {_SUMS} FROM usage WHERE {_OF_MONTH} "  # noqa: S608
        f"GROUP BY {column} ORDER BY billed_cost DESC, {column}"
    )
    return list(connection.execute(statement, {"month": month}).mappings())


def usage_by_month(connection: Connection, months: int) -> list[RowMapping]:
    """Usage of the last `months` months in which there was any, newest first."""
    statement = text(
        f"SELECT date_trunc('month', created_at)::date AS month, {_SUMS} FROM usage "  # noqa: S608
        "GROUP BY 1 ORDER BY 1 DESC LIMIT :months"
    )
    return list(connection.execute(statement, {"months": months}).mappings())
