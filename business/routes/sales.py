"""Routes on products, quotes and carts, as shops and people report them; and on attendance of trial classes."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from business.office import dealings
from business.office.schemas import NotedTrial, Trial
from business.sales import service as sales
from business.sales.schemas import Cart, CartFields, Product, ProductFields, Quote, QuoteFields
from web.auth import Needs, Principal
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["sales"])

Reads = Annotated[Principal, Depends(Needs("sales:read"))]
Writes = Annotated[Principal, Depends(Needs("sales:write"))]
Limit = Annotated[int, Query(ge=1, le=200)]
Before = Annotated[UUID | None, Query(description="last id of the previous page")]
Contact = Annotated[UUID | None, Query(description="only of this client or lead")]


@router.get("/products", responses=describes(401, 403, 422))
def list_products(caller: Reads, before: Before = None, limit: Limit = 50) -> list[Product]:
    """List products by id, descending."""
    with caller.reading() as connection:
        return sales.list_products(connection, before=before, limit=limit)


@router.put("/products/{product_id}", responses=describes(401, 403, 422))
def put_product(product_id: UUID, fields: ProductFields, caller: Writes) -> Product:
    """Add or change a product, under an id that you choose."""
    with caller.writing() as connection:
        return sales.put_product(connection, caller.org_id, product_id, fields)


@router.get("/products/{product_id}", responses=describes(401, 403, 404, 422))
def get_product(product_id: UUID, caller: Reads) -> Product:
    """Return a product."""
    with caller.reading() as connection:
        return sales.get_product(connection, product_id)


@router.get("/quotes", responses=describes(401, 403, 422))
def list_quotes(caller: Reads, contact: Contact = None, before: Before = None, limit: Limit = 50) -> list[Quote]:
    """List quotes by id, descending."""
    with caller.reading() as connection:
        return sales.list_quotes(connection, contact=contact, before=before, limit=limit)


@router.put("/quotes/{quote_id}", responses=describes(401, 403, 404, 422))
def put_quote(quote_id: UUID, fields: QuoteFields, caller: Writes) -> Quote:
    """Add or change a quote, under an id that you choose. `status` records that it was accepted or declined."""
    with caller.writing() as connection:
        return sales.put_quote(connection, caller.org_id, quote_id, fields)


@router.get("/quotes/{quote_id}", responses=describes(401, 403, 404, 422))
def get_quote(quote_id: UUID, caller: Reads) -> Quote:
    """Return a quote."""
    with caller.reading() as connection:
        return sales.get_quote(connection, quote_id)


@router.put("/trials/{trial_id}/outcome", responses=describes(401, 403, 404, 409, 422))
def note_trial(
    trial_id: UUID, noted: NotedTrial, caller: Annotated[Principal, Depends(Needs("bookings:write"))]
) -> Trial:
    """Record the outcome of a trial class: attended, no-show or cancelled. A no-show can start follow-ups."""
    with caller.writing() as connection:
        return dealings.note_trial(connection, trial_id, noted.outcome)


@router.get("/carts", responses=describes(401, 403, 422))
def list_carts(caller: Reads, contact: Contact = None, before: Before = None, limit: Limit = 50) -> list[Cart]:
    """List carts by id, descending."""
    with caller.reading() as connection:
        return sales.list_carts(connection, contact=contact, before=before, limit=limit)


@router.put("/carts/{cart_id}", responses=describes(401, 403, 404, 422))
def put_cart(cart_id: UUID, fields: CartFields, caller: Writes) -> Cart:
    """Add or change a cart, under an id that you choose. `status` records that it was bought or emptied."""
    with caller.writing() as connection:
        return sales.put_cart(connection, caller.org_id, cart_id, fields)


@router.get("/carts/{cart_id}", responses=describes(401, 403, 404, 422))
def get_cart(cart_id: UUID, caller: Reads) -> Cart:
    """Return a cart."""
    with caller.reading() as connection:
        return sales.get_cart(connection, cart_id)
