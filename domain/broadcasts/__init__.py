"""Broadcasts: messages of the installation's operators to every organisation."""

TABLES = ("broadcasts",)
