"""What runs next: due tasks in lanes, limits, turns between organisations, pauses, conversations in order."""

TABLES = ("key_changes", "leaders", "pauses", "provider_limits")
