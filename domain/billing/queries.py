"""All SQL about prices and usage. Usage rows themselves are written with their step (domain/claims/queries.py)."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from core.prepared import PreparedQuery, SingleStatement
from core.rows import fetch_all, fetch_optional
from domain.billing.models import prices
from domain.billing.schemas import (
    BudgetOfTask,
    ClosedBill,
    CrossedBudget,
    MonthToClose,
    MonthTotal,
    Price,
    StoredBudget,
    StoredMoneyFacts,
    UsageLine,
)
from domain.providers import service as providers
from domain.providers.schemas import StoredEndpoint

_PRICE = [column for column in prices.c if column.name != "org_id"]


def own_price(connection: Connection, model: str) -> Price | None:
    """Return the organisation's own price for `model`."""
    return fetch_optional(connection.execute(select(*_PRICE).where(prices.c.model == model)), Price)


_MINE = "nullif(current_setting('app.org', true), '')::uuid"
_SERVING = providers.SERVING
_MONEY = PreparedQuery(f"""
    SELECT b.has_budgets, {", ".join(f"p.{column.name} AS price_{column.name}" for column in _PRICE)},
           {", ".join(f"{_SERVING.column(name)} AS endpoint_{name}" for name in _SERVING.columns)}
      FROM (SELECT EXISTS (SELECT FROM budgets) AS has_budgets, CAST(:model AS text) AS wanted) b
      LEFT JOIN prices p ON p.model = b.wanted
      LEFT JOIN LATERAL ({_SERVING.fill(org=_MINE, model="b.wanted")}) {_SERVING.name} ON true
""")  # noqa: S608


def money_facts(at: Connection | SingleStatement, model: str) -> StoredMoneyFacts:
    """Return the organisation's own price for `model`, whether the organisation has any budget, and its endpoint that
    serves the model.
    """
    row = _MONEY.run(at, {"model": model}).all[0]
    price = {column.name: row[f"price_{column.name}"] for column in _PRICE}
    endpoint = {name: row[f"endpoint_{name}"] for name in _SERVING.columns}
    return StoredMoneyFacts(
        price=Price(**price) if price["model"] else None,
        has_budgets=row["has_budgets"],
        endpoint=StoredEndpoint(**endpoint) if endpoint["name"] else None,
    )


def own_prices(connection: Connection) -> list[Price]:
    """Return all of the organisation's own prices."""
    return fetch_all(connection.execute(select(*_PRICE).order_by(prices.c.model)), Price)


def put_price(connection: Connection, row: dict[str, Any]) -> None:
    """Set the organisation's price for a model."""
    statement = insert(prices).values(**row, updated_at=func.rota_now())
    changed = {name: statement.excluded[name] for name in (*row, "updated_at") if name not in {"org_id", "model"}}
    connection.execute(statement.on_conflict_do_update(index_elements=["org_id", "model"], set_=changed))


def delete_price(connection: Connection, model: str) -> bool:
    """Delete the organisation's own price for `model`. Return False if it had none."""
    return connection.execute(delete(prices).where(prices.c.model == model)).rowcount == 1


# ── usage ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_SUMS = """
    coalesce(sum(model_calls), 0)::bigint AS model_calls, coalesce(sum(rehearsal_calls), 0)::bigint AS rehearsal_calls,
    coalesce(sum(estimated_calls), 0)::bigint AS estimated_calls,
    coalesce(sum(unpriced_calls), 0)::bigint AS unpriced_calls,
    coalesce(sum(input_tokens), 0)::bigint AS input_tokens, coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
    coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
    coalesce(sum(base_cost), 0) AS base_cost, coalesce(sum(billed_cost), 0) AS billed_cost
