"""Tokens, prices, costs and bills. All amounts are US dollars."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Provider = Literal["anthropic", "openai"]
PerMillion = Annotated[Decimal, Field(ge=0, max_digits=20, decimal_places=10)]


class Tokens(BaseModel):
    """Tokens of one model call. `input` counts all of the prompt: what was read from, or written to, the provider's
    cache is part of it.
    """

    model_config = ConfigDict(frozen=True)

    input: int = Field(default=0, ge=0)
    cached: int = Field(default=0, ge=0, description="of the input, read from the provider's cache")
    cache_write: int = Field(default=0, ge=0, description="of the input, written to the provider's cache")
    output: int = Field(default=0, ge=0)

    @property
    def total(self) -> int:
        """Input and output."""
        return self.input + self.output


class PriceFields(BaseModel):
    """An organisation's own price for a model, in dollars per million tokens; it goes before the public table."""

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


class Cost(BaseModel):
    """What one model call costs, with the price it was computed from."""

    model_config = ConfigDict(frozen=True)

    base: Decimal
    markup: Decimal = Field(description="0.2 for 20 %")
    billed: Decimal
    price: dict[str, Any]


class UsageLine(BaseModel):
    """A share of a month's usage."""

    model: str | None = None
    agent: str | None = None
    model_calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    base_cost: Decimal
    billed_cost: Decimal


class MonthTotal(UsageLine):
    """A month's usage as a whole."""

    month: date = Field(description="its first day (UTC)")


class UsageReport(BaseModel):
    """A month of usage, broken down by model and by agent, and the months before it."""

    currency: Literal["USD"] = "USD"
    month: date
    total: MonthTotal
    rehearsal_calls: int = Field(description="of the calls, answered by the rehearsal model: nobody charged for them")
    by_model: list[UsageLine]
    by_agent: list[UsageLine]
    history: list[MonthTotal] = Field(description="the months with any usage, newest first, at most 24")
