"""Operations on prices, usage, bills and budgets."""

import contextlib
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Connection

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
    StoredBudget,
    UsageLine,
    UsageReport,
)
from domain.providers import service as providers
from domain.tenants import service as tenants

_HISTORY_MONTHS = 24


def own_price(connection: Connection, model: str) -> Price | None:
    """Return the organisation's own price for `model`, or None if it has none."""
    return queries.own_price(connection, model)


def money_facts(at: Connection | SingleStatement, model: str) -> MoneyFacts:
    """Return an organisation's own price for `model`, whether it has any budget, and its endpoint for the model."""
    stored = queries.money_facts(at, model)
    endpoint = providers.endpoint_of(stored.endpoint, model)
    return MoneyFacts(price=stored.price, has_budgets=stored.has_budgets, endpoint=endpoint)


def list_prices(connection: Connection, org: UUID, models: Iterable[str] = ()) -> list[AppliedPrice]:
    """Return what the organisation is billed for `models` and the models that it has own prices for, by name. Models
    without a known price are left out.
    """
    markup = tenants.get_organisation(connection, org).markup
    own = {price.model: price for price in queries.own_prices(connection)}
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
    price = queries.own_price(connection, model)
    if price is None:
        raise NotFound("The price was removed again at once.")
    return price


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
    history = queries.usage_by_month(connection, org, _HISTORY_MONTHS)
    return UsageReport(**bill(connection, org, month).model_dump(), history=history)


def bill(connection: Connection, org: UUID, month: date | None = None) -> Bill:
    """Return the bill of a month: as it was closed, or computed from the usage so far."""
    first = (month or queries.current_month(connection, org)).replace(day=1)
    closed = queries.bill(connection, org, first)
    if closed is not None:
        return Bill(**closed.body | {"closed_at": closed.closed_at})
    return _bill_so_far(connection, org, first)


def _bill_so_far(connection: Connection, org: UUID, first: date, most: int = _MOST_LINES) -> Bill:
    """Compute the bill of a month from its usage so far, with at most `most` lines in each part."""

    def by(dimension: str) -> list[UsageLine]:
        return queries.usage_of_month(connection, org, first, dimension, most)

    whole = next(iter(by("all")), _NO_USAGE)
    base, billed = whole.base_cost, whole.billed_cost
    return Bill(
        month=first,
        closed_at=None,
        markup=(billed / base - 1).quantize(Decimal("0.0001")) if base else Decimal(0),
        total=MonthTotal(month=first, **whole.model_dump(exclude={"name"})),
        by_model=by("model"),
        by_agent=by("agent"),
        by_conversation=by("conversation"),
        by_workflow=by("workflow"),
    )


_NO_USAGE = UsageLine(
    name="", model_calls=0, rehearsal_calls=0, input_tokens=0, cached_tokens=0, output_tokens=0, base_cost=Decimal(0),
    billed_cost=Decimal(0),
)  # fmt: skip


def total_usage(connection: Connection) -> int:
    """Add usage to the totals that bills are read from, at most 5,000 rows per call. Return how many."""
    return queries.total_usage(connection, TOTALLED_AT_ONCE)


def close_months(connection: Connection) -> int:
    """Store the bills of the months that are over, each once. Return how many months were due."""
    due = queries.months_to_close(connection, _GRACE)
    for one in due:
        body = _bill_so_far(connection, one.org_id, one.month, _ALL_LINES).model_dump_json()
        queries.insert_bill(connection, one.org_id, one.month, body)
    return len(due)


# ── budgets ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# A task reserves at least this many dollars at a time, so that it does not lock the month's row in every step.
_CHUNK = Decimal("0.05")


class BudgetExhausted(RotaError):
    """The monthly budget does not cover this any more. It goes on when the budget is raised, or next month."""


def list_budgets(connection: Connection, org: UUID) -> list[Budget]:
    """Return the budgets with what the current month has used of them."""
    return [_budget(connection, org, stored) for stored in queries.budgets(connection, org)]


def _budget(connection: Connection, org: UUID, stored: StoredBudget) -> Budget:
    spent = stored.spent or _used(connection, org, stored.agent)
    limit = stored.monthly_limit
    share = float(spent / limit) if limit else 1.0
    return Budget(agent=stored.agent, monthly_limit=limit, spent=spent, held=stored.held, share=share)


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
    for budget in concerned:
        missing = amount - budget.free
        if missing <= 0:
            continue
        month = queries.budget_month(connection, org, budget.agent) or queries.begin_budget_month(
            connection, org, budget.agent, _used(connection, org, budget.agent)
        )
        wanted = {
            "org": org, "agent": budget.agent, "month": month, "task": task, "limit": budget.monthly_limit,
        }  # fmt: skip
        if not (
            (missing < _CHUNK and queries.reserve_budget(connection, wanted | {"amount": _CHUNK}))
            or queries.reserve_budget(connection, wanted | {"amount": missing})
        ):
            whose = f"of the agent {budget.agent}" if budget.agent else "of the organisation"
            raise BudgetExhausted(
                f"The monthly budget {whose} (${budget.monthly_limit:f}) does not cover another call of up to "
                f"${amount:.4f}. It goes on when the budget is raised, or next month.",
                needed=amount,
            )


def _used(connection: Connection, org: UUID, agent: str) -> Decimal:
    """Return what the current month has been billed so far, from usage: the start value of a budget's month."""
    month = queries.current_month(connection, org)
    lines = queries.usage_of_month(connection, org, month, "agent" if agent else "all", 10_000)
    return sum((line.billed_cost for line in lines if line.name == agent), start=Decimal(0))


def draw(connection: Connection, task: UUID, amount: Decimal) -> None:
    """Record what a call cost, in the task's reserves."""
    queries.draw_on_budgets(connection, task, amount)


def release_reserves(connection: Connection, task: UUID) -> None:
    """Release a task's reserves; what was spent is added to the month."""
    if queries.lock_budget_months(connection, task):
        queries.release_budgets(connection, task)


def crossed_budgets(connection: Connection) -> list[CrossedBudget]:
    """Return the budgets that reached 50, 80 or 100 percent and for which no alert at that mark was recorded yet."""
    return queries.crossed_budgets(connection)


def note_told(connection: Connection, crossed: CrossedBudget) -> bool:
    """Record that an alert at a mark is sent, once per mark and month. Return False if it was recorded before."""
    return queries.note_told(connection, crossed.org_id, crossed.agent, crossed.share)
