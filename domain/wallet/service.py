"""Operations on prepaid tokens."""

from collections.abc import Mapping
from datetime import date
from uuid import UUID

from sqlalchemy import Connection

from core.errors import Conflict
from core.ids import new_id
from domain.wallet import queries
from domain.wallet.schemas import (
    Balance,
    Correction,
    DueFee,
    InsufficientFunds,
    LowWallet,
    NewTokenPrice,
    Payment,
    PriceItem,
    Reconciliation,
    Statement,
    TokenPrice,
    TopUp,
)

# Minimum number of tokens to hold for a task at a time, so that the wallet's row is not locked for every step.
CHUNK = 20

# For statements that hold or spend tokens together with a task's other writes.
HOLD, PAID, payment_values = queries.HOLD, queries.PAID, queries.payment_values

Prices = Mapping[str, int]


def balance(connection: Connection, org: UUID) -> Balance:
    """Return the balance of the wallet."""
    return queries.balance(connection, org)


def top_up(
    connection: Connection, org: UUID, wanted: TopUp, *, user_id: UUID | None = None, reference: str | None = None
) -> Balance:
    """Add tokens that were bought. Owed fees are paid first. Idempotent for a `reference`.

    Raises:
        Conflict: the reference was used for another amount.
    """
    queries.lock_wallet(connection, org)
    row = {
        "id": new_id(), "org": org, "source": "purchases", "target": "available", "tokens": wanted.tokens,
        "reason": "top_up", "reference": reference, "user": user_id, "note": wanted.note,
    }  # fmt: skip
    if not queries.insert_entry(connection, row):
        if queries.tokens_by_reference(connection, org, "top_up", str(reference)) != wanted.tokens:
            raise Conflict("This idempotency key was used for a top-up of another amount. Use a new key.")
        return balance(connection, org)
    queries.change_wallet(connection, org, balance=wanted.tokens)
    pay_arrears(connection, org)
    queries.note_filled(connection, org)
    return balance(connection, org)


def pay_arrears(connection: Connection, org: UUID) -> None:
    """Pay owed fees from the tokens that are not held for tasks. No-op if nothing is owed."""
    wallet = queries.lock_wallet(connection, org)
    paid = min(wallet.owed, wallet.available)
    if paid <= 0:
        return
    queries.change_wallet(connection, org, balance=-paid, owed=-paid)
    settled = {
        "id": new_id(), "org": org, "source": "available", "target": "owed", "tokens": paid, "reason": "arrears",
        "note": "fees that could not be paid before",
    }  # fmt: skip
    queries.insert_entry(connection, settled)


def organisations_with_ended_holds(connection: Connection) -> list[UUID]:
    """Return the organisations with ended holds that were not subtracted from their wallet's row yet."""
    return queries.organisations_with_ended_holds(connection)


def subtract_ended_holds(connection: Connection, org: UUID) -> None:
    """Subtract ended holds from a wallet's row, which stays locked until this transaction ends."""
    queries.subtract_ended_holds(connection, org)


def organisations_owing(connection: Connection) -> list[UUID]:
    """Return the organisations that owe fees and have tokens to pay them with."""
    return queries.organisations_owing(connection)


def correct(connection: Connection, org: UUID, wanted: Correction, *, user_id: UUID | None = None) -> Balance:
    """Add or remove tokens to correct a mistake, with a new entry.

    Raises:
        Conflict: more would be removed than is available, or the correction is 0.
    """
    wallet = queries.lock_wallet(connection, org)
    if wanted.tokens == 0:
        raise Conflict("A correction of 0 tokens corrects nothing.")
    if wallet.available + wanted.tokens < 0:
        raise Conflict(f"Only {wallet.available} tokens are available; more cannot be taken back.")
    source, target = ("corrections", "available") if wanted.tokens > 0 else ("available", "corrections")
    entry = {
        "id": new_id(), "org": org, "source": source, "target": target, "tokens": abs(wanted.tokens),
        "reason": "correction", "user": user_id, "note": wanted.note,
    }  # fmt: skip
    queries.insert_entry(connection, entry)
    queries.change_wallet(connection, org, balance=wanted.tokens)
    pay_arrears(connection, org)
    if wanted.tokens > 0:
        queries.note_filled(connection, org)
    return balance(connection, org)


def low_wallets(connection: Connection) -> list[LowWallet]:
    """Return the wallets of which 80, 95 or 100 percent are spent and for which no alert at that mark was recorded."""
    return queries.low_wallets(connection)


def note_told(connection: Connection, low: LowWallet) -> bool:
    """Record that an alert at a mark is sent. Return False if it was recorded before."""
    return queries.note_told(connection, low.org_id, low.share)


# ── what tasks spend ─────────────────────────────────────────────────────────────────────────────────────────────────


def hold_for(tokens: int) -> int:
    """Return how many tokens to hold for a task that needs `tokens`, if the wallet has that many."""
    return max(tokens, CHUNK) if tokens else 0


def can_begin(connection: Connection, org: UUID) -> bool:
    """Whether the wallet can pay for a call of a model now. A task that cannot pay waits for a top-up."""
    now = balance(connection, org)
    price = prices(connection).get("internal_llm_call", 0)
    return not now.is_prepaid or price == 0 or (now.available >= price and not now.owed)


