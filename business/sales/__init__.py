"""Products, quotes and carts, as shops and people report them."""

TABLES = ("carts", "products", "quotes")
