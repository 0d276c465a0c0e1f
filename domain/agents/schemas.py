"""Agents: their fields, limits and retry policy."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from core.numbers import PlainDecimal
from core.text import Storable

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Mode = Literal["manual", "semi-auto", "auto"]
MODES: tuple[Mode, ...] = ("manual", "semi-auto", "auto")
"""strictest first"""


def _once_each(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("names a tool twice")
    return names


Tools = Annotated[
    list[str], Field(max_length=128, examples=[["search_clients", "book_class"]]), AfterValidator(_once_each)
]
MaxInFlight = Annotated[
    int | None, Field(ge=1, le=100_000, description="tasks published or running at once; null for no limit")
]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), Storable]


class Limits(BaseModel):
    """The limits of an agent for one task. Reaching a limit on turns, tokens, cost or duration fails the task, which
    keeps its steps so far. Tool calls and further tasks beyond a limit are refused.
    """

    model_config = ConfigDict(extra="forbid")

    max_turns: int = Field(default=12, ge=1, le=300, description="decisions, that is calls of the model")
    max_calls: int = Field(
        default=64, ge=1, le=1000, description="tools that one decision may call; the calls beyond are refused"
    )
    max_output_tokens: int = Field(default=2048, ge=16, le=128_000, description="of one answer of the model")
    max_tokens: int = Field(default=200_000, ge=100, description="input and output, over the whole task")
    max_cost: PlainDecimal = Field(default=Decimal(1), ge=0, description="US dollars billed, over the whole task")
    max_duration: timedelta = Field(
        default=timedelta(minutes=10),
        gt=timedelta(0),
        le=timedelta(days=1),
        description="time of work in one attempt; seconds, or ISO 8601 such as PT90S",
    )
    step_timeout: timedelta = Field(
        default=timedelta(minutes=2),
        gt=timedelta(0),
        le=timedelta(days=1),
        description="time that one call of the model may take; seconds, or ISO 8601 such as PT90S",
    )
    max_depth: int = Field(
        default=3, ge=0, le=20, description="how many times a task may lead to another that leads to another"
    )
    max_children: int = Field(default=20, ge=0, le=10_000, description="tasks that one task may start")
    max_descendants: int = Field(
        default=100, ge=0, le=100_000, description="tasks that may stem from one task, over all generations"
    )
    max_tree_cost: PlainDecimal = Field(
        default=Decimal(10), ge=0, description="US dollars billed, over a task and all that stem from it"
    )
    reply_cache: timedelta = Field(
        default=timedelta(0),
        ge=timedelta(0),
        le=timedelta(days=30),
        description="time for which an identical request is answered again; seconds, or ISO 8601 such as PT90S",
    )


class RetryPolicy(BaseModel):
    """Exponential backoff with full jitter: the n-th delay is drawn from 0 to min(ceiling, base times 2^(n-1))."""

    model_config = ConfigDict(extra="forbid")

    max_attempts: int = Field(default=3, ge=1, le=50)
    base: timedelta = Field(default=timedelta(seconds=2), gt=timedelta(0), le=timedelta(days=1))
    ceiling: timedelta = Field(default=timedelta(minutes=5), gt=timedelta(0), le=timedelta(days=1))
    patience: timedelta | None = Field(
        default=None,
        ge=timedelta(0),
        le=timedelta(days=7),
        description="an outage of a provider costs no attempt for so long, counted from the task's last progress; null "
        "for what the installation has set (ROTA_PROVIDER_PATIENCE, ten minutes)",
    )
    fallback_on: list[Literal["quota", "authentication"]] | None = Field(
        default=None,
        description="errors after which the fallback model is asked too, beside outages: an exhausted quota, a "
        "rejected key; null for what the installation has set (ROTA_FALLBACK_ON, neither)",
    )


class AgentFields(BaseModel):
    """The fields of an agent that a user sets."""

    model_config = ConfigDict(extra="forbid")

    slug: Slug
    name: Annotated[Text, Field(max_length=120)]
    role: Annotated[Text, Field(max_length=120)]
    description: Annotated[Text, Field(max_length=2_000)]
    system_prompt: Annotated[Text, Field(max_length=50_000)]
    model: Annotated[Text, Field(max_length=200, examples=["claude-sonnet-4-5", "gpt-4o-mini"])]
    fallback_model: Annotated[Text, Field(max_length=200)] | None = None
    tools: Tools = []
    mode: Mode = "auto"
    limits: Limits = Limits()
    retry: RetryPolicy = RetryPolicy()
    max_in_flight: MaxInFlight = None
    enabled: bool = True


class AgentChange(BaseModel):
    """A change to an agent. Fields that are not sent keep their values."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[Text, Field(max_length=120)] | None = None
    role: Annotated[Text, Field(max_length=120)] | None = None
    description: Annotated[Text, Field(max_length=2_000)] | None = None
    system_prompt: Annotated[Text, Field(max_length=50_000)] | None = None
    model: Annotated[Text, Field(max_length=200)] | None = None
    fallback_model: Annotated[Text, Field(max_length=200)] | None = None
    tools: Tools | None = None
    mode: Mode | None = None
    limits: Limits | None = None
    retry: RetryPolicy | None = None
    max_in_flight: MaxInFlight = None
    enabled: bool | None = None


class Agent(AgentFields):
    """An agent as stored."""

    id: UUID
    created_at: datetime
    updated_at: datetime
