"""Organisations, their users, roles and locations, and their API keys."""

TABLES = ("api_keys", "grants", "locations", "organisations", "roles", "users")