"""
_EACH = """
    count(*) AS model_calls, count(*) FILTER (WHERE is_rehearsal) AS rehearsal_calls,
    count(*) FILTER (WHERE is_estimated) AS estimated_calls, count(*) FILTER (WHERE is_unpriced) AS unpriced_calls,
    sum(input_tokens) AS input_tokens,
    sum(cached_tokens) AS cached_tokens, sum(output_tokens) AS output_tokens, sum(base_cost) AS base_cost,
    sum(billed_cost) AS billed_cost
"""
_BY = """
    CROSS JOIN LATERAL (VALUES ('all', ''), ('model', model), ('agent', agent), ('conversation', conversation),
                               ('workflow', workflow_run::text)) AS by (dimension, name)
"""
_TOTALS = """model_calls, rehearsal_calls, estimated_calls, unpriced_calls, input_tokens, cached_tokens, output_tokens,
             base_cost, billed_cost"""
_SUMMED = f"""name, {_TOTALS}
          FROM usage_totals WHERE org_id = :org AND month = :month AND dimension = :dimension"""
# Adds usage that is not yet in the totals to the totals. The lines with the highest cost are among the highest totals
# or have new usage. The other totals are not read: there may be one for every conversation.
_MONTH = text(f"""
    WITH fresh AS (
        SELECT by.name, {_EACH}
          FROM usage {_BY}
         WHERE org_id = :org AND NOT is_totalled AND by.dimension = :dimension AND by.name IS NOT NULL
           AND created_at >= rota_month_begins(:org, CAST(:month AS date))
           AND created_at < rota_month_begins(:org, CAST(CAST(:month AS date) + interval '1 month' AS date))
         GROUP BY by.name
    ), totalled AS (
        (SELECT {_SUMMED} ORDER BY billed_cost DESC, name LIMIT :limit)
         UNION
        SELECT {_SUMMED} AND name IN (SELECT name FROM fresh)
    ), lines AS (
        SELECT * FROM totalled UNION ALL SELECT * FROM fresh
    )
    SELECT name, {_SUMS} FROM lines GROUP BY name ORDER BY sum(billed_cost) DESC, name LIMIT :limit
""")  # noqa: S608


def current_month(connection: Connection, org: UUID) -> date:
    """Return the first day of the current month, by the organisation's clock."""
    found: date = connection.execute(text("SELECT rota_month(:org, rota_now())"), {"org": org}).scalar_one()
    return found


def usage_of_month(connection: Connection, org: UUID, month: date, dimension: str, limit: int) -> list[UsageLine]:
    """Return the usage of the month that begins on `month`, by `dimension` (`all` for one line with everything),
    highest cost first.
    """
    values = {"org": org, "month": month, "dimension": dimension, "limit": limit}
    return fetch_all(connection.execute(_MONTH, values), UsageLine)


_BY_MONTH = text(f"""
    WITH lines AS (
        SELECT month, {_TOTALS}
          FROM usage_totals WHERE org_id = :org AND dimension = 'all'
         UNION ALL
        SELECT rota_month(org_id, created_at), {_EACH}
          FROM usage WHERE org_id = :org AND NOT is_totalled GROUP BY 1
    )
    SELECT month, {_SUMS} FROM lines GROUP BY month ORDER BY month DESC LIMIT :months
""")  # noqa: S608


def usage_by_month(connection: Connection, org: UUID, months: int) -> list[MonthTotal]:
    """Return the usage of the last `months` months that have any, newest first."""
    return fetch_all(connection.execute(_BY_MONTH, {"org": org, "months": months}), MonthTotal)


