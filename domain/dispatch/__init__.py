"""Deciding which task runs next: lanes of due tasks, limits, turns between organisations, pauses, concurrency keys."""

TABLES = ("key_changes", "leaders", "pauses", "provider_limits")
