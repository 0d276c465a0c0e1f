"""Organisations, and the API keys that speak for them."""

TABLES = ("api_keys", "grants", "locations", "organisations", "roles", "users")