# Totals are written in key order, so that two concurrent runs cannot deadlock.
_TOTAL = text(f"""
    WITH chosen AS (
        UPDATE usage SET is_totalled = true
         WHERE id IN (SELECT id FROM usage WHERE NOT is_totalled ORDER BY id LIMIT :batch FOR UPDATE SKIP LOCKED)
        RETURNING *
    ), sums AS (
        SELECT org_id, rota_month(org_id, created_at) AS month, by.dimension, by.name, {_EACH}
          FROM chosen {_BY} WHERE by.name IS NOT NULL GROUP BY 1, 2, 3, 4
    ), added AS (
        INSERT INTO usage_totals AS t (org_id, month, dimension, name, {_TOTALS})
        SELECT * FROM sums ORDER BY org_id, month, dimension, name
        ON CONFLICT (org_id, month, dimension, name) DO UPDATE
           SET model_calls = t.model_calls + excluded.model_calls,
               rehearsal_calls = t.rehearsal_calls + excluded.rehearsal_calls,
               estimated_calls = t.estimated_calls + excluded.estimated_calls,
               unpriced_calls = t.unpriced_calls + excluded.unpriced_calls,
               input_tokens = t.input_tokens + excluded.input_tokens,
               cached_tokens = t.cached_tokens + excluded.cached_tokens,
               output_tokens = t.output_tokens + excluded.output_tokens,
               base_cost = t.base_cost + excluded.base_cost, billed_cost = t.billed_cost + excluded.billed_cost
    )
    SELECT count(*) FROM chosen
""")  # noqa: S608


def total_usage(connection: Connection, batch: int) -> int:
    """Add up to `batch` usage rows to the totals. Return how many."""
    found: int = connection.execute(_TOTAL, {"batch": batch}).scalar_one()
    return found


# ── bills ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_TO_CLOSE = text("""
    SELECT DISTINCT t.org_id, t.month FROM usage_totals t
     WHERE t.dimension = 'all'
       AND rota_now() > rota_month_begins(t.org_id, (t.month + interval '1 month')::date) + CAST(:grace AS interval)
       AND NOT EXISTS (SELECT FROM bills b WHERE b.org_id = t.org_id AND b.month = t.month)
       AND NOT EXISTS (SELECT FROM usage u WHERE u.org_id = t.org_id AND NOT u.is_totalled
                          AND u.created_at < rota_month_begins(t.org_id, (t.month + interval '1 month')::date))
     ORDER BY t.org_id, t.month LIMIT 100
""")


def months_to_close(connection: Connection, grace: timedelta) -> list[MonthToClose]:
    """Return up to 100 organisations and months that ended more than `grace` ago, are fully totalled and have no
    bill.
    """
    return fetch_all(connection.execute(_TO_CLOSE, {"grace": grace}), MonthToClose)


def insert_bill(connection: Connection, org: UUID, month: date, body: str) -> None:
    """Close a month by storing its bill. No-op if it is already closed."""
    statement = text(
        "INSERT INTO bills (org_id, month, body) VALUES (:org, :month, CAST(:body AS jsonb)) ON CONFLICT DO NOTHING"
    )
    connection.execute(statement, {"org": org, "month": month, "body": body})


def bill(connection: Connection, org: UUID, month: date) -> ClosedBill | None:
    """Return the bill of a closed month."""
    statement = text("SELECT closed_at, body FROM bills WHERE org_id = :org AND month = :month")
    return fetch_optional(connection.execute(statement, {"org": org, "month": month}), ClosedBill)


# ── budgets ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_BUDGETS = text("""
    SELECT b.agent, b.monthly_limit, coalesce(m.spent + h.spent, 0) AS spent,
           coalesce(m.held - h.spent, 0) AS held
      FROM budgets b
      LEFT JOIN budget_months m ON m.org_id = b.org_id AND m.agent = b.agent
                               AND m.month = rota_month(b.org_id, rota_now())
      LEFT JOIN LATERAL (SELECT coalesce(sum(spent), 0) AS spent FROM budget_holds h
                          WHERE h.org_id = b.org_id AND h.agent = b.agent AND h.month = m.month) h ON true
     WHERE b.org_id = :org ORDER BY b.agent
