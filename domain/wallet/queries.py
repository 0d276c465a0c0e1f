"""All SQL about tokens.

The wallet's row is locked only when tokens are held, bought or owed. Spending appends an entry against the task's own
hold, and the end of a task marks its hold as over. A transaction that has locked the wallet waits for no hold except
that of its own task, so no two operations can deadlock.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.fragments import Fragment
from core.ids import new_id
from core.json_text import dump_json
from core.prepared import PreparedQuery
from core.rows import fetch_all, fetch_one
from domain.wallet.schemas import (
    Balance,
    DueFee,
    Entry,
    LockedWallet,
    LowWallet,
    Payment,
    Reconciliation,
    SpentEntry,
    TokenPrice,
)

_BALANCE = text("""
    SELECT w.balance - h.spent AS balance, w.held - h.spent - h.freed AS held,
           w.balance - w.held + h.freed AS available, w.owed,
           (SELECT prepaid_since IS NOT NULL FROM organisations o WHERE o.id = w.org_id) AS is_prepaid
      FROM wallets w, (SELECT coalesce(sum(spent), 0)::bigint AS spent,
                              coalesce(sum(reserved - spent) FILTER (WHERE is_over), 0)::bigint AS freed
                         FROM holds WHERE org_id = :org) h
     WHERE w.org_id = :org
""")


def balance(connection: Connection, org: UUID) -> Balance:
    """Return the balance of the wallet."""
    return fetch_one(connection.execute(_BALANCE, {"org": org}), Balance)


# ── hold, spend, release ─────────────────────────────────────────────────────────────────────────────────────────────

_FREE_IN_HOLD = PreparedQuery(
    "SELECT reserved - spent AS free FROM holds WHERE task_id = :task AND NOT is_over FOR UPDATE"
)


def free_in_hold(connection: Connection, task: UUID) -> int:
    """Lock the task's hold and return how many tokens it has left; 0 if there is no hold."""
    found = _FREE_IN_HOLD.run(connection, {"task": task}).first()
    return found["free"] if found else 0


# The end of a task only marks its hold. Ended holds are subtracted from the wallet's row in batches, every few seconds
# and when tokens are short. The wallet's row, which all tasks of the organisation contend for, is thus locked once per
# task and briefly, and no task has to scan the ended holds of others.
HOLD = Fragment(
    name="hold",
    columns=("tokens",),
    parameters=("task", "tokens"),
    sql="""
    on_wallet AS (
        UPDATE wallets SET held = held + CAST(:tokens AS bigint)
         WHERE org_id = {org} AND owed = 0 AND balance - held >= :tokens RETURNING org_id
    ), hold AS (
        INSERT INTO holds (task_id, org_id, reserved) SELECT :task, org_id, :tokens FROM on_wallet
        ON CONFLICT (task_id) DO UPDATE SET reserved = holds.reserved + excluded.reserved
        RETURNING :tokens AS tokens
    )
""",
)
"""CTEs that hold `:tokens` for `:task` from the wallet of `org`, which may be a subquery. There is a row if the tokens
were available. Nothing is locked if `org` is null.
"""
_EXTEND = PreparedQuery(f"WITH {HOLD.fill(org=':org')} SELECT FROM {HOLD.name}")


_SUBTRACT_ENDED_HOLDS = text("""
    WITH wallet AS (SELECT balance, held FROM wallets WHERE org_id = :org FOR UPDATE), gone AS (
        DELETE FROM holds
         WHERE task_id IN (SELECT task_id FROM holds WHERE org_id = :org AND is_over
                            ORDER BY task_id FOR UPDATE SKIP LOCKED)
        RETURNING reserved, spent
    ), freed AS (
        SELECT coalesce(sum(reserved), 0)::bigint AS reserved, coalesce(sum(spent), 0)::bigint AS spent FROM gone
    )
    UPDATE wallets w SET balance = wallet.balance - freed.spent, held = wallet.held - freed.reserved
      FROM wallet, freed WHERE w.org_id = :org
""")


def extend_hold(connection: Connection, org: UUID, task: UUID, tokens: int) -> bool:
    """Hold `tokens` more for a task. Return False and change nothing if the wallet has too few, or owes fees."""
    return _EXTEND.run(connection, {"org": org, "task": task, "tokens": tokens}).count == 1


