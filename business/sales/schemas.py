"""Products, quotes and carts."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from core.numbers import PlainDecimal
from core.text import Storable

QuoteStatus = Literal["open", "accepted", "declined", "withdrawn"]
CartStatus = Literal["open", "bought", "emptied"]
Amount = Annotated[PlainDecimal, Field(ge=0, le=1_000_000, decimal_places=2)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), Storable]
_Category = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80), Storable]
_Description = Annotated[str, StringConstraints(max_length=2_000), Storable]


class ProductFields(BaseModel):
    """Something that is sold."""

    model_config = ConfigDict(extra="forbid")

    name: Title
    category: _Category
    description: _Description = ""
    price: Amount
    currency: Currency = "EUR"
    is_active: bool = True


class Product(ProductFields):
    """A product, as stored."""

    id: UUID
    changed_at: datetime


class QuoteFields(BaseModel):
    """An offer made to a client or lead."""

    model_config = ConfigDict(extra="forbid")

    contact: UUID = Field(description="id of the client or lead")
    title: Title = Field(examples=["Family membership, twelve months"])
    amount: Amount
    currency: Currency = "EUR"
    status: QuoteStatus = "open"
    sent_at: AwareDatetime | None = Field(default=None, description="when it went out; without it, now")
    valid_until: AwareDatetime | None = None


class Quote(QuoteFields):
    """A quote, as stored."""

    id: UUID
    sent_at: datetime
    valid_until: datetime | None
    decided_at: datetime | None
    changed_at: datetime


class CartItem(BaseModel):
    """One line of a cart."""

    model_config = ConfigDict(extra="forbid")

    name: Title
    quantity: int = Field(default=1, ge=1, le=10_000)
    price: Amount
    product: UUID | None = None


class CartFields(BaseModel):
    """The contents of a client's or lead's cart in a shop."""

    model_config = ConfigDict(extra="forbid")

    contact: UUID = Field(description="id of the client or lead")
    items: list[CartItem] = Field(min_length=1, max_length=200)
    currency: Currency = "EUR"
    status: CartStatus = "open"
    touched_at: AwareDatetime | None = Field(
        default=None, description="when the customer last did something with it; without it, now where it has changed"
    )

    @property
    def amount(self) -> Decimal:
        """The total price."""
        return sum((item.price * item.quantity for item in self.items), start=Decimal(0))


class Cart(BaseModel):
    """A cart, as stored."""

    id: UUID
    contact: UUID
    items: list[CartItem]
    amount: Decimal
    currency: Currency
    status: CartStatus
    touched_at: datetime
    decided_at: datetime | None
