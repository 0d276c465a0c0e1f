"""Contacts, the people that an organisation deals with: names, addresses, and which messages they allow."""

TABLES = ("contacts",)
