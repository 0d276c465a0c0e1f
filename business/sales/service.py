"""Operations on products, quotes and carts. The caller chooses the id, so reporting one twice is idempotent."""

from uuid import UUID

from sqlalchemy import Connection

from business.sales import queries
from business.sales.schemas import Cart, CartFields, Product, ProductFields, Quote, QuoteFields
from core.errors import NotFound
from domain.contacts import service as contacts


def put_product(connection: Connection, org: UUID, product_id: UUID, fields: ProductFields) -> Product:
    """Add or change a product."""
    queries.put_product(connection, {"id": product_id, "org": org, **fields.model_dump()})
    return _get(connection, Product, product_id)


def put_quote(connection: Connection, org: UUID, quote_id: UUID, fields: QuoteFields) -> Quote:
    """Add or change a quote. Also reports its decision (accepted, declined, withdrawn).

    Raises:
        NotFound: there is no such contact.
    """
    contacts.require(connection, [fields.contact])
    queries.put_quote(connection, {"id": quote_id, "org": org, **fields.model_dump()})
    return _get(connection, Quote, quote_id)


def put_cart(connection: Connection, org: UUID, cart_id: UUID, fields: CartFields) -> Cart:
    """Add or change a cart. Also reports that it was bought or emptied.

    Raises:
        NotFound: there is no such contact.
    """
    contacts.require(connection, [fields.contact])
    row = fields.model_dump() | {"items": [item.model_dump(mode="json") for item in fields.items]}
    queries.put_cart(connection, {"id": cart_id, "org": org, "amount": fields.amount, **row})
    return _get(connection, Cart, cart_id)


def _get(connection: Connection, kind: type[queries.Stored], row_id: UUID) -> queries.Stored:
    found = queries.one(connection, kind, row_id)
    if found is None:
        raise NotFound(f"There is no {kind.__name__.lower()} {row_id}.")
    return found


def get_product(connection: Connection, product_id: UUID) -> Product:
    """Return a product.

    Raises:
        NotFound: there is none.
    """
    return _get(connection, Product, product_id)


def get_quote(connection: Connection, quote_id: UUID) -> Quote:
    """Return a quote.

    Raises:
        NotFound: there is none.
    """
    return _get(connection, Quote, quote_id)


def get_cart(connection: Connection, cart_id: UUID) -> Cart:
    """Return a cart.

    Raises:
        NotFound: there is none.
    """
    return _get(connection, Cart, cart_id)


def list_products(connection: Connection, *, before: UUID | None = None, limit: int = 50) -> list[Product]:
    """Return products, the latest id first."""
    return queries.latest(connection, Product, contact=None, before=before, limit=limit)


def list_quotes(
    connection: Connection, *, contact: UUID | None = None, before: UUID | None = None, limit: int = 50
) -> list[Quote]:
    """Return quotes, the latest id first."""
    return queries.latest(connection, Quote, contact=contact, before=before, limit=limit)


def list_carts(
    connection: Connection, *, contact: UUID | None = None, before: UUID | None = None, limit: int = 50
) -> list[Cart]:
    """Return carts, the latest id first."""
    return queries.latest(connection, Cart, contact=contact, before=before, limit=limit)