PAID = Fragment(
    name="paid",
    columns=("org_id",),
    parameters=("task", "tokens", "payments"),
    sql="""
    paid AS (
        UPDATE holds SET spent = spent + :tokens, is_over = {is_last}
         WHERE task_id = :task AND NOT is_over AND reserved - spent >= :tokens AND {condition} RETURNING org_id
    ), entered AS (
        INSERT INTO wallet_entries (id, org_id, source, target, tokens, reason, item, quantity, task_id, seq, note)
        SELECT p.id, org_id, 'available', 'spent', p.tokens, 'spend', p.item, 1, :task, p.seq, p.note
          FROM paid, jsonb_to_recordset(CAST(:payments AS jsonb))
               AS p (id uuid, seq integer, item text, tokens bigint, note text)
    )
""",
)
"""CTEs that spend `:tokens`, the total of `:payments`, from the hold of `:task` if `condition` is true. There is a row
if the hold had enough. If `is_last` is true, this also ends the hold.
"""
_SPEND = PreparedQuery(f"WITH {PAID.fill(is_last='false', condition='true')} SELECT FROM {PAID.name}")


def payment_values(payments: Sequence[Payment]) -> dict[str, Any]:
    """Return the parameters of `PAID`, except for the task."""
    rows = [{"id": new_id(), **payment._asdict()} for payment in payments]
    return {"tokens": sum(payment.tokens for payment in payments), "payments": dump_json(rows)}


def spend(connection: Connection, task: UUID, payments: Sequence[Payment]) -> bool:
    """Spend from a task's hold. Return False and change nothing if it has too little left."""
    return _SPEND.run(connection, {"task": task, **payment_values(payments)}).count == 1


_RELEASE = PreparedQuery("UPDATE holds SET is_over = true WHERE task_id = :task")
_WITH_ENDED_HOLDS = text("SELECT DISTINCT org_id FROM holds WHERE is_over")


def release_hold(connection: Connection, task: UUID) -> None:
    """End a task's hold: spent tokens count as gone from the wallet, the rest as free again."""
    _RELEASE.run(connection, {"task": task})


def subtract_ended_holds(connection: Connection, org: UUID) -> None:
    """Subtract ended holds from the wallet's row, and delete them."""
    connection.execute(_SUBTRACT_ENDED_HOLDS, {"org": org})


def organisations_with_ended_holds(connection: Connection) -> list[UUID]:
    """Return the organisations with ended holds."""
    return list(connection.execute(_WITH_ENDED_HOLDS).scalars())


_LEFT_BEHIND = text("""
    SELECT h.task_id FROM (SELECT task_id FROM holds WHERE NOT is_over UNION SELECT task_id FROM budget_holds) h
     WHERE NOT EXISTS (SELECT FROM tasks t WHERE t.id = h.task_id AND t.status = 'running') LIMIT 100
""")
# The task's row is locked so that no worker claims it while its hold is released.
_IS_AT_REST = text("SELECT status <> 'running' FROM tasks WHERE id = :task FOR UPDATE")


def holds_left_behind(connection: Connection) -> list[UUID]:
    """Return up to 100 tasks that have a hold or a reserve but no worker: it died before releasing them."""
    return list(connection.execute(_LEFT_BEHIND).scalars())


def is_at_rest(connection: Connection, task: UUID) -> bool:
    """Whether no worker has the task, or it is gone. Locks the task's row, so that this stays true until commit."""
    return connection.execute(_IS_AT_REST, {"task": task}).scalar() is not False


# ── top-up, correction, refund, fees ─────────────────────────────────────────────────────────────────────────────────

_LOCK = text("SELECT balance, held, owed FROM wallets WHERE org_id = :org FOR UPDATE")


def lock_wallet(connection: Connection, org: UUID) -> LockedWallet:
    """Subtract ended holds, then lock and return the wallet's row."""
    subtract_ended_holds(connection, org)
    return fetch_one(connection.execute(_LOCK, {"org": org}), LockedWallet)


