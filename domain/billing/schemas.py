"""Tokens, prices, costs and bills. All amounts are US dollars."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from core.model_providers import ProviderName
from core.numbers import PlainDecimal
from domain.providers.schemas import Endpoint, StoredEndpoint

Provider = ProviderName
PerMillion = Annotated[PlainDecimal, Field(ge=0, max_digits=20, decimal_places=10)]


class Tokens(BaseModel):
    """Tokens of one model call. `input` counts the whole prompt, including what was read from or written to the
    provider's cache.
    """

    model_config = ConfigDict(frozen=True)

    input: int = Field(default=0, ge=0)
    cached: int = Field(default=0, ge=0, description="of the input, read from the provider's cache")
    cache_write: int = Field(default=0, ge=0, description="of the input, written to the provider's cache")
    output: int = Field(default=0, ge=0)
    is_estimated: bool = Field(default=False, description="the provider reported none or only a part of them")

    @property
    def total(self) -> int:
        """Input and output."""
        return self.input + self.output


class PriceFields(BaseModel):
    """An organisation's own price for a model, in dollars per million tokens. It overrides the public price table."""

    model_config = ConfigDict(extra="forbid")

    provider: Provider = Field(description="whose wire format the model is served over")
    input_per_million: PerMillion
    output_per_million: PerMillion
    cached_per_million: PerMillion | None = Field(default=None, description="default: as input")
    cache_write_per_million: PerMillion | None = Field(default=None, description="default: as input")
    context_window: int | None = Field(default=None, gt=0, description="tokens the model can take in")


class Price(PriceFields):
    """An organisation's own price, as stored."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    updated_at: datetime


class Rates(BaseModel):
    """Dollars per million tokens."""

    input_per_million: Decimal
    output_per_million: Decimal
    cached_per_million: Decimal = Field(description="of input that was read from the provider's cache")
    cache_write_per_million: Decimal = Field(description="of input that was written to the provider's cache")


class LongPromptRates(Rates):
    """The rates of a call whose prompt has more than `above_input_tokens` tokens."""

    above_input_tokens: int


class AppliedPrice(Rates):
    """What an organisation is billed for a model: the base price (its own or the public one) plus the markup."""

    model: str
    provider: Provider
    currency: Literal["USD"] = "USD"
    source: Literal["organisation", "public"]
    markup: Decimal = Field(description="0.2 for 20 %")
    base: Rates = Field(description="without the markup")
    long_prompts: list[LongPromptRates] = Field(description="where a longer prompt costs more, with the markup")
    context_window: int | None
    updated_at: datetime | None = Field(description="null for the public price")


@dataclass(frozen=True, slots=True)
class StoredMoneyFacts:
    """Price, budgets and endpoint of a model, as stored."""

    price: Price | None
    has_budgets: bool
    endpoint: StoredEndpoint | None


@dataclass(frozen=True)
class MoneyFacts:
    """Price, budgets and endpoint of a model, read before a call is made."""

    price: Price | None
    """the organisation's own price, if it has one"""
    has_budgets: bool
    endpoint: Endpoint | None
    """the organisation's endpoint that serves the model; None if a provider of the settings serves it"""


class Cost(BaseModel):
    """The cost of one model call, with the price that it was computed from."""

    model_config = ConfigDict(frozen=True)

    base: Decimal
    markup: Decimal = Field(description="0.2 for 20 %")
    billed: Decimal
    price: dict[str, Any]

    @property
    def is_unpriced(self) -> bool:
        """Whether the call costs 0 because no price was known for the model."""
        return bool(self.price["source"] == "unpriced")


# These counts default to 0: bills that were closed before they were introduced do not contain them.
_ESTIMATED = "of the calls, those whose tokens are estimated: the provider reported none or only a part"
_UNPRICED = (
    "of the calls, those billed at 0 because no price is known for the model: set one with PUT /v1/prices/{model}"
)


class UsageLine(BaseModel):
    """The part of a month's usage that belongs to one model, agent, conversation or workflow run."""

    name: str = Field(description="the model, the agent, the conversation's key or the workflow's run")
    model_calls: int
    rehearsal_calls: int = Field(description="calls answered by the rehearsal model, which charges nothing")
    estimated_calls: int = Field(default=0, description=_ESTIMATED)
    unpriced_calls: int = Field(default=0, description=_UNPRICED)
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    base_cost: Decimal
    billed_cost: Decimal


class MonthTotal(BaseModel):
    """The total usage of a month."""

    month: date = Field(description="its first day, by the organisation's clock")
    model_calls: int
    rehearsal_calls: int
    estimated_calls: int = Field(default=0, description=_ESTIMATED)
    unpriced_calls: int = Field(default=0, description=_UNPRICED)
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    base_cost: Decimal
    billed_cost: Decimal


class Bill(BaseModel):
    """A month's usage, in total and broken down. The bill of a closed month does not change any more."""

    currency: Literal["USD"] = "USD"
    month: date
    closed_at: datetime | None = Field(description="null while the month lasts and until it is closed")
    markup: Decimal = Field(description="what was billed over the base cost, as a share of it")
    total: MonthTotal
    by_model: list[UsageLine]
    by_agent: list[UsageLine]
    by_conversation: list[UsageLine] = Field(description="by the tasks' concurrency key, the 100 dearest")
    by_workflow: list[UsageLine] = Field(description="by run, the 100 dearest")


@dataclass(frozen=True, slots=True)
class ClosedBill:
    """The bill of a closed month, as stored: its body is the JSON of a `Bill`."""

    closed_at: datetime
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class MonthToClose:
    """A month of an organisation that is over and has no bill yet."""

    org_id: UUID
    month: date


class UsageReport(Bill):
    """A month's bill, and the months before it."""

    history: list[MonthTotal] = Field(description="the months with any usage, newest first, at most 24")


class BudgetFields(BaseModel):
    """A limit on what is billed in a month."""

    model_config = ConfigDict(extra="forbid")

    monthly_limit: Annotated[PlainDecimal, Field(ge=0, max_digits=18, decimal_places=6)] = Field(
        description="US dollars"
    )


class Budget(BudgetFields):
    """A budget and what is used of it."""

    agent: str = Field(description="empty for the organisation as a whole")
    spent: Decimal
    held: Decimal = Field(description="reserved for calls under way")
    share: float = Field(description="of the limit that is spent")


@dataclass(frozen=True, slots=True)
class StoredBudget:
    """A budget, and what its row of the current month says; zero if that row does not exist yet."""

    agent: str
    monthly_limit: Decimal
    spent: Decimal
    held: Decimal


@dataclass(frozen=True, slots=True)
class BudgetOfTask:
    """A budget that a task draws on."""

    agent: str
    monthly_limit: Decimal
    free: Decimal
    """what is left of the task's reserve"""


class CrossedBudget(BaseModel):
    """A budget that reached 50, 80 or 100 percent of its limit."""

    org_id: UUID
    agent: str
    monthly_limit: Decimal
    used: Decimal
    share: int = Field(description="percent: 50, 80 or 100")