""")


def budgets(connection: Connection, org: UUID) -> list[StoredBudget]:
    """Return the budgets with what is spent and reserved of them in the current month."""
    return fetch_all(connection.execute(_BUDGETS, {"org": org}), StoredBudget)


def has_budgets(connection: Connection, org: UUID) -> bool:
    """Whether the organisation has any budget."""
    statement = text("SELECT FROM budgets WHERE org_id = :org LIMIT 1")
    return connection.execute(statement, {"org": org}).first() is not None


def put_budget(connection: Connection, org: UUID, agent: str, limit: Decimal) -> None:
    """Set a budget."""
    statement = text("""
        INSERT INTO budgets (org_id, agent, monthly_limit) VALUES (:org, :agent, :limit)
        ON CONFLICT (org_id, agent) DO UPDATE SET monthly_limit = excluded.monthly_limit, changed_at = rota_now()
    """)
    connection.execute(statement, {"org": org, "agent": agent, "limit": limit})


def delete_budget(connection: Connection, org: UUID, agent: str) -> bool:
    """Delete a budget with its months and reserves. Return False if there was none."""
    for table in ("budget_months", "budget_holds"):
        connection.execute(
            text(f"DELETE FROM {table} WHERE org_id = :org AND agent = :agent"),  # noqa: S608
            {"org": org, "agent": agent},
        )
    statement = text("DELETE FROM budgets WHERE org_id = :org AND agent = :agent")
    return connection.execute(statement, {"org": org, "agent": agent}).rowcount == 1


_CONCERNED = text("""
    SELECT b.agent, b.monthly_limit, coalesce(h.reserved - h.spent, 0) AS free
      FROM budgets b
      LEFT JOIN budget_holds h ON h.task_id = :task AND h.agent = b.agent
                              AND h.month = rota_month(b.org_id, rota_now())
     WHERE b.org_id = :org AND b.agent IN ('', :agent) ORDER BY b.agent
""")


def budgets_concerned(connection: Connection, org: UUID, agent: str, task: UUID) -> list[BudgetOfTask]:
    """Return the budgets that a task of `agent` draws on, with what is left of the task's reserves."""
    return fetch_all(connection.execute(_CONCERNED, {"org": org, "agent": agent, "task": task}), BudgetOfTask)


# A month's row starts with what the month has used so far: a budget may be set on any day.
_BEGIN_MONTH = text("""
    WITH month AS (
        INSERT INTO budget_months AS m (org_id, agent, month, spent, held)
        SELECT :org, :agent, rota_month(:org, rota_now()), :used, 0
        ON CONFLICT (org_id, agent, month) DO UPDATE SET held = m.held
        RETURNING month
    )
    SELECT month FROM month
""")
_RESERVE_BUDGET = text("""
    WITH taken AS (
        UPDATE budget_months m SET held = held + :amount
         WHERE org_id = :org AND agent = :agent AND month = :month AND spent + held + :amount <= :limit
        RETURNING month
    )
    INSERT INTO budget_holds (task_id, agent, month, org_id, reserved)
    SELECT :task, :agent, month, :org, :amount FROM taken
    ON CONFLICT (task_id, agent, month) DO UPDATE SET reserved = budget_holds.reserved + excluded.reserved
""")


def budget_month(connection: Connection, org: UUID, agent: str) -> date | None:
    """Return the current month of a budget, or None if its row does not exist yet."""
    statement = text(
        "SELECT month FROM budget_months WHERE org_id = :org AND agent = :agent "
        "AND month = rota_month(:org, rota_now())"
    )
    return connection.execute(statement, {"org": org, "agent": agent}).scalar_one_or_none()


def begin_budget_month(connection: Connection, org: UUID, agent: str, used: Decimal) -> date:
    """Begin the current month of a budget with `used`, unless it has begun. Return the month."""
    found: date = connection.execute(_BEGIN_MONTH, {"org": org, "agent": agent, "used": used}).scalar_one()
    return found


def reserve_budget(connection: Connection, row: dict[str, Any]) -> bool:
    """Reserve an amount for a task. Return False and reserve nothing if the budget does not have that much left."""
    return connection.execute(_RESERVE_BUDGET, row).rowcount == 1


