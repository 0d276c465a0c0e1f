"""Operations on prices, usage, bills and budgets."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping

from core.errors import InvalidInput, NotFound, RotaError
from core.prepared import SingleStatement
from domain.billing import pricing, queries
from domain.billing.routing import provider_of
from domain.billing.schemas import (
    AppliedPrice,
    Bill,
    Budget,
    BudgetFields,
    CrossedBudget,
    MoneyFacts,
    MonthTotal,
    Price,
    PriceFields,
    UsageLine,
    UsageReport,
)
from domain.providers import service as providers
from domain.tenants import service as tenants

_HISTORY_MONTHS = 24


def own_price(connection: Connection, model: str) -> Price | None:
    """Return the organisation's own price for `model`, or None if it has none."""
    row = queries.own_price(connection, model)
    return Price(**row) if row else None


def money_facts(at: Connection | SingleStatement, model: str) -> MoneyFacts:
    """Return an organisation's own price for `model`, whether it has any budget, and its endpoint for the model."""
    row = queries.money_facts(at, model)
    price = {name.removeprefix("price_"): value for name, value in row.items() if name.startswith("price_")}
    return MoneyFacts(
        price=Price(**price) if price["model"] else None,
        has_budgets=bool(row["has_budgets"]),
        endpoint=providers.endpoint_of(row, model),
    )


def list_prices(connection: Connection, org: UUID, models: Iterable[str] = ()) -> list[AppliedPrice]:
    """Return what the organisation is billed for `models` and the models that it has own prices for, by name. Models
    without a known price are left out.
    """
    markup = tenants.get_organisation(connection, org).markup
    own = {row["model"]: Price(**row) for row in queries.own_prices(connection)}
    found = []
    for model in sorted({*own, *models}):
        price = own.get(model)
        with contextlib.suppress(InvalidInput):  # no price is known for the model
            found.append(
                pricing.applied_price(provider=provider_of(model, price), model=model, own=price, markup=markup)
            )
    return found


def set_price(connection: Connection, org: UUID, model: str, fields: PriceFields) -> Price:
    """Set the organisation's own price for `model`. Usage that was billed before keeps its price."""
    queries.put_price(connection, {"org_id": org, "model": model, **fields.model_dump()})
    row = queries.own_price(connection, model)
    if row is None:
        raise NotFound("The price was removed again at once.")
    return Price(**row)


def remove_price(connection: Connection, model: str) -> None:
    """Delete the organisation's own price for `model`; the public price applies again.

    Raises:
        NotFound: the organisation has no price of its own for `model`.
    """
    if not queries.delete_price(connection, model):
        raise NotFound(f"There is no price of your own for {model!r}.")


# ── usage and bills ──────────────────────────────────────────────────────────────────────────────────────────────────

_MOST_LINES, _ALL_LINES = 100, 1_000_000  # for a month so far; for a closed month: all, so that they add up
TOTALLED_AT_ONCE = 5_000
# Longer than any transaction can last, so that no usage is added to a month after it was closed.
_GRACE = timedelta(hours=1)


def usage_report(connection: Connection, org: UUID, month: date | None = None) -> UsageReport:
    """Return the usage of the month that contains `month` (default: the current one), with the history by month."""
    history = [_month_total(row) for row in queries.usage_by_month(connection, org, _HISTORY_MONTHS)]
    return UsageReport(**bill(connection, org, month).model_dump(), history=history)


def bill(connection: Connection, org: UUID, month: date | None = None) -> Bill:
    """Return the bill of a month: as it was closed, or computed from the usage so far."""
    first = (month or queries.current_month(connection, org)).replace(day=1)
    closed = queries.bill(connection, org, first)
    if closed is not None:
        return Bill(**closed["body"] | {"closed_at": closed["closed_at"]})
    return _bill_so_far(connection, org, first)


def _bill_so_far(connection: Connection, org: UUID, first: date, most: int = _MOST_LINES) -> Bill:
    found = queries.usage_of_month(connection, org, first, "all", 1)
    whole = dict(found[0]) if found else dict.fromkeys(_NUMBERS, Decimal(0))
    base, billed = Decimal(whole["base_cost"]), Decimal(whole["billed_cost"])
    lines = {
        f"by_{dimension}": [UsageLine(**row) for row in queries.usage_of_month(connection, org, first, dimension, most)]
        for dimension in ("model", "agent", "conversation", "workflow")
    }
    return Bill(
        month=first,
        closed_at=None,
        markup=(billed / base - 1).quantize(Decimal("0.0001")) if base else Decimal(0),
        total=_month_total({**whole, "month": first}),
        **lines,
    )


_NUMBERS = [name for name in MonthTotal.model_fields if name != "month"]


def _month_total(row: Mapping[Any, Any]) -> MonthTotal:
    return MonthTotal(**{name: row[name] for name in MonthTotal.model_fields})


def total_usage(connection: Connection) -> int:
    """Add usage to the totals that bills are read from, at most 5,000 rows per call. Return how many."""
    return queries.total_usage(connection, TOTALLED_AT_ONCE)