def ensure(connection: Connection, org: UUID, task: UUID, tokens: int, *, has_hold: bool = True) -> int:
    """Ensure that the task's hold has `tokens` left, before an action that costs them. Return how many it has left.
    With `has_hold=False` the caller asserts that the task has no hold yet.

    Raises:
        InsufficientFunds: the wallet has too few free tokens, or owes fees.
    """
    if tokens == 0:
        return 0
    if has_hold:
        queries.subtract_ended_holds(connection, org)  # the hold of an earlier claim may have ended
    free = queries.free_in_hold(connection, task) if has_hold else 0
    missing = tokens - free
    if missing <= 0:
        return free
    more = _extended(connection, org, task, missing)
    if more == 0:
        queries.subtract_ended_holds(connection, org)  # frees what ended tasks did not spend
        more = _extended(connection, org, task, missing)
    if more > 0:
        return free + more
    now = queries.balance(connection, org)
    owed = f", and {now.owed} are owed in fees" if now.owed else ""
    raise InsufficientFunds(
        f"This takes {tokens} tokens; {now.available} are available{owed}. It goes on after a top-up.",
        needed=tokens,
    )


def _extended(connection: Connection, org: UUID, task: UUID, missing: int) -> int:
    """Extend the task's hold by `hold_for(missing)`, else by `missing`. Return by how many tokens, or 0."""
    sizes = (hold_for(missing), missing)
    return next((more for more in sizes if queries.extend_hold(connection, org, task, more)), 0)


def spend(connection: Connection, task: UUID, seq: int, item: PriceItem, tokens: int, note: str | None = None) -> bool:
    """Spend tokens of a task's hold in its step `seq`. Return False and change nothing if it has too few left."""
    return tokens == 0 or queries.spend(connection, task, [Payment(seq, item, tokens, note)])


def spend_ensured(
    connection: Connection, task: UUID, seq: int, item: PriceItem, tokens: int, note: str | None = None
) -> None:
    """Spend tokens that `ensure` has ensured in the same transaction.

    Raises:
        InsufficientFunds: they were not ensured.
    """
    if not spend(connection, task, seq, item, tokens, note):
        raise InsufficientFunds("The task's hold has not enough tokens left.")


def refund(connection: Connection, org: UUID, task: UUID, seq: int, why: str, *, note: str | None = None) -> int:
    """Refund what a step spent on an effect that did not happen. Idempotent.

    With `note`, refund only what was spent under that note. Return the number of refunded tokens.
    """
    queries.lock_wallet(connection, org)
    given = 0
    for spent in queries.unrefunded(connection, task, seq, note):
        row = {
            "id": new_id(), "org": org, "source": "spent", "target": "available", "tokens": spent.tokens,
            "reason": "refund", "item": spent.item, "quantity": spent.quantity, "task": task, "seq": seq,
            "refunds": spent.id, "note": why,
        }  # fmt: skip
        given += spent.tokens if queries.insert_entry(connection, row) else 0
    queries.change_wallet(connection, org, balance=given)
    return given


def release(connection: Connection, task: UUID) -> None:
    """End a task's hold: spent tokens leave the wallet, the rest is free again. No-op if there is no hold."""
    queries.release_hold(connection, task)


def holds_left_behind(connection: Connection) -> list[UUID]:
    """Return up to 100 tasks that have a hold and that no worker is running."""
    return queries.holds_left_behind(connection)


def release_left_behind(connection: Connection, task: UUID) -> bool:
    """Release the hold of a task that no worker has. Return False if a worker has it after all."""
    if not queries.is_at_rest(connection, task):
        return False
    queries.release_hold(connection, task)
    return True


# ── fees and prices ──────────────────────────────────────────────────────────────────────────────────────────────────


def fees_due(connection: Connection) -> list[DueFee]:
    """Return prepaid organisations and months whose fee is not charged yet. The month of becoming prepaid is free."""
    return queries.fees_due(connection)


def charge_fee(connection: Connection, org: UUID, month: date) -> bool:
    """Charge a month's fee, once under any concurrency. If the wallet cannot pay the fee, it owes it. Return False if
    the fee was charged already.
    """
    tokens = prices(connection)["monthly_fee"]
    wallet = queries.lock_wallet(connection, org)
    if not queries.insert_fee(connection, org, month, tokens):
        return False
    if tokens > 0:
        can_pay = wallet.owed == 0 and wallet.available >= tokens
        entry = {
            "id": new_id(), "org": org, "source": "available" if can_pay else "owed", "target": "fees",
            "tokens": tokens, "reason": "fee", "item": "monthly_fee", "reference": f"{month:%Y-%m}",
        }  # fmt: skip
        queries.insert_entry(connection, entry)
        queries.change_wallet(connection, org, balance=-tokens if can_pay else 0, owed=0 if can_pay else tokens)
    return True


def prices(connection: Connection) -> dict[str, int]:
    """Return the prices in force, in tokens, by item."""
    return queries.prices(connection)


def price_list(connection: Connection, *, history: bool = False) -> list[TokenPrice]:
    """Return the prices in force; with `history`, all prices ever set, latest first."""
    return queries.price_list(connection, history=history)


def set_price(connection: Connection, item: PriceItem, wanted: NewTokenPrice, *, set_by: str) -> list[TokenPrice]:
    """Set a price that applies from now on. Past spending keeps its price."""
    queries.insert_price(connection, {"item": item, "tokens": wanted.tokens, "set_by": set_by})
    return price_list(connection)


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def statement(
    connection: Connection, org: UUID, *, before: UUID | None = None, task: UUID | None = None, limit: int = 50
) -> Statement:
    """Return a page of the ledger, newest first, each entry with the task and step that it comes from."""
    lines = queries.entries(connection, org, before=before, task=task, limit=limit)
    next_before = lines[-1].id if len(lines) == limit else None
    return Statement(balance=balance(connection, org), entries=lines, next_before=next_before)


def reconcile(connection: Connection, org: UUID) -> Reconciliation:
    """Compare the wallet's row with its whole ledger. Reads every entry: use it for audits, not routinely."""
    return queries.reconcile(connection, org)
