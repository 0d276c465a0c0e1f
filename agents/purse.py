"""What a task has to spend: tokens of its hold, dollars of the budgets; with as few questions to the database as will
do.
"""

import time
from collections.abc import Callable
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Connection

from domain.billing import service as billing
from domain.tasks.schemas import Claimed
from domain.wallet import service as wallet
from domain.wallet.schemas import PriceItem

_FRESH = 5.0


class Books:
    """The price list, and which organisations have budgets, as a process read them no longer than 5 s ago."""

    def __init__(self) -> None:
        self._prices: tuple[float, dict[str, int]] = (0.0, {})
        self._budgets: dict[UUID, tuple[float, bool]] = {}

    def price(self, connection: Connection, item: PriceItem) -> int:
        """What an item costs, in tokens."""
        read_at, prices = self._prices
        if not prices or time.monotonic() - read_at > _FRESH:
            prices = wallet.prices(connection)
            self._prices = (time.monotonic(), prices)
        return prices[item]

    def has_budgets(self, connection: Connection, org: UUID) -> bool:
        """Whether anything limits what an organisation is billed."""
        read_at, found = self._budgets.get(org, (float("-inf"), False))
        if time.monotonic() - read_at > _FRESH:
            found = billing.has_budgets(connection, org)
            self._budgets[org] = (time.monotonic(), found)
        return found


class Purse:
    """One task's. It remembers what the hold has left: only this task spends from it. Where that memory is wrong,
    because a transaction was undone or tools ran side by side, the database says so and is asked again.
    """

    def __init__(self, task: Claimed, books: Books) -> None:
        self._task = task
        self._books = books
        self._left = 0
        self._has_reserved = False

    def ensure(self, connection: Connection, item: PriceItem) -> None:
        """See to it that an item can be paid for, before something is done that costs it.

        Raises:
            InsufficientFunds: the task must wait until it can.
        """
        tokens = self._books.price(connection, item)
        if self._left < tokens:
            self._left = wallet.ensure(connection, self._task.org_id, self._task.id, tokens)

    def pay(self, connection: Connection, seq: int, item: PriceItem, note: str | None = None) -> None:
        """Pay for an item in step `seq`, in the transaction in which it is done.

        Raises:
            InsufficientFunds: the wallet cannot; nothing of the step must stand.
        """
        tokens = self._books.price(connection, item)
        self._left -= tokens
        if not wallet.spend(connection, self._task.id, seq, item, tokens, note=note):
            self._left = wallet.ensure(connection, self._task.org_id, self._task.id, tokens) - tokens
            wallet.spend_ensured(connection, self._task.id, seq, item, tokens, note=note)

    def reserve(self, connection: Connection, most: Callable[[], Decimal]) -> None:
        """Reserve what a model call may cost at most; `most` reckons it, in dollars, where there is a budget.

        Raises:
            BudgetExhausted: the task must wait until a budget covers it.
        """
        if self._books.has_budgets(connection, self._task.org_id):
            self._has_reserved = True
            billing.reserve(connection, self._task.org_id, self._task.agent, self._task.id, most)

    def draw(self, connection: Connection, billed: Decimal) -> None:
        """Note what a call did cost, of what was reserved."""
        if self._has_reserved:
            billing.draw(connection, self._task.id, billed)