def close_months(connection: Connection) -> int:
    """Store the bills of the months that are over, each once. Return how many months were due."""
    due = queries.months_to_close(connection, _GRACE)
    for row in due:
        body = _bill_so_far(connection, row["org_id"], row["month"], _ALL_LINES).model_dump_json()
        queries.insert_bill(connection, row["org_id"], row["month"], body)
    return len(due)


# ── budgets ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# A task reserves at least this many dollars at a time, so that it does not lock the month's row in every step.
_CHUNK = Decimal("0.05")


class BudgetExhausted(RotaError):
    """The monthly budget does not cover this any more. It goes on when the budget is raised, or next month."""


def list_budgets(connection: Connection, org: UUID) -> list[Budget]:
    """Return the budgets with what the current month has used of them."""
    return [_budget(connection, org, row) for row in queries.budgets(connection, org)]


def _budget(connection: Connection, org: UUID, row: RowMapping) -> Budget:
    spent = row["spent"] or _used(connection, org, row["agent"])
    limit = row["monthly_limit"]
    share = float(spent / limit) if limit else 1.0
    return Budget(agent=row["agent"], monthly_limit=limit, spent=spent, held=row["held"], share=share)


def set_budget(connection: Connection, org: UUID, agent: str, fields: BudgetFields) -> list[Budget]:
    """Limit what is billed per month, for an agent or (with an empty name) for the whole organisation. What the month
    has spent so far counts at once, so the budget may be exhausted immediately.
    """
    queries.put_budget(connection, org, agent, fields.monthly_limit)
    # If the month's row began only with the next call, no alert would be sent until then for a mark already reached.
    queries.begin_budget_month(connection, org, agent, _used(connection, org, agent))
    queries.lower_alert(connection, org, agent)
    return list_budgets(connection, org)


def remove_budget(connection: Connection, org: UUID, agent: str) -> None:
    """Delete a budget.

    Raises:
        NotFound: there is none.
    """
    if not queries.delete_budget(connection, org, agent):
        raise NotFound(f"There is no budget for {agent or 'the organisation'}.")


def room(connection: Connection, org: UUID) -> dict[str, Decimal]:
    """Return what is left of each budget, in dollars, by agent. The empty name is the organisation as a whole."""
    return {one.agent: one.monthly_limit - one.spent - one.held for one in list_budgets(connection, org)}


def has_budgets(connection: Connection, org: UUID) -> bool:
    """Whether the organisation has any budget."""
    return queries.has_budgets(connection, org)


def reserve(connection: Connection, org: UUID, agent: str, task: UUID, most: Callable[[], Decimal]) -> None:
    """Reserve the maximum cost of a call in every budget that it draws on. If one does not cover it, the error rolls
    the transaction back, so nothing is reserved in the others either.

    `most` returns that cost, in dollars. It is called only if there is a budget.

    Raises:
        BudgetExhausted: a budget does not cover the call.
    """
    concerned = queries.budgets_concerned(connection, org, agent, task)
    amount = most() if concerned else Decimal(0)
    for row in concerned:
        missing = amount - row["free"]
        if missing <= 0:
            continue
        found = queries.budget_month(connection, org, row["agent"])
        month = (
            found["month"]
            if found
            else queries.begin_budget_month(connection, org, row["agent"], _used(connection, org, row["agent"]))
        )
        wanted = {
            "org": org, "agent": row["agent"], "month": month, "task": task, "limit": row["monthly_limit"],
        }  # fmt: skip
        if not (
            (missing < _CHUNK and queries.reserve_budget(connection, wanted | {"amount": _CHUNK}))
            or queries.reserve_budget(connection, wanted | {"amount": missing})
        ):
            whose = f"of the agent {row['agent']}" if row["agent"] else "of the organisation"
            raise BudgetExhausted(
                f"The monthly budget {whose} (${row['monthly_limit']:f}) does not cover another call of up to "
                f"${amount:.4f}. It goes on when the budget is raised, or next month.",
                needed=amount,
            )


def _used(connection: Connection, org: UUID, agent: str) -> Decimal:
    """Return what the current month has been billed so far, from usage: the start value of a budget's month."""
    month = queries.current_month(connection, org)
    lines = queries.usage_of_month(connection, org, month, "agent" if agent else "all", 10_000)
    return sum((row["billed_cost"] for row in lines if row["name"] == agent), start=Decimal(0))


def draw(connection: Connection, task: UUID, amount: Decimal) -> None:
    """Record what a call cost, in the task's reserves."""
    queries.draw_on_budgets(connection, task, amount)


def release_reserves(connection: Connection, task: UUID) -> None:
    """Release a task's reserves; what was spent is added to the month."""
    if queries.lock_budget_months(connection, task):
        queries.release_budgets(connection, task)


def crossed_budgets(connection: Connection) -> list[CrossedBudget]:
    """Return the budgets that reached 50, 80 or 100 percent and for which no alert at that mark was recorded yet."""
    return [CrossedBudget(**row) for row in queries.crossed_budgets(connection)]


def note_told(connection: Connection, crossed: CrossedBudget) -> bool:
    """Record that an alert at a mark is sent, once per mark and month. Return False if it was recorded before."""
    return queries.note_told(connection, crossed.org_id, crossed.agent, crossed.share)
