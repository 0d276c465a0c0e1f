"""All SQL about products, quotes and carts."""

from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, text

from business.sales.schemas import Cart, Product, Quote
from core.json_text import dump_json
from core.rows import fetch_all, fetch_optional

Stored = TypeVar("Stored", Product, Quote, Cart)

_PUT_PRODUCT = text("""
    INSERT INTO products (id, org_id, name, category, description, price, currency, is_active)
    VALUES (:id, :org, :name, :category, :description, :price, :currency, :is_active)
    ON CONFLICT (org_id, id) DO UPDATE
       SET name = excluded.name, category = excluded.category, description = excluded.description,
           price = excluded.price, currency = excluded.currency, is_active = excluded.is_active,
           changed_at = rota_now()
""")
_PUT_QUOTE = text("""
    INSERT INTO quotes (id, org_id, contact, title, amount, currency, status, sent_at, valid_until, decided_at)
    VALUES (:id, :org, :contact, :title, :amount, :currency, :status, coalesce(:sent_at, rota_now()), :valid_until,
            CASE WHEN :status <> 'open' THEN rota_now() END)
    ON CONFLICT (org_id, id) DO UPDATE
       SET contact = excluded.contact, title = excluded.title, amount = excluded.amount, currency = excluded.currency,
           status = excluded.status, sent_at = coalesce(:sent_at, quotes.sent_at), valid_until = excluded.valid_until,
           decided_at = CASE WHEN excluded.status <> 'open' THEN coalesce(quotes.decided_at, rota_now()) END,
           changed_at = rota_now()
""")
_PUT_CART = text("""
    INSERT INTO carts (id, org_id, contact, items, amount, currency, status, touched_at, decided_at)
    VALUES (:id, :org, :contact, CAST(:items AS jsonb), :amount, :currency, :status, coalesce(:touched_at, rota_now()),
            CASE WHEN :status <> 'open' THEN rota_now() END)
    ON CONFLICT (org_id, id) DO UPDATE
       SET contact = excluded.contact, items = excluded.items, amount = excluded.amount, currency = excluded.currency,
           status = excluded.status,
           touched_at = coalesce(:touched_at, CASE WHEN (carts.contact, carts.items, carts.status)
                                                     = (excluded.contact, excluded.items, excluded.status)
                                                   THEN carts.touched_at ELSE rota_now() END),
           decided_at = CASE WHEN excluded.status <> 'open' THEN coalesce(carts.decided_at, rota_now()) END
""")


def put_product(connection: Connection, row: dict[str, Any]) -> None:
    """Add or change a product."""
    connection.execute(_PUT_PRODUCT, row)


def put_quote(connection: Connection, row: dict[str, Any]) -> None:
    """Add or change a quote. Keep the time of its decision."""
    connection.execute(_PUT_QUOTE, row)


def put_cart(connection: Connection, row: dict[str, Any]) -> None:
    """Add or change a cart. Keep the time at which it was bought or emptied."""
    connection.execute(_PUT_CART, row | {"items": dump_json(row["items"])})


_SELECT: dict[type, str] = {
    Product: "SELECT id, name, category, description, price, currency, is_active, changed_at FROM products",
    Quote: """
        SELECT id, contact, title, amount, currency, status, sent_at, valid_until, decided_at, changed_at FROM quotes
    """,
    Cart: "SELECT id, contact, items, amount, currency, status, touched_at, decided_at FROM carts",
}


def one(connection: Connection, kind: type[Stored], row_id: UUID) -> Stored | None:
    """Return the product, quote or cart with this id; None if there is none."""
    statement = text(f"{_SELECT[kind]} WHERE id = :id")
    return fetch_optional(connection.execute(statement, {"id": row_id}), kind)


def latest(
    connection: Connection, kind: type[Stored], *, contact: UUID | None, before: UUID | None, limit: int
) -> list[Stored]:
    """Return products, quotes or carts, the latest id first."""
    conditions = [*(["contact = :contact"] if contact else []), *(["id < :before"] if before else [])]
    wanted = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = text(f"{_SELECT[kind]} {wanted} ORDER BY id DESC LIMIT :limit")
    return fetch_all(connection.execute(statement, {"contact": contact, "before": before, "limit": limit}), kind)
