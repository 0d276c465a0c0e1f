"""The gym's routes."""

from business.routes import office, sales

ROUTERS = (sales.router, office.router)