def change_wallet(connection: Connection, org: UUID, *, balance: int = 0, owed: int = 0) -> None:
    """Add to (or subtract from) the balance and the debt of a locked wallet."""
    statement = text("UPDATE wallets SET balance = balance + :balance, owed = owed + :owed WHERE org_id = :org")
    connection.execute(statement, {"org": org, "balance": balance, "owed": owed})


_LEFT = "balance - (SELECT coalesce(sum(h.spent), 0) FROM holds h WHERE h.org_id = wallets.org_id)"
_FILLED = text(f"UPDATE wallets SET filled = {_LEFT}, alerted = 0 WHERE org_id = :org")  # noqa: S608


def note_filled(connection: Connection, org: UUID) -> None:
    """Record that tokens were added to a locked wallet: alerts begin anew."""
    connection.execute(_FILLED, {"org": org})


# What tasks hold and have not spent is not spent.
_LOW = text(f"""
    SELECT wallets.org_id, tokens, filled, share
      FROM wallets JOIN organisations o ON o.id = wallets.org_id AND o.prepaid_since IS NOT NULL,
           LATERAL (SELECT {_LEFT} AS tokens) now,
           LATERAL (SELECT CASE WHEN tokens <= 0 THEN 100
                                WHEN tokens <= filled * 0.05 THEN 95
                                WHEN tokens <= filled * 0.2 THEN 80 ELSE 0 END AS share) marked
     WHERE filled > 0 AND alerted < share
""")  # noqa: S608
_TOLD = text("UPDATE wallets SET alerted = :share WHERE org_id = :org AND alerted < :share")


def low_wallets(connection: Connection) -> list[LowWallet]:
    """Return the wallets of which 80, 95 or 100 percent are spent, and for which no alert at that mark was recorded."""
    return fetch_all(connection.execute(_LOW), LowWallet)


def note_told(connection: Connection, org: UUID, share: int) -> bool:
    """Record that an alert at a mark is sent. Return False if it was recorded before."""
    return connection.execute(_TOLD, {"org": org, "share": share}).rowcount == 1


_ENTRY = text("""
    INSERT INTO wallet_entries (id, org_id, source, target, tokens, reason, item, quantity, task_id, seq, reference,
                                refunds, user_id, note)
    VALUES (:id, :org, :source, :target, :tokens, :reason, :item, :quantity, :task, :seq, :reference, :refunds, :user,
            :note)
    ON CONFLICT DO NOTHING
""")
_NO_DETAILS = dict.fromkeys(("item", "quantity", "task", "seq", "reference", "refunds", "user", "note"))


def insert_entry(connection: Connection, row: dict[str, Any]) -> bool:
    """Insert an entry. Return False if one with its reference, or a refund of the same entry, exists already."""
    return connection.execute(_ENTRY, _NO_DETAILS | row).rowcount == 1


def tokens_by_reference(connection: Connection, org: UUID, reason: str, reference: str) -> int | None:
    """Return how many tokens the entry with this reference moved, or None if there is no such entry."""
    statement = text(
        "SELECT tokens FROM wallet_entries WHERE org_id = :org AND reason = :reason AND reference = :reference"
    )
    values = {"org": org, "reason": reason, "reference": reference}
    return connection.execute(statement, values).scalar_one_or_none()


_SPENT_IN_STEP = text("""
    SELECT id, tokens, item, quantity FROM wallet_entries e
     WHERE task_id = :task AND seq = :seq AND reason = 'spend' AND (CAST(:note AS text) IS NULL OR note = :note)
       AND NOT EXISTS (SELECT FROM wallet_entries r WHERE r.refunds = e.id)
     ORDER BY id
""")


def unrefunded(connection: Connection, task: UUID, seq: int, note: str | None) -> list[SpentEntry]:
    """Return the entries that a step spent and that were not refunded; with `note`, only those with that note."""
    return fetch_all(connection.execute(_SPENT_IN_STEP, {"task": task, "seq": seq, "note": note}), SpentEntry)


_FEES_DUE = text("""
    SELECT o.id AS org_id, CAST(due.month AS date) AS month
      FROM organisations o,
           generate_series(date_trunc('month', o.prepaid_since) + interval '1 month', rota_now(),
                           interval '1 month') AS due (month)
     WHERE NOT EXISTS (SELECT FROM fees f WHERE f.org_id = o.id AND f.month = CAST(due.month AS date))
     ORDER BY o.id, due.month LIMIT 500
""")