_DRAW = text("""
    UPDATE budget_holds SET spent = spent + :amount
     WHERE task_id = :task AND month = (SELECT max(month) FROM budget_holds h WHERE h.task_id = :task)
""")


def draw_on_budgets(connection: Connection, task: UUID, amount: Decimal) -> None:
    """Record what a task spent, in its reserves of its latest month."""
    connection.execute(_DRAW, {"task": task, "amount": amount})


_RELEASE_BUDGETS = text("""
    WITH gone AS (DELETE FROM budget_holds WHERE task_id = :task RETURNING org_id, agent, month, reserved, spent)
    UPDATE budget_months m SET spent = m.spent + gone.spent, held = m.held - gone.reserved
      FROM gone WHERE m.org_id = gone.org_id AND m.agent = gone.agent AND m.month = gone.month
""")


_LOCK_MONTHS = text("""
    SELECT FROM budget_months m JOIN budget_holds h USING (org_id, agent, month)
     WHERE h.task_id = :task ORDER BY m.agent, m.month FOR UPDATE OF m
""")


def lock_budget_months(connection: Connection, task: UUID) -> bool:
    """Lock the budget months that a task's reserves belong to, always in the same order so that two tasks cannot
    deadlock. Return False if the task has no reserves.
    """
    return bool(connection.execute(_LOCK_MONTHS, {"task": task}).all())


def release_budgets(connection: Connection, task: UUID) -> None:
    """Delete a task's reserves and move what was spent of them to their months."""
    connection.execute(_RELEASE_BUDGETS, {"task": task})


_SPENT = """
    budgets b JOIN budget_months m ON m.org_id = b.org_id AND m.agent = b.agent
                                  AND m.month = rota_month(b.org_id, rota_now()),
    LATERAL (SELECT m.spent + coalesce(sum(h.spent), 0) AS used FROM budget_holds h
              WHERE h.org_id = b.org_id AND h.agent = b.agent AND h.month = m.month) used,
    LATERAL (SELECT CASE WHEN used >= b.monthly_limit THEN 100
                         WHEN used >= b.monthly_limit * 0.8 THEN 80
                         WHEN used >= b.monthly_limit * 0.5 THEN 50 ELSE 0 END AS share) marked
"""
_CROSSED = text(f"""
    SELECT b.org_id, b.agent, b.monthly_limit, used, share FROM {_SPENT} WHERE m.alerted < share
""")  # noqa: S608
_TOLD = text("""
    UPDATE budget_months SET alerted = :share
     WHERE org_id = :org AND agent = :agent AND month = rota_month(:org, rota_now()) AND alerted < :share
""")


def crossed_budgets(connection: Connection) -> list[CrossedBudget]:
    """Return the budgets that reached 50, 80 or 100 percent and for which no alert at that mark was recorded yet."""
    return fetch_all(connection.execute(_CROSSED), CrossedBudget)


def note_told(connection: Connection, org: UUID, agent: str, share: int) -> bool:
    """Record that an alert at a mark is sent. Return False if it was recorded before."""
    return connection.execute(_TOLD, {"org": org, "agent": agent, "share": share}).rowcount == 1


_LOWER_ALERT = text(f"""
    UPDATE budget_months SET alerted = reached.share
      FROM (SELECT m.month, share FROM {_SPENT} WHERE b.org_id = :org AND b.agent = :agent) AS reached
     WHERE org_id = :org AND agent = :agent AND budget_months.month = reached.month AND alerted > reached.share
""")  # noqa: S608


def lower_alert(connection: Connection, org: UUID, agent: str) -> None:
    """Adjust the last alert after a change of the limit: marks above the present use alert again when they are reached;
    marks that are reached and were alerted do not alert twice.
    """
    connection.execute(_LOWER_ALERT, {"org": org, "agent": agent})
