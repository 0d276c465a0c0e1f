"""What a task can spend: the tokens of its hold and the dollars of the budgets, with few questions to the database."""

import contextlib
from collections.abc import Callable, Iterator
from decimal import Decimal

from sqlalchemy import Connection

from agents.reference import LazyConnection, ReferenceCache
from domain.billing import service as billing
from domain.claims.schemas import Claimed
from domain.wallet import service as wallet
from domain.wallet.schemas import Payment, PriceItem


class TaskFunds:
    """The funds of one task. It remembers what the hold has left, because only this task spends from it. Where that is
    wrong, because a transaction was rolled back or tools ran side by side, the database says so and is asked again.
    """

    def __init__(self, task: Claimed, reference: ReferenceCache) -> None:
        self._task = task
        self._reference = reference
        self._left = task.held_tokens
        self._has_hold = task.claim > 1 or task.held_tokens > 0
        self.is_prepaid = True
        """whether the organisation buys tokens; where it does not, everything costs none"""
        self.has_reserved = task.claim > 1
        """whether there may be reserves in budgets"""

    def ensure(self, ask: LazyConnection, item: PriceItem) -> None:
        """See to it that an item can be paid for, before something is done that costs it.

        Raises:
            InsufficientFunds: the task must wait until it can.
        """
        tokens = self._price(ask, item)
        if self._left < tokens:
            self._left = wallet.ensure(ask(), self._task.org_id, self._task.id, tokens, has_hold=self._has_hold)
            self._has_hold = True

    @contextlib.contextmanager
    def rehearsing(self) -> Iterator[None]:
        """Within, what is paid is undone at the end, together with the transaction's savepoint."""
        before = self._left, self._has_hold
        try:
            yield
        finally:
            self._left, self._has_hold = before

    def pay(self, connection: Connection, seq: int, item: PriceItem, note: str | None = None) -> None:
        """Pay for an item in step `seq`, in the transaction in which it is done.

        Raises:
            InsufficientFunds: the wallet cannot; nothing of the step must stand.
        """
        if payment := self.payment(lambda: connection, seq, item, note):
            self.spent(payment)
            if not wallet.spend(connection, self._task.id, *payment):
                self.pay_anew(connection, payment)

    def payment(self, ask: LazyConnection, seq: int, item: PriceItem, note: str | None = None) -> Payment | None:
        """What an item in step `seq` is paid with; None where it is free."""
        tokens = self._price(ask, item)
        return Payment(seq, item, tokens, note) if tokens else None

    def _price(self, ask: LazyConnection, item: PriceItem) -> int:
        return self._reference.price(ask, item) if self.is_prepaid else 0

    def spent(self, *payments: Payment) -> None:
        """Remember that so much less is left in the hold."""
        self._left -= sum(payment.tokens for payment in payments)

    def pay_anew(self, connection: Connection, payment: Payment) -> None:
        """Pay for what the hold had not enough for, from a larger one.

        Raises:
            InsufficientFunds: the wallet cannot; nothing of the step must stand.
        """
        tokens = payment.tokens
        self._left = wallet.ensure(connection, self._task.org_id, self._task.id, tokens) - tokens
        wallet.spend_ensured(connection, self._task.id, *payment)

    def reserve(self, ask: LazyConnection, most: Callable[[], Decimal]) -> None:
        """Reserve what a model call may cost at most; `most` reckons it, in dollars, where there is a budget.

        Raises:
            BudgetExhausted: the task must wait until a budget covers it.
        """
        if self._reference.has_budgets(ask, self._task.org_id):
            self.has_reserved = True
            billing.reserve(ask(), self._task.org_id, self._task.agent, self._task.id, most)

    def draw(self, connection: Connection, billed: Decimal) -> None:
        """Note what a call did cost, of what was reserved."""
        if self.has_reserved:
            billing.draw(connection, self._task.id, billed)