def fees_due(connection: Connection) -> list[DueFee]:
    """Return prepaid organisations and months without a fee: every month after that in which they became prepaid."""
    return fetch_all(connection.execute(_FEES_DUE), DueFee)


def organisations_owing(connection: Connection) -> list[UUID]:
    """Return the organisations that owe fees and have tokens that are not held."""
    statement = text("SELECT org_id FROM wallets WHERE owed > 0 AND balance > held LIMIT 100")
    return list(connection.execute(statement).scalars())


def insert_fee(connection: Connection, org: UUID, month: date, tokens: int) -> bool:
    """Record that a month's fee is charged. Return False if it was charged already."""
    statement = text("INSERT INTO fees (org_id, month, tokens) VALUES (:org, :month, :tokens) ON CONFLICT DO NOTHING")
    return connection.execute(statement, {"org": org, "month": month, "tokens": tokens}).rowcount == 1


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_STATEMENT = text("""
    SELECT id, created_at, source, target, tokens, reason, item, quantity, task_id, seq, refunds, user_id, note
      FROM wallet_entries
     WHERE org_id = :org AND (CAST(:before AS uuid) IS NULL OR id < :before)
       AND (CAST(:task AS uuid) IS NULL OR task_id = :task)
     ORDER BY id DESC LIMIT :limit
""")


def entries(connection: Connection, org: UUID, *, before: UUID | None, task: UUID | None, limit: int) -> list[Entry]:
    """Return entries, newest first."""
    values = {"org": org, "before": before, "task": task, "limit": limit}
    return fetch_all(connection.execute(_STATEMENT, values), Entry)


_RECONCILE = text("""
    WITH moved AS (
        SELECT target AS account, tokens FROM wallet_entries WHERE org_id = :org
         UNION ALL
        SELECT source, -tokens FROM wallet_entries WHERE org_id = :org
    ), ledger AS (
        SELECT coalesce(sum(tokens) FILTER (WHERE account = 'available'), 0)::bigint AS available,
               coalesce(sum(tokens), 0)::bigint AS everything, count(*) / 2 AS entries
          FROM moved
    ), open_holds AS (
        SELECT coalesce(sum(reserved), 0)::bigint AS reserved, coalesce(sum(spent), 0)::bigint AS spent
          FROM holds WHERE org_id = :org
    )
    SELECT ledger.entries, ledger.available AS ledger_available, w.balance - open_holds.spent AS wallet_available,
           ledger.available - (w.balance - open_holds.spent) AS difference,
           w.held - open_holds.reserved AS held_difference, ledger.everything AS sum_over_accounts
      FROM wallets w, ledger, open_holds WHERE w.org_id = :org
""")


def reconcile(connection: Connection, org: UUID) -> Reconciliation:
    """Compare the wallet's row with its ledger."""
    return fetch_one(connection.execute(_RECONCILE, {"org": org}), Reconciliation)


_PRICE = """
    SELECT DISTINCT ON (item) item, tokens, nullif(effective_from, '-infinity') AS effective_from, set_by
      FROM token_prices WHERE effective_from <= rota_now() ORDER BY item, token_prices.effective_from DESC
"""
_HISTORY = """
    SELECT item, tokens, nullif(effective_from, '-infinity') AS effective_from, set_by
      FROM token_prices ORDER BY item, token_prices.effective_from DESC
"""


def prices(connection: Connection) -> dict[str, int]:
    """Return the prices in force, in tokens, by item."""
    return {row.item: row.tokens for row in connection.execute(text(_PRICE))}


def price_list(connection: Connection, *, history: bool) -> list[TokenPrice]:
    """Return the prices in force; with `history`, all prices ever set."""
    return fetch_all(connection.execute(text(_HISTORY if history else _PRICE)), TokenPrice)


def insert_price(connection: Connection, row: dict[str, Any]) -> None:
    """Set a price that applies from now on."""
    statement = text(
        "INSERT INTO token_prices (item, tokens, effective_from, set_by) VALUES (:item, :tokens, rota_now(), :set_by)"
    )
    connection.execute(statement, row)
