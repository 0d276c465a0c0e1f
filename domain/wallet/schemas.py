"""Schemas of the wallet: balance, entries, prices."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from core.errors import RotaError
from core.text import Storable

PriceItem = Literal["whatsapp_conversation", "sms", "email", "call", "internal_llm_call", "monthly_fee"]
Account = Literal["purchases", "available", "spent", "fees", "owed", "corrections"]
Reason = Literal["top_up", "spend", "refund", "fee", "arrears", "correction"]
Tokens = Annotated[int, Field(ge=1, le=1_000_000_000_000)]
Note = Annotated[str, StringConstraints(max_length=500), Storable]


class InsufficientFunds(RotaError):
    """The wallet cannot pay for this. The task goes on after a top-up."""


class Balance(BaseModel):
    """The balance of a wallet."""

    balance: int = Field(description="tokens owned, what tasks at work have spent taken off")
    held: int = Field(description="of these, held for running tasks and not spent yet")
    available: int = Field(description="free for new tasks")
    owed: int = Field(description="fees that could not be paid; the next top-up pays them first, and actions wait")
    is_prepaid: bool = Field(default=True, description="false: nothing is paid with tokens here, and no task waits")


class TopUp(BaseModel):
    """A purchase of tokens."""

    model_config = ConfigDict(extra="forbid")

    tokens: Tokens
    note: Note | None = Field(default=None, description="such as the invoice's number")


@dataclass(frozen=True, slots=True)
class LockedWallet:
    """The wallet's row, locked and without ended holds."""

    balance: int
    held: int
    owed: int

    @property
    def available(self) -> int:
        """Tokens that no task holds."""
        return self.balance - self.held


class Payment(NamedTuple):
    """What a task spends in one of its steps, in tokens."""

    seq: int
    item: PriceItem
    tokens: int
    note: str | None = None


class Correction(BaseModel):
    """A correction of a mistake by a new entry. Existing ledger entries are never changed."""

    model_config = ConfigDict(extra="forbid")

    tokens: int = Field(ge=-1_000_000_000_000, le=1_000_000_000_000, description="given; or, below zero, taken back")
    note: Annotated[str, StringConstraints(min_length=3, max_length=500), Storable] = Field(description="why")


class Entry(BaseModel):
    """One entry of the ledger: tokens that moved from one account to another."""

    id: UUID
    created_at: datetime
    source: Account
    target: Account
    tokens: int
    reason: Reason
    item: str | None = Field(description="of the price list")
    quantity: int | None
    task_id: UUID | None
    seq: int | None = Field(description="the step of the task that it was spent in")
    refunds: UUID | None = Field(description="the entry that this one takes back")
    user_id: UUID | None
    note: str | None


@dataclass(frozen=True, slots=True)
class SpentEntry:
    """An entry that a step of a task spent and that was not refunded."""

    id: UUID
    tokens: int
    item: str | None
    quantity: int | None


@dataclass(frozen=True, slots=True)
class DueFee:
    """A monthly fee that is due and not charged yet."""

    org_id: UUID
    month: date
    """its first day"""


@dataclass(frozen=True, slots=True)
class LowWallet:
    """A wallet that runs low."""

    org_id: UUID
    tokens: int
    """not spent yet; tasks may hold some of them"""
    filled: int
    """tokens that there were when some were last added"""
    share: int
    """of these, what is spent: the highest mark that was reached, in percent"""


class Statement(BaseModel):
    """Ledger entries, newest first, and where the next page begins."""

    balance: Balance
    entries: list[Entry]
    next_before: UUID | None


class TokenPrice(BaseModel):
    """The price of an item, in tokens."""

    item: PriceItem
    tokens: int
    effective_from: datetime | None = Field(description="null: since ever")
    set_by: str | None


class NewTokenPrice(BaseModel):
    """A price that applies from now on. Earlier prices stay in force for the past."""

    model_config = ConfigDict(extra="forbid")

    tokens: int = Field(ge=0, le=1_000_000)


class Reconciliation(BaseModel):
    """A comparison of the wallet's row with its ledger. They agree if both differences are zero."""

    entries: int
    ledger_available: int = Field(description="what the entries say is there")
    wallet_available: int = Field(description="what the wallet says, what open holds have spent taken off")
    difference: int
    held_difference: int = Field(description="the wallet's promises less those of the open holds")
    sum_over_accounts: int = Field(description="zero, as in every double-entry ledger")
